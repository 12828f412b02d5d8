//! What a server reads, however it is cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| persist_tests::fuzzed::request(data));
