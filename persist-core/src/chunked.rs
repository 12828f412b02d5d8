//! The chunked transfer coding (RFC 9112 §7.1), decoded strictly and without copying.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::error::{Cause, ProtocolError};
use crate::field::{Field, FieldName, FieldValue, Fields, is_token_byte, is_value_byte};
use crate::limits::Limits;
use crate::parse::Bad;
use crate::parse::fields::{self, Kind, Section};

/// Where one chunked body stands. Small, since every exchange has one; the trailer section, rare, has its own box.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    state: State,
    /// In `Size` and `Ext`: the size so far. In `Data`: what is left of the chunk.
    left: u64,
    /// Bytes of extensions and leading zeros in this body.
    ext_bytes: u32,
    trailer: Option<Box<Trailer>>,
}

/// What the input holds next.
#[derive(Debug)]
pub(crate) enum Decoded<'i> {
    /// Content, never empty.
    Data(&'i [u8]),
    /// All input was consumed.
    NeedRead,
    /// The body is complete; a trailer section without fields is `None`.
    End(Option<Fields>),
}

#[derive(Debug, Default)]
struct Trailer {
    bytes: Vec<u8>,
    section: Option<Section>,
}

/// A position in the grammar: what has been read, and so what may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing of a chunk size.
    #[default]
    SizeStart,
    /// At least one digit of it.
    Size,
    /// White space after a size or an extension: only `;` may follow.
    BeforeSemicolon,
    /// `;`, perhaps white space: a name must follow.
    BeforeName,
    /// A name.
    Name,
    /// White space after a name: `;` or `=` may follow.
    AfterName,
    /// `=`, perhaps white space: a value must follow.
    BeforeValue,
    /// A value that is a token.
    Token,
    /// A quoted string.
    Quoted,
    /// A backslash in a quoted string.
    Escaped,
    /// The closing quote.
    AfterQuoted,
    /// The CR that ends the line.
    SizeCr,
    /// The chunk's data.
    Data,
    /// All of the chunk's data.
    DataEnd,
    /// The CR after it.
    DataCr,
    /// The last chunk: the trailer section.
    Trailer,
    /// All of it.
    Done,
}

impl Decoder {
    /// Decodes the next piece. `offset`: where the input's first byte stands in the connection's input.
    #[inline]
    pub(crate) fn decode<'i>(
        &mut self,
        input: &mut &'i [u8],
        offset: u64,
        limits: &Limits,
    ) -> Result<Decoded<'i>, ProtocolError> {
        let given = input.len();
        self.read_plain_framing(input);
        if self.state != State::Data {
            let offset = offset.saturating_add((given - input.len()) as u64);
            if let Some(found) = self.decode_framing(input, offset, limits)? {
                return Ok(found);
            }
        }
        let len = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
        if len == 0 {
            return Ok(Decoded::NeedRead);
        }
        let (data, rest) = input.split_at(len);
        *input = rest;
        self.skip(len as u64);
        Ok(Decoded::Data(data))
    }

    /// Byte by byte, up to data (`None`), the end of the body, or the end of the input.
    #[cold]
    fn decode_framing<'i>(
        &mut self,
        input: &mut &'i [u8],
        offset: u64,
        limits: &Limits,
    ) -> Result<Option<Decoded<'i>>, ProtocolError> {
        let given = input.len();
        loop {
            let offset = offset.saturating_add((given - input.len()) as u64);
            match self.state {
                State::Data => return Ok(None),
                State::Trailer => return self.read_trailer(input, offset, limits).map(Some),
                State::Done => return Ok(Some(Decoded::End(None))),
                _ => {}
            }
            let Some((&byte, rest)) = input.split_first() else { return Ok(Some(Decoded::NeedRead)) };
            self.state = self.step(byte, limits).map_err(|cause| ProtocolError::new(cause, offset))?;
            *input = rest;
        }
    }

    /// So many bytes of data come next, before any framing.
    pub(crate) fn window(&self) -> u64 {
        if self.state == State::Data { self.left } else { 0 }
    }

    /// `n` bytes of data were taken, at most the [`window`](Self::window).
    pub(crate) fn skip(&mut self, n: u64) {
        debug_assert!(n <= self.window());
        self.left = self.left.saturating_sub(n);
        if self.state == State::Data && self.left == 0 {
            self.state = State::DataEnd;
        }
    }

    /// The last `n` bytes of the data that [`decode`](Self::decode) just gave are not taken after all.
    pub(crate) fn put_back(&mut self, n: u64) {
        self.left = if self.state == State::Data { self.left } else { 0 } + n;
        self.state = State::Data;
    }

    /// The usual case in one go: the CRLF of the chunk before, if any; up to seven digits, no leading zero, and CRLF, all there.
    #[inline]
    fn read_plain_framing(&mut self, input: &mut &[u8]) {
        let line = match self.state {
            State::SizeStart => *input,
            State::DataEnd => match input.strip_prefix(b"\r\n") {
                Some(line) => line,
                None => return,
            },
            _ => return,
        };
        let mut size = 0;
        for (at, &byte) in line.iter().take(8).enumerate() {
            let digit = HEX_DIGITS[usize::from(byte)];
            if digit < 16 {
                size = size << 4 | u64::from(digit);
            } else {
                if size > 0 && line[0] != b'0' && line[at..].starts_with(b"\r\n") {
                    self.left = size;
                    self.state = State::Data;
                    *input = &line[at + 2..];
                }
                return;
            }
        }
    }

    /// One byte of framing: the state that it leads to.
    fn step(&mut self, byte: u8, limits: &Limits) -> Result<State, Cause> {
        use State::*;
        Ok(match (self.state, byte) {
            (SizeStart | Size, _) if byte.is_ascii_hexdigit() => return self.add_digit(byte, limits),
            (Size | Name | Token | AfterQuoted, b'\r') => SizeCr,
            (Size | BeforeSemicolon | Name | AfterName | Token | AfterQuoted, b';') => {
                self.count_ext_byte(limits)?;
                BeforeName
            }
            // RFC 9112 §7.1.1, erratum 7633: an extension is skipped whatever it says, but by its grammar: nothing else finds the right end of the line.
            (SizeStart | SizeCr | DataEnd | DataCr | Size, _) => return self.step_outside_ext(byte),
            _ => {
                self.count_ext_byte(limits)?;
                return self.step_ext(byte);
            }
        })
    }

    fn step_outside_ext(&mut self, byte: u8) -> Result<State, Cause> {
        use State::*;
        Ok(match (self.state, byte) {
            (Size, b' ' | b'\t') => BeforeSemicolon,
            (SizeStart | Size, _) => return Err(Cause::InvalidChunkSize { byte }),
            (SizeCr, b'\n') if self.left == 0 => Trailer,
            (SizeCr, b'\n') => Data,
            (SizeCr, _) => return Err(Cause::BareCr),
            (DataEnd, b'\r') => DataCr,
            (DataCr, b'\n') => SizeStart,
            _ => return Err(Cause::ChunkOverrun { byte }),
        })
    }

    fn step_ext(&self, byte: u8) -> Result<State, Cause> {
        use State::*;
        let is_space = matches!(byte, b' ' | b'\t');
        Ok(match self.state {
            BeforeSemicolon if is_space => BeforeSemicolon,
            BeforeName if is_space => BeforeName,
            BeforeName | Name if is_token_byte(byte) => Name,
            Name | AfterName if is_space => AfterName,
            Name | AfterName if byte == b'=' => BeforeValue,
            BeforeValue if is_space => BeforeValue,
            BeforeValue if byte == b'"' => Quoted,
            BeforeValue | Token if is_token_byte(byte) => Token,
            Token | AfterQuoted if is_space => BeforeSemicolon,
            Quoted if byte == b'"' => AfterQuoted,
            Quoted if byte == b'\\' => Escaped,
            Quoted | Escaped if is_value_byte(byte) => Quoted,
            _ if byte == b'\n' => return Err(Cause::BareLf),
            _ => return Err(Cause::InvalidChunkExt { byte }),
        })
    }

    fn add_digit(&mut self, byte: u8, limits: &Limits) -> Result<State, Cause> {
        if self.state == State::SizeStart {
            self.left = 0;
        } else if self.left == 0 {
            // Leading zeros are legal, and a way to send bytes without end.
            self.count_ext_byte(limits)?;
        }
        // RFC 9112 §7.1: an overflow must not wrap around.
        if self.left >> 60 != 0 {
            return Err(Cause::ChunkSizeOverflow);
        }
        self.left = self.left << 4 | u64::from(hex_digit(byte).unwrap_or_default());
        Ok(State::Size)
    }

    fn count_ext_byte(&mut self, limits: &Limits) -> Result<(), Cause> {
        self.ext_bytes = self.ext_bytes.saturating_add(1);
        if self.ext_bytes > limits.chunk_ext_bytes_max {
            return Err(Cause::ChunkExtTooLarge { limit: limits.chunk_ext_bytes_max.into() });
        }
        Ok(())
    }

    /// RFC 9112 §7.1.2: field lines up to an empty one. `offset` is that of the input's first byte.
    fn read_trailer<'i>(
        &mut self,
        input: &mut &'i [u8],
        offset: u64,
        limits: &Limits,
    ) -> Result<Decoded<'i>, ProtocolError> {
        if self.trailer.is_none() && input.starts_with(b"\r\n") {
            *input = &input[2..];
            self.state = State::Done;
            return Ok(Decoded::End(None));
        }
        if input.is_empty() {
            return Ok(Decoded::NeedRead);
        }
        let trailer = self.trailer.get_or_insert_default();
        let start = offset.saturating_sub(trailer.bytes.len() as u64);
        let fail = |bad: Bad| ProtocolError::new(bad.cause, start.saturating_add(bad.at as u64));
        match trailer.read(input, limits).map_err(fail)? {
            None => Ok(Decoded::NeedRead),
            Some(fields) => {
                self.trailer = None;
                self.state = State::Done;
                Ok(Decoded::End((!fields.is_empty()).then_some(fields)))
            }
        }
    }
}

impl Trailer {
    /// Takes lines until the empty one has come.
    fn read(&mut self, input: &mut &[u8], limits: &Limits) -> Result<Option<Fields>, Bad> {
        let limit = (limits.trailer_bytes_max as usize).min(usize::from(u16::MAX));
        let section = self.section.get_or_insert_with(|| Section::new(0));
        while !input.is_empty() {
            let room = limit.saturating_sub(self.bytes.len());
            let line = memchr::memchr(b'\n', input).map(|at| at + 1);
            let taken = line.unwrap_or(input.len()).min(room);
            self.bytes.extend_from_slice(&input[..taken]);
            *input = &input[taken..];
            if line == Some(taken) {
                if fields::section(&self.bytes, limits.fields_max, section)?.is_some() {
                    return collect(&self.bytes, section).map(Some);
                }
            } else if !input.is_empty() {
                return Err(Bad::new(Cause::TrailerTooLarge { limit: limit as u64 }, limit));
            }
        }
        Ok(None)
    }
}

/// RFC 9110 §6.5.1: a field that decides about framing or routing has no business in a trailer section.
fn collect(bytes: &[u8], section: &Section) -> Result<Fields, Bad> {
    for (kind, span) in section.framing(bytes) {
        let name = match kind {
            Kind::ContentLength => "content-length",
            Kind::TransferEncoding => "transfer-encoding",
            Kind::Host => "host",
            _ => continue,
        };
        return Err(Bad::new(Cause::ForbiddenTrailer(name), span.value_start()));
    }
    let mut fields = Fields::new();
    for span in section.spans() {
        let name = core::str::from_utf8(span.name(bytes)).expect("field names are ASCII: checked when parsed");
        fields.push_field(Field { name: FieldName::checked(name), value: FieldValue::checked(span.value(bytes)) });
    }
    Ok(fields)
}

/// What each byte is worth as a digit; 16 for no digit.
static HEX_DIGITS: [u8; 256] = {
    let mut digits = [16; 256];
    let mut byte = 0;
    while byte < 256 {
        if let Some(digit) = hex_digit(byte as u8) {
            digits[byte] = digit;
        }
        byte += 1;
    }
    digits
};

const fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
