//! HTTP/2 (RFC 9113) behind the same clients, connections and servers (feature `http2`, on the `h2` crate).
//!
//! | | how |
//! |---|---|
//! | a client offers it by ALPN | [`Connector::with_http2`], [`Client::with_connector`] |
//! | a client speaks it over cleartext | [`Http2Config::prior_knowledge`] |
//! | one connection | [`ClientConn::http2`]; all methods are those of any [`ClientConn`] |
//! | a server speaks it, by ALPN (`h2`) and by prior knowledge (its preface), beside HTTP/1.1 on the same port | [`Server::with_http2`] |
//! | CONNECT | [`ClientConn::connect`], [`Responder::upgrade`] |
//! | pushed responses | [`Http2Config::accept_pushes`], [`ClientConn::pushed`] |
//!
//! ```
//! use persist_async::http2::Http2Config;
//! use persist_async::{ClientConn, Request, Response, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("127.0.0.1:0").await?.with_http2(Http2Config::server());
//! let address = server.local_addr().expect("a TCP socket");
//! tokio::spawn(server.serve(|received| async move { received.responder.send(Response::ok(), received.body).await }));
//!
//! let stream = tokio::net::TcpStream::connect(address).await?;
//! let conn = ClientConn::http2(stream, Http2Config::client()).await?;
//! let post = |path: &str| Request::new("POST".parse()?, path).field("Host", "example").map_err(Box::<dyn std::error::Error>::from);
//! // Both at once, over one connection.
//! let (one, two) = tokio::try_join!(conn.send(post("/1")?, "one"), conn.send(post("/2")?, "two"))?;
//! # let (mut one, mut two) = (one, two);
//! assert_eq!((one.body.bytes(9).await?, two.body.bytes(9).await?), ("one".into(), "two".into()));
//! # Ok(())
//! # }
//! ```
//!
//! # What is different
//!
//! - **A task drives the connection**, for the peer must be listened to at any time. A body that comes from a reader, and does not fit into the window at once, has a task
//!   that sends it; dropping the exchange ends it.
//! - [`available`](ClientConn::available) is how many streams may still be opened: the peer's `SETTINGS_MAX_CONCURRENT_STREAMS`, or ours if that is less.
//! - A dropped exchange is reset (`CANCEL`); others are unharmed, and the connection stays.
//! - A server runs each handler in a task of its own, as many at once as it grants streams; [`Server::concurrent_handlers`] means HTTP/1.1 only.
//! - Fields that belong to an HTTP/1.1 connection (`Connection`, `Keep-Alive`, `Transfer-Encoding`, `Upgrade`, `Proxy-Connection`) are left out where a message is sent;
//!   `Host` becomes `:authority`. Names are lower case.
//! - A connection cannot be taken apart ([`hijack`](ClientConn::hijack)), and its socket is not lent.
//!
//! # What became of a request
//!
//! | what happened | [`Disposition`] | [`CloseReason`] |
//! |---|---|---|
//! | no byte was written since the request was begun | `NotSent` | whatever ended the connection |
//! | `REFUSED_STREAM`, or above the last stream of a GOAWAY: the peer did not process it (RFC 9113 §8.7) | `Declined` | `PeerReset`, `PeerSaidClose`, `PeerGoAway` |
//! | reset with another code | as far as it had come | `PeerReset` |
//! | the connection broke, or ended early | as far as it had come | `Io`, `PeerClosedEarly` |
//! | a PING was not answered | as far as it had come | `Timeout(Ping)` |
//! | the peer broke the protocol | as far as it had come | `PeerWrong` |
//!
//! The cause behind the error is the [`h2::Error`] or the [`io::Error`](std::io::Error). `PartlySent` counts bytes of content that flow control has let out.
//!
//! # Limits
//!
//! Floods of streams, resets (CVE-2023-44487), fields and CONTINUATION frames, PINGs and SETTINGS end the connection with `ENHANCE_YOUR_CALM`; see [`Http2Config`]. Handlers of
//! streams that were reset count until they return, so resets do not make more of them run. Windows that are never opened end an exchange after
//! [`Timeouts::write_stall`](persist_core::Timeouts::write_stall).
//!
//! # What there is not
//!
//! `Upgrade: h2c` (RFC 9113 §3.1 has withdrawn it), the sending of pushes (browsers have given them up), extended CONNECT (RFC 8441), priorities.

mod client;
mod config;
mod conn;
mod convert;
mod entrance;
mod exchange;
mod failure;
mod inbound;
mod linger;
mod metered;
mod outbound;
mod ping;
mod responder;
mod server;
mod tunnel;

pub(crate) use client::{Place, Two};
#[cfg(feature = "tower")]
pub(crate) use config::Heads;
pub use config::{Cleartext, Http2Config, Pushes};
pub use conn::Connected;
pub(crate) use conn::exchange;
pub(crate) use entrance::{Spoken, arrive};
pub(crate) use exchange::Begun;
pub use exchange::Pushed;
pub(crate) use inbound::{Inbound, Wire};
pub(crate) use responder::Answerer;
pub(crate) use server::{Conn as ServerTask, Door, Handlers};
pub use tunnel::Tunnel;

#[cfg(doc)]
use crate::{Client, ClientConn, CloseReason, Connector, Disposition, Responder, Server};

/// The protocol's name in ALPN.
#[cfg(feature = "tls")]
pub(crate) const ALPN: &[u8] = b"h2";
