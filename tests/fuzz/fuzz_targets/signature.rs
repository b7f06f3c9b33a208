//! Drives `tests::fuzz::signature`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::signature(bytes));
