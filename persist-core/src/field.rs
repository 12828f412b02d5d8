//! Field names and values, checked once, when they are built; and owned lists of them.

use alloc::borrow::Cow;
use core::fmt;

use crate::lines::{self, FieldLines, Notes};

/// A field name: a token (RFC 9110 §5.1). Keeps its case; compares without it.
///
/// ```
/// use persist_core::FieldName;
///
/// const ETAG: FieldName<'static> = FieldName::from_static("ETag"); // checked by the compiler
/// assert_eq!(ETAG, FieldName::new("etag")?);
/// assert!(FieldName::new("no space").is_err());
/// # Ok::<(), persist_core::InvalidField>(())
/// ```
#[derive(Clone, Copy)]
pub struct FieldName<'a>(&'a str);

/// A field value: visible characters, SP, HTAB and obs-text, no surrounding white space (RFC 9110 §5.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FieldValue<'a>(&'a [u8]);

/// One field line, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: FieldName<'a>,
    /// Its value.
    pub value: FieldValue<'a>,
}

/// The bytes are not a field name or value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidField {
    /// A name must be one or more token characters.
    #[error("byte {at} of the field name is not a token character, or the name is empty")]
    Name {
        /// Where.
        at: usize,
    },
    /// A value must be free of control characters but HTAB, and of surrounding white space.
    #[error("byte {at} of the field value is a control character or surrounding white space")]
    Value {
        /// Where.
        at: usize,
    },
}

/// RFC 9110 §5.6.2 `tchar`.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    matches!(byte,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z')
}

/// RFC 9110 §5.5 `field-content`, SP and HTAB included.
pub(crate) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xff)
}

impl<'a> FieldName<'a> {
    /// A name known at compile time; in a `const` it costs nothing at run time.
    ///
    /// # Panics
    /// Unless `name` is a token. In a `const` that is an error of compilation.
    pub const fn from_static(name: &'static str) -> FieldName<'static> {
        assert!(invalid_name_byte(name.as_bytes()).is_none(), "a field name is one or more token characters");
        FieldName(name)
    }

    /// A name given at run time.
    ///
    /// # Errors
    /// [`InvalidField::Name`] unless `name` is a token.
    pub const fn new(name: &'a str) -> Result<Self, InvalidField> {
        match invalid_name_byte(name.as_bytes()) {
            None => Ok(Self(name)),
            Some(at) => Err(InvalidField::Name { at }),
        }
    }

    /// For bytes that a parser has checked already.
    pub(crate) const fn checked(name: &'a str) -> Self {
        Self(name)
    }

    /// The name in its own case.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// Whether this is the field `name`, in any case.
    pub fn is(self, name: &str) -> bool {
        self.0.eq_ignore_ascii_case(name)
    }
}

impl<'a> FieldValue<'a> {
    /// A value known at compile time; in a `const` it costs nothing at run time.
    ///
    /// # Panics
    /// Unless `value` is a field value. In a `const` that is an error of compilation.
    pub const fn from_static(value: &'static str) -> FieldValue<'static> {
        assert!(invalid_value_byte(value.as_bytes()).is_none(), "a field value has no control characters");
        FieldValue(value.as_bytes())
    }

    /// A value given at run time.
    ///
    /// # Errors
    /// [`InvalidField::Value`] on control characters but HTAB, or surrounding white space: CR and LF could forge a field.
    pub const fn new(value: &'a [u8]) -> Result<Self, InvalidField> {
        match invalid_value_byte(value) {
            None => Ok(Self(value)),
            Some(at) => Err(InvalidField::Value { at }),
        }
    }

    /// For bytes that a parser has checked already.
    pub(crate) const fn checked(value: &'a [u8]) -> Self {
        Self(value)
    }

    /// The bytes; obs-text need not be UTF-8.
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The text, if it is UTF-8.
    pub fn to_str(self) -> Option<&'a str> {
        core::str::from_utf8(self.0).ok()
    }
}

/// For each byte, whether it may stand in a name, and in a value.
const ALLOWED: [(bool, bool); 256] = {
    let mut allowed = [(false, false); 256];
    let mut byte = 0;
    while byte < 256 {
        allowed[byte] = (is_token_byte(byte as u8), is_value_byte(byte as u8));
        byte += 1;
    }
    allowed
};

pub(crate) const fn invalid_name_byte(name: &[u8]) -> Option<usize> {
    let mut at = 0;
    while at < name.len() {
        if !ALLOWED[name[at] as usize].0 {
            return Some(at);
        }
        at += 1;
    }
    if name.is_empty() { Some(0) } else { None }
}

pub(crate) const fn invalid_value_byte(value: &[u8]) -> Option<usize> {
    if let [b' ' | b'\t', ..] = value {
        return Some(0);
    }
    let mut at = 0;
    while at < value.len() {
        if !ALLOWED[value[at] as usize].1 {
            return Some(at);
        }
        at += 1;
    }
    match value {
        [before @ .., b' ' | b'\t'] => Some(before.len()),
        _ => None,
    }
}

/// Whether it is a field value of visible ASCII and spaces, checked by words; false for what may or may not be one all the same.
fn is_plain_value(value: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    // A byte's highest bit is set in one of the three if it is above ASCII, below SP, or DEL. A borrow can only come from a byte that fails itself.
    let marks = |word: &[u8; 8]| {
        let word = u64::from_le_bytes(*word);
        word | word.wrapping_sub(EACH * 0x20) | word.wrapping_add(EACH)
    };
    let (Some(last), [b'!'..=b'~', .., b'!'..=b'~']) = (value.last_chunk::<8>(), value) else { return false };
    let (words, _) = value.as_chunks::<8>();
    words.iter().fold(marks(last), |seen, word| seen | marks(word)) & (EACH * 0x80) == 0
}

impl PartialEq for FieldName<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.is(other.0)
    }
}

impl Eq for FieldName<'_> {}

impl fmt::Debug for FieldName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for FieldName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// An owned list of fields, in order, names in their own case.
///
/// ```
/// use persist_core::Fields;
///
/// let mut fields = Fields::new();
/// fields.push("Accept", "text/html")?;
/// assert_eq!(fields.get("accept").and_then(|value| value.to_str()), Some("text/html"));
/// # Ok::<(), persist_core::InvalidField>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields {
    /// As lines, so that sending them is one copy. Lines that were known at compile time are not even copied here.
    bytes: Cow<'static, [u8]>,
    notes: Notes,
}

impl Fields {
    /// No fields, no allocation.
    pub const fn new() -> Self {
        Self { bytes: Cow::Borrowed(&[]), notes: FieldLines::EMPTY.notes() }
    }

    /// Adds a field at the end.
    ///
    /// # Errors
    /// [`InvalidField`] unless `name` is a token and `value` a field value.
    pub fn push(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), InvalidField> {
        let value = value.as_ref();
        let value = if is_plain_value(value) { FieldValue(value) } else { FieldValue::new(value)? };
        self.push_field(Field { name: FieldName::new(name)?, value });
        Ok(())
    }

    /// Adds a field that was checked when it was built.
    pub fn push_field(&mut self, field: Field<'_>) {
        lines::push(self.bytes.to_mut(), &mut self.notes, field);
    }

    /// Adds lines that were checked when they were built. The first ones cost neither a copy nor an allocation.
    #[inline]
    pub fn push_lines(&mut self, lines: FieldLines<'static>) {
        if self.bytes.is_empty() {
            *self = lines.into();
        } else {
            self.append(lines);
        }
    }

    fn append(&mut self, lines: FieldLines<'static>) {
        self.bytes.to_mut().extend_from_slice(lines.as_bytes());
        self.notes = self.notes.and(lines.notes());
    }

    /// The value of the first field of this name, in any case.
    pub fn get(&self, name: &str) -> Option<FieldValue<'_>> {
        self.iter().find(|field| field.name.is(name)).map(|field| field.value)
    }

    /// The values of all fields of this name, in order.
    pub fn get_all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = FieldValue<'a>> {
        self.iter().filter(move |field| field.name.is(name)).map(|field| field.value)
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.lines().iter()
    }

    /// All of them as they stand in a head.
    #[inline]
    pub fn lines(&self) -> FieldLines<'_> {
        FieldLines::checked(&self.bytes, self.notes)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// Lines known at compile time, without a copy.
impl From<FieldLines<'static>> for Fields {
    fn from(lines: FieldLines<'static>) -> Self {
        Self { bytes: Cow::Borrowed(lines.as_bytes()), notes: lines.notes() }
    }
}

/// Shows names and, since values may hold credentials, lengths only.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lengths = self.iter().map(|field| (field.name, field.value.as_bytes().len()));
        f.debug_map().entries(lengths).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_judged_the_same_by_words_and_by_bytes() {
        // Every byte at every place, in values of every length about a word or two, beside a neighbour that could hide it.
        for len in 0..20 {
            for at in 0..len {
                for byte in 0..=255u8 {
                    for beside in [b'v', b' ', 0x1f, 0x7f, 0x80] {
                        let mut value = alloc::vec![b'v'; len];
                        value[(at + 1) % len] = beside;
                        value[at] = byte;
                        let pushed = Fields::new().push("Name", &value);
                        assert_eq!(pushed.err(), FieldValue::new(&value).err(), "{}", value.escape_ascii());
                        if (9..19).contains(&len) && is_plain_value(&value) {
                            assert!(value.iter().all(|byte| (b' '..=b'~').contains(byte)), "{}", value.escape_ascii());
                        }
                    }
                }
            }
        }
        assert!(is_plain_value(b"127.0.0.1:8080"), "nearly all values are plain");
    }
}
