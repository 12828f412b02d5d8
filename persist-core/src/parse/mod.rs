//! Heads, from bytes to blocks: strict, resumable, and the same however the input was cut.
//!
//! A line is judged when its LF has come; framing and routing are judged when the head is complete. A first byte that can
//! begin no message is rejected at once. So the verdict depends on the bytes alone.

pub(crate) mod authority;
#[cfg(test)]
mod field_tests;
pub(crate) mod fields;
mod lenient;
pub(crate) mod request_line;
pub(crate) mod scan;
#[cfg(test)]
mod start_line_tests;
pub(crate) mod status_line;
mod target;
#[cfg(test)]
mod tests;

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::error::{Cause, ProtocolError};
use crate::head::{BodyLen, RequestHead, ResponseHead};
use crate::keep_alive::KeepAlive;
use crate::leniency::Leniency;
use crate::limits::Limits;
use crate::method::Known;
use crate::parse::fields::Section;
use crate::parse::request_line::RequestLine;
use crate::parse::status_line::StatusLine;

/// A head's positions are 16-bit numbers.
const HEAD_BYTES_MAX: usize = u16::MAX as usize;

/// Where a part of a head begins and ends.
pub(crate) type Part = (u16, u16);

#[inline]
pub(crate) const fn part(start: usize, end: usize) -> Part {
    debug_assert!(start <= end && end <= HEAD_BYTES_MAX);
    (start as u16, end as u16)
}

/// An incomplete head: what came of it so far, and how far it was searched. No buffer when empty.
#[derive(Debug, Default)]
pub(crate) struct Partial {
    bytes: Vec<u8>,
    /// The fields that are complete, once the start line is.
    section: Option<Box<Section>>,
    /// Bytes of empty lines before the start line, which are not kept. Odd: a CR waits for its LF.
    skipped: u32,
    /// In a head that needs a leniency: where the first line begins that is not complete.
    lenient: Option<u16>,
}

impl Partial {
    /// Whether no message has begun. Empty lines before one do not begin it, but count in [`len`](Self::len).
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes were consumed for a head that is not complete, empty lines before it included.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.skipped as usize
    }

    /// Whether this is the beginning of a response that is not an interim one, as far as one can tell.
    pub(crate) fn is_final_response(&self) -> bool {
        !self.bytes.is_empty() && self.bytes.get(9) != Some(&b'1')
    }

    /// The bytes so far, without the empty lines before them.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes bytes that are no head's, up to `max` in all.
    pub(crate) fn extend(&mut self, input: &mut &[u8], max: usize) {
        let (front, rest) = input.split_at(max.saturating_sub(self.bytes.len()).min(input.len()));
        self.bytes.extend_from_slice(front);
        *input = rest;
    }

    /// Gives up the incomplete head, and returns its bytes without the empty lines before it.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        core::mem::take(self).bytes
    }
}

/// What a head says is wrong, and where in it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Bad {
    pub(crate) cause: Cause,
    pub(crate) at: usize,
}

impl Bad {
    pub(crate) const fn new(cause: Cause, at: usize) -> Self {
        Self { cause, at }
    }

    /// The same, said of a head that begins at this offset of the connection's input.
    #[cold]
    fn behind(self, offset: u64) -> ProtocolError {
        ProtocolError::new(self.cause, offset.saturating_add(self.at as u64))
    }
}

/// A complete head whose lines are well-formed.
#[derive(Debug)]
pub(crate) struct Lines<'h> {
    pub(crate) bytes: &'h [u8],
    pub(crate) section: &'h Section,
    /// Its bytes on the wire, empty lines before it included.
    pub(crate) wire_len: usize,
}

/// A request that begins: its head, and what the connection must know of it.
#[derive(Debug)]
pub(crate) struct RequestStart {
    pub(crate) head: RequestHead,
    pub(crate) facts: RequestFacts,
    /// Bytes of the head on the wire, empty lines before it included.
    pub(crate) wire_len: usize,
}

/// What a connection must know of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestFacts {
    /// `Empty`, `Length` or `Chunked`.
    pub(crate) body: BodyLen,
    /// Where the host is named that the request is for.
    pub(crate) authority: Part,
    /// Whether the connection may carry another request.
    pub(crate) persist: bool,
    /// The client waits for `100 Continue`. HTTP/1.1 only.
    pub(crate) expects_continue: bool,
    /// HTTP/1.0 with `keep-alive`.
    pub(crate) asks_keep_alive: bool,
    /// HTTP/1.1 with `Upgrade`, and `Connection: upgrade`.
    pub(crate) upgrade: bool,
}

/// A response that begins: its head, and what the connection must know of it.
#[derive(Debug)]
pub(crate) struct ResponseStart {
    pub(crate) head: ResponseHead,
    pub(crate) facts: ResponseFacts,
    /// Bytes of the head on the wire, empty lines before it included.
    pub(crate) wire_len: usize,
}

/// What a connection must know of a response.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseFacts {
    /// What follows on the wire: `Empty` for an interim response, 204, 304, to HEAD, and when the protocol is switched.
    pub(crate) body: BodyLen,
    /// What the head says the content is, or, to HEAD and for 304, would have been.
    pub(crate) declared: BodyLen,
    /// Whether the connection may carry another response.
    pub(crate) persist: bool,
    /// A 101 that was asked for, or a 2xx to CONNECT.
    pub(crate) switches: bool,
    /// What the `Keep-Alive` field announces.
    pub(crate) keep_alive: KeepAlive,
}

/// What a response answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) method: Known,
    /// The request had an `Upgrade` field.
    pub(crate) upgrade: bool,
}

/// Reads one request head. `None`: all input was consumed into `partial`.
///
/// `offset`: where the first byte that `partial` holds stands in the connection's input, or, if it holds none, the input's first.
pub(crate) fn request(
    partial: &mut Partial,
    input: &mut &[u8],
    offset: u64,
    limits: &Limits,
    _leniency: Leniency,
) -> Result<Option<RequestStart>, ProtocolError> {
    read::<RequestLine>(partial, input, limits, Leniency::strict(), ()).map_err(|bad| bad.behind(offset))
}

/// Reads one response head. `None`: all input was consumed into `partial`.
///
/// `offset` as for [`request`].
pub(crate) fn response(
    partial: &mut Partial,
    input: &mut &[u8],
    offset: u64,
    limits: &Limits,
    leniency: Leniency,
    asked: Asked,
) -> Result<Option<ResponseStart>, ProtocolError> {
    read::<StatusLine>(partial, input, limits, leniency, asked).map_err(|bad| bad.behind(offset))
}

/// A head that was read where it lies: nothing of it is copied yet.
pub(crate) struct Found<'h, L: StartLine> {
    pub(crate) line: L,
    pub(crate) facts: L::Facts,
    /// Its bytes.
    pub(crate) bytes: &'h [u8],
}

/// Reads a head that is all in the input, with a start line as nearly all are and nothing wrong in it. `None` if it is any other, and nothing was consumed
/// then: [`request`] and [`response`] read those.
///
/// `section` must be empty; the spans of the head's fields are there afterwards.
#[inline(always)]
pub(crate) fn plain<'i, L: StartLine>(
    partial: &Partial,
    input: &mut &'i [u8],
    limits: &Limits,
    asked: L::Asked,
    section: &mut Section,
) -> Option<Found<'i, L>> {
    if !partial.is_empty() || partial.skipped > 0 {
        return None;
    }
    let bytes = &input[..input.len().min(head_bytes_max(limits))];
    let (line, at) = L::plain(bytes, limits)?;
    section.begin(at);
    let Ok(Some(end)) = fields::section(bytes, limits.fields_max, section) else { return None };
    let (bytes, rest) = input.split_at(end);
    let facts = line.judge(&Lines { bytes, section, wire_len: end }, asked).ok()?;
    *input = rest;
    Some(Found { line, facts, bytes })
}

/// The first line of a head.
pub(crate) trait StartLine: Sized {
    /// What begins with such a line.
    type Start;
    /// What a connection must know of it.
    type Facts: Copy;
    /// What else decides how the message is framed.
    type Asked: Copy;

    /// Reads a line of the kind that nearly all are, and returns the position after it; `None` if it is another, incomplete, or wrong.
    fn plain(bytes: &[u8], limits: &Limits) -> Option<(Self, usize)>;

    /// Reads one that is not [`plain`](Self::plain), and returns the position after it; `None` if its LF has not come.
    fn other(bytes: &[u8], limits: &Limits) -> Result<Option<(Self, usize)>, Bad>;

    /// Reads it, and returns the position after it; `None` if its LF has not come.
    fn read(bytes: &[u8], limits: &Limits) -> Result<Option<(Self, usize)>, Bad> {
        match Self::plain(bytes, limits) {
            None => Self::other(bytes, limits),
            found => Ok(found),
        }
    }

    /// Whether the line, not complete yet, can still become one.
    fn check_prefix(bytes: &[u8]) -> Result<(), Bad>;

    /// Whether an empty line may precede it.
    fn may_follow_empty_lines(leniency: Leniency) -> bool;

    /// What to say when the line does not end within the limit.
    fn too_long(limit: u64) -> Cause;

    /// Judges the head as a whole, once its lines are known to be well-formed.
    fn judge(&self, head: &Lines<'_>, asked: Self::Asked) -> Result<Self::Facts, Bad>;

    /// The message that begins with this head, of which so much was judged.
    fn start(self, head: &Lines<'_>, facts: Self::Facts) -> Self::Start;

    /// Judges the head, and copies it.
    fn judged(self, head: &Lines<'_>, asked: Self::Asked) -> Result<Self::Start, Bad> {
        let facts = self.judge(head, asked)?;
        Ok(self.start(head, facts))
    }
}

/// Reads a head; positions in errors count from the first empty line that was skipped.
fn read<L: StartLine>(
    partial: &mut Partial,
    input: &mut &[u8],
    limits: &Limits,
    leniency: Leniency,
    asked: L::Asked,
) -> Result<Option<L::Start>, Bad> {
    if !partial.is_empty() || partial.skipped > 0 {
        return resume::<L>(partial, input, limits, leniency, asked);
    }
    let bytes = &input[..input.len().min(head_bytes_max(limits))];
    match L::plain(bytes, limits) {
        Some((line, at)) => read_fields(partial, input, bytes, (line, at), limits, leniency, asked),
        None => read_other::<L>(partial, input, limits, leniency, asked),
    }
}

/// The same for a start line that is not plain.
#[cold]
fn read_other<L: StartLine>(
    partial: &mut Partial,
    input: &mut &[u8],
    limits: &Limits,
    leniency: Leniency,
    asked: L::Asked,
) -> Result<Option<L::Start>, Bad> {
    if matches!(input.first(), Some(b'\r' | b'\n') | None) {
        return resume::<L>(partial, input, limits, leniency, asked);
    }
    let bytes = &input[..input.len().min(head_bytes_max(limits))];
    match L::other(bytes, limits) {
        Ok(Some(line)) => read_fields(partial, input, bytes, line, limits, leniency, asked),
        Err(bad) if !lenient::can_mend(&bad.cause, leniency) => Err(bad),
        // Incomplete, or for a leniency to mend.
        _ => resume::<L>(partial, input, limits, leniency, asked),
    }
}

/// Reads the fields behind the start line of a head that begins the input, `bytes` of it within the limit.
fn read_fields<L: StartLine>(
    partial: &mut Partial,
    input: &mut &[u8],
    bytes: &[u8],
    (line, at): (L, usize),
    limits: &Limits,
    leniency: Leniency,
    asked: L::Asked,
) -> Result<Option<L::Start>, Bad> {
    let mut section = Section::new(at);
    match fields::section(bytes, limits.fields_max, &mut section) {
        Ok(Some(end)) => {
            let head = Lines { bytes: &bytes[..end], section: &section, wire_len: end };
            let start = line.judged(&head, asked)?;
            *input = &input[end..];
            Ok(Some(start))
        }
        Ok(None) => {
            // What is complete need not be read again.
            if bytes.len() == input.len() {
                partial.section = Some(Box::new(section));
                partial.bytes.extend_from_slice(input);
                *input = &[];
                return Ok(None);
            }
            Err(too_large::<L>(limits, true))
        }
        Err(bad) if lenient::can_mend(&bad.cause, leniency) => resume::<L>(partial, input, limits, leniency, asked),
        Err(bad) => Err(bad),
    }
}

/// The same for a head that came in pieces, follows empty lines, or needs a leniency. Linear in what came, however it was cut.
#[cold]
fn resume<L: StartLine>(
    partial: &mut Partial,
    input: &mut &[u8],
    limits: &Limits,
    leniency: Leniency,
    asked: L::Asked,
) -> Result<Option<L::Start>, Bad> {
    if partial.bytes.is_empty() && !skip_empty_lines::<L>(partial, input, limits, leniency)? {
        return Ok(None);
    }
    let skipped = partial.skipped as usize;
    let shift = |bad: Bad| Bad::new(bad.cause, bad.at + skipped);

    let end = loop {
        let room = head_bytes_max(limits).saturating_sub(skipped + partial.bytes.len());
        // Line by line, so that nothing behind the head is copied.
        let line = memchr::memchr(b'\n', input).map(|at| at + 1);
        let taken = line.unwrap_or(input.len()).min(room);
        partial.bytes.extend_from_slice(&input[..taken]);
        *input = &input[taken..];
        if partial.section.is_none() && partial.lenient.is_none() {
            L::check_prefix(&partial.bytes).map_err(shift)?;
        }
        if line == Some(taken) {
            let Partial { bytes, section, lenient, .. } = partial;
            if let Some(end) = advance::<L>(bytes, section, lenient, limits, leniency).map_err(shift)? {
                break end;
            }
        } else if input.is_empty() {
            return Ok(None);
        } else {
            let in_fields = partial.section.is_some() || partial.lenient.is_some_and(|at| at > 0);
            return Err(too_large::<L>(limits, in_fields));
        }
    };
    let head = core::mem::take(partial);
    debug_assert_eq!(head.bytes.len(), end);
    let wire_len = skipped + end;
    if head.lenient.is_some() {
        return lenient::judge::<L>(&head.bytes, wire_len, limits, leniency, asked).map(Some).map_err(shift);
    }
    let (line, _) = L::read(&head.bytes, limits).map_err(shift)?.expect("the start line is complete: its LF was seen");
    let section = head.section.expect("a section follows a complete start line");
    let head = Lines { bytes: &head.bytes, section: &section, wire_len };
    line.judged(&head, asked).map(Some).map_err(shift)
}

/// Judges the lines that have become complete; returns the end of the head once it is there.
fn advance<L: StartLine>(
    bytes: &[u8],
    section: &mut Option<Box<Section>>,
    lenient: &mut Option<u16>,
    limits: &Limits,
    leniency: Leniency,
) -> Result<Option<usize>, Bad> {
    if lenient.is_none() {
        match advance_strictly::<L>(bytes, section, limits) {
            Err(bad) if lenient::can_mend(&bad.cause, leniency) => *lenient = Some(0),
            found => return found,
        }
    }
    let mut at = lenient.map_or(0, usize::from);
    let end = lenient::end(bytes, &mut at);
    *lenient = Some(at as u16);
    Ok(end)
}

fn advance_strictly<L: StartLine>(
    bytes: &[u8],
    section: &mut Option<Box<Section>>,
    limits: &Limits,
) -> Result<Option<usize>, Bad> {
    if section.is_none() {
        let Some((_, at)) = L::read(bytes, limits)? else { return Ok(None) };
        *section = Some(Box::new(Section::new(at)));
    }
    match section {
        Some(section) => fields::section(bytes, limits.fields_max, section),
        None => Ok(None),
    }
}

/// Takes empty lines off the front of the input; false if it holds nothing else.
fn skip_empty_lines<L: StartLine>(
    partial: &mut Partial,
    input: &mut &[u8],
    limits: &Limits,
    leniency: Leniency,
) -> Result<bool, Bad> {
    if !L::may_follow_empty_lines(leniency) {
        return Ok(!input.is_empty());
    }
    while let Some((&byte, rest)) = input.split_first() {
        let at = partial.skipped as usize;
        match (byte, at % 2) {
            // RFC 9112 §2.2: a server ignores at least one empty line before the request line.
            (b'\r', 0) | (b'\n', 1) => {}
            (b'\n', _) => return Err(Bad::new(Cause::BareLf, at)),
            (_, 1) => return Err(Bad::new(Cause::BareCr, at - 1)),
            _ => return Ok(true),
        }
        if at == head_bytes_max(limits) {
            return Err(too_large::<L>(limits, false));
        }
        partial.skipped += 1;
        *input = rest;
    }
    Ok(false)
}

fn head_bytes_max(limits: &Limits) -> usize {
    (limits.head_bytes_max as usize).min(HEAD_BYTES_MAX)
}

fn too_large<L: StartLine>(limits: &Limits, in_fields: bool) -> Bad {
    let limit = head_bytes_max(limits);
    let cause = if in_fields { Cause::HeadTooLarge { limit: limit as u64 } } else { L::too_long(limit as u64) };
    Bad::new(cause, limit)
}
