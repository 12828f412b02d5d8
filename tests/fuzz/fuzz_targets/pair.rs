//! Both machines back to back, with random operations.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| persist_tests::fuzzed::pair(data));
