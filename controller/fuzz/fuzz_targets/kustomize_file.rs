//! Any bytes as a file of Kustomize: what must hold is said where the function is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin::gitops::fuzz::kustomize_file(bytes));
