//! Tower services on both sides (feature `tower`): this crate's clients are services, and its server serves any service.
//!
//! | | how |
//! |---|---|
//! | a pooled client is a service | [`Client`] itself, and a reference to it |
//! | one connection is a service, ready when a place in its pipeline is reserved | [`ClientConn::service`], [`ConnService`] |
//! | a service is served: an axum `Router`, for one | [`Server::serve_service`] |
//! | a handler takes its connection over: WebSocket, CONNECT | [`Upgrade`], an extension of the request |
//!
//! Requests and responses are those of the [`http`](crate::http) module; their bodies are [`Incoming`], whose error is this crate's.
//!
//! ```
//! use std::convert::Infallible;
//!
//! use persist_async::{Client, Incoming, Server};
//! use tower_service::Service as _;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Anything that is a service; with axum: `axum::Router::new().route("/", get(hello)).with_state(())`.
//! let echo = tower::service_fn(|request: http::Request<Incoming>| async {
//!     Ok::<_, Infallible>(http::Response::new(request.into_body()))
//! });
//! let server = Server::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}/", server.local_addr().expect("a TCP socket"));
//! tokio::spawn(server.serve_service(echo));
//!
//! let mut client = Client::new();
//! let mut response = client.call(http::Request::post(url).body(String::from("hello"))?).await?;
//! assert_eq!(response.body_mut().bytes(100).await?, "hello");
//! # Ok(())
//! # }
//! ```
//!
//! # WebSocket under axum
//!
//! axum's own extractor `WebSocketUpgrade` takes the connection from `hyper::upgrade::OnUpgrade`, an extension that only hyper can make: its fields are private, and so
//! is the way to fulfil it. On any other server the extractor answers `426`. The extension here is [`Upgrade`]: the handler takes it by
//! `axum::Extension<Upgrade>`, answers `101`, and gets the stream, on which `tokio-tungstenite` (or whatever else) goes on; `examples/axum.rs` does it in twenty lines.

mod client;
mod server;
mod upgrade;

pub use client::ConnService;
pub use upgrade::Upgrade;

#[cfg(doc)]
use crate::{Client, ClientConn, Incoming, Server};
