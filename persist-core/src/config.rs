//! One connection's configuration: limits, deadlines, leniencies, and the gates of pipelining.

use crate::leniency::Leniency;
use crate::limits::Limits;
use crate::timeouts::Timeouts;

/// Configuration of one connection, shared by reference count among as many as wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// How much.
    pub limits: Limits,
    /// How long.
    pub timeouts: Timeouts,
    /// How strictly heads are read.
    pub leniency: Leniency,
    /// How many exchanges may overlap, and which.
    pub pipelining: Pipelining,
    /// A connection takes no further exchange after so many.
    pub requests_max: Option<u64>,
    /// Whether a server writes `Keep-Alive: timeout=` with its idle time into responses to clients that ask for keep-alive.
    pub announce_keep_alive: bool,
}

/// Whether a gate is closed while its reason lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Gate {
    /// The safe choice, and the default.
    Closed,
    /// The caller knows better.
    Open,
}

/// Which requests a server lets overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Overlap {
    /// A request is read only after its predecessor was answered.
    None,
    /// Safe methods may overlap with each other (RFC 9112 §9.3.2). The default.
    Safe,
    /// Any may overlap: the handlers keep order where it matters.
    Any,
}

/// The depth and the gates of pipelining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pipelining {
    /// Exchanges that may be in flight at once, at least 1. Client: 1 by default, since most peers are served best so. Server: 64.
    pub depth: u32,
    /// Client: nothing is sent behind a non-idempotent request until its final status (RFC 9112 §9.3.2).
    pub behind_non_idempotent: Gate,
    /// Client: nothing is sent behind the first request, until its response has come. Closed by default on a connection that replaces a failed one ([`Config::replacement`]).
    pub behind_first: Gate,
    /// Client: anything is pipelined to this peer at all. Closed for one that was seen to mishandle it.
    pub to_this_peer: Gate,
    /// Server: which requests overlap.
    pub overlap: Overlap,
}

impl Config {
    /// The defaults of a client: one request at a time, head leniencies that cannot change framing.
    pub fn client() -> Self {
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::client(),
            leniency: Leniency::client(),
            pipelining: Pipelining {
                depth: 1,
                behind_non_idempotent: Gate::Closed,
                behind_first: Gate::Open,
                to_this_peer: Gate::Open,
                overlap: Overlap::Safe,
            },
            requests_max: None,
            announce_keep_alive: false,
        }
    }

    /// The defaults of a server: strict, up to 64 pipelined requests.
    pub fn server() -> Self {
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::server(),
            leniency: Leniency::strict(),
            pipelining: Pipelining {
                depth: 64,
                behind_non_idempotent: Gate::Closed,
                behind_first: Gate::Open,
                to_this_peer: Gate::Open,
                overlap: Overlap::Safe,
            },
            requests_max: None,
            announce_keep_alive: false,
        }
    }

    /// The same for a connection that replaces a failed one: nothing is pipelined behind its first request (RFC 9112 §9.3.2).
    #[must_use]
    pub fn replacement(mut self) -> Self {
        self.pipelining.behind_first = Gate::Closed;
        self
    }
}
