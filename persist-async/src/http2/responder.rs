//! The right to answer one request of HTTP/2.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{DATE, Entry, HeaderValue, SERVER};
use http::{HeaderMap, StatusCode};
use persist_core::{Blame, BodyLen, ExchangeId, Method, Phase, Response, imf_fixdate};

use super::convert;
use super::failure::{Line, Place, Upload, lock};
use super::outbound::{self, Way};
use super::tunnel::Tunnel;
use crate::body::Body;
use crate::error::{Error, Result};
use crate::hijack::Hijacked;
use crate::link::Transport;

/// The right to answer one request, once. Dropped without an answer, it answers `500`.
pub(crate) struct Answerer {
    /// Gone once it is used.
    respond: Mutex<Option<SendResponse<Bytes>>>,
    line: Arc<Line>,
    id: u64,
    method: Method,
    /// Of a CONNECT: what the client sends.
    tunnel: Option<RecvStream>,
    server: Option<HeaderValue>,
    stall: Option<std::time::Duration>,
}

impl Answerer {
    pub(super) fn new(
        respond: SendResponse<Bytes>,
        line: Arc<Line>,
        (id, method): (u64, Method),
        tunnel: Option<RecvStream>,
        server: Option<HeaderValue>,
        stall: Option<std::time::Duration>,
    ) -> Self {
        Self { respond: Mutex::new(Some(respond)), line, id, method, tunnel, server, stall }
    }

    pub(crate) fn id(&self) -> ExchangeId {
        ExchangeId::from_number(self.id)
    }

    /// Answers. What does not leave at once has a task that sends it.
    pub(crate) fn send(mut self, response: &Response, body: Body) -> Result<()> {
        let wire = convert::response(response, body.len());
        self.give(wire, body)
    }

    /// The same, of a head that is in the `http` crate's form already; `said` is the length that it declares.
    pub(crate) fn send_http(mut self, parts: http::response::Parts, said: Option<u64>, body: Body) -> Result<()> {
        let mut wire = http::Response::new(());
        *wire.status_mut() = parts.status;
        *wire.headers_mut() = parts.headers;
        convert::clean(wire.headers_mut());
        if body.len() != said.map_or(BodyLen::Empty, BodyLen::Length) {
            convert::declare(wire.headers_mut(), body.len());
        }
        self.give(wire, body)
    }

    fn give(&mut self, mut wire: http::Response<()>, body: Body) -> Result<()> {
        let Some(mut respond) = lock(&self.respond).take() else { return Err(self.over()) };
        self.stamp(wire.headers_mut());
        let status = wire.status();
        // RFC 9110 §6.4.1: whatever their head says of it, these have no content.
        let bare =
            self.method == Method::HEAD || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let end = bare || body.is_empty();
        let send = match respond.send_response(wire, end) {
            Ok(send) => send,
            Err(error) => return Err(self.refused(error)),
        };
        if end {
            self.line.answered();
        } else {
            let way = Way {
                upload: Arc::new(Upload::of_response(&self.line)),
                stall: self.stall,
                reset: Reason::INTERNAL_ERROR,
            };
            outbound::send(send, body, way);
        }
        Ok(())
    }

    pub(crate) fn interim(&self, response: &Response) -> Result<()> {
        if !(102..200).contains(&response.status.as_u16()) {
            return Err(Error::new(Phase::Prepare, "not an interim response").blaming(Blame::Caller));
        }
        let wire = convert::response(response, BodyLen::Empty);
        match &mut *lock(&self.respond) {
            Some(respond) => respond.send_informational(wire).map_err(|error| self.refused(error)),
            None => Err(self.over()),
        }
    }

    /// Grants a CONNECT.
    pub(crate) fn upgrade(mut self, response: &Response) -> Result<Hijacked<Box<dyn Transport>>> {
        let success = (200..300).contains(&response.status.as_u16());
        let Some(recv) = self.tunnel.take().filter(|_| success) else {
            let error = Error::new(Phase::Prepare, "HTTP/2 has no upgrades: only a CONNECT can be granted, by a 2xx");
            return Err(error.blaming(Blame::Caller));
        };
        let Some(mut respond) = lock(&self.respond).take() else { return Err(self.over()) };
        let mut wire = convert::response(response, BodyLen::Empty);
        self.stamp(wire.headers_mut());
        let send = respond.send_response(wire, false).map_err(|error| self.refused(error))?;
        let tunnel = Tunnel::new(send, recv, Place::beside(&self.line));
        Ok(Hijacked { stream: Box::new(tunnel), leftover: Vec::new(), unsent: Vec::new(), failures: Vec::new() })
    }

    fn stamp(&self, fields: &mut HeaderMap) {
        if let (Entry::Vacant(place), Some(date)) = (fields.entry(DATE), date()) {
            place.insert(date);
        }
        if let (Some(server), Entry::Vacant(place)) = (&self.server, fields.entry(SERVER)) {
            place.insert(server.clone());
        }
    }

    fn over(&self) -> Error {
        self.line.ended(Phase::Send, self.line.reason())
    }

    fn refused(&self, error: h2::Error) -> Error {
        if error.is_reset() || error.is_go_away() || error.is_io() {
            return self.line.ended(Phase::Send, self.line.reason_of(&error));
        }
        Error::new(Phase::Send, error)
    }
}

impl Drop for Answerer {
    fn drop(&mut self) {
        if let Some(mut respond) = lock(&self.respond).take() {
            let mut wire = http::Response::new(());
            *wire.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            self.stamp(wire.headers_mut());
            // Who has reset the stream wants no answer.
            let _ = respond.send_response(wire, true);
        }
    }
}

/// The time, rendered once a second by each thread.
fn date() -> Option<HeaderValue> {
    thread_local! {
        static RENDERED: RefCell<(u64, Option<HeaderValue>)> = const { RefCell::new((0, None)) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    RENDERED.with_borrow_mut(|(second, rendered)| {
        if *second != now {
            (*second, *rendered) = (now, HeaderValue::from_bytes(&imf_fixdate(now)).ok());
        }
        rendered.clone()
    })
}
