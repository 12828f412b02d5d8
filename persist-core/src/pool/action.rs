//! What a pool and its caller tell each other.

use core::hash::{BuildHasherDefault, Hasher};
use core::time::Duration;

use super::arena::Id;
use crate::close::CloseReason;
use crate::route::PoolKey;
use crate::time::Instant;

/// A connection of a pool, from the moment its dial is asked for until it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(super) Id);

/// One request that waits for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub(super) Id);

/// Hashes the numbers of connections and waiters: they are dealt out by the pool, so nobody can choose those that collide.
///
/// ```
/// use std::collections::HashMap;
/// use persist_core::{ByNumber, ConnId};
///
/// let sockets: HashMap<ConnId, std::net::TcpStream, ByNumber> = HashMap::default();
/// # drop(sockets);
/// ```
pub type ByNumber = BuildHasherDefault<NumberHasher>;

/// See [`ByNumber`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    #[inline]
    fn write_u32(&mut self, number: u32) {
        // Fibonacci hashing: the upper half of the product depends on all of the number, so it is folded into the lower.
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0.rotate_left(32)
    }
}

/// Which connections will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Want {
    /// Any: the one used last, if one is idle.
    Any,
    /// One that has carried no request yet: what a retry needs (RFC 9112 §9.3.1).
    Fresh,
}

/// What the caller must do, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Dial. Answer with `handle_dialed` or `handle_dial_failed`, whether or not anybody still waits: a dial is never wasted.
    Dial {
        /// What to call it.
        conn: ConnId,
        /// Where to.
        key: PoolKey,
    },
    /// This connection is the waiter's, for one exchange. Answer with `release` or `handle_closed`.
    Hand {
        /// Who waited.
        waiter: WaiterId,
        /// For what.
        conn: ConnId,
        /// Whether it carried a request before, so that it must be checked for staleness.
        reused: bool,
    },
    /// Close this connection; the pool has forgotten it.
    Close {
        /// Which.
        conn: ConnId,
        /// Why: `Idle`, `MaxAge`, `MaxRequests`; `OurClose` where it made room for another.
        reason: CloseReason,
    },
    /// The waiter gets no connection; the pool has forgotten it.
    Fail {
        /// Who waited.
        waiter: WaiterId,
        /// Why.
        error: PoolError,
    },
}

/// Why a request got no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Its deadline passed.
    #[error("waited {waited:?} for a connection; {failures} dials in a row had failed")]
    Deadline {
        /// How long it waited.
        waited: Duration,
        /// How often dialling the destination had failed in a row: 0 means that all connections were busy.
        failures: u32,
    },
    /// Dialling failed, and nothing is left that could serve it. The caller holds the cause, under the dial's number.
    #[error("dialling failed")]
    DialFailed {
        /// The dial.
        conn: ConnId,
    },
    /// Too many wait already.
    #[error("{waiting} requests wait for connections, as many as waiting_max allows")]
    QueueFull {
        /// How many.
        waiting: u32,
    },
    /// The pool was closed.
    #[error("the pool is closed")]
    Closed,
}

/// How an exchange ended, for the connection's sake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// A request was answered in full: the connection can be used again.
    Completed,
    /// A liveness probe was answered: it can be used again, but its idle time goes on.
    Probed,
    /// Nothing was sent on it.
    Unused,
}

/// How a connection went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Either side closed it in an orderly way, or the caller gave it up.
    Expected,
    /// It broke. If it never completed an exchange, the destination counts as failing.
    Broken,
}

/// A connection that carries no exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdleConn {
    /// Which.
    pub conn: ConnId,
    /// When its last request was answered.
    pub since: Instant,
    /// When it was last heard of: that, or the answer to a later liveness probe.
    pub quiet_since: Instant,
}

/// What a pool holds, or what it holds for one destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections being dialled.
    pub dialing: u32,
    /// Connections that are open.
    pub open: u32,
    /// Of these, how many carry no exchange.
    pub idle: u32,
    /// Exchanges under way, on all of them.
    pub exchanges: u64,
    /// Requests that wait for a connection.
    pub waiting: u32,
}

impl ConnId {
    /// As a number, for logs.
    pub fn as_u64(self) -> u64 {
        self.0.as_u64()
    }
}
