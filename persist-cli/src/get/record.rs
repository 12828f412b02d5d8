//! The report: what became of each URL, in the order asked, and the summary.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::exit::Exit;
use crate::report::Format;

/// What became of one URL.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Record {
    pub(super) url: String,
    pub(super) method: String,
    /// The final response's status, if its head came.
    pub(super) status: Option<u16>,
    /// Content received, in bytes.
    pub(super) bytes: u64,
    /// Which connection of this run, counted from 1; `None` if there was none.
    pub(super) connection: Option<u64>,
    /// Whether that connection had carried an earlier exchange.
    pub(super) reused: bool,
    /// How often it was sent again.
    pub(super) retries: u32,
    /// `complete`, or what became of the request: `not-sent`, `partly-sent`, `sent-no-reply`, `reply-partial`, `declined`.
    pub(super) disposition: &'static str,
    /// The file that was written.
    pub(super) file: Option<String>,
    /// What was being done, and why it failed.
    pub(super) error: Option<String>,
    #[serde(skip)]
    pub(super) exit: Exit,
}

/// The sum of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Summary {
    /// Exchanges that completed.
    pub(super) exchanges: u64,
    /// URLs that failed.
    pub(super) failed: u64,
    /// Connections that were made.
    pub(super) connections: u64,
    /// Exchanges that completed on a connection that had carried another.
    pub(super) reused: u64,
    /// Requests that were sent again.
    pub(super) retries: u64,
    /// Content received, in bytes.
    pub(super) bytes: u64,
    /// Time from start to end.
    pub(super) seconds: f64,
}

/// The summary's line in JSON, marked so that no exchange is mistaken for it.
#[derive(Serialize)]
struct SummaryLine {
    summary: bool,
    #[serde(flatten)]
    of: Summary,
}

/// Which lines are wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) format: Format,
    /// Error lines, in text.
    pub(super) errors: bool,
    /// The summary, in text.
    pub(super) summary: bool,
}

/// Collects records as they come, and writes the report to standard error.
#[derive(Debug)]
pub(super) struct Reporter {
    wanted: Wanted,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Records that came before their turn.
    waiting: BTreeMap<usize, Record>,
    turn: usize,
    summary: Summary,
    /// Of the first failure in the order asked.
    exit: Exit,
}

impl Reporter {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, state: Mutex::default() }
    }

    pub(super) fn connected(&self) {
        self.with(|state| state.summary.connections += 1);
    }

    /// The URL that was asked for as number `part` is done, one way or the other.
    pub(super) fn done(&self, part: usize, record: Record) {
        if let (Some(error), Format::Text, true) = (&record.error, self.wanted.format, self.wanted.errors) {
            // Nobody is left to tell when standard error is gone, here and below.
            let _ = writeln!(io::stderr(), "persist: {}: {error}", record.url);
        }
        self.with(|state| {
            state.waiting.insert(part, record);
            while let Some(record) = state.waiting.remove(&state.turn) {
                state.turn += 1;
                state.count(&record);
                if self.wanted.format == Format::Json {
                    let line = serde_json::to_string(&record).expect("plain data: cannot fail");
                    let _ = writeln!(io::stderr(), "{line}");
                }
            }
        });
    }

    /// Writes the summary; returns it with the exit code of the run.
    pub(super) fn finish(&self, elapsed: Duration) -> (Summary, Exit) {
        let (mut summary, exit) = self.with(|state| (state.summary, state.exit));
        summary.seconds = elapsed.as_secs_f64();
        match self.wanted.format {
            Format::Json => {
                let line = serde_json::to_string(&SummaryLine { summary: true, of: summary })
                    .expect("plain data: cannot fail");
                let _ = writeln!(io::stderr(), "{line}");
            }
            Format::Text if self.wanted.summary => {
                let _ = writeln!(io::stderr(), "{summary}");
            }
            Format::Text => {}
        }
        (summary, exit)
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn count(&mut self, record: &Record) {
        let summary = &mut self.summary;
        summary.bytes += record.bytes;
        summary.retries += u64::from(record.retries);
        if record.disposition == COMPLETE {
            summary.exchanges += 1;
            summary.reused += u64::from(record.reused);
        }
        if record.exit != Exit::Success {
            summary.failed += 1;
            if self.exit == Exit::Success {
                self.exit = record.exit;
            }
        }
    }
}

/// The disposition of an exchange that is whole.
pub(super) const COMPLETE: &str = "complete";

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { exchanges, failed, connections, reused, retries, bytes, seconds } = self;
        write!(
            f,
            "{exchanges} {} over {connections} {}",
            plural(*exchanges, "exchange"),
            plural(*connections, "connection")
        )?;
        write!(f, ", {reused} reused; {} in {seconds:.3} s", Bytes(*bytes))?;
        if *retries > 0 {
            write!(f, "; {retries} sent again")?;
        }
        if *failed > 0 { write!(f, "; {failed} failed") } else { Ok(()) }
    }
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// A number of bytes as people read it.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        for unit in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            value /= 1024.0;
            if value < 1024.0 || unit == "TiB" {
                return write!(f, "{value:.1} {unit}");
            }
        }
        write!(f, "{} bytes", self.0)
    }
}
