//! The list of hostile inputs through the batch command, whole and one byte at a time: no deviation from what each requires.

use persist_tests::batch::{Case, Verdict, judge};
use serde::Deserialize;

/// One line of the list. `expect` says what the clause requires; `either` where it leaves a choice.
#[derive(Deserialize)]
struct Hostile {
    name: String,
    role: String,
    input_b64: String,
    #[serde(default)]
    eof: bool,
    ctx: Option<serde_json::Value>,
    expect: String,
    n_messages: Option<u64>,
    bodies_b64: Option<Vec<String>>,
    clause: String,
    rule: String,
}

/// Where the clause leaves a choice, we reject, but for these. `docs/strictness.md` has the reasons.
const CHOICES: [(&str, &str); 2] = [
    // Transfer-Encoding overrides Content-Length in a response, and the connection is not used again.
    ("hostile:te-cl-resp", "accept"),
    // The response is fine; what follows it answers no request.
    ("hostile:extra-bytes", "prefix-then-reject"),
];

/// What a client's leniency makes of responses that are rejected strictly.
const MENDED: [&str; 4] =
    ["hostile:status-no-sp", "hostile:status-tab", "hostile:status-lead-crlf", "hostile:resp-fold"];

fn list() -> Vec<Hostile> {
    include_str!("../data/hostile.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

fn cases(list: &[Hostile], split: Option<usize>, leniency: &str) -> Vec<Case> {
    list.iter()
        .map(|hostile| Case {
            name: hostile.name.clone(),
            role: hostile.role.clone(),
            input_b64: hostile.input_b64.clone(),
            eof: hostile.eof,
            split,
            ctx: hostile.ctx.clone(),
            leniency: leniency.to_owned(),
        })
        .collect()
}

/// What is wrong with a verdict, if anything.
fn deviation(hostile: &Hostile, verdict: &Verdict) -> Option<String> {
    let outcome = verdict.outcome.as_str();
    let chosen = CHOICES.iter().find(|(name, _)| *name == hostile.name).map_or("reject", |(_, outcome)| outcome);
    let closed_after_one = verdict.n_messages == 1 && verdict.closed;
    let fine = match hostile.expect.as_str() {
        "either" => outcome == chosen,
        "reject-or-incomplete" => matches!(outcome, "reject" | "incomplete"),
        "accept-or-incomplete" => matches!(outcome, "accept" | "incomplete"),
        "reject-or-close" => outcome == "reject" || (outcome == "accept" && closed_after_one),
        expected @ ("accept" | "reject" | "prefix-then-reject" | "incomplete") => outcome == expected,
        unknown => panic!("{}: expects {unknown}", hostile.name),
    };
    let is_accepted = outcome == "accept";
    let counted = hostile.n_messages.is_none_or(|n| !is_accepted || n == verdict.n_messages);
    let same = hostile.bodies_b64.as_ref().is_none_or(|bodies| !is_accepted || *bodies == verdict.bodies_b64);
    let explained = verdict.error.is_some() == outcome.ends_with("reject");
    if fine && counted && same && explained {
        return None;
    }
    Some(format!("{}: {} wants {} ({}), not {verdict:?}", hostile.name, hostile.clause, hostile.expect, hostile.rule))
}

fn assert_no_deviation(split: Option<usize>) {
    let list = list();
    assert_eq!(list.len(), 155, "the list is complete");
    let verdicts = judge(&cases(&list, split, "strict"));
    let deviations: Vec<_> =
        list.iter().zip(&verdicts).filter_map(|(hostile, verdict)| deviation(hostile, verdict)).collect();
    assert!(deviations.is_empty(), "{} deviations:\n{}", deviations.len(), deviations.join("\n"));
}

#[test]
fn hostile_input_comes_out_as_required() {
    assert_no_deviation(None);
}

#[test]
fn hostile_input_comes_out_as_required_one_byte_at_a_time() {
    assert_no_deviation(Some(1));
}

#[test]
fn every_cut_of_hostile_input_leads_to_the_same_verdict() {
    let list = list();
    for leniency in ["strict", "client"] {
        let whole = judge(&cases(&list, None, leniency));
        for split in [1, 2, 3, 5, 7, 16] {
            let cut = judge(&cases(&list, Some(split), leniency));
            for (whole, cut) in whole.iter().zip(&cut) {
                assert_eq!(whole, cut, "{leniency}, {split} bytes at a time");
            }
        }
    }
}

#[test]
fn leniency_mends_some_responses_and_changes_nothing_else() {
    let list = list();
    let strict = judge(&cases(&list, None, "strict"));
    let client = judge(&cases(&list, None, "client"));
    for (strict, client) in strict.iter().zip(&client) {
        if MENDED.contains(&strict.name.as_str()) {
            assert_eq!((strict.outcome.as_str(), client.outcome.as_str()), ("reject", "accept"), "{client:?}");
        } else {
            let of = |verdict: &Verdict| (verdict.outcome.clone(), verdict.bodies_b64.clone(), verdict.closed);
            assert_eq!(of(strict), of(client), "{}", strict.name);
        }
    }
}
