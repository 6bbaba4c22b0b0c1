//! Any bytes as a values file: what must hold is said where the function is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin::gitops::fuzz::values_file(bytes));
