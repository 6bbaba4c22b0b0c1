//! Any bytes as what a webhook answers: what must hold is said where the function is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin::hooks::fuzz::answer(bytes));
