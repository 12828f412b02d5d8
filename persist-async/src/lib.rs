//! Persistent HTTP/1.1 connections over tokio: pipelining, pooling, and the truth about failed requests.
//!
//! | you have | use |
//! |---|---|
//! | URLs | [`Client`]: pools connections, and sends again what is safe to send again |
//! | one stream to a server | [`ClientConn`]: `send`, or `write` and `read` with several requests in flight |
//! | a port | [`Server`]: one task per connection, handlers polled inside it |
//! | one stream from a client | [`ServerConn`]: each request carries its own right to answer |
//!
//! What a connection may do next is decided by [`persist_core`]'s machine, the same for this crate and for `persist-sync`, whose
//! names are the same. This crate moves the bytes.
//!
//! # Pipelining
//!
//! ```
//! use persist_async::{ClientConn, Config, Request, Response, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("127.0.0.1:0").await?;
//! let address = server.local_addr().expect("a TCP socket");
//! tokio::spawn(server.serve(|received| async move {
//!     let answer = format!("you asked for {}", received.head.target());
//!     received.responder.send(Response::ok(), answer).await
//! }));
//!
//! let mut config = Config::client();
//! config.pipelining.depth = 2;
//! let conn = ClientConn::with_config(tokio::net::TcpStream::connect(address).await?, config);
//! let get = |path: &str| Request::get(path).field("Host", address.to_string());
//! let first = conn.write(get("/1")?, ()).await?;
//! let second = conn.write(get("/2")?, ()).await?; // both are on their way
//! let mut reply = conn.read(first).await?;
//! assert_eq!(reply.body.bytes(100).await?, "you asked for /1");
//! let mut reply = conn.read(second).await?;
//! assert_eq!(reply.body.bytes(100).await?, "you asked for /2");
//! # Ok(())
//! # }
//! ```
//!
//! # What became of a failed request
//!
//! ```
//! use persist_async::{ClientConn, Disposition, Request};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (stream, peer) = tokio::io::duplex(1024);
//! let conn = ClientConn::new(stream);
//! let exchange = conn.write(Request::get("/").field("Host", "example.org")?, ()).await?;
//! drop(peer); // it read nothing, and nobody can know that
//! let error = conn.read(exchange).await.expect_err("the peer is gone");
//! assert_eq!(error.disposition(), Some(Disposition::SentNoReply));
//! println!("{error}");
//! # Ok(())
//! # }
//! ```
//!
//! # Who does the work
//!
//! There is no task and no channel per exchange, and none per client connection: whoever awaits something of a connection drives it for
//! everybody, and wakes those whose turn or bytes came. Between awaits nothing moves, and an idle connection holds no buffer: input is lent
//! from one buffer per thread. Dropping any future at any point leaves the connection usable or clearly closed. In exchange, **a future
//! that was polled must go on being polled when it is woken, or be dropped**: one that is kept aside may keep others waiting.
//!
//! # Bounds
//!
//! Per connection: 64 KiB of content that nobody has read yet, one read of the socket (64 KiB) behind it, the machine's outbox (64 KiB and one
//! piece of a body; of one from a reader two reads of it, 256 KiB each at most; of one in pieces what is written together, 512 KiB that nobody copied), and one head per request in flight. At these bounds reading stops, and so does the peer.
//!
//! # Dependencies
//!
//! Nothing but tokio (features `io-util`, `net`, `rt`, `sync`, `time`), `bytes`, `libc`, `socket2`, `async-trait` and what the core brings: 16 crates in all, the two of this project included (Linux).
#![deny(unsafe_code)]

mod address;
mod body;
mod burst;
mod client;
mod client_conn;
mod client_facts;
mod clock;
mod date;
mod dial;
mod driver;
mod entry;
pub mod error;
mod events;
mod exchange;
mod facts;
mod hijack;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http2")]
pub mod http2;
mod inbox;
mod incoming;
mod link;
mod look;
#[cfg(all(test, persist_model))]
mod models;
mod part;
mod persistent_stream;
mod pooled;
mod pump;
mod race;
mod reservation;
mod responder;
mod resumable_body;
mod round_trip;
mod scratch;
mod server;
mod server_conn;
mod start;
mod stream;
mod sync;
mod sys;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(feature = "tower")]
pub mod tower;
mod trace;
mod wait;
mod waiting;
mod wakers;

pub use async_trait::async_trait;
pub use body::Body;
pub use burst::PartlyWritten;
pub use client::Client;
pub use client_conn::ClientConn;
pub use dial::{ConnectFailures, Connector, DialTimer, Dialer, Resolver, SocketDialer, SystemResolver};
pub use error::{Error, Result};
pub use events::Events;
pub use exchange::{Exchange, Reply};
pub use facts::StreamRef;
pub use hijack::{Detached, Hijacked};
pub use incoming::Incoming;
pub use link::Transport;
pub use persist_core;
pub use persist_core::{
    Blame, BodyLen, ClientConfig, ClientStats, CloseReason, Closed, Config, ConnStats, Delivery, Disposition,
    ExchangeId, FailedRequest, Failure, Fields, KeepAliveProbes, Method, Pending, PersistentStreamConfig, Phase,
    Request, RequestHead, Response, ResponseHead, SendError, ServerStats, StateEvent, StatusCode,
};
pub use persistent_stream::{Greeting, PersistentStream};
pub use reservation::Reservation;
pub use responder::Responder;
pub use resumable_body::ResumableBody;
pub use server::{Accept, ListenConfig, Listener, PortUse, ProxyHeaders, Served, Server, ServerConfig, ServerHandle};
pub use server_conn::{Received, ServerConn};
pub use stream::Stream;

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
