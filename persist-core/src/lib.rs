//! The sans-IO state machine of persistent HTTP/1.1 connections.
//!
//! Bytes and time go in; events, bytes and a deadline come out. The crate has no clock, socket, thread,
//! lock or source of randomness, and the compiler enforces it: it is `no_std` with `alloc`.
//!
//! Start at [`Conn`]: the machine of one connection, in the role of a [`Client`] or a [`Server`]. What both adapters decide alike
//! stands beside it, as pure: the [`Pool`] and its [`Upkeep`], [`RetryPolicy`] and [`ReplayBody`], [`Backoff`], [`Route`]s, the [`Session`] and the
//! [`Heartbeat`] of a stream that reconnects, [`Resume`], [`HappyEyeballs`] and [`DialClock`].
//!
//! # Two machines and no network
//!
//! Whoever drives a machine keeps to one contract: *mutate → drain [`next`](Conn::next) and [`transmit`](Conn::transmit) → ask
//! [`poll_shutdown`](Conn::poll_shutdown) → wait for I/O or for [`poll_timeout`](Conn::poll_timeout)*.
//!
//! ```
//! use bytes::Buf;
//! use persist_core::{BodyLen, Client, Config, Conn, Event, Field, FieldName, FieldValue, Instant, Method, Next, Server, StatusCode};
//!
//! /// Moves what one machine has to send into a buffer, as a socket would.
//! fn wire<R: persist_core::Role>(conn: &mut Conn<R>, now: Instant) -> Vec<u8> {
//!     let mut out = conn.transmit(now);
//!     let bytes = out.chunk().to_vec();
//!     out.advance(bytes.len());
//!     bytes
//! }
//!
//! const HOST: Field<'static> = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("example.org") };
//! let now = Instant::ZERO;
//! let mut config = Config::client();
//! config.pipelining.depth = 2;
//! let mut client = Conn::<Client>::new(config, now);
//! let mut server = Conn::<Server>::new(Config::server(), now);
//!
//! // Two requests leave together ...
//! let first = client.send_request(&Method::GET, "/1", [HOST], BodyLen::Empty, now)?;
//! let second = client.send_request(&Method::GET, "/2", [HOST], BodyLen::Empty, now)?;
//! let requests = wire(&mut client, now);
//!
//! // ... the second is answered before the first ...
//! let mut tickets = Vec::new();
//! let mut input = &requests[..];
//! while let Next::Event(event) = server.next(&mut input, now)? {
//!     if let Event::Head { ticket, .. } = event {
//!         tickets.push(ticket);
//!     }
//! }
//! for (ticket, status) in tickets.into_iter().rev().zip([StatusCode::NO_CONTENT, StatusCode::NOT_FOUND]) {
//!     server.send_response(ticket, status, [], BodyLen::Empty, now)?;
//! }
//!
//! // ... and each gets its own reply, in order.
//! let replies = wire(&mut server, now);
//! let mut input = &replies[..];
//! let mut seen = Vec::new();
//! while let Next::Event(event) = client.next(&mut input, now)? {
//!     if let Event::Head { id, head, .. } = event {
//!         seen.push((id, head.status().as_u16()));
//!     }
//! }
//! assert_eq!(seen, [(first, 404), (second, 204)]);
//! assert!(client.is_idle() && server.is_idle());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is true of every machine
//!
//! - Errors are the peer's ([`ProtocolError`]), the caller's ([`SendError`]) or none at all ([`CloseReason`]); a request that did not complete
//!   comes back once, with its [`Disposition`].
//! - Nothing is buffered without a limit ([`Limits`]), nothing is waited for without a deadline that can be set ([`Timeouts`]).
//! - An idle machine holds no buffer and has less than 440 bytes.
//! - Parsing is strict; the few [`Leniency`] flags cannot change where a message ends.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod assembled;
mod backoff;
mod cause;
mod chunked;
pub mod client_config;
pub mod close;
pub mod config;
pub mod conn;
pub mod contradiction;
pub mod delivery;
pub mod destination;
pub mod dialing;
pub mod disposition;
pub mod error;
pub mod exchange_error;
pub mod field;
mod framing;
pub mod happy_eyeballs;
pub mod head;
pub mod heartbeat;
pub mod host;
pub mod keep_alive;
pub mod ledger;
pub mod leniency;
pub mod limits;
pub mod lines;
pub mod message;
pub mod method;
mod parse;
mod partly_written;
mod peer;
pub mod persistent_stream;
pub mod pool;
pub mod proxy_header;
pub mod replay;
pub mod resume;
pub mod retry;
pub mod route;
pub mod session;
pub mod socket_config;
pub mod stamp;
pub mod state_event;
pub mod stats;
pub mod status;
pub mod time;
pub mod timeouts;
pub mod tunnel;
pub mod upkeep;
pub mod url;
pub mod way;

#[cfg(test)]
mod property_tests;

pub use assembled::HeadTooLarge;
pub use backoff::{Backoff, BackoffConfig};
pub use bytes;
pub use client_config::ClientConfig;
pub use close::{CloseReason, Deadline, Side};
pub use config::{Config, Gate, Overlap, Pipelining};
pub use conn::{Client, Conn, Event, ExchangeId, Next, Parts, Role, Room, Server, Slot, Ticket, Transmit, Upload};
pub use contradiction::Contradiction;
pub use delivery::{Closed, Delivery};
pub use destination::{Destination, Scheme};
pub use dialing::{DialClock, DialConfig, DialTimeout};
pub use disposition::{Disposition, Failure};
pub use error::{Blame, Cause, ProtocolError, Refused, SendError};
pub use exchange_error::{BoxError, Ended, ExchangeError, Phase, TooLong};
pub use field::{Field, FieldName, FieldValue, Fields, InvalidField};
pub use happy_eyeballs::{Family, HappyEyeballs, HappyEyeballsConfig};
pub use head::{BodyLen, RequestHead, ResponseHead, Version};
pub use heartbeat::{Beat, Heartbeat, HeartbeatConfig, PeerSilent};
pub use host::{Host, InvalidHost};
pub use keep_alive::KeepAlive;
pub use ledger::{FailedRequest, Ledger, Pending};
pub use leniency::Leniency;
pub use limits::Limits;
pub use lines::{FieldLines, HeadFields};
pub use message::{Request, Response};
pub use method::{InvalidMethod, Method};
pub use partly_written::PartlyWritten;
pub use peer::Peer;
pub use persistent_stream::PersistentStreamConfig;
pub use pool::{Action, ByNumber, ConnId, Counts, IdleConn, Loss, Pool, PoolConfig, PoolError, Use, WaiterId, Want};
pub use proxy_header::{ProxiedAddresses, ProxyHeader, ProxyHeaderError};
pub use replay::{Replay, ReplayBody};
pub use resume::{Content, NotResumable, Resume, ResumeError};
pub use retry::{Attempts, Decision, OnFresh, Repeatable, RetryPolicy, Why, WhyNot};
pub use route::{
    Credentials, Direct, Hop, HostDisagrees, Means, PoolKey, Resolve, Route, RouteError, Router, TargetForm,
};
pub use session::{GaveUp, Session, SessionConfig, SessionState, SessionStep};
pub use socket_config::{KeepAliveProbes, SocketConfig};
pub use stamp::{Stamp, imf_fixdate};
pub use state_event::{StateEvent, StateWatch};
pub use stats::{ClientStats, ConnStats, ServerStats};
pub use status::{InvalidStatus, StatusCode};
pub use time::Instant;
pub use timeouts::Timeouts;
pub use tunnel::{Tunnel, TunnelStep};
pub use upkeep::{Check, Checking, Glance, Upkeep, UpkeepConfig, Verdict};
pub use url::{UrlError, UrlParts};
pub use way::{Outline, Way, Ways};

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
