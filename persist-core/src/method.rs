//! Request methods, and what RFC 9110 §9.2 says may be done with each.

use alloc::boxed::Box;
use core::fmt;

/// A request method (RFC 9110 §9.1): case-sensitive, any token.
///
/// The nine registered ones that matter to a connection are constants and cost no allocation.
///
/// ```
/// use persist_core::Method;
///
/// assert!(Method::PUT.is_idempotent() && !Method::PUT.is_safe());
/// assert_eq!(Method::new("PROPFIND")?.as_str(), "PROPFIND");
/// assert!(Method::new("NO SPACE").is_err());
/// # Ok::<(), persist_core::InvalidMethod>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Method(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Known(Known),
    Other(Box<str>),
}

/// The registered methods, as one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Known {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token.
    Other,
}

/// The bytes are not a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a method is one or more token characters")]
pub struct InvalidMethod;

impl Method {
    /// `GET`
    pub const GET: Self = Self(Repr::Known(Known::Get));
    /// `HEAD`
    pub const HEAD: Self = Self(Repr::Known(Known::Head));
    /// `POST`
    pub const POST: Self = Self(Repr::Known(Known::Post));
    /// `PUT`
    pub const PUT: Self = Self(Repr::Known(Known::Put));
    /// `DELETE`
    pub const DELETE: Self = Self(Repr::Known(Known::Delete));
    /// `CONNECT`
    pub const CONNECT: Self = Self(Repr::Known(Known::Connect));
    /// `OPTIONS`
    pub const OPTIONS: Self = Self(Repr::Known(Known::Options));
    /// `TRACE`
    pub const TRACE: Self = Self(Repr::Known(Known::Trace));
    /// `PATCH`
    pub const PATCH: Self = Self(Repr::Known(Known::Patch));

    /// A method of this name.
    ///
    /// # Errors
    /// [`InvalidMethod`] unless `name` is a token.
    pub fn new(name: &str) -> Result<Self, InvalidMethod> {
        Self::from_bytes(name.as_bytes()).ok_or(InvalidMethod)
    }

    /// The method these bytes name, if they are a token.
    pub(crate) fn from_bytes(name: &[u8]) -> Option<Self> {
        let known = match name {
            b"GET" => Known::Get,
            b"HEAD" => Known::Head,
            b"POST" => Known::Post,
            b"PUT" => Known::Put,
            b"DELETE" => Known::Delete,
            b"CONNECT" => Known::Connect,
            b"OPTIONS" => Known::Options,
            b"TRACE" => Known::Trace,
            b"PATCH" => Known::Patch,
            _ => Known::Other,
        };
        if known != Known::Other {
            return Some(Self(Repr::Known(known)));
        }
        if name.is_empty() || !name.iter().copied().all(crate::field::is_token_byte) {
            return None;
        }
        // A token is ASCII.
        core::str::from_utf8(name).ok().map(|name| Self(Repr::Other(name.into())))
    }

    /// The name as it stands in a request line.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Known(known) => known.as_str(),
            Repr::Other(name) => name,
        }
    }

    /// RFC 9110 §9.2.1: essentially read-only, so that the server may overlap it with others.
    pub fn is_safe(&self) -> bool {
        self.known().is_safe()
    }

    /// RFC 9110 §9.2.2: sending it twice has the effect of sending it once, so that it may be sent again.
    pub fn is_idempotent(&self) -> bool {
        self.known().is_idempotent()
    }

    pub(crate) fn known(&self) -> Known {
        match self.0 {
            Repr::Known(known) => known,
            Repr::Other(_) => Known::Other,
        }
    }
}

impl Known {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "another method",
        }
    }

    pub(crate) const fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    pub(crate) const fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl core::str::FromStr for Method {
    type Err = InvalidMethod;

    fn from_str(name: &str) -> Result<Self, InvalidMethod> {
        Self::new(name)
    }
}
