//! Any bytes as Prometheus's answer: what must hold is said where the function is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin::prometheus::fuzz::answer(bytes));
