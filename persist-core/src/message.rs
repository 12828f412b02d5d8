//! Heads of messages to be sent, built and checked by the caller before a connection sees them.

use alloc::string::String;

use crate::field::{Fields, InvalidField};
use crate::lines::FieldLines;
use crate::method::Method;
use crate::status::StatusCode;

/// The head of a request to be sent. The body goes beside it.
///
/// ```
/// use persist_core::{Method, Request};
///
/// let request = Request::new(Method::POST, "/orders").field("Content-Type", "text/csv")?;
/// assert!(!request.method.is_idempotent());
/// # Ok::<(), persist_core::InvalidField>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The target: a path for a connection, an absolute URL for a pooled client.
    pub target: String,
    /// The fields, without `Content-Length` and `Transfer-Encoding`, which the machine writes.
    pub fields: Fields,
}

/// The head of a response to be sent. The body goes beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: StatusCode,
    /// The fields, without `Content-Length` and `Transfer-Encoding`, which the machine writes.
    pub fields: Fields,
}

impl Request {
    /// A request without fields.
    pub fn new(method: Method, target: impl Into<String>) -> Self {
        Self { method, target: target.into(), fields: Fields::new() }
    }

    /// `GET target`
    pub fn get(target: impl Into<String>) -> Self {
        Self::new(Method::GET, target)
    }

    /// `HEAD target`
    pub fn head(target: impl Into<String>) -> Self {
        Self::new(Method::HEAD, target)
    }

    /// `POST target`
    pub fn post(target: impl Into<String>) -> Self {
        Self::new(Method::POST, target)
    }

    /// `PUT target`
    pub fn put(target: impl Into<String>) -> Self {
        Self::new(Method::PUT, target)
    }

    /// `DELETE target`
    pub fn delete(target: impl Into<String>) -> Self {
        Self::new(Method::DELETE, target)
    }

    /// Adds a field.
    ///
    /// # Errors
    /// [`InvalidField`] unless both parts are well-formed.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, InvalidField> {
        self.fields.push(name, value)?;
        Ok(self)
    }
}

impl Response {
    /// A response without fields.
    #[inline]
    pub fn new(status: StatusCode) -> Self {
        Self { status, fields: Fields::new() }
    }

    /// Adds fields that the compiler has checked: the cheapest way to send the same ones each time.
    ///
    /// ```
    /// use persist_core::{FieldLines, Response};
    ///
    /// const PLAIN: FieldLines<'static> = FieldLines::from_static("Content-Type: text/plain\r\nCache-Control: no-store\r\n");
    /// assert_eq!(Response::ok().lines(PLAIN).fields.len(), 2);
    /// ```
    #[must_use]
    #[inline(always)]
    pub fn lines(mut self, lines: FieldLines<'static>) -> Self {
        self.fields.push_lines(lines);
        self
    }

    /// `200 OK`
    #[inline]
    pub fn ok() -> Self {
        Self::new(StatusCode::OK)
    }

    /// Adds a field.
    ///
    /// # Errors
    /// [`InvalidField`] unless both parts are well-formed.
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Result<Self, InvalidField> {
        self.fields.push(name, value)?;
        Ok(self)
    }
}
