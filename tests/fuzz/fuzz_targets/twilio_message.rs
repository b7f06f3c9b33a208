//! Drives `tests::fuzz::twilio_message`.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tests::fuzz::twilio_message(bytes));
