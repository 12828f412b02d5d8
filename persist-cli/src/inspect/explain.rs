//! A rejection as a person wants it: what, which clause, where, and what an attacker could do with it.

use std::fmt::{self, Write as _};

use serde::Serialize;

use persist_core::CloseReason;

use super::replay::{Recording, Rejection, Role};

/// Bytes in one row of the excerpt.
const ROW: usize = 16;

/// Why a recording was rejected.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    message: String,
    clause: Option<&'static str>,
    /// How many bytes into the input.
    offset: u64,
    /// The line that this byte stands in, counted from 1, as an editor does ...
    line: usize,
    /// ... and the byte within that line, counted from 1.
    column: usize,
    /// What smuggling the rejection prevents, if any.
    risk: Option<&'static str>,
    /// What a server answers.
    status: Option<u16>,
    /// The bytes around the offset, as in a hex dump, with a caret below the byte.
    excerpt: Vec<String>,
}

impl Explanation {
    /// `last` is where the last event ended: the place of what has no offset of its own.
    pub(super) fn new(recording: &Recording<'_>, rejection: &Rejection, last: u64) -> Self {
        let (message, clause, offset, risk, status) = match rejection {
            Rejection::Protocol(error) => (
                error.cause().to_string(),
                Some(error.clause()),
                error.offset(),
                error.smuggling_risk(),
                (recording.role == Role::Request).then(|| error.suggested_status().as_u16()),
            ),
            Rejection::Ended(failure) => {
                (rejection.to_string(), clause_of(&failure.reason), recording.input.len() as u64, None, None)
            }
            Rejection::Closed(reason) => (rejection.to_string(), clause_of(reason), last, None, None),
        };
        let at = usize::try_from(offset).unwrap_or(usize::MAX).min(recording.input.len());
        let before = &recording.input[..at];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        Self {
            message,
            clause,
            offset,
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            column: 1 + at - line_start,
            risk,
            status,
            excerpt: excerpt(recording.input, at),
        }
    }
}

/// The clause behind a bad end that no single message is to blame for.
fn clause_of(reason: &CloseReason) -> Option<&'static str> {
    match reason {
        CloseReason::Protocol(error) => Some(error.clause()),
        CloseReason::PeerClosedEarly | CloseReason::PeerClosed => Some("RFC 9112 §8"),
        CloseReason::Poisoned => Some("RFC 9112 §9.2"),
        _ => None,
    }
}

/// The row with the byte at `at`, the rows around it, and a caret below it. `at` may be the end of the input.
fn excerpt(input: &[u8], at: usize) -> Vec<String> {
    let row = at / ROW;
    let mut lines = Vec::new();
    for row_of_line in row.saturating_sub(1)..=row + 1 {
        let start = row_of_line * ROW;
        let bytes = input.get(start..input.len().min(start + ROW)).unwrap_or_default();
        if row_of_line == row {
            lines.push(hex_row(start, bytes));
            lines.push(caret(at % ROW));
        } else if !bytes.is_empty() {
            lines.push(hex_row(start, bytes));
        }
    }
    lines
}

fn hex_row(start: usize, bytes: &[u8]) -> String {
    let mut line = format!("{start:08x} ");
    for column in 0..ROW {
        if column == ROW / 2 {
            line.push(' ');
        }
        match bytes.get(column) {
            Some(byte) => {
                // Into a String: cannot fail.
                let _ = write!(line, " {byte:02x}");
            }
            None => line.push_str("   "),
        }
    }
    let ascii = bytes.iter().map(|byte| if matches!(byte, b' '..=b'~') { char::from(*byte) } else { '.' });
    line.push_str("  |");
    line.extend(ascii);
    line.push('|');
    line
}

/// Carets below the byte in `column`, under both its hex and its ASCII form.
fn caret(column: usize) -> String {
    let gap = usize::from(column >= ROW / 2);
    let hex = "00000000 ".len() + gap + column * 3 + 1;
    let ascii = "00000000 ".len() + 1 + ROW * 3 + "  |".len() + column;
    format!("{:hex$}^^{:pad$}^", "", "", pad = ascii - hex - 2)
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "rejected: {}", self.message)?;
        if let Some(clause) = self.clause {
            writeln!(f, "  clause  {clause}")?;
        }
        writeln!(f, "  offset  {} (0x{:x}): line {}, byte {}", self.offset, self.offset, self.line, self.column)?;
        for line in &self.excerpt {
            writeln!(f, "    {line}")?;
        }
        if let Some(risk) = self.risk {
            writeln!(f, "  risk    {risk}")?;
        }
        match self.status {
            Some(status) => write!(f, "  answer  {status}, then close"),
            None => f.write_str("  answer  none: close"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caret_stands_below_the_hex_and_the_ascii_form_of_its_byte() {
        let input: Vec<u8> = (b'A'..=b'Z').collect();
        for at in 0..input.len() {
            let lines = excerpt(&input, at);
            let below = lines.iter().position(|line| line.contains('^')).expect("one line of carets");
            let carets: Vec<usize> = lines[below].match_indices('^').map(|(column, _)| column).collect();
            let row = &lines[below - 1];
            assert_eq!(row[carets[0]..=carets[1]], format!("{:02x}", input[at]), "{lines:#?}");
            assert_eq!(row.as_bytes()[carets[2]], input[at], "{lines:#?}");
        }
    }

    #[test]
    fn caret_at_the_end_of_the_input_stands_after_its_last_byte() {
        assert_eq!(
            excerpt(b"GET / HTTP/1.1\r\n", 16),
            [
                "00000000  47 45 54 20 2f 20 48 54  54 50 2f 31 2e 31 0d 0a  |GET / HTTP/1.1..|",
                "00000010                                                    ||",
                "          ^^                                                 ^",
            ]
        );
    }
}
