//! Drives `tests::fuzz::session_ops`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::session_ops(bytes));
