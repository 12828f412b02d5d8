//! Requests as the `http` crate has them.

use std::fmt;

use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{Uri, request};
use persist_core::{Blame, BoxError, Method, Phase, Request, RequestHead, Response, StatusCode, Version};

use super::Via;
use super::body::{at_hand, length};
use super::fields::{OriginalFields, Said, from_fields, to_fields};
use crate::body::Body;
use crate::client::Client;
use crate::client_conn::ClientConn;
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::incoming::Incoming;
use crate::link::Transport;
use crate::reservation::Reservation;
use crate::responder::Responder;
use crate::round_trip::RoundTrip;
use crate::server_conn::Received;

/// A request that came in cannot be said in the types of the `http` crate, whose targets are fewer. Dropping this answers `500`.
///
/// ```
/// use persist_async::{Received, Result};
///
/// async fn handler(received: Received) -> Result<()> {
///     let (request, responder) = match received.into_http() {
///         Ok(parts) => parts,
///         Err(unrepresentable) => return unrepresentable.refuse().await, // with 400
///     };
///     responder.send_http(http::Response::new(format!("you asked for {}\n", request.uri()))).await
/// }
/// # let _ = handler;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Unrepresentable {
    /// The head as it came.
    pub head: RequestHead,
    /// The right to answer; `400` says who is to blame.
    pub responder: Responder,
}

impl Unrepresentable {
    /// Answers `400`.
    ///
    /// # Errors
    /// As [`Responder::send`].
    pub async fn refuse(self) -> Result<()> {
        self.responder.send(Response::new(StatusCode::BAD_REQUEST), ()).await
    }
}

impl fmt::Display for Unrepresentable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the http crate's Uri cannot hold the target of this request")
    }
}

impl std::error::Error for Unrepresentable {}

impl Client {
    /// [`send`](Self::send) with the types of the `http` crate. The request's URI is absolute; its version means nothing.
    ///
    /// A body that is one piece in memory can be sent again by the retry policy; any other only if nothing of it was taken.
    ///
    /// # Errors
    /// As there. A `Content-Length` that is no number, in phase `Prepare`.
    pub async fn send_http<B>(&self, request: http::Request<B>) -> Result<http::Response<Incoming>>
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        let (request, body) = outgoing(parts.uri.to_string(), &parts, body)?;
        Ok(self.send(request, body).await?.into_http())
    }
}

impl<S: Transport> ClientConn<S> {
    /// [`send`](Self::send) with the types of the `http` crate. The target is the path of the request's URI, for CONNECT its authority; `Host` comes from
    /// the authority if the request has none. The version means nothing.
    ///
    /// # Errors
    /// As there. A `Content-Length` that is no number, in phase `Prepare`.
    pub async fn send_http<B>(&self, request: http::Request<B>) -> Result<http::Response<Incoming>>
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        self.send_http_in(None, request).await
    }

    /// The same in a place that was reserved, if one was.
    pub(crate) async fn send_http_in<B>(
        &self,
        place: Option<Reservation<S>>,
        request: http::Request<B>,
    ) -> Result<http::Response<Incoming>>
    where
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let (parts, body) = request.into_parts();
        let (request, body) = outgoing(origin_form(&parts), &parts, body)?;
        let request = with_host(request, &parts);
        let reply = match place {
            Some(place) => self.send_reserved(place, &request, &mut Some(body)).await?,
            None => self.send(request, body).await?,
        };
        Ok(reply.into_http())
    }

    /// [`send`](Self::send) in a place that was reserved.
    async fn send_reserved(
        &self,
        mut place: Reservation<S>,
        request: &Request,
        body: &mut Option<Body>,
    ) -> Result<Reply> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            let refused = || crate::error::refused(persist_core::SendError::NoSuchExchange);
            let place = place.place.take().ok_or_else(refused)?;
            return two.begin(place, request.into(), body)?.reply().await;
        }
        let mut reply = None;
        RoundTrip::new(self, request.into(), body, &mut place.slot, &mut reply).looking_first().await?;
        Ok(reply.expect("a round trip that succeeds puts it there"))
    }
}

/// A request and its body, to be sent.
pub(crate) fn outgoing<B>(target: String, parts: &request::Parts, body: B) -> Result<(Request, Body)>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let invalid = |what: BoxError| Error::new(Phase::Prepare, what).blaming(Blame::Caller);
    let method = Method::new(parts.method.as_str()).map_err(|error| invalid(error.into()))?;
    let len = length(&body, &Said::by(&parts.headers)?);
    let fields = to_fields(&parts.headers, parts.extensions.get::<OriginalFields>());
    Ok((Request { method, target, fields }, at_hand(body, len)))
}

/// The target for a connection that leads to the origin itself (RFC 9112 §3.2.1, §3.2.3, §3.2.4).
pub(crate) fn origin_form(parts: &request::Parts) -> String {
    if parts.method == http::Method::CONNECT {
        return parts.uri.authority().map_or_else(String::new, |authority| host(authority).to_owned());
    }
    parts.uri.path_and_query().map_or("/", PathAndQuery::as_str).to_owned()
}

/// RFC 9112 §3.2: the first field of a request is best `Host`, from the target's authority without its userinfo.
pub(crate) fn with_host(mut request: Request, parts: &request::Parts) -> Request {
    if let Some(authority) = parts.uri.authority().filter(|_| !parts.headers.contains_key(HOST)) {
        let fields = std::mem::take(&mut request.fields);
        // Cannot fail: an authority is made of characters that may stand in a value.
        let _ = request.fields.push("Host", host(authority));
        fields.iter().for_each(|field| request.fields.push_field(field));
    }
    request
}

fn host(authority: &Authority) -> &str {
    authority.as_str().rsplit_once('@').map_or(authority.as_str(), |(_, host)| host)
}

impl Received {
    /// The request in the types of the `http` crate, and the right to answer it.
    ///
    /// Its URI has the form of its target: mostly a path alone. Extensions: [`Via`], and of HTTP/1.1 [`OriginalFields`].
    ///
    /// # Errors
    /// [`Unrepresentable`], with the right to answer.
    pub fn into_http(self) -> Result<(http::Request<Incoming>, Responder), Box<Unrepresentable>> {
        #[cfg_attr(not(feature = "http2"), expect(unused_mut, reason = "there is nothing to take"))]
        let Self { head, mut body, responder, connection, reused, peer } = self;
        #[cfg(feature = "http2")]
        if let Some(crate::http2::Wire::Request(parts)) = body.take_wire() {
            let mut request = http::Request::from_parts(parts, body);
            request.extensions_mut().insert(Via { connection, reused, peer });
            return Ok((request, responder));
        }
        let Some(uri) = uri(&head) else {
            return Err(Box::new(Unrepresentable { head, responder }));
        };
        let mut request = http::Request::new(body);
        *request.uri_mut() = uri;
        *request.method_mut() = method(head.method());
        *request.version_mut() = version(head.version());
        *request.headers_mut() = from_fields(head.fields());
        request.extensions_mut().insert(Via { connection, reused, peer });
        request.extensions_mut().insert(OriginalFields::from(head));
        Ok((request, responder))
    }
}

fn uri(head: &RequestHead) -> Option<Uri> {
    Uri::try_from(head.target()).ok()
}

fn method(method: &Method) -> http::Method {
    http::Method::from_bytes(method.as_str().as_bytes()).expect("a token is a method there too")
}

pub(super) fn version(version: Version) -> http::Version {
    match version {
        Version::Http10 => http::Version::HTTP_10,
        Version::Http11 => http::Version::HTTP_11,
        Version::Http2 => http::Version::HTTP_2,
    }
}
