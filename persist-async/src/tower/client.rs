//! Clients as tower services.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use persist_core::BoxError;
use tower_service::Service;

use crate::client::Client;
use crate::client_conn::ClientConn;
use crate::error::{Error, Result};
use crate::incoming::Incoming;
use crate::link::Transport;
use crate::reservation::Reservation;

/// A response on its way.
type Responding = Pin<Box<dyn Future<Output = Result<http::Response<Incoming>>> + Send>>;

/// Always ready: which connection a request needs is known with its URI only. The wait for a place in the pool is part of the call
/// ([`ClientConfig::wait_timeout`](persist_core::ClientConfig::wait_timeout)), and so are retries.
impl<B> Service<http::Request<B>> for Client
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = http::Response<Incoming>;
    type Error = Error;
    type Future = Responding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Responding {
        let client = self.clone();
        Box::pin(async move { client.send_http(request).await })
    }
}

/// As the client itself.
impl<B> Service<http::Request<B>> for &Client
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = http::Response<Incoming>;
    type Error = Error;
    type Future = Responding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Responding {
        let client = Client::clone(self);
        Box::pin(async move { client.send_http(request).await })
    }
}

/// One connection as a tower service. It is ready when a place in the pipeline is reserved for it; the place is used by the call, or given back when this is dropped.
///
/// Clones share the connection, each with a place of its own. A clone that was found ready and is neither called nor dropped keeps its place from others.
///
/// ```
/// use persist_async::{ClientConn, Response, ServerConn};
/// use tower::{Service, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let serving = tokio::spawn(async move {
///     let server = ServerConn::new(far);
///     server.read().await?.expect("a request").responder.send(Response::ok(), "hello").await?;
///     server.read().await // sends the answer meanwhile
/// });
///
/// let mut service = ClientConn::new(near).service();
/// let ready = ServiceExt::<http::Request<String>>::ready(&mut service).await?;
/// assert_eq!(ready.conn().available(), 0); // its place is kept
/// let response = ready.call(http::Request::get("/").header("host", "localhost").body(String::new())?).await?;
/// assert_eq!(response.into_body().bytes(100).await?, "hello");
/// drop(service);
/// assert!(serving.await??.is_none());
/// # Ok(())
/// # }
/// ```
pub struct ConnService<S: Transport> {
    conn: Arc<ClientConn<S>>,
    place: Place<S>,
}

enum Place<S: Transport> {
    None,
    Waiting(Pin<Box<dyn Future<Output = Result<()>> + Send + Sync>>),
    Reserved(Reservation<S>),
}

impl<S: Transport> ClientConn<S> {
    /// This connection as a tower service.
    ///
    /// ```
    /// use persist_async::ClientConn;
    /// use tower::ServiceExt;
    ///
    /// # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
    /// let service = ClientConn::new(stream).service();
    /// let request = http::Request::get("/").header("host", "127.0.0.1").body(String::new())?;
    /// let response = service.oneshot(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn service(self) -> ConnService<S> {
        Arc::new(self).into()
    }
}

/// For a connection that others use, too.
impl<S: Transport> From<Arc<ClientConn<S>>> for ConnService<S> {
    fn from(conn: Arc<ClientConn<S>>) -> Self {
        Self { conn, place: Place::None }
    }
}

impl<S: Transport> ConnService<S> {
    /// The connection.
    pub fn conn(&self) -> &Arc<ClientConn<S>> {
        &self.conn
    }
}

impl<S, B> Service<http::Request<B>> for ConnService<S>
where
    S: Transport,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    type Response = http::Response<Incoming>;
    type Error = Error;
    type Future = Responding;

    /// Reserves a place. An error is the connection's end: it takes no further request.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        loop {
            match &mut self.place {
                Place::Reserved(_) => {
                    // The connection may have ended since.
                    return Poll::Ready(self.conn.err().map_or(Ok(()), Err));
                }
                Place::Waiting(ready) => {
                    let outcome = ready!(ready.as_mut().poll(cx));
                    self.place = Place::None;
                    outcome?;
                }
                Place::None => {}
            }
            match self.conn.reserve() {
                Ok(place) => self.place = Place::Reserved(place),
                Err(error) if self.conn.err().is_some() => return Poll::Ready(Err(error)),
                Err(_) => {
                    let conn = self.conn.clone();
                    self.place = Place::Waiting(Box::pin(async move { conn.ready().await }));
                }
            }
        }
    }

    /// Sends the request in the reserved place. Without one (called before it was ready) it waits for its turn.
    fn call(&mut self, request: http::Request<B>) -> Responding {
        let conn = self.conn.clone();
        let place = match std::mem::replace(&mut self.place, Place::None) {
            Place::Reserved(place) => Some(place),
            Place::None | Place::Waiting(_) => None,
        };
        Box::pin(async move { conn.send_http_in(place, request).await })
    }
}

impl<S: Transport> Clone for ConnService<S> {
    fn clone(&self) -> Self {
        self.conn.clone().into()
    }
}

impl<S: Transport> fmt::Debug for ConnService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match self.place {
            Place::None => "none",
            Place::Waiting(_) => "awaited",
            Place::Reserved(_) => "reserved",
        };
        f.debug_struct("ConnService").field("conn", &self.conn).field("place", &place).finish()
    }
}
