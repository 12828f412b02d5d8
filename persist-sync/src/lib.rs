//! Persistent HTTP/1.1 connections over blocking sockets.
//!
//! [`ClientConn`] and [`ServerConn`] are one connection each, with nothing behind it: no thread, no runtime. Whoever waits for something drives
//! the connection, in both directions at once, for everyone who uses it. [`Client`] is a pool of such connections that retries what may be
//! retried, [`Server`] a server made of them.
//! What a connection may do next, when it must give up, and what became of each request, is decided by the machine of
//! [`persist_core`], so it is the same here as in the crate for tokio, where the same names stand for the same things.
//!
//! # Errors
//! What is done to requests, replies, bodies and dials fails with an [`Error`]: the phase, the destination, who is to blame, what became of the request, and the
//! cause as a value. Readers and writers ([`Incoming`], [`BodyWriter`], [`ResumableBody`], [`PersistentStream`]) speak the standard library's traits, and
//! hold one inside of their [`io::Error`](std::io::Error). Only what merely sets up a socket, before there is any request ([`ClientConn::new`], `set_keep_alive`,
//! `Server::bind`), gives the system's error as it is.
//!
//! HTTP/2 is not offered here. [`Server`] is for Unix systems only, for now.
#![cfg_attr(not(unix), allow(dead_code, reason = "what only a server uses"))]

mod arrived;
mod at_hand;
mod body;
mod body_writer;
mod burst;
mod client;
mod client_conn;
mod client_facts;
mod clock;
mod date;
mod dial;
mod driver;
pub mod error;
mod events;
mod exchange;
mod hijack;
mod incoming;
mod outgoing;
mod part;
mod persistent_stream;
mod ready;
mod responder;
mod resumable_body;
mod scratch;
#[cfg(unix)]
mod server;
mod server_conn;
mod stream;
mod supply;
mod sys;
#[cfg(feature = "tls")]
pub mod tls;
mod trace;
pub use body::Body;
pub use body_writer::BodyWriter;
pub use burst::PartlyWritten;
pub use client::Client;
pub use client_conn::ClientConn;
pub use dial::{ConnectFailures, Connector, DialTimer, Dialer, Resolver, SocketDialer, SystemResolver};
pub use driver::StreamRef;
pub use error::{Error, Result};
pub use events::Events;
pub use exchange::{Exchange, Reply, Reservation};
pub use hijack::{Detached, Hijacked};
pub use incoming::Incoming;
pub use persist_core;
pub use persist_core::{
    BodyLen, ClientConfig, CloseReason, Closed, Config, Delivery, Disposition, ExchangeId, Failure, Fields,
    KeepAliveProbes, Method, PersistentStreamConfig, Phase, Request, RequestHead, Response, ResponseHead, SendError,
    StateEvent, StatusCode,
};
pub use persistent_stream::{Greeting, PersistentStream};
pub use responder::Responder;
pub use resumable_body::ResumableBody;
#[cfg(unix)]
pub use server::{Handler, ListenConfig, Listener, PortUse, ProxyHeaders, Served, Server, ServerConfig, ServerHandle};
pub use server_conn::{Received, ServerConn};
pub use stream::Stream;

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
