//! A host with an optional port: the value of Host, and the authority of a target (RFC 3986 §3.2, without user information).

use core::net::Ipv6Addr;

use crate::parse::scan;

/// The two parts. `port` is `Some(0)` for port 0, and `None` for no port or an empty one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts<'a> {
    pub(crate) host: &'a [u8],
    pub(crate) port: Option<u16>,
}

/// Whether `head[at..end]` is a host with an optional port, as [`parse`] would say. What stands behind it in the head lets it be scanned by blocks.
#[inline(always)]
pub(crate) fn is_valid(head: &[u8], at: usize, end: usize) -> bool {
    let host_end = scan::host_end(head, at).min(end);
    match &head[host_end..end] {
        [] => true,
        // Four digits are a port, whatever they are; five, if they are not too many.
        [b':', digits @ ..] if digits.len() <= 4 && digits.iter().all(u8::is_ascii_digit) => true,
        [b':', digits @ ..] if digits.len() == 5 && digits.iter().all(u8::is_ascii_digit) => *digits <= b"65535"[..],
        _ => parse(&head[at..end]).is_some(),
    }
}

/// Splits `host [":" port]`; `None` if it is not that. The host may be empty.
pub(crate) fn parse(value: &[u8]) -> Option<Parts<'_>> {
    match value.split_at(scan::host_end(value, 0)) {
        (host, []) => Some(Parts { host, port: None }),
        (host, [b':', digits @ ..]) => Some(Parts { host, port: parse_port(digits)? }),
        _ => parse_other(value),
    }
}

#[cold]
fn parse_other(value: &[u8]) -> Option<Parts<'_>> {
    let (host, rest) = match value {
        [b'[', ..] => {
            let len = memchr::memchr(b']', value)? + 1;
            if !is_ip_literal(&value[1..len - 1]) {
                return None;
            }
            value.split_at(len)
        }
        _ => {
            let len = memchr::memchr(b':', value).unwrap_or(value.len());
            if !is_reg_name(&value[..len]) {
                return None;
            }
            value.split_at(len)
        }
    };
    match rest {
        [] => Some(Parts { host, port: None }),
        [b':', digits @ ..] => Some(Parts { host, port: parse_port(digits)? }),
        _ => None,
    }
}

/// The port; `Some(None)` if there are no digits.
fn parse_port(digits: &[u8]) -> Option<Option<u16>> {
    if digits.is_empty() {
        return Some(None);
    }
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let digits = &digits[zeros..];
    let mut port = 0;
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 || digits.len() > 5 {
            return None;
        }
        port = port * 10 + u32::from(digit);
    }
    u16::try_from(port).ok().map(Some)
}

/// RFC 3986 §3.2.2 `reg-name`, which covers IPv4 addresses, but for the comma: it is what joins two Host lines.
fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name.iter();
    while let Some(&byte) = rest.next() {
        let fine = match byte {
            b'%' => {
                let mut hex = || rest.next().is_some_and(u8::is_ascii_hexdigit);
                hex() && hex()
            }
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !fine {
            return false;
        }
    }
    true
}

/// What stands between the brackets: an IPv6 address or RFC 3986's `IPvFuture`.
fn is_ip_literal(inner: &[u8]) -> bool {
    let Ok(text) = core::str::from_utf8(inner) else { return false };
    if text.parse::<Ipv6Addr>().is_ok() {
        return true;
    }
    let Some((version, rest)) = text.strip_prefix(['v', 'V']).and_then(|text| text.split_once('.')) else {
        return false;
    };
    let is_part = |byte: u8| byte == b':' || (byte != b'%' && byte != b',' && is_reg_name(&[byte]));
    !version.is_empty()
        && version.bytes().all(|byte| byte.is_ascii_hexdigit())
        && !rest.is_empty()
        && rest.bytes().all(is_part)
}
