//! When does a body end, and does the connection go on after it? RFC 9112 §6.3 and §9.3, for both roles.

use crate::error::Cause;
use crate::head::{BodyLen, Version};
use crate::keep_alive::KeepAlive;
use crate::method::Known;
use crate::parse::fields::{Kind, is_token};
use crate::parse::request_line::RequestLine;
use crate::parse::status_line::StatusLine;
use crate::parse::{Asked, Bad, Lines, Part, RequestFacts, ResponseFacts, authority, part};
use crate::status::StatusCode;

/// The options of `Connection` that matter to the connection itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) close: bool,
    pub(crate) keep_alive: bool,
    pub(crate) upgrade: bool,
}

impl Options {
    /// Another line of the field. RFC 9110 §7.6.1: options in any case; others name fields, and are not ours.
    pub(crate) fn add(&mut self, value: &[u8]) {
        // Nearly all values are one option.
        if self.add_option(value) {
            return;
        }
        for option in value.split(|&byte| byte == b',') {
            self.add_option(trim(option));
        }
    }

    /// Whether it is one of ours. An option that is no token equals none of them.
    #[inline]
    fn add_option(&mut self, option: &[u8]) -> bool {
        let flag = match option.len() {
            5 if is_token(option, b"close") => &mut self.close,
            7 if is_token(option, b"upgrade") => &mut self.upgrade,
            10 if is_token(option, b"keep-alive") => &mut self.keep_alive,
            _ => return false,
        };
        *flag = true;
        true
    }

    /// RFC 9112 §9.3: `close` wins; HTTP/1.1 persists without a word, HTTP/1.0 when it says so.
    fn persist(self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// The codings of all Transfer-Encoding lines together.
#[derive(Clone, Copy, Debug, Default)]
struct Codings {
    /// Where the first line's value begins.
    at: usize,
    any: bool,
    chunked: u8,
    chunked_last: bool,
    /// A registered coding that we do not remove.
    other: bool,
    unknown: bool,
}

impl Codings {
    fn add(&mut self, value: &[u8], at: usize) -> Result<(), Bad> {
        if !self.any {
            (self.at, self.any) = (at, true);
        }
        for coding in value.split(|&byte| byte == b',') {
            let coding = trim(coding);
            let name = coding.split(|&byte| byte == b';').next().unwrap_or_default();
            let is_bare = name.len() == coding.len();
            let name = trim(name);
            let is_token = !name.is_empty() && name.iter().copied().all(crate::field::is_token_byte);
            // RFC 9112 §7: chunked has no parameters.
            if !is_token || (!is_bare && name.eq_ignore_ascii_case(b"chunked")) {
                return Err(Bad::new(Cause::InvalidTransferEncoding, at));
            }
            self.push(name);
        }
        Ok(())
    }

    fn push(&mut self, name: &[u8]) {
        self.chunked_last = name.eq_ignore_ascii_case(b"chunked");
        if self.chunked_last {
            self.chunked = self.chunked.saturating_add(1);
        } else if [&b"gzip"[..], b"x-gzip", b"deflate", b"compress", b"x-compress"]
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known))
        {
            self.other = true;
        } else {
            self.unknown = true;
        }
    }

    /// Nothing but one chunked passes.
    fn check(&self, chunked_must_be_last: bool) -> Result<(), Bad> {
        let cause = if self.chunked > 1 {
            Cause::ChunkedTwice
        } else if self.unknown {
            // RFC 9112 §6.1: 501 for a coding that is not understood.
            Cause::UnsupportedCoding
        } else if !self.chunked_last && chunked_must_be_last {
            // RFC 9112 §6.3 rule 4: without chunked at the end nobody can tell where a request ends.
            Cause::ChunkedNotLast
        } else if self.other || !self.chunked_last {
            Cause::UnsupportedCoding
        } else {
            return Ok(());
        };
        Err(Bad::new(cause, self.at))
    }
}

/// What the framing fields of a head say.
#[derive(Debug, Default)]
struct Seen {
    /// Where the first `Host` field's value stands, or where the second begins.
    host: Part,
    hosts: usize,
    length: Option<(u64, usize)>,
    codings: Codings,
    options: Options,
    upgrade: bool,
    expects: Expects,
    expect_at: usize,
    /// There is a `Keep-Alive` field.
    keep_alive: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expects {
    #[default]
    Nothing,
    Continue,
    Unknown,
}

impl Seen {
    #[inline(always)]
    fn read(&mut self, head: &Lines<'_>) -> Result<(), Bad> {
        for (kind, span) in head.section.framing(head.bytes) {
            let (value, at) = (span.value(head.bytes), span.value_start());
            match kind {
                Kind::Host => {
                    self.hosts += 1;
                    // RFC 9112 §3.2: more than one Host, whatever they say.
                    self.host = part(at, if self.hosts == 1 { at + value.len() } else { at });
                }
                Kind::ContentLength => self.add_length(value, at)?,
                Kind::TransferEncoding => self.codings.add(value, at)?,
                Kind::Connection => self.options.add(value),
                Kind::KeepAlive => self.keep_alive = true,
                Kind::Upgrade => self.upgrade |= !value.is_empty(),
                Kind::Expect => self.add_expectation(value, at),
            }
        }
        Ok(())
    }

    /// RFC 9110 §8.6, RFC 9112 §6.3 rule 5: digits, once. Equal repetitions may be collapsed or rejected; we reject.
    #[inline(always)]
    fn add_length(&mut self, value: &[u8], at: usize) -> Result<(), Bad> {
        match plain_number(value) {
            Some(length) if self.length.is_none() => {
                self.length = Some((length, at));
                Ok(())
            }
            _ => self.add_lengths(value, at),
        }
    }

    #[cold]
    fn add_lengths(&mut self, value: &[u8], at: usize) -> Result<(), Bad> {
        for number in value.split(|&byte| byte == b',') {
            let number = trim(number);
            let bad = |cause| Err(Bad::new(cause, at));
            if number.is_empty() || !number.iter().all(u8::is_ascii_digit) {
                return bad(Cause::InvalidContentLength);
            }
            let parsed = number
                .iter()
                .try_fold(0u64, |length, digit| length.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
            let Some(length) = parsed else { return bad(Cause::ContentLengthOverflow) };
            match self.length {
                None => self.length = Some((length, at)),
                Some((first, _)) if first == length => return bad(Cause::RepeatedContentLength(length)),
                Some((first, _)) => return bad(Cause::ConflictingContentLength { first, second: length }),
            }
        }
        Ok(())
    }

    fn add_expectation(&mut self, value: &[u8], at: usize) {
        for member in value.split(|&byte| byte == b',').map(trim).filter(|member| !member.is_empty()) {
            if !member.eq_ignore_ascii_case(b"100-continue") {
                (self.expects, self.expect_at) = (Expects::Unknown, at);
            } else if self.expects == Expects::Nothing {
                self.expects = Expects::Continue;
            }
        }
    }

    /// RFC 9112 §3.2: exactly one valid Host in HTTP/1.1; one at most before.
    #[inline(always)]
    fn check_host(&self, bytes: &[u8], version: Version) -> Result<(), Bad> {
        let (at, end) = (usize::from(self.host.0), usize::from(self.host.1));
        let cause = match self.hosts {
            1 if authority::is_valid(bytes, at, end) => return Ok(()),
            0 if version == Version::Http10 => return Ok(()),
            0 => return Err(Bad::new(Cause::MissingHost, bytes.len().saturating_sub(2))),
            1 => Cause::InvalidHost,
            _ => Cause::RepeatedHost,
        };
        Err(Bad::new(cause, at))
    }
}

/// Judges a request whose lines are well-formed.
#[inline(always)]
pub(crate) fn request(head: &Lines<'_>, line: &RequestLine) -> Result<RequestFacts, Bad> {
    let mut seen = Seen::default();
    seen.read(head)?;
    let version = line.version;
    seen.check_host(head.bytes, version)?;
    let body = if seen.codings.any {
        if version == Version::Http10 {
            // RFC 9112 §6.1: the framing is faulty; nobody can tell what a 1.0 relay before us made of it.
            return Err(Bad::new(Cause::EncodingInHttp10, seen.codings.at));
        }
        seen.codings.check(true)?;
        // RFC 9112 §6.3 rule 3: an attempt at smuggling, most likely. Reject rather than prefer one: a lenient relay could disagree.
        if let Some((_, at)) = seen.length {
            return Err(Bad::new(Cause::LengthAndEncoding, at));
        }
        BodyLen::Chunked
    } else {
        // RFC 9112 §6.3 rules 6 and 7: a request without either field has no content.
        seen.length.map_or(BodyLen::Empty, |(length, _)| BodyLen::Length(length))
    };
    let is_http11 = version == Version::Http11;
    // RFC 9110 §10.1.1: an expectation in HTTP/1.0 is ignored; one that we do not know may be answered with 417.
    if is_http11 && seen.expects == Expects::Unknown {
        return Err(Bad::new(Cause::UnknownExpectation, seen.expect_at));
    }
    let expects_continue =
        is_http11 && seen.expects == Expects::Continue && !matches!(body, BodyLen::Empty | BodyLen::Length(0));
    // RFC 9112 §3.2.2: the target's own authority counts, not Host.
    let authority = line.authority.unwrap_or(seen.host);
    Ok(RequestFacts {
        body,
        authority,
        persist: seen.options.persist(version),
        expects_continue,
        asks_keep_alive: !is_http11 && seen.options.persist(version),
        // RFC 9110 §7.8: Upgrade in HTTP/1.0 is ignored.
        upgrade: is_http11 && seen.upgrade && seen.options.upgrade,
    })
}

/// Judges a response whose lines are well-formed.
#[inline(always)]
pub(crate) fn response(head: &Lines<'_>, line: &StatusLine, asked: Asked) -> Result<ResponseFacts, Bad> {
    let mut seen = Seen::default();
    seen.read(head)?;
    let (status, version) = (line.status, line.version);
    let is_101 = status == StatusCode::SWITCHING_PROTOCOLS;
    // RFC 9110 §15.2.2: only what was asked for.
    if is_101 && !asked.upgrade {
        return Err(Bad::new(Cause::UnaskedSwitch, 9));
    }
    // RFC 9112 §6.3 rule 2: a tunnel, whatever the fields say.
    let switches = is_101 || (asked.method == Known::Connect && status.is_success());
    let mut persist = seen.options.persist(version);
    let length = seen.length.map(|(length, _)| BodyLen::Length(length));
    // RFC 9112 §6.3 rule 1: no content, whatever the fields say.
    let would_have = asked.method == Known::Head || status == StatusCode::NOT_MODIFIED;
    let (body, declared) = if switches || would_have || status.is_without_content() {
        let would_have = would_have && !status.is_interim() && status != StatusCode::NO_CONTENT;
        (BodyLen::Empty, length.filter(|_| would_have).unwrap_or(BodyLen::Empty))
    } else if seen.codings.any {
        seen.codings.check(false)?;
        // RFC 9112 §6.3 rule 3, §6.1: Transfer-Encoding overrides; but such a connection is not trusted with another response.
        persist &= length.is_none() && version == Version::Http11;
        (BodyLen::Chunked, BodyLen::Chunked)
    } else {
        // RFC 9112 §6.3 rules 6 and 8
        let body = length.unwrap_or(BodyLen::UntilClose);
        persist &= body != BodyLen::UntilClose;
        (body, body)
    };
    Ok(ResponseFacts {
        body,
        declared,
        persist,
        switches,
        keep_alive: if seen.keep_alive { announced(head) } else { KeepAlive::default() },
    })
}

/// What all `Keep-Alive` fields say together.
#[cold]
fn announced(head: &Lines<'_>) -> KeepAlive {
    let mut announced = KeepAlive::default();
    for (_, span) in head.section.framing(head.bytes).filter(|(kind, _)| *kind == Kind::KeepAlive) {
        announced.add(span.value(head.bytes));
    }
    announced
}

/// A number of so few digits that it cannot overflow; `None` if it is anything else.
#[inline(always)]
fn plain_number(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    let mut number = 0;
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number * 10 + u64::from(digit);
    }
    Some(number)
}

/// Cuts OWS off both ends: SP and HTAB, nothing else.
fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests;
