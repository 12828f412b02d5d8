//! The way of requests to one scheme and authority, kept: what is the same for each of them is worked out once.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::ToString;
use alloc::sync::Arc;

use crate::destination::Destination;
use crate::field::Fields;
use crate::lines::{FieldLines, Joined, Notes};
use crate::message::Request;
use crate::method::Method;
use crate::route::{Route, TargetForm};

/// Where requests go, how, and what they say of it.
#[derive(Debug)]
pub struct Way {
    destination: Destination,
    route: Arc<Route>,
    /// The `Host` line of requests that have none.
    host: Fields,
    /// Scheme and authority of its URLs, as these are mostly written.
    start: Box<str>,
}

/// A request as it is written, its parts wherever they are kept: nothing was copied for it.
#[derive(Clone, Copy, Debug)]
pub struct Outline<'r> {
    /// The method.
    pub method: &'r Method,
    /// The target, in the form that is written.
    pub target: &'r str,
    /// The fields, as lines.
    pub fields: Joined<'r, FieldLines<'r>>,
}

/// The ways that were taken of late, by the scheme and authority of a URL, just as they were written.
///
/// Only for routers whose [routes last](crate::Router::routes_last).
///
/// ```
/// use std::sync::Arc;
/// use persist_core::{Destination, Request, Route, Way, Ways};
///
/// let mut ways = Ways::default();
/// let request = Request::get("http://example.com/a");
/// assert!(ways.find(&request.target).is_none());
/// let (destination, _) = Destination::split_url(&request.target)?;
/// let route = Route::direct(&destination);
/// ways.keep(&request.target, Arc::new(Way::new(destination, route)));
///
/// let way = ways.find("http://example.com/b?c").expect("the same scheme and authority");
/// assert_eq!(way.outline(&request).expect("nothing about it is special").target, "/a");
/// # Ok::<(), persist_core::UrlError>(())
/// ```
#[derive(Debug, Default)]
pub struct Ways {
    kept: BTreeMap<Box<str>, Arc<Way>>,
    /// The one that was found last: mostly it is wanted again.
    last: Option<Arc<Way>>,
}

/// So many are kept; then all are forgotten, which costs each of them one search.
const KEPT_MAX: usize = 256;

impl Way {
    /// To `destination`, by `route`.
    pub fn new(destination: Destination, route: Route) -> Self {
        let mut host = Fields::new();
        // Cannot fail: an authority is made of characters that may stand in a value.
        let _ = host.push("Host", destination.authority());
        let start = destination.to_string().into();
        Self { destination, route: Arc::new(route), host, start }
    }

    /// Where it leads.
    pub fn destination(&self) -> &Destination {
        &self.destination
    }

    /// How.
    pub fn route(&self) -> &Arc<Route> {
        &self.route
    }

    /// What [`Route::request`] would write of a request whose URL has this way's scheme and authority, if that needs no copy; `None` if something
    /// about it is special: it goes through a proxy that forwards, has fields that are not passed on, or a target that cannot be cut out of its URL.
    pub fn outline<'r>(&'r self, request: &'r Request) -> Option<Outline<'r>> {
        let route = &*self.route;
        let plain = route.target_form == TargetForm::Origin && route.fields.is_empty();
        let lines = request.fields.lines();
        if !plain || request.method == Method::CONNECT || lines.notes().say(Notes::PROXY) {
            return None;
        }
        let start = if self.starts(&request.target) { self.start.len() } else { split(&request.target)? };
        let target = match &request.target[start..] {
            "" => "/",
            // RFC 9112 §3.2.1: the path is never empty. A fragment is not sent; what may not stand in a URL is told by whoever takes it apart.
            target
                if target.starts_with('/')
                    && target.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#') =>
            {
                target
            }
            _ => return None,
        };
        let host = if lines.notes().hosts() == 0 { self.host.lines() } else { FieldLines::EMPTY };
        Some(Outline { method: &request.method, target, fields: host.and(lines) })
    }

    /// Whether `url` is one of this way's, written as most are.
    fn starts(&self, url: &str) -> bool {
        let (url, start) = (url.as_bytes(), self.start.as_bytes());
        url.starts_with(start) && matches!(url.get(start.len()), None | Some(b'/' | b'?' | b'#'))
    }
}

impl<'r> From<&'r Request> for Outline<'r> {
    fn from(request: &'r Request) -> Self {
        let fields = FieldLines::EMPTY.and(request.fields.lines());
        Self { method: &request.method, target: &request.target, fields }
    }
}

impl Ways {
    /// The way that was kept for the scheme and authority of `url`.
    pub fn find(&mut self, url: &str) -> Option<&Arc<Way>> {
        if self.last.as_ref().is_none_or(|way| !way.starts(url)) {
            self.last = Some(self.kept.get(&url[..split(url)?])?.clone());
        }
        self.last.as_ref()
    }

    /// Keeps the way of `url`, which was found to be well-formed.
    pub fn keep(&mut self, url: &str, way: Arc<Way>) {
        let Some(at) = split(url) else { return };
        if self.kept.len() >= KEPT_MAX {
            self.kept.clear();
        }
        self.kept.insert(url[..at].into(), way);
    }
}

/// Where the path, query or fragment of an absolute URL begins.
fn split(url: &str) -> Option<usize> {
    let bytes = url.as_bytes();
    let authority = bytes.iter().position(|&byte| byte == b':')? + "://".len();
    let rest = bytes.get(authority..)?;
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    bytes[..authority].ends_with(b"://").then_some(authority + len)
}

#[cfg(test)]
mod tests;
