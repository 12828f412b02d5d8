//! The `Keep-Alive` field: how long, and for how many more requests, a peer says it will keep the connection (RFC 2068 §19.7.1.1).

use core::time::Duration;

/// What a `Keep-Alive` field announces. Advice, never a promise: a connection may close at any time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// `timeout`: how long an idle connection is kept.
    pub timeout: Option<Duration>,
    /// `max`: how many more requests are taken.
    pub max: Option<u64>,
}

impl KeepAlive {
    /// What the value of a `Keep-Alive` field announces. Parameters that are unknown or not numbers are passed over; of two, the smaller counts.
    ///
    /// ```
    /// use core::time::Duration;
    /// use persist_core::KeepAlive;
    ///
    /// let announced = KeepAlive::parse(b"timeout=5, max=100");
    /// assert_eq!((announced.timeout, announced.max), (Some(Duration::from_secs(5)), Some(100)));
    /// ```
    pub fn parse(value: &[u8]) -> Self {
        let mut announced = Self::default();
        announced.add(value);
        announced
    }

    /// Another line of the field: the smaller of two values counts.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for parameter in value.split(|&byte| byte == b',') {
            let Some(equals) = parameter.iter().position(|&byte| byte == b'=') else { continue };
            let (name, number) = (parameter[..equals].trim_ascii(), parse_number(&parameter[equals + 1..]));
            let Some(number) = number else { continue };
            if name.eq_ignore_ascii_case(b"timeout") {
                let timeout = Duration::from_secs(number);
                self.timeout = Some(self.timeout.map_or(timeout, |other| other.min(timeout)));
            } else if name.eq_ignore_ascii_case(b"max") {
                self.max = Some(self.max.map_or(number, |other| other.min(number)));
            }
        }
    }
}

/// Digits, perhaps in quotes; what does not fit is as good as no limit, so it saturates.
fn parse_number(value: &[u8]) -> Option<u64> {
    let value = value.trim_ascii();
    let digits = match value {
        [b'"', digits @ .., b'"'] => digits,
        _ => value,
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0u64, |number, digit| number.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}
