//! Responses as the `http` crate has them.

use persist_core::{Blame, BoxError, Phase, Response, ResponseHead, StatusCode};

use super::body::{at_hand, length};
use super::fields::{OriginalFields, Said, from_fields, to_fields};
use super::{Via, request};
use crate::body::Body;
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::incoming::Incoming;
use crate::responder::Responder;

/// The interim responses that came before a final one: an extension of it, if there were any.
///
/// ```
/// use persist_async::http::Interim;
/// use persist_async::{ClientConn, Request, Response, ServerConn, StatusCode};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ()).await?;
/// let responder = server.read().await?.expect("a request").responder;
/// responder.interim(Response::new(StatusCode::EARLY_HINTS).field("Link", "</style.css>")?)?;
/// responder.send(Response::ok(), ()).await?;
/// tokio::spawn(async move { server.read().await }); // whoever waits for the next request sends the answer to this one
///
/// let response = client.read(exchange).await?.into_http();
/// let Interim(interim) = response.extensions().get().expect("one came");
/// assert_eq!((interim[0].status().as_u16(), &interim[0].headers()["link"]), (103, &"</style.css>".parse()?));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Interim(pub Vec<http::Response<()>>);

impl Reply {
    /// The response in the types of the `http` crate. Extensions: [`Via`], of HTTP/1.1 [`OriginalFields`], and [`Interim`] if there were any.
    pub fn into_http(self) -> http::Response<Incoming> {
        #[cfg_attr(not(feature = "http2"), expect(unused_mut, reason = "there is nothing to take"))]
        let Self { head, interim, mut body, connection, reused } = self;
        #[cfg(feature = "http2")]
        let mut response = match body.take_wire() {
            Some(crate::http2::Wire::Response(parts)) => http::Response::from_parts(parts, body),
            _ => received(head, body),
        };
        #[cfg(not(feature = "http2"))]
        let mut response = received(head, body);
        response.extensions_mut().insert(Via { connection, reused, peer: None });
        if !interim.is_empty() {
            let interim = interim.into_iter().map(|head| received(head, ())).collect();
            response.extensions_mut().insert(Interim(interim));
        }
        response
    }
}

fn received<B>(head: ResponseHead, body: B) -> http::Response<B> {
    let mut response = http::Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(head.status().as_u16()).expect("both know the codes from 100 to 999");
    *response.version_mut() = request::version(head.version());
    *response.headers_mut() = from_fields(head.fields());
    response.extensions_mut().insert(OriginalFields::from(head));
    response
}

impl Responder {
    /// [`send`](Self::send) with the types of the `http` crate. The response's version means nothing.
    ///
    /// # Errors
    /// As there. A `Content-Length` that is no number, in phase `Prepare`; the peer gets a `500`.
    #[cfg_attr(not(feature = "http2"), expect(unused_mut, reason = "there is nothing to take"))]
    pub async fn send_http<B>(mut self, response: http::Response<B>) -> Result<()>
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        #[cfg(feature = "http2")]
        if let Some(answerer) = self.take_http2() {
            let (parts, body) = response.into_parts();
            let said = Said::by(&parts.headers)?;
            let len = length(&body, &said);
            return answerer.send_http(parts, said.length, at_hand(body, len));
        }
        let (response, body) = outgoing(response)?;
        self.send(response, body).await
    }

    /// [`interim`](Self::interim) with the types of the `http` crate.
    ///
    /// # Errors
    /// As there.
    pub fn interim_http(&self, response: &http::Response<()>) -> Result<()> {
        let fields = to_fields(response.headers(), response.extensions().get::<OriginalFields>());
        self.interim(Response { status: status(response.status())?, fields })
    }
}

/// A response and its body, to be sent.
pub(crate) fn outgoing<B>(response: http::Response<B>) -> Result<(Response, Body)>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (parts, body) = response.into_parts();
    let len = length(&body, &Said::by(&parts.headers)?);
    let fields = to_fields(&parts.headers, parts.extensions.get::<OriginalFields>());
    Ok((Response { status: status(parts.status)?, fields }, at_hand(body, len)))
}

fn status(status: http::StatusCode) -> Result<StatusCode> {
    StatusCode::new(status.as_u16()).map_err(|error| Error::new(Phase::Prepare, error).blaming(Blame::Caller))
}
