//! Field lines: the one grammar of heads and trailer sections, and where the framing fields stand.

use alloc::vec::Vec;

use crate::error::Cause;
use crate::field::is_token_byte;
use crate::parse::Bad;
use crate::parse::scan;

/// A field that a connection must understand, or write itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Host,
    Expect,
    Upgrade,
    Connection,
    KeepAlive,
    ContentLength,
    TransferEncoding,
}

/// Which framing field this token is, in any case. By its first four bytes: hardly any other begins so.
#[inline(always)]
pub(crate) const fn classify(name: &[u8]) -> Option<Kind> {
    const HOST: u32 = u32::from_le_bytes(*b"host");
    const EXPE: u32 = u32::from_le_bytes(*b"expe");
    const UPGR: u32 = u32::from_le_bytes(*b"upgr");
    const CONN: u32 = u32::from_le_bytes(*b"conn");
    const KEEP: u32 = u32::from_le_bytes(*b"keep");
    const CONT: u32 = u32::from_le_bytes(*b"cont");
    const TRAN: u32 = u32::from_le_bytes(*b"tran");
    let Some((first, rest)) = name.split_first_chunk::<4>() else { return None };
    let (kind, same) = match u32::from_le_bytes(*first) | 0x2020_2020 {
        HOST => (Kind::Host, rest.is_empty()),
        EXPE => (Kind::Expect, is_token(rest, b"ct")),
        UPGR => (Kind::Upgrade, is_token(rest, b"ade")),
        CONN => (Kind::Connection, is_token(rest, b"ection")),
        KEEP => (Kind::KeepAlive, is_token(rest, b"-alive")),
        CONT => (Kind::ContentLength, is_token(rest, b"ent-length")),
        TRAN => (Kind::TransferEncoding, is_token(rest, b"sfer-encoding")),
        _ => return None,
    };
    if same { Some(kind) } else { None }
}

/// Whether a token is `lower`, letters and hyphens, in any case.
#[inline]
pub(crate) const fn is_token<const N: usize>(token: &[u8], lower: &[u8; N]) -> bool {
    if token.len() != N {
        return false;
    }
    match (token.first_chunk::<8>(), token.last_chunk::<8>(), lower.first_chunk::<8>(), lower.last_chunk::<8>()) {
        // Two words that overlap cover 8 to 16 bytes.
        (Some(start), Some(end), Some(lower_start), Some(lower_end)) if N <= 16 => {
            (fold(start) ^ fold(lower_start)) | (fold(end) ^ fold(lower_end)) == 0
        }
        _ => {
            let mut at = 0;
            while at < N && token[at] | 0x20 == lower[at] {
                at += 1;
            }
            at == N
        }
    }
}

/// 0x20 is what sets cases apart; a hyphen has the bit, and no other token byte becomes one by it.
const fn fold(bytes: &[u8; 8]) -> u64 {
    u64::from_le_bytes(*bytes) | 0x2020_2020_2020_2020
}

/// Where a field's name and value stand in the head: four 16-bit numbers, since a head has at most 65,535 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Span(u64);

/// A span as it stands behind a head in its block.
type SpanBytes = [u8; size_of::<Span>()];

impl Span {
    #[inline]
    pub(crate) fn new(name: usize, name_len: usize, value: usize, value_len: usize) -> Self {
        debug_assert!(value + value_len <= usize::from(u16::MAX));
        Self(name as u64 | (name_len as u64) << 16 | (value as u64) << 32 | (value_len as u64) << 48)
    }

    pub(crate) const fn to_bytes(self) -> SpanBytes {
        self.0.to_le_bytes()
    }

    pub(crate) const fn from_bytes(bytes: SpanBytes) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    pub(crate) fn name(self, head: &[u8]) -> &[u8] {
        Self::part(head, self.0 as u16, (self.0 >> 16) as u16)
    }

    pub(crate) fn value(self, head: &[u8]) -> &[u8] {
        Self::part(head, (self.0 >> 32) as u16, (self.0 >> 48) as u16)
    }

    pub(crate) const fn value_start(self) -> usize {
        (self.0 >> 32) as u16 as usize
    }

    #[inline]
    fn part(head: &[u8], start: u16, len: u16) -> &[u8] {
        &head[usize::from(start)..usize::from(start) + usize::from(len)]
    }
}

const INLINE: usize = 32;

/// The spans of one field section while it is parsed: on the stack, unless there are very many.
#[derive(Debug)]
pub(crate) struct Section {
    few: [SpanBytes; INLINE],
    many: Vec<SpanBytes>,
    len: usize,
    /// One bit for each of the first spans: whether it is a framing field.
    framing: u32,
    /// For those that are: which.
    kinds: [Kind; INLINE],
    /// Where the first line begins that is not complete.
    at: usize,
}

impl Section {
    /// An empty section that begins at `at`.
    #[inline]
    pub(crate) fn new(at: usize) -> Self {
        Self { few: [[0; 8]; INLINE], many: Vec::new(), len: 0, framing: 0, kinds: [Kind::Expect; INLINE], at }
    }

    /// Begins it at another place, where nothing was read yet.
    pub(crate) fn begin(&mut self, at: usize) {
        self.at = at;
    }

    #[inline]
    fn push(&mut self, span: Span, kind: Option<Kind>) {
        match self.few.get_mut(self.len) {
            Some(place) => {
                *place = span.to_bytes();
                if let Some(kind) = kind {
                    self.framing |= 1 << self.len;
                    self.kinds[self.len] = kind;
                }
            }
            None => self.many.push(span.to_bytes()),
        }
        self.len += 1;
    }

    fn few(&self) -> &[SpanBytes] {
        &self.few[..self.len.min(INLINE)]
    }

    /// All spans, in two pieces, as [`Span::from_bytes`] takes them.
    pub(crate) fn as_bytes(&self) -> (&[u8], &[u8]) {
        (self.few().as_flattened(), self.many.as_flattened())
    }

    pub(crate) fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.few().iter().chain(&self.many).copied().map(Span::from_bytes)
    }

    /// The framing fields in their order.
    #[inline]
    pub(crate) fn framing<'s>(&'s self, head: &'s [u8]) -> Framing<'s> {
        Framing { head, section: self, bits: self.framing, many: self.many.iter() }
    }
}

/// The framing fields of a section: among the first those that were marked, among the rest those that are found again.
#[derive(Debug)]
pub(crate) struct Framing<'s> {
    head: &'s [u8],
    section: &'s Section,
    bits: u32,
    many: core::slice::Iter<'s, SpanBytes>,
}

impl Framing<'_> {
    #[cold]
    fn next_of_many(&mut self) -> Option<(Kind, Span)> {
        let mut spans = self.many.by_ref().copied().map(Span::from_bytes);
        spans.find_map(|span| Some((classify(span.name(self.head))?, span)))
    }
}

impl Iterator for Framing<'_> {
    type Item = (Kind, Span);

    #[inline(always)]
    fn next(&mut self) -> Option<(Kind, Span)> {
        if self.bits == 0 {
            return if self.many.as_slice().is_empty() { None } else { self.next_of_many() };
        }
        let first = self.bits.trailing_zeros() as usize;
        self.bits &= self.bits - 1;
        Some((self.section.kinds[first], Span::from_bytes(self.section.few[first])))
    }
}

/// A line as nearly all are.
struct PlainLine {
    name_len: usize,
    value_len: usize,
    /// The empty line follows.
    is_last: bool,
}

/// The line at the front, if it is a name of letters and hyphens, a colon and one space, a value that neither begins nor ends with white space, and
/// CRLF, and something follows.
#[inline(always)]
fn plain_line(rest: &[u8]) -> Option<PlainLine> {
    const COLON: u16 = u16::from_le_bytes(*b": ");
    const CRLF: u16 = u16::from_le_bytes(*b"\r\n");
    const LAST: u32 = u32::from_le_bytes(*b"\r\n\r\n");
    let name_len = scan::letters(rest)?;
    let (colon, value) = rest.get(name_len..)?.split_first_chunk::<2>()?;
    if u16::from_le_bytes(*colon) != COLON || name_len == 0 {
        return None;
    }
    let value_len = scan::value(value)?;
    let behind = u32::from_le_bytes(*value.get(value_len..)?.first_chunk::<4>()?);
    // Of all bytes of a value only SP and HTAB come so early, and CR, if it is empty.
    let is_trimmed = value[0] > b' ' && value[value_len.saturating_sub(1)] > b' ';
    let is_line = behind as u16 == CRLF && is_trimmed;
    is_line.then_some(PlainLine { name_len, value_len, is_last: behind == LAST })
}

/// Goes on reading field lines up to the empty line, and returns the position after it; `None` if it is not there yet.
///
/// A line is judged when its LF has come, so that the verdict does not depend on how the input was cut.
pub(crate) fn section(bytes: &[u8], fields_max: u16, section: &mut Section) -> Result<Option<usize>, Bad> {
    let mut start = section.at;
    loop {
        // The limit is judged below.
        if section.len < usize::from(fields_max).min(INLINE)
            && let Some(line) = bytes.get(start..).and_then(plain_line)
        {
            let value = start + line.name_len + ": ".len();
            let kind = classify(&bytes[start..start + line.name_len]);
            section.push(Span::new(start, line.name_len, value, line.value_len), kind);
            start = value + line.value_len + "\r\n".len();
            if line.is_last {
                section.at = start;
                return Ok(Some(start + "\r\n".len()));
            }
            continue;
        }
        let colon = scan::token_end(bytes, start);
        if colon == start || bytes.get(colon) != Some(&b':') {
            section.at = start;
            if bytes.get(start..start + 2) == Some(b"\r\n") {
                return Ok(Some(start + 2));
            }
            return diagnose(bytes, start, section.len == 0);
        }
        let mut value = colon + 1;
        while let Some(b' ' | b'\t') = bytes.get(value) {
            value += 1;
        }
        let line_end = scan::value_end(bytes, value);
        if bytes.get(line_end..line_end + 2) != Some(b"\r\n") {
            section.at = start;
            return diagnose(bytes, start, section.len == 0);
        }
        if section.len == usize::from(fields_max) {
            return Err(Bad { cause: Cause::TooManyFields { limit: fields_max.into() }, at: start });
        }
        let mut end = line_end;
        // Of all bytes of a value only SP and HTAB come so early.
        while end > value && bytes[end - 1] <= b' ' {
            end -= 1;
        }
        let kind = classify(&bytes[start..colon]);
        section.push(Span::new(start, colon - start, value, end - value), kind);
        start = line_end + 2;
        // Saves the scan for a name that is not there.
        if bytes.get(start..start + 2) == Some(b"\r\n") {
            section.at = start;
            return Ok(Some(start + 2));
        }
    }
}

/// What is wrong with the line that begins at `start`; `None` if its end has not come.
#[cold]
fn diagnose(bytes: &[u8], start: usize, is_first: bool) -> Result<Option<usize>, Bad> {
    let Some(len) = memchr::memchr(b'\n', &bytes[start..]) else { return Ok(None) };
    let line = &bytes[start..start + len];
    let (cause, at) = line_fault(line, is_first);
    Err(Bad { cause, at: start + at })
}

/// `line` has its LF cut off.
fn line_fault(line: &[u8], is_first: bool) -> (Cause, usize) {
    // RFC 9112 §2.2, §5.2: white space at the start of a line continues the line before, or, before any field, hides this one.
    if let Some(b' ' | b'\t') = line.first() {
        return if is_first { (Cause::SpaceBeforeFields, 0) } else { (Cause::ObsFold, 0) };
    }
    let body = match line {
        [body @ .., b'\r'] => body,
        _ => line,
    };
    let bare_lf = body.len() == line.len();
    if let Some(at) = memchr::memchr(b'\r', body) {
        return (Cause::BareCr, at);
    }
    if bare_lf && body.is_empty() {
        return (Cause::BareLf, 0);
    }
    let name_end = body.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(body.len());
    let fault = match body.get(name_end) {
        Some(b':') if name_end == 0 => Some((Cause::EmptyFieldName, 0)),
        Some(b':') => None,
        None => Some((Cause::NoColon, name_end)),
        // RFC 9112 §5.1: no white space before the colon.
        Some(b' ' | b'\t') if body[name_end..].trim_ascii_start().first() == Some(&b':') => {
            Some((Cause::SpaceBeforeColon, name_end))
        }
        Some(_) if !body.contains(&b':') => Some((Cause::NoColon, name_end)),
        Some(&byte) => Some((Cause::InvalidFieldName { byte }, name_end)),
    };
    if let Some(fault) = fault {
        return fault;
    }
    let value = scan::value_end(body, name_end + 1);
    match body.get(value) {
        Some(&byte) => (Cause::InvalidFieldValue { byte }, value),
        None => (Cause::BareLf, body.len()),
    }
}
