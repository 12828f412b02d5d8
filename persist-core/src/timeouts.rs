//! How long each phase of a connection may take. All optional; all come out of `poll_timeout`.

use core::time::Duration;

/// Durations after which a phase is given up; `None` means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// Nothing is pending and no byte of a next message has come.
    pub idle: Option<Duration>,
    /// Server: from the first byte of a request to the end of its head. Client: from the last byte of a request to the end of its final response's head.
    pub header: Option<Duration>,
    /// Between two reads of a body while the machine waits for input.
    pub body_idle: Option<Duration>,
    /// At least so many bytes of a body per second, on average, once ten seconds have passed.
    pub body_bytes_per_second_min: Option<u32>,
    /// One exchange as a whole.
    pub total: Option<Duration>,
    /// The layer below takes no byte although some are waiting.
    pub write_stall: Option<Duration>,
    /// Reading and dropping the rest of an unwanted body.
    pub drain: Option<Duration>,
    /// From our half-close to the peer's close.
    pub linger: Option<Duration>,
    /// Client: how long to wait for `100 Continue` before the body is sent anyway (RFC 9110 §10.1.1).
    pub expect_continue: Option<Duration>,
    /// A connection older than this takes no further exchange.
    pub max_age: Option<Duration>,
    /// Subtracted from the idle time that the peer announced in `Keep-Alive: timeout=`, so that we close before it does.
    pub keep_alive_margin: Duration,
}

impl Timeouts {
    /// What a client waits for by default: replies may take long, closing may not.
    pub const fn client() -> Self {
        Self {
            idle: Some(Duration::from_secs(90)),
            header: None,
            body_idle: None,
            body_bytes_per_second_min: None,
            total: None,
            write_stall: None,
            drain: Some(Duration::from_secs(2)),
            linger: Some(Duration::from_secs(2)),
            expect_continue: Some(Duration::from_secs(1)),
            max_age: None,
            keep_alive_margin: Duration::from_secs(1),
        }
    }

    /// What a server grants strangers by default.
    pub const fn server() -> Self {
        Self {
            idle: Some(Duration::from_secs(75)),
            header: Some(Duration::from_secs(30)),
            body_idle: Some(Duration::from_secs(60)),
            body_bytes_per_second_min: None,
            total: None,
            write_stall: Some(Duration::from_secs(60)),
            drain: Some(Duration::from_secs(5)),
            linger: Some(Duration::from_secs(5)),
            expect_continue: None,
            max_age: None,
            keep_alive_margin: Duration::ZERO,
        }
    }

    /// No deadline at all, for tests and for callers with their own.
    pub const fn none() -> Self {
        Self {
            idle: None,
            header: None,
            body_idle: None,
            body_bytes_per_second_min: None,
            total: None,
            write_stall: None,
            drain: None,
            linger: None,
            expect_continue: None,
            max_age: None,
            keep_alive_margin: Duration::ZERO,
        }
    }

    /// Client: whether no deadline begins with an exchange, unless it is given one of its own, before its reply does.
    pub const fn are_patient(&self) -> bool {
        self.header.is_none() && self.total.is_none() && self.write_stall.is_none() && self.max_age.is_none()
    }
}
