//! Heads of HTTP/2, as the `h2` crate has them, and ours.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, Uri, request, response};
use persist_core::{
    Blame, BodyLen, BoxError, Field, FieldName, FieldValue, Fields, HeadTooLarge, Method, Outline, Phase, RequestHead,
    Response, ResponseHead, StatusCode,
};

use crate::error::{Error, Result};

/// These belong to one HTTP/1.1 connection, and must not be there (RFC 9113 §8.2.2).
fn is_of_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    *name == CONNECTION
        || *name == UPGRADE
        || *name == TRANSFER_ENCODING
        || *name == TE && value != "trailers"
        || *name == "keep-alive"
        || *name == "proxy-connection"
}

/// Takes out of a map what does not belong into HTTP/2. One walk: maps are small, and mostly there is nothing to take out.
pub(super) fn clean(map: &mut HeaderMap) {
    while let Some(name) = map.iter().find(|(name, value)| is_of_connection(name, value)).map(|(name, _)| name.clone())
    {
        map.remove(name);
    }
}

fn map_of<'f>(fields: impl Iterator<Item = Field<'f>> + Clone) -> (HeaderMap, Option<HeaderValue>) {
    let mut map = HeaderMap::with_capacity(fields.clone().count());
    let mut host = None;
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_str().as_bytes());
        let (Ok(name), Ok(mut value)) = (name, HeaderValue::from_bytes(field.value.as_bytes())) else { continue };
        value.set_sensitive(field.name.is("Authorization") || field.name.is("Proxy-Authorization"));
        if name == HOST {
            host.get_or_insert(value);
        } else if name != CONTENT_LENGTH && !is_of_connection(&name, &value) {
            map.append(name, value);
        }
    }
    (map, host)
}

/// Trailers, for the wire.
pub(super) fn trailers(fields: &Fields) -> HeaderMap {
    map_of(fields.iter()).0
}

/// A request for the wire. Its authority is that of its target, else `Host`.
pub(super) fn request(request: Outline<'_>, len: BodyLen, scheme: &Scheme) -> Result<http::Request<()>> {
    let invalid = |what: BoxError| Error::new(Phase::Prepare, what).blaming(Blame::Caller);
    let method = http::Method::from_bytes(request.method.as_str().as_bytes()).map_err(|error| invalid(error.into()))?;
    let (mut fields, host) = map_of(request.fields.iter());
    let authority = |host: &HeaderValue| Authority::try_from(host.as_bytes()).map_err(|error| invalid(error.into()));
    let mut uri = http::uri::Parts::default();
    if method == http::Method::CONNECT {
        uri.authority =
            Some(authority(&HeaderValue::try_from(request.target).map_err(|error| invalid(error.into()))?)?);
    } else {
        let target = if request.target == "*" { "/*" } else { request.target };
        uri = Uri::try_from(target).map_err(|error| invalid(error.into()))?.into_parts();
        if request.target == "*" {
            uri.path_and_query = Some(PathAndQuery::from_static("*"));
        }
        if uri.authority.is_none() {
            let host = host.ok_or_else(|| invalid("a request needs `Host`, or an absolute target".into()))?;
            uri.authority = Some(authority(&host)?);
        }
        uri.scheme.get_or_insert_with(|| scheme.clone());
        uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    }
    if let BodyLen::Length(len) = len {
        fields.insert(CONTENT_LENGTH, len.into());
    }
    let mut wire = http::Request::new(());
    *wire.method_mut() = method;
    *wire.uri_mut() = Uri::from_parts(uri).map_err(|error| invalid(error.into()))?;
    *wire.version_mut() = http::Version::HTTP_2;
    *wire.headers_mut() = fields;
    Ok(wire)
}

/// A response for the wire.
pub(super) fn response(response: &Response, len: BodyLen) -> http::Response<()> {
    let (mut fields, _) = map_of(response.fields.iter());
    declare(&mut fields, len);
    let mut wire = http::Response::new(());
    *wire.status_mut() = status(response.status);
    *wire.version_mut() = http::Version::HTTP_2;
    *wire.headers_mut() = fields;
    wire
}

/// Says how long the content is.
pub(super) fn declare(fields: &mut HeaderMap, len: BodyLen) {
    if let BodyLen::Length(len) = len {
        fields.insert(CONTENT_LENGTH, len.into());
    }
}

pub(super) fn status(status: StatusCode) -> http::StatusCode {
    http::StatusCode::from_u16(status.as_u16()).expect("both know the codes from 100 to 999")
}

/// The map's entries, as fields. What may stand in a name or a value is the same here as there.
fn entries(map: &HeaderMap) -> impl Iterator<Item = Field<'_>> {
    map.iter().filter_map(|(name, value)| {
        let (name, value) = (FieldName::new(name.as_str()), FieldValue::new(value.as_bytes().trim_ascii()));
        Some(Field { name: name.ok()?, value: value.ok()? })
    })
}

/// The head of a request that came in.
pub(super) fn request_head(parts: &request::Parts) -> Result<RequestHead, HeadTooLarge> {
    let authority = parts.uri.authority().map(Authority::as_str);
    let host = || parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = authority.or_else(host).unwrap_or_default();
    let target = match parts.uri.path_and_query() {
        _ if parts.method == http::Method::CONNECT => authority,
        Some(path) => path.as_str(),
        None => "/",
    };
    RequestHead::http2(method(parts), authority, target, || entries(&parts.headers))
}

/// The same for whoever takes `parts`: it has the method only, and costs no allocation.
#[cfg(feature = "tower")]
pub(super) fn bare_head(parts: &request::Parts) -> Result<RequestHead, HeadTooLarge> {
    RequestHead::http2(method(parts), "", "", std::iter::empty)
}

fn method(parts: &request::Parts) -> Method {
    Method::new(parts.method.as_str()).unwrap_or(Method::GET)
}

/// The head of a response that came in.
pub(super) fn response_head(parts: &response::Parts) -> Result<ResponseHead, HeadTooLarge> {
    let status = StatusCode::new(parts.status.as_u16()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    ResponseHead::http2(status, || entries(&parts.headers))
}

/// How long the content is that comes.
pub(super) fn len(fields: &HeaderMap, ended: bool) -> BodyLen {
    if ended {
        return BodyLen::Empty;
    }
    let declared = fields.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    declared.map_or(BodyLen::Chunked, BodyLen::Length)
}
