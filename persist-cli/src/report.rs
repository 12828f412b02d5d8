//! What all reports have in common: `--format text|json`, one JSON object a line.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

/// The form of a report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// One line of a report: its `Display` is the text form, its `Serialize` the JSON form.
pub trait Line: Serialize + fmt::Display {}

impl<T: Serialize + fmt::Display> Line for T {}

impl Format {
    /// Writes one line in this form.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(self, to: &mut impl Write, line: &impl Line) -> io::Result<()> {
        match self {
            Self::Text => writeln!(to, "{line}"),
            Self::Json => {
                serde_json::to_writer(&mut *to, line)?;
                to.write_all(b"\n")
            }
        }
    }
}
