//! What the fuzz targets do, with their seeds, with cases from the hostile list, and with generated input: the same in every run.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persist_tests::fuzzed::{TARGETS, chunked, pair, request, response};
use persist_tests::seeded::Random;

#[test]
fn seeds_and_past_findings_pass() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    for (name, run) in TARGETS {
        let files = std::fs::read_dir(seeds.join(name)).unwrap_or_else(|error| panic!("seeds of {name}: {error}"));
        let mut count = 0;
        for file in files {
            let path = file.expect("the folder can be read").path();
            run(&std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())));
            count += 1;
        }
        assert!(count > 0, "{name} has no seeds");
    }
}

#[test]
fn hostile_input_passes_through_the_targets() {
    for line in include_str!("../data/hostile.jsonl").lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("a case");
        let input = STANDARD.decode(case["input_b64"].as_str().expect("a string")).expect("base64");
        for flags in 0..8 {
            request(&[&[flags], &input[..]].concat());
            response(&[&[0, 0, flags], &input[..]].concat());
            response(&[&[1, 4, flags], &input[..]].concat());
        }
        if let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            chunked(&[&[1], &input[at + 4..]].concat());
        }
    }
}

#[test]
fn machines_back_to_back_lose_and_double_nothing() {
    for seed in 0..3000 {
        let mut random = Random::new(seed);
        let len = 20 + random.below(600);
        let data = random.bytes(len);
        let run = std::panic::catch_unwind(|| pair(&data));
        assert!(run.is_ok(), "seed {seed}");
    }
}
