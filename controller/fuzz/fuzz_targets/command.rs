//! Any bytes as a command annotation: what must hold is said where the function is.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| serin::reconcile::fuzz::command(bytes));
