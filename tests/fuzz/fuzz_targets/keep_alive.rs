//! Values of the Keep-Alive field.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| persist_tests::fuzzed::keep_alive(data));
