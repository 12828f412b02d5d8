//! What a client's connection offers when it speaks HTTP/2, beside what every one does.

use std::sync::Arc;

use persist_core::{Blame, Config, Method, Outline, Phase, PoolError, Request};
use tokio::time::Instant;

use super::client::{Place, Two};
use super::{Http2Config, Pushed, Tunnel};
use crate::address;
use crate::body::Body;
use crate::client_conn::ClientConn;
use crate::error::{Error, Result};
use crate::exchange::{Exchange, Reply};
use crate::hijack;
use crate::link::{Link, Transport, fresh};
use crate::race::{Either, race};

/// What came of a CONNECT.
///
/// ```
/// use persist_async::http2::{Connected, Http2Config};
/// use persist_async::{ClientConn, Fields, Response, Server, StatusCode};
/// use tokio::net::TcpStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind("127.0.0.1:0").await?.with_http2(Http2Config::server());
/// let address = server.local_addr().expect("TCP");
/// tokio::spawn(server.serve(|received| async move {
///     received.responder.send(Response::new(StatusCode::FORBIDDEN), ()).await
/// }));
///
/// let conn = ClientConn::http2(TcpStream::connect(address).await?, Http2Config::client()).await?;
/// match conn.connect("inside.example:443", Fields::new()).await? {
///     Connected::Tunnel(_stream) => unreachable!("this server grants none"),
///     Connected::Refused(reply) => assert_eq!(reply.head.status(), StatusCode::FORBIDDEN),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Connected {
    /// Granted: a stream of bytes.
    Tunnel(Tunnel),
    /// Refused, by this reply.
    Refused(Reply),
}

impl<S: Transport> ClientConn<S> {
    /// A connection that speaks HTTP/2, without asking the peer whether it does: over TLS, ALPN has told (RFC 9113 §3.2); over cleartext, the caller knows (§3.3).
    /// A task drives it, so this is called in a tokio runtime with its timer enabled. Returns when the preface is written.
    ///
    /// # Errors
    /// In the phase `Handshake`, if that cannot be written.
    pub async fn http2(stream: S, config: Http2Config) -> Result<Self> {
        let peer = address::peer(&stream);
        let link = Link::new(fresh(Arc::new(Config::client())), stream, peer, Vec::new());
        let stream = hijack::detach(&link)?.stream;
        let two = Two::open(stream, link.id, peer, config).await?;
        Ok(Self { two: Some(Arc::new(two)), ..Self::of(link) })
    }

    /// Whether it speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.two.is_some()
    }

    /// The next response that the server pushes along with this exchange; `None` once none can come any more, or if pushes are [refused](super::Pushes).
    /// Replies are read as ever, each by itself; drop what is not wanted.
    ///
    /// # Errors
    /// The exchange failed.
    pub async fn pushed(&self, exchange: &mut Exchange) -> Result<Option<Pushed>> {
        match &mut exchange.begun {
            Some(begun) => begun.pushed().await,
            None => Ok(None),
        }
    }

    /// Asks for a tunnel to `authority` (host and port), with these fields: CONNECT within HTTP/2 (RFC 9113 §8.5), beside other streams.
    ///
    /// # Errors
    /// As [`send`](Self::send). A connection of HTTP/1.1 becomes a tunnel as a whole: send a CONNECT and [`hijack`](Self::hijack) it.
    pub async fn connect(&self, authority: &str, fields: persist_core::Fields) -> Result<Connected> {
        let Some(two) = &self.two else {
            return Err(Error::new(Phase::Prepare, "not a connection of HTTP/2").blaming(Blame::Caller));
        };
        let mut request = Request::new(Method::CONNECT, authority);
        request.fields = fields;
        Ok(match two.connect(&request).await? {
            Ok(tunnel) => Connected::Tunnel(tunnel),
            Err(reply) => Connected::Refused(reply),
        })
    }

    pub(crate) fn write_two(&self, place: Place, request: &Request, body: Body) -> Result<Exchange> {
        let Some(two) = self.two.as_ref().filter(|two| two.is_own(&place)) else {
            return Err(crate::error::refused(persist_core::SendError::NoSuchExchange));
        };
        let begun = two.begin(place, request.into(), &mut Some(body))?;
        Ok(Exchange::of_http2(two.next(), self.link.id, begun))
    }
}

/// An exchange for a pool, complete by `until`: the body stays where it is unless the connection takes the request.
pub(crate) async fn exchange(
    two: &Two,
    request: Outline<'_>,
    body: &mut Option<Body>,
    until: Option<Instant>,
) -> Result<Reply> {
    let Some(until) = until else {
        let place = two.place().await?;
        return two.begin(place, request, body)?.reply().await;
    };
    let asked = Instant::now();
    let place = match race(std::pin::pin!(two.place()), tokio::time::sleep_until(until)).await {
        Either::Left(place) => place?,
        Either::Right(()) => {
            let late = PoolError::Deadline { waited: asked.elapsed(), failures: 0 };
            return Err(Error::new(Phase::Wait, late));
        }
    };
    let mut begun = two.begin(place, request, body)?;
    begun.end_by(until);
    begun.reply().await
}
