//! `persist inspect --batch`: cases in, one JSON object a line; verdicts out, one a line, in order.

use std::borrow::Cow;
use std::io::{self, BufRead, Read as _, Write};
use std::num::NonZeroUsize;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use persist_core::Method;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::replay::{Outcome, Recording, Replayer, Role, Strictness, What};

/// A longer line is answered as `invalid` and skipped, so that a stream without line ends cannot fill the memory.
pub const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Judges cases. One of them serves any number of lines.
#[derive(Clone, Debug)]
pub struct Batch {
    strict: Replayer,
    client: Replayer,
}

/// One line in. Unknown keys are ignored.
#[derive(Deserialize)]
struct Case<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    role: Role,
    #[serde(borrow)]
    input_b64: Cow<'a, str>,
    #[serde(default)]
    eof: bool,
    #[serde(default)]
    split: Option<NonZeroUsize>,
    #[serde(borrow, default)]
    ctx: Option<Context<'a>>,
    #[serde(default)]
    leniency: Strictness,
}

#[derive(Deserialize)]
struct Context<'a> {
    #[serde(borrow, default)]
    request_method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    request_methods: Option<Vec<Cow<'a, str>>>,
}

/// One line out.
#[derive(Serialize)]
struct Answer<'a> {
    name: Option<&'a RawValue>,
    role: Option<Role>,
    outcome: Said,
    n_messages: u64,
    bodies_b64: Vec<String>,
    closed: bool,
    error: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Said {
    Judged(Outcome),
    Invalid(&'static str),
}

/// What a whole batch came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Cases that were judged.
    pub judged: u64,
    /// Lines that were no case; each was answered with the outcome `invalid`.
    pub invalid: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self { strict: Replayer::new(Strictness::Strict), client: Replayer::new(Strictness::Client) }
    }
}

impl Batch {
    /// Answers every line of `input` that is not blank.
    ///
    /// # Errors
    /// Those of the reader and of the writer.
    pub fn run(&self, input: &mut impl BufRead, out: &mut impl Write) -> io::Result<Tally> {
        let (mut tally, mut line, mut answer) = (Tally::default(), Vec::new(), Vec::new());
        loop {
            line.clear();
            if input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)? == 0 {
                return Ok(tally);
            }
            answer.clear();
            let judged = if line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
                skip_line(input)?;
                invalid(None, &format!("the line has more than {LINE_BYTES_MAX} bytes"), &mut answer);
                false
            } else if line.trim_ascii().is_empty() {
                continue;
            } else {
                self.answer(&line, &mut answer)
            };
            *(if judged { &mut tally.judged } else { &mut tally.invalid }) += 1;
            out.write_all(&answer)?;
        }
    }

    /// Appends the answer to one line, with its line end. Tells whether the line was a case.
    pub fn answer(&self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let case: Case<'_> = match serde_json::from_slice(line) {
            Ok(case) => case,
            Err(error) => {
                invalid(name_of(line), &format!("not a case: {error}"), out);
                return false;
            }
        };
        match self.judge(&case) {
            Ok(answer) => {
                write(&answer, out);
                true
            }
            Err(error) => {
                invalid(case.name, &error, out);
                false
            }
        }
    }

    fn judge<'a>(&self, case: &Case<'a>) -> Result<Answer<'a>, String> {
        let input = STANDARD.decode(case.input_b64.as_bytes()).map_err(|error| format!("input_b64: {error}"))?;
        let recording = Recording {
            role: case.role,
            input: &input,
            eof: case.eof,
            split: case.split,
            methods: if case.role == Role::Response { methods(case.ctx.as_ref())? } else { Vec::new() },
        };
        let replayer = match case.leniency {
            Strictness::Strict => &self.strict,
            Strictness::Client => &self.client,
        };
        let (mut bodies_b64, mut body) = (Vec::new(), Vec::new());
        // Interim responses, and a switch without content, stand in the list with an empty body: one entry for each message.
        let mut inside = false;
        let verdict = replayer.replay(&recording, &mut |seen| match seen.what {
            What::Request(..) | What::Response(..) => inside = true,
            What::Data(data) => body.extend_from_slice(data),
            What::End(_) => {
                inside = false;
                bodies_b64.push(STANDARD.encode(&body));
                body.clear();
            }
            What::Interim(_) => bodies_b64.push(String::new()),
            What::Switched if std::mem::take(&mut inside) => bodies_b64.push(String::new()),
            What::Switched | What::Ended(_) | What::Closed(_) => {}
        });
        Ok(Answer {
            name: case.name,
            role: Some(case.role),
            outcome: Said::Judged(verdict.outcome),
            n_messages: verdict.messages,
            bodies_b64,
            closed: verdict.closed,
            error: verdict.rejection.map(|rejection| rejection.to_string()),
        })
    }
}

/// The requests that the recorded responses answer: one GET, unless the case says otherwise.
fn methods(context: Option<&Context<'_>>) -> Result<Vec<Method>, String> {
    let parse = |name: &Cow<'_, str>| Method::new(name).map_err(|error| format!("ctx: {name:?}: {error}"));
    match context {
        Some(Context { request_methods: Some(names), .. }) => names.iter().map(parse).collect(),
        Some(Context { request_method: Some(name), .. }) => Ok(vec![parse(name)?]),
        _ => Ok(vec![Method::GET]),
    }
}

/// A line that is no case may still have a name to answer under.
fn name_of(line: &[u8]) -> Option<&RawValue> {
    #[derive(Deserialize)]
    struct Named<'a> {
        #[serde(borrow, default)]
        name: Option<&'a RawValue>,
    }
    serde_json::from_slice::<Named<'_>>(line).ok().and_then(|named| named.name)
}

fn invalid(name: Option<&RawValue>, error: &str, out: &mut Vec<u8>) {
    let answer = Answer {
        name,
        role: None,
        outcome: Said::Invalid("invalid"),
        n_messages: 0,
        bodies_b64: Vec::new(),
        closed: false,
        error: Some(error.to_owned()),
    };
    write(&answer, out);
}

fn write(answer: &Answer<'_>, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, answer).expect("plain data into a Vec: cannot fail");
    out.push(b'\n');
}

/// Drops the rest of a line that is too long, without keeping it.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(());
        }
        let (n, found) = match chunk.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (chunk.len(), false),
        };
        input.consume(n);
        if found {
            return Ok(());
        }
    }
}
