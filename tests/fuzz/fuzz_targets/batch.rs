//! Standard input of batch inspection.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| persist_tests::fuzzed::batch(data));
