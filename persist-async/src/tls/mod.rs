//! TLS for both ends of a connection, by [`rustls`] and tokio-rustls.
//!
//! [`ClientTls`] judges servers and [`ServerTls`] serves clients; a [`Connector`](crate::Connector) uses the first for every hop of a route
//! that leads to an `https` destination, a [`Server`](crate::Server) the second for every connection. Both are made by a builder, or from a
//! configuration of rustls, and so with any provider of cryptography that rustls has; the builders take `ring`.
//!
//! Early data (0-RTT) is never sent and never taken: it can be replayed. A message that ends with the connection (RFC 9112 §9.8) is complete only
//! after the peer's closing alert, and our own alert is sent before our side is shut down.

mod client;
mod error;
mod material;
mod roots;
mod server;
mod session;

use std::sync::Arc;

pub use client::{ClientTls, ClientTlsBuilder};
pub use error::TlsConfigError;
pub use rustls;
pub use server::{ClientAuth, ServerTls, ServerTlsBuilder};

pub(crate) use client::judge_alpn;
pub(crate) use session::Session;

/// The protocol that both ends of this library speak (RFC 7301).
const HTTP_1_1: &[u8] = b"http/1.1";

/// The cryptography of the builders.
fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
