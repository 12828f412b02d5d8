//! Many requests in one write.

use std::borrow::Borrow;

use persist_core::Request;

use crate::body::Body;
use crate::client_conn::ClientConn;
use crate::driver::Gathered;
use crate::error::Result;
use crate::exchange::Exchange;

/// Exchanges for which room is made at once; an iterator may promise anything.
const PROMISED_MAX: usize = 64;

/// A burst of requests of which one was refused, by [`ClientConn::write_all`]: [what it holds](persist_core::PartlyWritten).
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Request, Response, SendError, ServerConn};
/// # use std::error::Error;
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let conn = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?; // one request at a time
/// let server = ServerConn::new(listener.accept()?.0)?;
/// let request = |path| Request::get(path).field("Host", "localhost");
/// let mut requests = [(request("/a")?, ()), (request("/b")?, ()), (request("/c")?, ())].into_iter();
///
/// let mut partly = conn.write_all(&mut requests).expect_err("there is no room for three");
/// let cause = partly.error.source().and_then(|cause| cause.downcast_ref());
/// assert!(matches!(cause, Some(SendError::Full { .. })));
/// assert_eq!((partly.written.len(), requests.len()), (1, 1)); // `/b` was refused, `/c` is left
///
/// server.read()?.expect("a request").responder.send(Response::ok(), "first")?;
/// let first = partly.written.remove(0);
/// assert_eq!(conn.read(first)?.body.bytes(100)?, "first");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type PartlyWritten = persist_core::PartlyWritten<Exchange>;

impl ClientConn {
    /// [`write`](Self::write) for many requests: they leave together, in one write to the socket where it takes that much, and it returns when all of them are with
    /// the operating system.
    ///
    /// The iterator is asked for one request after the other, never under a lock. What was gathered leaves when it has no more, when 64 KiB wait, before a body that comes
    /// from a reader, and when another thread moves the connection; so an iterator that waits for something may hold back what it gave before.
    /// Requests of other threads may come to stand between those of a burst.
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use persist_sync::{Body, ClientConn, Config, Request, Response, ServerConn};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let mut config = Config::client();
    /// config.pipelining.depth = 8;
    /// let conn = ClientConn::with_config(TcpStream::connect(listener.local_addr()?)?, config)?;
    /// let server = ServerConn::new(listener.accept()?.0)?;
    ///
    /// let mut requests = Vec::new();
    /// for path in ["/a", "/b", "/c"] {
    ///     requests.push((Request::get(path).field("Host", "localhost")?, Body::empty()));
    /// }
    /// let exchanges = conn.write_all(requests)?;
    /// # let serving = std::thread::spawn(move || {
    /// #     for _ in 0..3 {
    /// #         let received = server.read()?.expect("a request");
    /// #         let target = received.head.target().to_owned();
    /// #         received.responder.send(Response::ok(), target)?;
    /// #     }
    /// #     Ok::<_, persist_sync::Error>(())
    /// # });
    /// for (exchange, path) in exchanges.into_iter().zip(["/a", "/b", "/c"]) {
    ///     assert_eq!(conn.read(exchange)?.body.bytes(100)?, path);
    /// }
    /// # serving.join().expect("no panic")?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`PartlyWritten`] at the first request that [`write`](Self::write) would not write: it holds those that were written before it, and why that one was not. What is
    /// behind it stays in the iterator; give `&mut iterator` to go on with it. A connection that breaks later is told by reading the replies, each with what became of its request.
    pub fn write_all<R, B>(&self, requests: impl IntoIterator<Item = (R, B)>) -> Result<Vec<Exchange>, PartlyWritten>
    where
        R: Borrow<Request>,
        B: Into<Body>,
    {
        let requests = requests.into_iter();
        let mut written = Vec::with_capacity(requests.size_hint().0.min(PROMISED_MAX));
        let mut refused = None;
        for (request, body) in requests {
            match self.gather(request.borrow(), body.into()) {
                Ok(exchange) => written.push(exchange),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        if !written.is_empty() {
            // Replies may begin meanwhile, and fail: reading them will tell.
            self.link.wait(|state| state.is_flushed_or_stuck().then_some(()));
        }
        match refused {
            None => Ok(written),
            Some(error) => Err(PartlyWritten::new(written, error)),
        }
    }

    fn gather(&self, request: &Request, body: Body) -> Result<Exchange> {
        let (in_memory, mut body) = (body.is_in_memory(), Some(body));
        let gathered = if in_memory { self.link.gather(request.into(), &mut body) } else { None };
        let mut exchange = match gathered {
            Some(Ok(Gathered { id, outgoing })) => Exchange::new(self.link.clone(), id, outgoing, &request.method),
            Some(Err(cause)) => return Err(self.refused(cause)),
            None => self.begin_with(None, request.into(), &mut body, None)?,
        };
        exchange.send_body(|_| None::<()>)?;
        Ok(exchange)
    }
}
