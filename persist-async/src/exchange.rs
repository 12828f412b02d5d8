//! A request on its way, and what answers it.

use std::fmt;
use std::sync::Arc;

use persist_core::{ExchangeId, ResponseHead};

use crate::incoming::{Incoming, Inlet};

/// A request that was written: the right to its reply. Dropping it gives the exchange up.
///
/// ```
/// use persist_async::{ClientConn, Request, Response, ServerConn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ()).await?;
/// assert_eq!(exchange.id().number(), 0);
/// server.read().await?.expect("a request").responder.send(Response::ok(), "hello").await?;
/// tokio::spawn(async move { server.read().await }); // whoever waits for the next request sends the answer to this one
/// assert_eq!(client.read(exchange).await?.body.bytes(100).await?, "hello");
///
/// // Given up on: nobody will read its reply.
/// client.cancel(client.write(Request::get("/").field("Host", "localhost")?, ()).await?);
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it gives the exchange up"]
pub struct Exchange {
    id: ExchangeId,
    connection: u64,
    inlet: Option<Arc<dyn Inlet>>,
    /// It goes by HTTP/2.
    #[cfg(feature = "http2")]
    pub(crate) begun: Option<Box<crate::http2::Begun>>,
}

/// The final response to a request.
///
/// ```
/// use persist_async::{ClientConn, Request, Response, ServerConn, StatusCode};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ()).await?;
/// let received = server.read().await?.expect("a request");
/// received.responder.interim(Response::new(StatusCode::EARLY_HINTS).field("Link", "</style.css>")?)?;
/// received.responder.send(Response::ok().field("Content-Type", "text/plain")?, "hello").await?;
/// tokio::spawn(async move { server.read().await }); // whoever waits for the next request sends the answer to this one
///
/// let reply = client.read(exchange).await?;
/// assert_eq!(reply.head.status(), StatusCode::OK);
/// assert_eq!(reply.head.field("content-type").and_then(|value| value.to_str()), Some("text/plain"));
/// assert_eq!(reply.interim[0].status(), StatusCode::EARLY_HINTS);
/// assert!(!reply.reused);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// Its head.
    pub head: ResponseHead,
    /// The interim responses that came before it and were not taken by [`ClientConn::interim`](crate::ClientConn::interim).
    pub interim: Vec<ResponseHead>,
    /// Its content.
    pub body: Incoming,
    /// The connection's number in this process.
    pub connection: u64,
    /// Whether the connection had carried an earlier exchange.
    pub reused: bool,
}

impl Exchange {
    pub(crate) fn new(id: ExchangeId, connection: u64, inlet: Arc<dyn Inlet>) -> Self {
        Self {
            id,
            connection,
            inlet: Some(inlet),
            #[cfg(feature = "http2")]
            begun: None,
        }
    }

    #[cfg(feature = "http2")]
    pub(crate) fn of_http2(number: u64, connection: u64, begun: crate::http2::Begun) -> Self {
        Self { id: ExchangeId::from_number(number), connection, inlet: None, begun: Some(Box::new(begun)) }
    }

    /// From here on somebody else holds the exchange.
    pub(crate) fn disarm(&mut self) {
        self.inlet = None;
    }

    /// The connection's number in this process.
    pub fn connection(&self) -> u64 {
        self.connection
    }

    /// Its number on the connection.
    pub fn id(&self) -> ExchangeId {
        self.id
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(inlet) = self.inlet.take() {
            inlet.release(self.id);
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("number", &self.id.number())
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}
