//! What a client reads, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| persist_tests::fuzzed::response(data));
