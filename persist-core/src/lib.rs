//! The sans-IO state machine of persistent HTTP/1.1 connections.
//!
//! Bytes and time go in; events, bytes and a deadline come out. The crate has no clock, socket, thread,
//! lock or source of randomness, and the compiler enforces it: it is `no_std` with `alloc`.
//!
//! Start at [`Conn`]: the machine of one connection, in the role of a [`Client`] or a [`Server`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod backoff;
mod cause;
mod chunked;
pub mod close;
pub mod config;
pub mod conn;
pub mod contradiction;
pub mod destination;
pub mod disposition;
pub mod error;
pub mod exchange_error;
pub mod field;
mod framing;
pub mod head;
pub mod host;
pub mod keep_alive;
pub mod leniency;
pub mod limits;
pub mod message;
pub mod method;
mod parse;
pub mod pool;
pub mod replay;
pub mod retry;
pub mod route;
pub mod status;
pub mod time;
pub mod timeouts;
pub mod url;

#[cfg(test)]
mod property_tests;

pub use backoff::{Backoff, BackoffConfig};
pub use close::{CloseReason, Deadline, Side};
pub use config::{Config, Gate, Overlap, Pipelining};
pub use conn::{Client, Conn, Event, ExchangeId, Next, Parts, Role, Server, Slot, Ticket, Transmit, Upload};
pub use contradiction::Contradiction;
pub use destination::{Destination, Scheme};
pub use disposition::{Disposition, Failure};
pub use error::{Blame, Cause, ProtocolError, Refused, SendError};
pub use exchange_error::{BoxError, ExchangeError, Phase};
pub use field::{Field, FieldName, FieldValue, Fields, InvalidField};
pub use head::{BodyLen, RequestHead, ResponseHead, Version};
pub use host::{Host, InvalidHost};
pub use keep_alive::KeepAlive;
pub use leniency::Leniency;
pub use limits::Limits;
pub use message::{Request, Response};
pub use method::{InvalidMethod, Method};
pub use pool::{Action, ConnId, Counts, Loss, Pool, PoolConfig, PoolError, Use, WaiterId, Want};
pub use replay::{Replay, ReplayBody};
pub use retry::{Attempts, Decision, OnFresh, Repeatable, RetryPolicy, Why, WhyNot};
pub use route::{Credentials, Direct, Hop, Means, PoolKey, Resolve, Route, RouteError, Router, TargetForm};
pub use status::{InvalidStatus, StatusCode};
pub use time::Instant;
pub use timeouts::Timeouts;
pub use url::{UrlError, UrlParts};
