//! The head of a message as it was received: one block, fields in their order and case.

use core::fmt;

use crate::field::{Field, FieldValue};
use crate::method::Method;
use crate::status::StatusCode;

/// The HTTP version of a message, as far as a connection cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, and any higher minor version (RFC 9110 §2.5).
    Http11,
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
    pub(crate) method: Method,
    pub(crate) version: Version,
}

/// The head of a response.
#[derive(Clone)]
pub struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
}

impl RequestHead {
    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }
    /// The request target exactly as it was received (RFC 9112 §3.2).
    pub fn target(&self) -> &str {
        todo!()
    }
    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }
    /// The host that the request is for: the authority of an absolute target, else `Host`, else empty (RFC 9112 §3.2.2, §3.3).
    pub fn authority(&self) -> &str {
        todo!()
    }
    /// The fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        core::iter::empty()
    }
    /// The value of the first field of this name.
    pub fn field(&self, _name: &str) -> Option<FieldValue<'_>> {
        todo!()
    }
}

impl ResponseHead {
    /// The status code.
    pub fn status(&self) -> StatusCode {
        self.status
    }
    /// The reason phrase, which means nothing (RFC 9112 §4); may hold obs-text.
    pub fn reason(&self) -> &[u8] {
        todo!()
    }
    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }
    /// The fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        core::iter::empty()
    }
    /// The value of the first field of this name.
    pub fn field(&self, _name: &str) -> Option<FieldValue<'_>> {
        todo!()
    }
}

impl fmt::Debug for RequestHead {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}

impl fmt::Debug for ResponseHead {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        todo!()
    }
}
