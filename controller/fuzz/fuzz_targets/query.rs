//! Any bytes as a user's query: what must hold is said where the function is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin::query::fuzz::query(bytes));
