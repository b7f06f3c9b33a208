//! Drives `tests::fuzz::pipeline`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::pipeline(bytes));
