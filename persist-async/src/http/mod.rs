//! The `http` crate's types, both ways: requests, responses, and bodies of the `http-body` crate (feature `http`).
//!
//! | direction | how |
//! |---|---|
//! | a client sends | [`Client::send_http`], [`ClientConn::send_http`] |
//! | a server receives | [`Received::into_http`] |
//! | a server answers | [`Responder::send_http`] |
//! | single parts | [`Reply::into_http`], [`body`], [`OriginalFields`], [`to_fields`], [`from_fields`] |
//!
//! Received messages carry [`Incoming`], which is a [`Body`](http_body::Body) of `Bytes` with this crate's [`Error`](crate::Error), and
//! extensions: [`OriginalFields`], the fields in their own order and case, if they came by HTTP/1.1 (names of HTTP/2 have one case); [`Via`],
//! which connection it was; and, in a response that had them, [`Interim`].
//!
//! ```
//! use persist_async::{Client, Server};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Server::bind("127.0.0.1:0").await?;
//! let address = server.local_addr().expect("a TCP socket");
//! tokio::spawn(server.serve(|received| async move {
//!     match received.into_http() {
//!         Ok((request, responder)) => responder.send_http(http::Response::new(request.into_body())).await, // whatever comes goes back
//!         Err(unrepresentable) => unrepresentable.refuse().await,
//!     }
//! }));
//!
//! let request = http::Request::post(format!("http://{address}/")).body(String::from("hello"))?;
//! let mut response = Client::new().send_http(request).await?;
//! assert_eq!(response.status(), 200);
//! assert_eq!(response.body_mut().bytes(100).await?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Framing
//!
//! `Transfer-Encoding` of a message that is sent is dropped, as it is ours to write. `Content-Length` counts: a body that turns out to have
//! another length fails its exchange. Without it, a body that knows its exact length is sent with it, unless a `Trailer` field announces
//! trailers; any other is chunked.

mod body;
mod fields;
mod request;
mod response;

pub use body::body;
pub use fields::{OriginalFields, from_fields, to_fields};
pub use request::Unrepresentable;
pub use response::Interim;
#[cfg(feature = "tower")]
pub(crate) use response::outgoing as outgoing_response;

#[cfg(doc)]
use crate::{Client, ClientConn, Incoming, Received, Reply, Responder};

/// Which connection a message came over: an extension of each request and response that is received.
///
/// ```
/// use persist_async::http::Via;
/// use persist_async::{Client, Response, Server};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?;
/// let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
/// let serving = tokio::spawn(server.serve(|received| async move { received.responder.send(Response::ok(), "hello").await }));
///
/// let client = Client::new();
/// for n in 0..2 {
///     let response = client.send_http(http::Request::get(format!("http://{address}/")).body(String::new())?).await?;
///     let via = response.extensions().get::<Via>().expect("always there");
///     assert_eq!(via.reused, n > 0);
///     response.into_body().bytes(100).await?;
/// }
/// # handle.shutdown(std::time::Duration::ZERO);
/// # serving.await??;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Via {
    /// The connection's number in this process.
    pub connection: u64,
    /// Whether the connection had carried an earlier exchange.
    pub reused: bool,
    /// Where the peer is, if that is a TCP address; responses do not know it.
    pub peer: Option<std::net::SocketAddr>,
}
