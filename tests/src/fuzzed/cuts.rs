//! Requests and responses as one end reads them: the verdict, the events and the content do not depend on how the input was cut.

use std::num::NonZeroUsize;

use persist_cli::inspect::replay::{Recording, Replayer, Role, Seen, Strictness, Verdict, What};
use persist_core::{BodyLen, Field, Method};

use super::Choices;

/// The first byte chooses leniency, end of file and a cut; the rest is what a server reads.
///
/// # Panics
/// If cutting changes anything, or what was accepted is not what the input holds.
pub fn request(data: &[u8]) {
    compare(Role::Request, Choices(data), Vec::new());
}

/// Like [`request`], for what a client reads; two more bytes choose what it asked for.
///
/// # Panics
/// As [`request`].
pub fn response(data: &[u8]) {
    let mut choices = Choices(data);
    let (count, which) = (choices.byte() % 4, choices.byte());
    let methods = [Method::GET, Method::HEAD, Method::CONNECT, Method::POST];
    let asked = (0..=count).map(|n| methods[usize::from(which >> (2 * n)) % 4].clone()).collect();
    compare(Role::Response, choices, asked);
}

fn compare(role: Role, mut choices: Choices<'_>, methods: Vec<Method>) {
    let flags = choices.byte();
    let input = choices.0;
    let strictness = if flags & 1 == 0 { Strictness::Strict } else { Strictness::Client };
    let replayer = Replayer::new(strictness);
    let play =
        |split| play(&replayer, &Recording { role, input, eof: flags & 2 != 0, split, methods: methods.clone() });
    let whole = play(None);
    for split in [1, usize::from(flags >> 2) + 2] {
        assert_eq!(play(NonZeroUsize::new(split)), whole, "{split} bytes at a time: {}", input.escape_ascii());
    }
}

/// All that was seen, with the pieces of content joined.
#[derive(Debug, PartialEq)]
struct Story {
    lines: Vec<String>,
    verdict: Verdict,
}

fn play(replayer: &Replayer, recording: &Recording<'_>) -> Story {
    let mut lines: Vec<String> = Vec::new();
    let (mut content, mut declared) = (Vec::new(), None);
    let verdict = replayer.replay(recording, &mut |seen: Seen<'_>| {
        assert!(seen.start <= seen.end && seen.end <= recording.input.len() as u64, "{seen:?}");
        match seen.what {
            What::Request(head, body) => {
                assert!(!head.target().is_empty());
                check_fields(recording.input, head.fields());
                declared = Some(body);
                lines.push(format!("{head:?} for {:?}, {body:?}", head.authority()));
            }
            What::Response(head, body) => {
                check_fields(recording.input, head.fields());
                declared = Some(body);
                lines.push(format!("{head:?} {}, {body:?}", head.reason().escape_ascii()));
            }
            What::Interim(head) => lines.push(format!("interim {head:?}")),
            What::Data(data) => {
                assert!(!data.is_empty());
                content.extend_from_slice(data);
            }
            What::End(trailers) => {
                if let (Some(BodyLen::Length(length)), Role::Request) = (declared, recording.role) {
                    assert_eq!(length, content.len() as u64, "content is as long as declared");
                }
                lines.push(format!("{} end {trailers:?}", content.escape_ascii()));
                content.clear();
            }
            What::Ended(failure) => lines.push(format!("ended {}", failure.disposition)),
            What::Switched => lines.push(String::from("switched")),
            What::Closed(reason) => lines.push(format!("closed {reason}")),
        }
    });
    lines.push(format!("{} left", content.escape_ascii()));
    if let Some(persist_cli::inspect::replay::Rejection::Protocol(error)) = &verdict.rejection {
        assert!(error.offset() <= recording.input.len() as u64, "{error}");
    }
    Story { lines, verdict }
}

/// A field that is reported stands in the input, and could be sent again.
fn check_fields<'f>(input: &[u8], fields: impl Iterator<Item = Field<'f>>) {
    for Field { name, value } in fields {
        let (name, value) = (name.as_str(), value.as_bytes());
        assert!(persist_core::FieldName::new(name).is_ok() && persist_core::FieldValue::new(value).is_ok());
        assert!(input.windows(name.len()).any(|window| window == name.as_bytes()), "{name} is not in the input");
    }
}
