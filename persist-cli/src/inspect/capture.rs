//! One recording, event by event, and the reason if it is rejected.

use std::fmt;
use std::io::{self, Write};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persist_core::{BodyLen, Field, Version};
use serde::Serialize;

use super::explain::Explanation;
use super::replay::{Outcome, Recording, Replayer, Seen, Strictness, What};
use crate::exit::Exit;
use crate::report::Format;

/// Content bytes shown in the text form of one event.
const SHOWN_BYTES: usize = 48;

/// Plays the recording, writes one line for each event and one for the verdict, and explains a rejection.
pub(super) fn show(
    recording: &Recording<'_>,
    strictness: Strictness,
    format: Format,
    out: &mut impl Write,
) -> io::Result<Exit> {
    let (mut failed, mut last) = (None, 0);
    let verdict = Replayer::new(strictness).replay(recording, &mut |seen| {
        last = seen.end;
        if failed.is_none() {
            failed = format.write(out, &EventLine::new(&seen)).err();
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let line = VerdictLine {
        event: "verdict",
        outcome: verdict.outcome,
        messages: verdict.messages,
        closed: verdict.closed,
        rejection: verdict.rejection.as_ref().map(|rejection| Explanation::new(recording, rejection, last)),
    };
    format.write(out, &line)?;
    out.flush()?;
    Ok(match verdict.outcome {
        Outcome::Accept => Exit::Success,
        Outcome::Incomplete => Exit::Malformed,
        Outcome::Reject | Outcome::PrefixThenReject => Exit::Failed,
    })
}

/// One event. Absent keys do not concern it.
#[derive(Default, Serialize)]
struct EventLine {
    event: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exchange: Option<u64>,
    start: u64,
    end: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fields: Option<Vec<(String, String)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    disposition: Option<String>,
    #[serde(skip)]
    excerpt: Option<String>,
}

impl EventLine {
    fn new(seen: &Seen<'_>) -> Self {
        let mut line = Self { exchange: seen.exchange, start: seen.start, end: seen.end, ..Self::default() };
        match &seen.what {
            What::Request(head, body) => {
                line.event = "request";
                line.method = Some(head.method().to_string());
                line.target = Some(head.target().to_owned());
                line.head(head.version(), head.fields());
                line.body(*body);
            }
            What::Response(head, body) => {
                line.event = "response";
                line.status(head);
                line.body(*body);
            }
            What::Interim(head) => {
                line.event = "interim";
                line.status(head);
            }
            What::Data(data) => {
                line.event = "data";
                line.bytes = Some(data.len());
                line.data_b64 = Some(STANDARD.encode(data));
                let shown = &data[..data.len().min(SHOWN_BYTES)];
                let more = if shown.len() < data.len() { " ..." } else { "" };
                line.excerpt = Some(format!("\"{}\"{more}", shown.escape_ascii()));
            }
            What::End(trailers) => {
                line.event = "end";
                line.fields = trailers.as_ref().map(|trailers| pairs(trailers.iter()));
            }
            What::Ended(failure) => {
                line.event = "ended";
                line.disposition = Some(failure.disposition.to_string());
                line.reason = Some(failure.reason.to_string());
            }
            What::Switched => line.event = "switched",
            What::Closed(reason) => {
                line.event = "closed";
                line.reason = Some(reason.to_string());
            }
        }
        line
    }

    fn status(&mut self, head: &persist_core::ResponseHead) {
        self.status = Some(head.status().as_u16());
        self.reason = Some(String::from_utf8_lossy(head.reason()).into_owned());
        self.head(head.version(), head.fields());
    }

    fn head<'f>(&mut self, version: Version, fields: impl Iterator<Item = Field<'f>>) {
        self.version = Some(match version {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        });
        self.fields = Some(pairs(fields));
    }

    fn body(&mut self, body: BodyLen) {
        (self.body, self.length) = match body {
            BodyLen::Empty => (Some("empty"), None),
            BodyLen::Length(length) => (Some("length"), Some(length)),
            BodyLen::Chunked => (Some("chunked"), None),
            BodyLen::UntilClose => (Some("until-close"), None),
        };
    }
}

fn pairs<'f>(fields: impl Iterator<Item = Field<'f>>) -> Vec<(String, String)> {
    fields
        .map(|field| (field.name.as_str().to_owned(), String::from_utf8_lossy(field.value.as_bytes()).into_owned()))
        .collect()
}

impl fmt::Display for EventLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>8}  {:<8}", self.start, self.event)?;
        if let Some(exchange) = self.exchange {
            write!(f, "  #{exchange}")?;
        }
        match (&self.method, &self.target, self.version, self.status, &self.reason) {
            (Some(method), Some(target), Some(version), ..) => write!(f, " {method} {target} {version}")?,
            (_, _, Some(version), Some(status), Some(reason)) => {
                write!(f, " {version} {status} {}", reason.escape_debug())?;
            }
            (_, _, _, _, Some(reason)) => {
                let disposition = self.disposition.as_deref().map(|disposition| format!("{disposition}: "));
                write!(f, " {}{reason}", disposition.unwrap_or_default())?;
            }
            _ => {}
        }
        match (self.body, self.length) {
            (_, Some(length)) => write!(f, " ({length} bytes of content)")?,
            (Some("empty"), _) => f.write_str(" (no content)")?,
            (Some(body), _) => write!(f, " ({body})")?,
            _ => {}
        }
        if let (Some(bytes), Some(excerpt)) = (self.bytes, &self.excerpt) {
            write!(f, " {bytes} bytes {excerpt}")?;
        }
        for (name, value) in self.fields.iter().flatten() {
            write!(f, " [{name}: {}]", value.escape_debug())?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct VerdictLine {
    event: &'static str,
    outcome: Outcome,
    messages: u64,
    closed: bool,
    rejection: Option<Explanation>,
}

impl fmt::Display for VerdictLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.messages == 1 { "message" } else { "messages" };
        let then = if self.closed { "done" } else { "open for another" };
        write!(f, "{}: {} complete {plural}, the connection is {then}", self.outcome, self.messages)?;
        match &self.rejection {
            Some(explanation) => write!(f, "\n\n{explanation}"),
            None => Ok(()),
        }
    }
}
