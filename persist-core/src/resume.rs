//! Going on where a body broke off: `Range` and `If-Range` on a strong validator, and proof in every reply that the content is still the same.

use alloc::string::{String, ToString};
use core::fmt::Write;

use crate::field::{FieldValue, Fields};
use crate::method::Method;
use crate::status::StatusCode;

mod validator;

use validator::Validator;

/// The content of one GET, across as many connections as it takes.
///
/// Fields are looked up by a closure, so that a received head serves as well as a list.
///
/// ```
/// use persist_core::{Content, Fields, Method, Resume, StatusCode};
///
/// let fields = |pairs: &[(&str, &str)]| {
///     let mut fields = Fields::new();
///     pairs.iter().for_each(|(name, value)| fields.push(name, value).unwrap());
///     fields
/// };
/// let first = fields(&[("ETag", "\"v1\""), ("Content-Length", "1000")]);
/// let mut resume = Resume::begin(&Method::GET, &Fields::new(), StatusCode::OK, |name| first.get(name))?;
/// resume.handle_content(400); // ... and then the connection broke
/// let again = resume.request_fields()?;
/// assert_eq!(again.get("Range").unwrap().as_bytes(), b"bytes=400-");
/// assert_eq!(again.get("If-Range").unwrap().as_bytes(), b"\"v1\"");
/// let reply = fields(&[("ETag", "\"v1\""), ("Content-Range", "bytes 400-999/1000")]);
/// let content = resume.judge(StatusCode::PARTIAL_CONTENT, |name| reply.get(name))?;
/// assert_eq!(content, Content::Continues);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Resume {
    validator: Validator,
    coding: Option<String>,
    /// Bytes that the caller has.
    received: u64,
    /// Bytes of the whole, once known.
    total: Option<u64>,
    /// Resumptions since the last byte.
    fruitless: u32,
}

/// How often a body is asked for again without a byte coming. 3: the place where it always breaks will not get better.
const FRUITLESS_MAX: u32 = 3;

/// What to do with the content of a reply to a resumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// It goes on right where the last one broke off.
    Continues,
    /// The server sent all of it again, provably the same: drop so many bytes of its beginning first.
    StartsOver {
        /// Bytes the caller already has.
        skip: u64,
    },
    /// Nothing was missing: only the end had been lost. Drop this reply's content.
    Complete,
}

/// Why a body cannot be resumed at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotResumable {
    /// Only GET has content that can be asked for in parts.
    #[error("only the content of a GET can be resumed")]
    Method,
    /// The caller's request was for a range itself.
    #[error("the request asked for a range itself")]
    OwnRange,
    /// Only a 200 is the whole content.
    #[error("only the content of a 200 can be resumed")]
    Status,
    /// The server said `Accept-Ranges: none`.
    #[error("the server accepts no ranges")]
    NoRanges,
    /// No strong `ETag`, and no `Last-Modified` that is provably strong: the parts might be of different contents.
    #[error("the response has no strong validator")]
    NoStrongValidator,
}

/// Why a resumption failed. What the caller has so far stays what it is: a true beginning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// The content is another one now.
    #[error("the content has changed since its first {received} bytes were read: {how}")]
    Changed {
        /// Bytes the caller has of the old one.
        received: u64,
        /// What showed it.
        how: &'static str,
    },
    /// The server's answer to the range does not fit the question.
    #[error("the server's partial content does not follow the {received} bytes read: {what}")]
    BadRange {
        /// Bytes the caller has.
        received: u64,
        /// What is wrong.
        what: String,
    },
    /// The server answered something else.
    #[error("the server answered {} to the request for the rest", .0.as_u16())]
    Status(StatusCode),
    /// Asked several times, and not one more byte came.
    #[error("asked {0} times for the rest, and not a byte of it came")]
    Fruitless(u32),
    /// All of it is there: there is nothing to ask for.
    #[error("the content is complete")]
    Complete,
}

impl Resume {
    /// The first response's head came.
    ///
    /// # Errors
    /// [`NotResumable`]: if its content breaks off, that is final.
    pub fn begin<'f>(
        method: &Method,
        request: &Fields,
        status: StatusCode,
        field: impl Fn(&str) -> Option<FieldValue<'f>>,
    ) -> Result<Self, NotResumable> {
        if *method != Method::GET {
            return Err(NotResumable::Method);
        }
        if request.get("Range").is_some() {
            return Err(NotResumable::OwnRange);
        }
        if status != StatusCode::OK {
            return Err(NotResumable::Status);
        }
        if field("Accept-Ranges").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"none")) {
            return Err(NotResumable::NoRanges);
        }
        let validator = Validator::strong(&field).ok_or(NotResumable::NoStrongValidator)?;
        let total = field("Content-Length").and_then(|value| parse_number(value.as_bytes()));
        Ok(Self { validator, coding: coding(&field), received: 0, total, fruitless: 0 })
    }

    /// So many bytes of content went to the caller.
    pub fn handle_content(&mut self, bytes: u64) {
        if bytes > 0 {
            self.received = self.received.saturating_add(bytes);
            self.fruitless = 0;
        }
    }

    /// The content broke off: the fields to add to the same request, sent again.
    ///
    /// # Errors
    /// `Fruitless` after three resumptions without a byte; `Complete`.
    pub fn request_fields(&mut self) -> Result<Fields, ResumeError> {
        if self.total.is_some_and(|total| self.received >= total) {
            return Err(ResumeError::Complete);
        }
        if self.fruitless == FRUITLESS_MAX {
            return Err(ResumeError::Fruitless(self.fruitless));
        }
        self.fruitless += 1;
        let mut fields = Fields::new();
        if self.received > 0 {
            let mut range = String::from("bytes=");
            write!(range, "{}-", self.received).expect("writing to a string does not fail");
            fields.push("Range", range).expect("digits are a field value");
            // RFC 9110 §13.1.5: the part if nothing has changed, else the whole, in one round trip.
            fields.push("If-Range", self.validator.as_bytes()).expect("it was a field value when it came");
        }
        Ok(fields)
    }

    /// The head of the reply to such a request came: what to do with its content.
    ///
    /// # Errors
    /// Changed content, a range that does not follow, or another status. The caller gets this error after the bytes it has; nothing is ever spliced.
    pub fn judge<'f>(
        &mut self,
        status: StatusCode,
        field: impl Fn(&str) -> Option<FieldValue<'f>>,
    ) -> Result<Content, ResumeError> {
        match status {
            StatusCode::PARTIAL_CONTENT if self.received > 0 => self.judge_part(field),
            StatusCode::OK => self.judge_whole(field),
            StatusCode::RANGE_NOT_SATISFIABLE if self.received > 0 => self.judge_end(field),
            other => Err(ResumeError::Status(other)),
        }
    }

    /// Bytes of content that the caller has.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the whole content, if known.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

impl Resume {
    /// 206: RFC 9110 §15.3.7.
    fn judge_part<'f>(&mut self, field: impl Fn(&str) -> Option<FieldValue<'f>>) -> Result<Content, ResumeError> {
        // RFC 9110 §15.3.7.3: parts are combined if all have the same strong validator. A part that names none proves nothing:
        // a server that ignores If-Range would send it of changed content, too.
        if !self.validator.confirmed_by(&field) {
            return Err(self.changed("the part has another validator, or none"));
        }
        if field("Content-Encoding").is_some() && coding(&field) != self.coding {
            return Err(self.changed("the part has another content coding"));
        }
        let Some(value) = field("Content-Range") else {
            return Err(self.bad_range("it has no Content-Range, or several ranges"));
        };
        let range = ContentRange::parse(value.as_bytes());
        let Some(ContentRange::Part { first, last, total }) = range else {
            return Err(self.bad_range(&String::from_utf8_lossy(value.as_bytes())));
        };
        if total.is_some_and(|total| self.total.is_some_and(|known| known != total)) {
            return Err(self.changed("its length is another one"));
        }
        let beyond = total.or(self.total).is_some_and(|total| last >= total);
        let len = field("Content-Length").and_then(|value| parse_number(value.as_bytes()));
        let len_fits = len.is_none_or(|len| last.checked_sub(first).and_then(|less| less.checked_add(1)) == Some(len));
        if first != self.received || last < first || beyond || !len_fits {
            return Err(self.bad_range(&String::from_utf8_lossy(value.as_bytes())));
        }
        self.total = self.total.or(total);
        Ok(Content::Continues)
    }

    /// 200: the condition failed, or the server ignores ranges.
    fn judge_whole<'f>(&mut self, field: impl Fn(&str) -> Option<FieldValue<'f>>) -> Result<Content, ResumeError> {
        let total = field("Content-Length").and_then(|value| parse_number(value.as_bytes()));
        if self.received == 0 {
            // Nothing was given out, so it may be whatever it is now.
            let Some(validator) = Validator::strong(&field) else {
                return Err(self.changed("it has no strong validator any more"));
            };
            (self.validator, self.coding, self.total) = (validator, coding(&field), total);
            return Ok(Content::StartsOver { skip: 0 });
        }
        if !self.validator.confirmed_by(&field) {
            return Err(self.changed("the server sent all of it anew, with another validator or none"));
        }
        if coding(&field) != self.coding {
            return Err(self.changed("the whole has another content coding"));
        }
        if total.is_some_and(|total| self.total.is_some_and(|known| known != total)) {
            return Err(self.changed("its length is another one"));
        }
        if total.is_some_and(|total| total < self.received) {
            return Err(self.changed("it is shorter now"));
        }
        self.total = self.total.or(total);
        Ok(Content::StartsOver { skip: self.received })
    }

    /// 416: there is nothing behind what was received. If its length is just that, only the end of the framing was lost.
    fn judge_end<'f>(&mut self, field: impl Fn(&str) -> Option<FieldValue<'f>>) -> Result<Content, ResumeError> {
        if self.validator.contradicts(&field) {
            return Err(self.changed("the validator is another one"));
        }
        match field("Content-Range").and_then(|value| ContentRange::parse(value.as_bytes())) {
            Some(ContentRange::Unsatisfied { total }) if total == self.received && self.total.is_none() => {
                self.total = Some(total);
                Ok(Content::Complete)
            }
            Some(ContentRange::Unsatisfied { .. }) => Err(self.changed("its length is another one")),
            _ => Err(ResumeError::Status(StatusCode::RANGE_NOT_SATISFIABLE)),
        }
    }

    fn changed(&self, how: &'static str) -> ResumeError {
        ResumeError::Changed { received: self.received, how }
    }

    fn bad_range(&self, what: &str) -> ResumeError {
        ResumeError::BadRange { received: self.received, what: what.to_string() }
    }
}

/// `Content-Range` (RFC 9110 §14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContentRange {
    Part { first: u64, last: u64, total: Option<u64> },
    Unsatisfied { total: u64 },
}

impl ContentRange {
    fn parse(value: &[u8]) -> Option<Self> {
        let text = core::str::from_utf8(value).ok()?;
        let (unit, range) = text.split_once(' ')?;
        if !unit.eq_ignore_ascii_case("bytes") {
            return None;
        }
        let (range, total) = range.trim().split_once('/')?;
        if range == "*" {
            return Some(Self::Unsatisfied { total: parse_number(total.as_bytes())? });
        }
        let (first, last) = range.split_once('-')?;
        let total = if total == "*" { None } else { Some(parse_number(total.as_bytes())?) };
        Some(Self::Part { first: parse_number(first.as_bytes())?, last: parse_number(last.as_bytes())?, total })
    }
}

/// Digits and nothing else: `u64::from_str` would take a plus sign.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

fn coding<'f>(field: impl Fn(&str) -> Option<FieldValue<'f>>) -> Option<String> {
    field("Content-Encoding").map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
