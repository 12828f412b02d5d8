//! Chunked bodies, against a second decoder.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| persist_tests::fuzzed::chunked(data));
