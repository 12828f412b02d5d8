//! Ours against parsers written by others, on the hostile list and on 20,000 mutations with fixed seeds: h11, httptools (llhttp), and Go's
//! net/http, where they are installed. Every disagreement is one that `docs/strictness.md` gives the reason of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persist_tests::batch::{Case, Verdict, judge};
use persist_tests::folder::Folder;
use persist_tests::mutate::{Mutant, mutant};
use persist_tests::peers::{installed, python};
use persist_tests::process::{Said, run, run_with_input};
use serde::Deserialize;

const MUTANTS: u64 = 20_000;

/// What another parser made of a case.
#[derive(Debug, Deserialize)]
struct Theirs {
    /// The content of complete messages.
    bodies_b64: Vec<String>,
    /// `clean`, `open` (a message is not complete) or `error`.
    end: String,
    /// What there is of a message that is not complete.
    rest_b64: String,
}

fn hostile() -> Vec<Mutant> {
    let method = |case: &serde_json::Value| {
        let name = case["ctx"]["request_method"].as_str().unwrap_or("GET");
        ["GET", "HEAD", "CONNECT", "POST"].into_iter().find(|known| *known == name).expect("a method of the list")
    };
    let mutant = |line: &str| {
        let case: serde_json::Value = serde_json::from_str(line).expect("a case");
        let is_request = case["role"] == "request";
        Mutant {
            role: if is_request { "request" } else { "response" },
            method: if is_request { "" } else { method(&case) },
            bytes: STANDARD.decode(case["input_b64"].as_str().expect("a string")).expect("base64"),
        }
    };
    include_str!("../data/hostile.jsonl").lines().map(mutant).collect()
}

fn cases(mutants: &[Mutant]) -> Vec<Case> {
    let case = |(number, mutant): (usize, &Mutant)| Case {
        name: number.to_string(),
        role: mutant.role.into(),
        input_b64: STANDARD.encode(&mutant.bytes),
        // What a client's parser thinks at the end of the input is part of framing; a server's waits for more.
        eof: mutant.role == "response",
        split: None,
        ctx: (mutant.role == "response").then(|| serde_json::json!({ "request_method": mutant.method })),
        leniency: "strict".into(),
    };
    mutants.iter().enumerate().map(case).collect()
}

/// Answers of all parsers that are installed, case by case.
fn others(mutants: &[Mutant], cases: &[Case]) -> Vec<BTreeMap<String, Theirs>> {
    let mut input = Vec::new();
    for (mutant, case) in mutants.iter().zip(cases) {
        let line = serde_json::json!({ "role": mutant.role, "method": mutant.method, "input_b64": case.input_b64 });
        input.extend(line.to_string().bytes());
        input.push(b'\n');
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("differential");
    let mut answers: Vec<BTreeMap<String, Theirs>> = mutants.iter().map(|_| BTreeMap::new()).collect();
    let mut add = |said: Said| {
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let lines: Vec<BTreeMap<String, Theirs>> =
            serde_json::Deserializer::from_slice(&said.stdout).into_iter().collect::<Result<_, _>>().expect("answers");
        assert_eq!(lines.len(), answers.len(), "one answer for each case");
        answers.iter_mut().zip(lines).for_each(|(all, line)| all.extend(line));
    };
    if let Some(python) = python::with_modules(&["h11", "httptools"]) {
        add(run_with_input(Command::new(python).arg(folder.join("parsers.py")), &input));
    }
    let work = Folder::new();
    if let Some(program) = build_go(&folder, work.path()) {
        add(run_with_input(&mut Command::new(program), &input));
    }
    answers
}

/// Go is welcome, not required.
fn build_go(source: &Path, work: &Path) -> Option<PathBuf> {
    let is_there = run(Command::new("sh").args(["-c", "command -v go"])).code == Some(0);
    if !is_there {
        eprintln!("left out: go is not installed");
        return None;
    }
    let (go, program) = (installed("go")?, work.join("parsers"));
    let mut build = Command::new(go);
    build.args(["build", "-o"]).arg(&program).arg(source.join("parsers.go")).env("GOCACHE", work.join("cache"));
    let said = run(build.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off"));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    Some(program)
}

/// Whether two verdicts come to the same: the same complete messages, and an error or none.
fn agree(ours: &Verdict, theirs: &Theirs) -> bool {
    let same = ours.bodies_b64 == theirs.bodies_b64;
    // httptools cannot be told of the end of input, which is what completes such a response.
    let until_close = theirs.end == "open"
        && ours
            .bodies_b64
            .split_last()
            .is_some_and(|(last, rest)| *last == theirs.rest_b64 && rest == theirs.bodies_b64.as_slice());
    (same || until_close) && is_error(ours) == (theirs.end == "error")
}

/// An input that merely ends too early is none.
fn is_error(ours: &Verdict) -> bool {
    let early = ["the input ends inside a message", "the peer closed before the message was complete"];
    ours.error.as_ref().is_some_and(|error| !early.iter().any(|text| error.starts_with(text)))
}

/// The clause that our rejection names.
fn clause(error: &str) -> Option<&str> {
    let start = error.find("(RFC ")? + 5;
    Some(&error[start..start + error[start..].find([')', ','])?])
}

/// Why the two disagree: a row or a name in `docs/strictness.md`.
fn reason(parser: &str, mutant: &Mutant, ours: &Verdict, theirs: &Theirs) -> Option<String> {
    let text = String::from_utf8_lossy(&mutant.bytes);
    let lower = text.to_lowercase();
    let status = || text.find("HTTP/1.").and_then(|at| text.get(at + 9..at + 12)).unwrap_or("");
    let they_reject = theirs.end == "error";

    // The other's own limits.
    if parser == "llhttp" && matches!(mutant.method, "HEAD" | "CONNECT") {
        return Some("llhttp-knows-no-method".into());
    }
    if parser == "llhttp" && they_reject && has_version_above_1_1(&text) {
        return Some("llhttp-versions".into());
    }
    if parser == "llhttp" && they_reject && mutant.role == "request" && has_unknown_method(&text) {
        return Some("llhttp-methods".into());
    }
    if parser == "go" && they_reject && has_bad_escape(&text) {
        return Some("go-escapes".into());
    }
    // Framing that both read, by different rules.
    if parser == "go" && text.starts_with("HTTP/1.0") && lower.contains("transfer-encoding") {
        return Some("go-http10-coding".into());
    }
    let without_content =
        matches!(mutant.method, "HEAD" | "CONNECT") || status().starts_with('1') || matches!(status(), "204" | "304");
    if they_reject
        && without_content
        && lower.contains("transfer-encoding")
        && ours.bodies_b64.starts_with(&theirs.bodies_b64)
    {
        return Some("coding-without-content".into());
    }
    let further = ours.bodies_b64.starts_with(&theirs.bodies_b64) && ours.bodies_b64.len() > theirs.bodies_b64.len();
    if parser == "llhttp"
        && lower.contains("content-length")
        && lower.contains("transfer-encoding")
        && they_reject
        && further
    {
        return Some("llhttp-length-and-coding".into());
    }
    if parser == "llhttp"
        && they_reject
        && further
        && ["chunked\t", "chunked "].iter().any(|coding| lower.contains(coding))
    {
        return Some("llhttp-space-behind-coding".into());
    }
    let switches = text.contains("CONNECT ") || lower.contains("upgrade: ");
    if parser == "llhttp" && switches && mutant.role == "request" && theirs.end == "clean" {
        return Some("llhttp-switches-early".into());
    }
    if parser == "h11" && text.contains("HTTP/1.0") && lower.contains("keep-alive") && further && !they_reject {
        return Some("h11-http10-persistence".into());
    }
    if they_reject && further && has_long_number(&text) {
        return Some("long-numbers".into());
    }
    if they_reject && further && (text.contains(" ;") || text.contains("; ")) {
        return Some("space-in-extensions".into());
    }
    if they_reject && further && mutant.role == "request" && has_empty_line_before_request(&text) {
        return Some("empty-lines-before-request".into());
    }
    // We stopped where the other went on: strictness, by the clause that we name.
    if is_error(ours) && theirs.bodies_b64.starts_with(&ours.bodies_b64) {
        return clause(ours.error.as_deref()?).map(|clause| format!("we reject: {clause}"));
    }
    // The other judges bytes that end no line yet, or that follow the last message: no message differs.
    if they_reject && !is_error(ours) && ours.bodies_b64 == theirs.bodies_b64 {
        return Some("judged-early".into());
    }
    None
}

fn has_version_above_1_1(text: &str) -> bool {
    text.match_indices("HTTP/1.").any(|(at, _)| text[at + 7..].starts_with(|minor: char| ('2'..='9').contains(&minor)))
}

/// A method that llhttp does not list, at the start of the input or behind a message.
fn has_unknown_method(text: &str) -> bool {
    let known = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "PROPFIND"];
    text.lines().filter(|line| line.contains(" HTTP/1.")).any(|line| {
        let method = line.split(' ').next().unwrap_or_default();
        !known.contains(&method)
    })
}

/// More digits than some integers have.
fn has_long_number(text: &str) -> bool {
    text.split(|byte: char| !byte.is_ascii_hexdigit()).any(|digits| digits.len() > 16)
}

/// A request line behind CRLF that ends no head.
fn has_empty_line_before_request(text: &str) -> bool {
    text.starts_with("\r\n")
        || text.match_indices(" HTTP/1.").any(|(at, _)| {
            let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
            text[..line].ends_with("\r\n") && !text[..line].ends_with("\r\n\r\n")
                || text[..line].ends_with("\r\n\r\n\r\n")
        })
}

fn has_bad_escape(text: &str) -> bool {
    text.match_indices('%').any(|(at, _)| {
        let digits = text.as_bytes().get(at + 1..at + 3);
        digits.is_none_or(|digits| !digits.iter().all(u8::is_ascii_hexdigit))
    })
}

#[test]
fn every_disagreement_with_other_parsers_has_its_reason() {
    let mutants: Vec<Mutant> = hostile().into_iter().chain((0..MUTANTS).map(mutant)).collect();
    let cases = cases(&mutants);
    let verdicts = judge(&cases);
    let answers = others(&mutants, &cases);
    let (mut compared, mut agreed) = (BTreeMap::<&str, u64>::new(), BTreeMap::<&str, u64>::new());
    let (mut reasons, mut unexplained) = (BTreeMap::<(String, &str), u64>::new(), Vec::new());
    for ((mutant, ours), all) in mutants.iter().zip(&verdicts).zip(&answers) {
        for (parser, theirs) in all {
            *compared.entry(parser).or_default() += 1;
            if agree(ours, theirs) {
                *agreed.entry(parser).or_default() += 1;
                continue;
            }
            match reason(parser, mutant, ours, theirs) {
                Some(reason) => *reasons.entry((reason, parser)).or_default() += 1,
                None => unexplained.push(format!(
                    "{parser}: {theirs:?}, not {ours:?}, about {} to {}:\n  {}",
                    mutant.role,
                    mutant.method,
                    mutant.bytes.escape_ascii()
                )),
            }
        }
    }
    let mut summary = String::new();
    for (parser, cases) in &compared {
        let _ = writeln!(summary, "differential: {parser}: {cases} cases, {} alike", agreed.get(parser).unwrap_or(&0));
    }
    let strictness = include_str!("../../docs/strictness.md");
    for ((reason, parser), count) in &reasons {
        let _ = writeln!(summary, "{count:6} {parser:7} {reason}");
    }
    let _ = writeln!(summary, "differential: unexplained: {}", unexplained.len());
    // Past the harness's capture: a run that passes is to show what was compared.
    let _ = std::io::stderr().write_all(summary.as_bytes());
    assert!(
        unexplained.is_empty(),
        "{} unexplained:\n{}",
        unexplained.len(),
        unexplained[..unexplained.len().min(20)].join("\n")
    );
    for (reason, _) in reasons.keys() {
        let documented = reason
            .strip_prefix("we reject: ")
            .map_or(reason.as_str(), |clause| clause.split(" rule").next().unwrap_or(clause));
        assert!(strictness.contains(documented), "docs/strictness.md does not give the reason of {reason}");
    }
    if !compared.is_empty() {
        assert!(compared.values().all(|cases| *cases > MUTANTS), "{compared:?}");
    }
}
