//! Batch inspection: any line is answered by one line of JSON, in order.

use std::io::BufReader;

use persist_cli::inspect::batch::Batch;
use serde_json::Value;

/// Runs the input as the standard input of a batch, read in one go and in small pieces.
///
/// # Panics
/// If lines and answers do not match, an answer is not JSON, or buffering changes anything.
pub fn batch(data: &[u8]) {
    let run = |capacity| {
        let mut out = Vec::new();
        let tally = Batch::default()
            .run(&mut BufReader::with_capacity(capacity, data), &mut out)
            .expect("reading and writing memory does not fail");
        (tally, out)
    };
    let (tally, out) = run(64 * 1024);
    assert_eq!(run(3), (tally, out.clone()), "buffering changes nothing");
    let lines = data.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty()).count() as u64;
    assert_eq!(tally.judged + tally.invalid, lines, "one answer for each line that is not blank");
    let mut answers = 0;
    for line in out.split_inclusive(|&byte| byte == b'\n') {
        let answer: Value = serde_json::from_slice(line).expect("an answer is JSON");
        let outcome = answer["outcome"].as_str().expect("an answer has an outcome");
        assert!(["accept", "incomplete", "reject", "prefix-then-reject", "invalid"].contains(&outcome));
        assert_eq!(answer["error"].is_null(), matches!(outcome, "accept" | "incomplete"), "{answer}");
        answers += 1;
    }
    assert_eq!(answers, lines);
}
