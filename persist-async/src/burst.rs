//! Many requests in one write.

use std::borrow::Borrow;

use persist_core::Request;

use crate::body::Body;
use crate::client_conn::ClientConn;
use crate::error::Result;
use crate::exchange::Exchange;
use crate::link::Transport;
use crate::wait::Flush;
use crate::waiting::Interest;

/// Exchanges for which room is made at once; an iterator may promise anything.
const PROMISED_MAX: usize = 64;

/// A burst of requests of which one was refused, by [`ClientConn::write_all`]: [what it holds](persist_core::PartlyWritten).
///
/// ```
/// use persist_async::{ClientConn, Request, Response, SendError, ServerConn};
/// # use std::error::Error;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(4096);
/// let (conn, server) = (ClientConn::new(near), ServerConn::new(far)); // one request at a time
/// let request = |path| Request::get(path).field("Host", "localhost");
/// let mut requests = [(request("/a")?, ()), (request("/b")?, ()), (request("/c")?, ())].into_iter();
///
/// let mut partly = conn.write_all(&mut requests).await.expect_err("there is no room for three");
/// let cause = partly.error.source().and_then(|cause| cause.downcast_ref());
/// assert!(matches!(cause, Some(SendError::Full { .. })));
/// assert_eq!((partly.written.len(), requests.len()), (1, 1)); // `/b` was refused, `/c` is left
///
/// server.read().await?.expect("a request").responder.send(Response::ok(), "first").await?;
/// tokio::spawn(async move { server.read().await.map(drop) }); // whoever awaits it sends what was answered
/// let first = partly.written.remove(0);
/// assert_eq!(conn.read(first).await?.body.bytes(100).await?, "first");
/// # Ok(())
/// # }
/// ```
pub type PartlyWritten = persist_core::PartlyWritten<Exchange>;

impl<S: Transport> ClientConn<S> {
    /// [`write`](Self::write) for many requests: they leave together and at once, in one write to the stream where it takes that much; what it does not take leaves with the
    /// next await on this connection.
    ///
    /// The iterator is asked for one request after the other, never under a lock. What was gathered leaves when it has no more, when 64 KiB wait, before a request behind a body
    /// that comes from a reader, and when another task moves the connection. Requests of other tasks may come to stand between those of a burst. Dropping the future cancels
    /// those that it has written.
    ///
    /// ```
    /// use persist_async::{Body, ClientConn, Config, Request, Response, ServerConn};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (near, far) = tokio::io::duplex(4096);
    /// let mut config = Config::client();
    /// config.pipelining.depth = 8;
    /// let conn = ClientConn::with_config(near, config);
    /// # tokio::spawn(async move {
    /// #     let server = ServerConn::new(far);
    /// #     while let Some(received) = server.read().await? {
    /// #         let target = received.head.target().to_owned();
    /// #         received.responder.send(Response::ok(), target).await?;
    /// #     }
    /// #     Ok::<_, persist_async::Error>(())
    /// # });
    ///
    /// let mut requests = Vec::new();
    /// for path in ["/a", "/b", "/c"] {
    ///     requests.push((Request::get(path).field("Host", "localhost")?, Body::empty()));
    /// }
    /// let exchanges = conn.write_all(requests).await?;
    /// for (exchange, path) in exchanges.into_iter().zip(["/a", "/b", "/c"]) {
    ///     assert_eq!(conn.read(exchange).await?.body.bytes(100).await?, path);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`PartlyWritten`] at the first request that [`write`](Self::write) would not write: it holds those that were written before it, and why that one was not. What is
    /// behind it stays in the iterator; give `&mut iterator` to go on with it. A connection that breaks later is told by reading the replies, each with what became of its request.
    pub async fn write_all<R, B>(
        &self,
        requests: impl IntoIterator<Item = (R, B)>,
    ) -> Result<Vec<Exchange>, PartlyWritten>
    where
        R: Borrow<Request>,
        B: Into<Body>,
    {
        let requests = requests.into_iter();
        let mut written = Vec::with_capacity(requests.size_hint().0.min(PROMISED_MAX));
        let mut refused = None;
        for (request, body) in requests {
            match self.put(request.borrow(), body.into(), Flush::Later).await {
                Ok(exchange) => written.push(exchange),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        if !written.is_empty() {
            self.link.wait(Interest::Connection, |_, _| Some(())).flush(Flush::Now).await;
        }
        match refused {
            None => Ok(written),
            Some(error) => Err(PartlyWritten::new(written, error)),
        }
    }
}
