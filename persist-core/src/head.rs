//! The head of a message as it was received: one block, fields in their order and case.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::field::{Field, FieldName, FieldValue};
use crate::method::Method;
use crate::parse::Part;
use crate::parse::fields::{Section, Span};
use crate::parse::request_line::RequestLine;
use crate::parse::status_line::StatusLine;
use crate::status::StatusCode;

/// The HTTP version of a message, as far as a connection cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and any higher minor version (RFC 9110 §2.5).
    Http11,
    /// HTTP/2 (RFC 9113): such a head did not come as text.
    Http2,
}

/// How long the content of a message is, and so how it is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BodyLen {
    /// No content. A request that usually has some (POST, PUT, PATCH) then says `Content-Length: 0`; so does a response.
    Empty,
    /// So many bytes: `Content-Length`. In a response to HEAD and in a 304: what the content would have been; none is sent.
    Length(u64),
    /// `Transfer-Encoding: chunked`. To an HTTP/1.0 peer a server sends it as [`UntilClose`](Self::UntilClose).
    Chunked,
    /// Everything until the connection closes. Responses only.
    UntilClose,
}

/// The head of a request.
#[derive(Clone)]
pub struct RequestHead {
    pub(crate) block: Block,
    pub(crate) method: Method,
    pub(crate) target: Part,
    pub(crate) authority: Part,
    pub(crate) version: Version,
}

/// The head of a response.
#[derive(Clone)]
pub struct ResponseHead {
    pub(crate) block: Block,
    pub(crate) reason: Part,
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
}

/// A head's bytes as they came, and behind them the spans of its fields: one allocation, exact, however many fields there are.
#[derive(Clone)]
pub(crate) struct Block {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) spans: u16,
}

impl Block {
    fn new(head: &[u8], section: &Section) -> Self {
        let (few, many) = section.as_bytes();
        let mut bytes = Vec::with_capacity(head.len() + few.len() + many.len());
        bytes.extend_from_slice(head);
        bytes.extend_from_slice(few);
        if !many.is_empty() {
            bytes.extend_from_slice(many);
        }
        Self { bytes: bytes.into_boxed_slice(), spans: head.len() as u16 }
    }

    fn part(&self, (start, end): Part) -> &[u8] {
        &self.bytes[usize::from(start)..usize::from(end)]
    }

    fn text(&self, part: Part) -> &str {
        core::str::from_utf8(self.part(part)).expect("targets and hosts are ASCII: checked when parsed")
    }

    fn fields(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        let (head, spans) = self.bytes.split_at(usize::from(self.spans));
        spans.chunks_exact(size_of::<Span>()).map(move |span| {
            let span = Span::from_bytes(span.try_into().expect("a chunk has the size of a span"));
            let name = core::str::from_utf8(span.name(head)).expect("field names are ASCII: checked when parsed");
            Field { name: FieldName::checked(name), value: FieldValue::checked(span.value(head)) }
        })
    }

    fn field(&self, name: &str) -> Option<FieldValue<'_>> {
        self.fields().find(|field| field.name.is(name)).map(|field| field.value)
    }
}

impl RequestHead {
    #[inline]
    pub(crate) fn new(head: &[u8], section: &Section, line: RequestLine, authority: Part) -> Self {
        let block = Block::new(head, section);
        Self { block, method: line.method, target: line.target, authority, version: line.version }
    }

    /// The bytes as they came, for whoever goes on without the machine.
    pub(crate) fn into_wire(self) -> Vec<u8> {
        let mut bytes = self.block.bytes.into_vec();
        bytes.truncate(usize::from(self.block.spans));
        bytes
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The request target exactly as it was received (RFC 9112 §3.2).
    pub fn target(&self) -> &str {
        self.block.text(self.target)
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The host that the request is for, with its port if it names one: the authority of an absolute target, else `Host`, else empty (RFC 9112 §3.2.2, §3.3).
    pub fn authority(&self) -> &str {
        self.block.text(self.authority)
    }

    /// The fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.block.fields()
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<FieldValue<'_>> {
        self.block.field(name)
    }
}

impl ResponseHead {
    #[inline]
    pub(crate) fn new(head: &[u8], section: &Section, line: &StatusLine) -> Self {
        let block = Block::new(head, section);
        Self { block, reason: line.reason, status: line.status, version: line.version }
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The reason phrase, which means nothing (RFC 9112 §4); may hold obs-text.
    pub fn reason(&self) -> &[u8] {
        self.block.part(self.reason)
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.block.fields()
    }

    /// The value of the first field of this name, in any case.
    pub fn field(&self, name: &str) -> Option<FieldValue<'_>> {
        self.block.field(name)
    }
}

/// Names and, since values may hold credentials, lengths only.
struct Redacted<'b>(&'b Block);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.fields().map(|field| (field.name, field.value.as_bytes().len()))).finish()
    }
}

/// Shows the target without its query, which may hold credentials, and of field values the lengths only.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("target", &self.target().split('?').next().unwrap_or_default())
            .field("version", &self.version)
            .field("fields", &Redacted(&self.block))
            .finish()
    }
}

/// Shows of field values the lengths only.
impl fmt::Debug for ResponseHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseHead")
            .field("status", &self.status)
            .field("version", &self.version)
            .field("fields", &Redacted(&self.block))
            .finish()
    }
}
