//! `persist inspect --batch` as tests use it: cases in, verdicts out.

use serde::{Deserialize, Serialize};

use crate::command::persist;
use crate::process::run_with_input;

/// One line in. Absent keys have their defaults.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Case {
    /// Copied to the verdict.
    pub name: String,
    /// `request` or `response`.
    pub role: String,
    /// The bytes.
    pub input_b64: String,
    /// Whether the peer closed after them.
    pub eof: bool,
    /// How many bytes to feed at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<usize>,
    /// What the responses answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ctx: Option<serde_json::Value>,
    /// `strict` or `client`.
    pub leniency: String,
}

/// One line out.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct Verdict {
    /// The case's.
    pub name: String,
    /// `accept`, `incomplete`, `reject` or `prefix-then-reject`.
    pub outcome: String,
    /// Complete messages.
    pub n_messages: u64,
    /// Their content.
    pub bodies_b64: Vec<String>,
    /// Whether the connection would not be used again.
    pub closed: bool,
    /// Why not.
    pub error: Option<String>,
}

/// Has the command judge all cases, in one run.
///
/// # Panics
/// If it fails, or does not answer each case in its place.
pub fn judge(cases: &[Case]) -> Vec<Verdict> {
    let mut input = Vec::new();
    for case in cases {
        serde_json::to_writer(&mut input, case).expect("plain data into a Vec");
        input.push(b'\n');
    }
    let said = run_with_input(&mut persist(["inspect", "--batch"]), &input);
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let verdicts: Vec<Verdict> = serde_json::Deserializer::from_slice(&said.stdout)
        .into_iter()
        .collect::<Result<_, _>>()
        .expect("verdicts in the documented form");
    assert_eq!(verdicts.len(), cases.len(), "one verdict for each case");
    for (case, verdict) in cases.iter().zip(&verdicts) {
        assert_eq!(case.name, verdict.name, "verdicts come in order");
    }
    verdicts
}
