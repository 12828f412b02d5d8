//! Field lines that are rendered before they are sent: checked once, written with one copy each time.

use alloc::vec::Vec;
use core::fmt;

use crate::error::SendError;
use crate::field::{self, Field, FieldName, FieldValue, Fields};
use crate::parse::fields::{Kind, classify, is_token};

/// Field lines as they stand in a head, borrowed: checked when they were built, so that sending them is one copy.
///
/// From [`Fields::lines`], from a [`Stamp`](crate::Stamp), or from text that the compiler checks:
///
/// ```
/// use persist_core::FieldLines;
///
/// const STANDING: FieldLines<'static> = FieldLines::from_static("Server: here\r\nContent-Type: text/plain\r\n");
/// assert_eq!(STANDING.iter().count(), 2);
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldLines<'a> {
    bytes: &'a [u8],
    notes: Notes,
}

/// Fields of a head that is to be sent, in whatever form they are at hand: an iterator of [`Field`], a list of [`Fields`] by reference,
/// [`FieldLines`], or one [after the other](FieldLines::and). What is rendered already costs one copy, the others one per part.
///
/// ```
/// use persist_core::{BodyLen, Client, Config, Conn, FieldLines, Fields, Instant, Method};
///
/// # let mut conn = Conn::<Client>::new(Config::client(), Instant::ZERO);
/// const HOST: FieldLines<'static> = FieldLines::from_static("Host: example.org\r\n");
/// let mut fields = Fields::new();
/// fields.push("Accept", "text/html")?;
/// conn.send_request(&Method::GET, "/", HOST.and(&fields), BodyLen::Empty, Instant::ZERO)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait HeadFields: Write {}

impl<T: Write> HeadFields for T {}

/// How the fields are written. Sealed: what is written has been checked.
pub trait Write {
    /// Appends the lines, and says what they say that steers the connection.
    fn write(self, out: &mut Vec<u8>) -> Notes;
}

/// How names of fields begin that are meant for a proxy.
const PROXY: &[u8; 6] = b"proxy-";

/// What fields say that steers the connection that sends them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    flags: u16,
    hosts: u8,
}

impl Notes {
    pub(crate) const CLOSE: u16 = 1;
    pub(crate) const KEEP_ALIVE: u16 = 1 << 1;
    pub(crate) const CONNECTION_UPGRADE: u16 = 1 << 2;
    pub(crate) const UPGRADE: u16 = 1 << 3;
    pub(crate) const EXPECT_CONTINUE: u16 = 1 << 4;
    pub(crate) const DATE: u16 = 1 << 5;
    pub(crate) const SERVER: u16 = 1 << 6;
    /// A field whose name begins with `Proxy-`.
    pub(crate) const PROXY: u16 = 1 << 9;
    const CONTENT_LENGTH: u16 = 1 << 7;
    const TRANSFER_ENCODING: u16 = 1 << 8;

    /// Whether the fields said this.
    #[inline]
    pub(crate) const fn say(self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// How many `Host` fields there are.
    pub(crate) const fn hosts(self) -> u8 {
        self.hosts
    }

    /// What both say.
    #[inline]
    pub(crate) const fn and(self, other: Self) -> Self {
        Self { flags: self.flags | other.flags, hosts: self.hosts.saturating_add(other.hosts) }
    }

    /// What a single field says.
    #[inline(always)]
    const fn of(name: &[u8], value: &[u8]) -> Self {
        match classify(name) {
            None => Self { flags: 0, hosts: 0 },
            Some(kind) => Self::of_kind(kind, value),
        }
    }

    const fn of_kind(kind: Kind, value: &[u8]) -> Self {
        let flags = match kind {
            Kind::Host => return Self { flags: 0, hosts: 1 },
            Kind::Expect if is_token(value, b"100-continue") => Self::EXPECT_CONTINUE,
            Kind::Expect | Kind::KeepAlive => 0,
            Kind::Upgrade => Self::UPGRADE,
            Kind::Connection => Self::options(value),
            Kind::ContentLength => Self::CONTENT_LENGTH,
            Kind::TransferEncoding => Self::TRANSFER_ENCODING,
        };
        Self { flags, hosts: 0 }
    }

    /// The options of a `Connection` field that matter to the connection itself.
    const fn options(mut value: &[u8]) -> u16 {
        let mut flags = 0;
        loop {
            let mut end = 0;
            while end < value.len() && value[end] != b',' {
                end += 1;
            }
            let (option, rest) = value.split_at(end);
            let option = option.trim_ascii();
            if is_token(option, b"close") {
                flags |= Self::CLOSE;
            } else if is_token(option, b"keep-alive") {
                flags |= Self::KEEP_ALIVE;
            } else if is_token(option, b"upgrade") {
                flags |= Self::CONNECTION_UPGRADE;
            }
            match rest {
                [] => return flags,
                [_, rest @ ..] => value = rest,
            }
        }
    }

    /// The same, and whether it is one that a [`Stamp`](crate::Stamp) would add, or that is meant for a proxy.
    const fn of_standing(name: &[u8], value: &[u8]) -> Self {
        if let Some(kind) = classify(name) {
            return Self::of_kind(kind, value);
        }
        let flags = if is_token(name, b"date") {
            Self::DATE
        } else if is_token(name, b"server") {
            Self::SERVER
        } else if name.len() > PROXY.len() && is_token(name.split_at(PROXY.len()).0, PROXY) {
            Self::PROXY
        } else {
            0
        };
        Self { flags, hosts: 0 }
    }

    /// The notes, unless the fields would frame the message: that is the machine's to say.
    #[inline]
    pub(crate) fn without_framing(self) -> Result<Self, SendError> {
        if self.flags & (Self::CONTENT_LENGTH | Self::TRANSFER_ENCODING) == 0 {
            return Ok(self);
        }
        let name = if self.say(Self::CONTENT_LENGTH) { "content-length" } else { "transfer-encoding" };
        Err(SendError::FramingField(name))
    }
}

/// Appends one line.
#[inline(always)]
fn write_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Room for the lines of most heads, so that the second and third need no other.
const LINES_ROOM: usize = 96;

/// Appends one line to those that are kept, with what it says.
pub(crate) fn push(out: &mut Vec<u8>, notes: &mut Notes, field: Field<'_>) {
    let (name, value) = (field.name.as_str().as_bytes(), field.value.as_bytes());
    let len = name.len() + value.len() + ": \r\n".len();
    if out.capacity() == 0 {
        *out = Vec::with_capacity(len.max(LINES_ROOM));
    } else {
        out.reserve(len);
    }
    write_line(out, name, value);
    *notes = notes.and(Notes::of_standing(name, value));
}

impl<'a> FieldLines<'a> {
    /// No lines.
    pub const EMPTY: Self = Self { bytes: &[], notes: Notes { flags: 0, hosts: 0 } };

    /// Lines known at compile time, each of them `Name: value` and CRLF; in a `const` they cost nothing at run time.
    ///
    /// # Panics
    /// Unless each line is a token, a colon, a space, a field value and CRLF. In a `const` that is an error of compilation.
    pub const fn from_static(text: &'static str) -> FieldLines<'static> {
        let mut rest = text.as_bytes();
        let mut notes = Notes { flags: 0, hosts: 0 };
        while !rest.is_empty() {
            let Some((name, value, behind)) = split_line(rest) else {
                panic!("each line is a name, a colon, a space, a value and CRLF")
            };
            assert!(field::invalid_name_byte(name).is_none(), "a field name is one or more token characters");
            assert!(field::invalid_value_byte(value).is_none(), "a field value has no control characters");
            notes = notes.and(Notes::of_standing(name, value));
            rest = behind;
        }
        FieldLines { bytes: text.as_bytes(), notes }
    }

    /// For lines that were checked already, and what they say.
    pub(crate) const fn checked(bytes: &'a [u8], notes: Notes) -> Self {
        Self { bytes, notes }
    }

    /// These lines, and others behind them.
    pub const fn and<F: HeadFields>(self, others: F) -> Joined<'a, F> {
        Joined { lines: self, others }
    }

    /// The bytes, CRLF at the end of each line included.
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The fields, in order.
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> + Clone {
        let mut rest = self.bytes;
        core::iter::from_fn(move || {
            let (name, value, behind) = split_line(rest)?;
            rest = behind;
            let name = core::str::from_utf8(name).expect("a field name is ASCII: checked when built");
            Some(Field { name: FieldName::checked(name), value: FieldValue::checked(value) })
        })
    }

    pub(crate) const fn notes(&self) -> Notes {
        self.notes
    }
}

/// The name and value of the first line, and what stands behind it.
const fn split_line(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let mut colon = 0;
    while colon < text.len() && text[colon] != b':' {
        colon += 1;
    }
    let mut end = colon;
    while end < text.len() && text[end] != b'\r' {
        end += 1;
    }
    let (line, behind) = text.split_at(end);
    let (name, value) = line.split_at(colon);
    match (value, behind) {
        ([b':', b' ', value @ ..], [b'\r', b'\n', behind @ ..]) => Some((name, value, behind)),
        _ => None,
    }
}

/// Shows names and, since values may hold credentials, lengths only.
impl fmt::Debug for FieldLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|field| (field.name, field.value.as_bytes().len()))).finish()
    }
}

/// Lines, and other fields behind them: [`FieldLines::and`].
#[derive(Clone, Copy, Debug)]
pub struct Joined<'a, F> {
    lines: FieldLines<'a>,
    others: F,
}

impl<'a> Joined<'a, FieldLines<'a>> {
    /// The fields, in order.
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> + Clone {
        self.lines.iter().chain(self.others.iter())
    }
}

impl<'f, I: IntoIterator<Item = Field<'f>>> Write for I {
    #[inline]
    fn write(self, out: &mut Vec<u8>) -> Notes {
        let mut notes = Notes::default();
        for Field { name, value } in self {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            notes = notes.and(Notes::of(name, value));
            write_line(out, name, value);
        }
        notes
    }
}

impl Write for FieldLines<'_> {
    #[inline]
    fn write(self, out: &mut Vec<u8>) -> Notes {
        out.extend_from_slice(self.bytes);
        self.notes
    }
}

impl Write for &Fields {
    #[inline]
    fn write(self, out: &mut Vec<u8>) -> Notes {
        self.lines().write(out)
    }
}

impl<F: Write> Write for Joined<'_, F> {
    #[inline]
    fn write(self, out: &mut Vec<u8>) -> Notes {
        let notes = self.lines.write(out);
        notes.and(self.others.write(out))
    }
}

#[cfg(test)]
mod tests;
