//! Heads that did not come as text: HTTP/2's, in the form that those of HTTP/1.1 have.

use alloc::vec::Vec;
use core::fmt;

use crate::field::Field;
use crate::head::{Block, RequestHead, ResponseHead, Version};
use crate::method::Method;
use crate::parse::fields::Span;
use crate::parse::part;
use crate::status::StatusCode;

/// A head is too large to be kept: it has more than 65,535 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadTooLarge;

impl fmt::Display for HeadTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the head has more than 65535 bytes")
    }
}

impl core::error::Error for HeadTooLarge {}

impl RequestHead {
    /// The head of an HTTP/2 request, of its parts (RFC 9113 §8.3.1); `fields` gives the same ones whenever it is called. For adapters of that protocol.
    ///
    /// # Errors
    /// [`HeadTooLarge`]. What is not ASCII in `target` and `authority` is not checked here, and must not be there: both are taken as empty then.
    pub fn http2<'f, I: Iterator<Item = Field<'f>>>(
        method: Method,
        authority: &str,
        target: &str,
        fields: impl Fn() -> I,
    ) -> Result<Self, HeadTooLarge> {
        let [authority, target] = [authority, target].map(|text| if text.is_ascii() { text } else { "" });
        let mut bytes = Vec::with_capacity(size(target.len() + authority.len(), fields())?);
        bytes.extend_from_slice(target.as_bytes());
        bytes.extend_from_slice(authority.as_bytes());
        let (target, authority) = (part(0, target.len()), part(target.len(), bytes.len()));
        let block = Block::assemble(bytes, fields);
        Ok(Self { block, method, target, authority, version: Version::Http2 })
    }
}

impl ResponseHead {
    /// The head of an HTTP/2 response, of its parts (RFC 9113 §8.3.2); `fields` gives the same ones whenever it is called. For adapters of that protocol.
    ///
    /// # Errors
    /// [`HeadTooLarge`].
    pub fn http2<'f, I: Iterator<Item = Field<'f>>>(
        status: StatusCode,
        fields: impl Fn() -> I,
    ) -> Result<Self, HeadTooLarge> {
        let block = Block::assemble(Vec::with_capacity(size(0, fields())?), fields);
        Ok(Self { block, reason: (0, 0), status, version: Version::Http2 })
    }
}

/// How many bytes the block will have.
fn size<'f>(start: usize, fields: impl Iterator<Item = Field<'f>>) -> Result<usize, HeadTooLarge> {
    let (mut text, mut spans) = (start, 0);
    for field in fields {
        text += field.name.as_str().len() + field.value.as_bytes().len();
        spans += size_of::<Span>();
    }
    if text > usize::from(u16::MAX) { Err(HeadTooLarge) } else { Ok(text + spans) }
}

impl Block {
    /// `bytes` and the fields behind them, which together are short enough.
    fn assemble<'f, I: Iterator<Item = Field<'f>>>(mut bytes: Vec<u8>, fields: impl Fn() -> I) -> Self {
        let start = bytes.len();
        for field in fields() {
            bytes.extend_from_slice(field.name.as_str().as_bytes());
            bytes.extend_from_slice(field.value.as_bytes());
        }
        let spans = bytes.len() as u16;
        let mut at = start;
        for field in fields() {
            let (name, value) = (field.name.as_str().len(), field.value.as_bytes().len());
            bytes.extend_from_slice(&Span::new(at, name, at + name, value).to_bytes());
            at += name + value;
        }
        Self { bytes: bytes.into_boxed_slice(), spans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Fields;

    #[test]
    fn an_assembled_head_has_its_parts() {
        let mut fields = Fields::new();
        fields.push("accept", "*/*").expect("valid");
        fields.push("x-empty", "").expect("valid");
        let head = RequestHead::http2(Method::GET, "example.org", "/a?b", || fields.iter()).expect("short");
        assert_eq!((head.authority(), head.target(), head.version()), ("example.org", "/a?b", Version::Http2));
        assert_eq!(head.fields().collect::<Vec<_>>(), fields.iter().collect::<Vec<_>>());
        let head = ResponseHead::http2(StatusCode::OK, || fields.iter()).expect("short");
        assert_eq!((head.status(), head.reason()), (StatusCode::OK, &b""[..]));
        assert_eq!(head.field("Accept").expect("there").as_bytes(), b"*/*");
    }

    #[test]
    fn a_head_of_more_than_sixty_four_kib_is_refused() {
        let mut fields = Fields::new();
        fields.push("x", alloc::vec![b'a'; usize::from(u16::MAX)]).expect("valid");
        assert_eq!(ResponseHead::http2(StatusCode::OK, || fields.iter()).err(), Some(HeadTooLarge));
    }
}
