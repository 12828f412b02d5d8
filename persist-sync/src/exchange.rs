//! One exchange of a client: the request that was written, its place in the pipeline, and its reply.

use std::sync::{Arc, Mutex, PoisonError};

use persist_core::{BodyLen, Client, ExchangeId, Method, Phase, ResponseHead, SendError, Slot};

use crate::arrived::{Replied, Whole};
use crate::clock;
use crate::driver::{Link, State};
use crate::error::{self, Result};
use crate::incoming::Incoming;
use crate::outgoing::{Outgoing, Sent};
use crate::trace::Span;

/// A request that was written, and whose reply is still to be read: give it to [`ClientConn::read`](crate::ClientConn::read).
///
/// Dropping it [cancels](crate::ClientConn::cancel) the exchange.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ())?;
/// assert_eq!(exchange.id().number(), 0);
/// server.read()?.expect("a request").responder.send(Response::ok(), "hello")?;
/// assert_eq!(client.read(exchange)?.body.bytes(100)?, "hello");
///
/// // Given up on: nobody will read its reply.
/// client.cancel(client.write(Request::get("/").field("Host", "localhost")?, ())?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "read its reply; dropping it cancels the exchange"]
pub struct Exchange {
    pub(crate) link: Arc<Link<Client>>,
    id: ExchangeId,
    /// The rest of the request's body, if a reply began before all of it was sent.
    /// Never locked: so that the exchange may be part of an error, which is shared, although a reader may not be.
    outgoing: Mutex<Option<Box<Outgoing>>>,
    open: bool,
    pub(crate) span: Span,
}

/// What answers a request.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Request, Response, ServerConn, StatusCode};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let exchange = client.write(Request::get("/").field("Host", "localhost")?, ())?;
/// let received = server.read()?.expect("a request");
/// received.responder.interim(Response::new(StatusCode::EARLY_HINTS).field("Link", "</style.css>")?)?;
/// received.responder.send(Response::ok().field("Content-Type", "text/plain")?, "hello")?;
///
/// let reply = client.read(exchange)?;
/// assert_eq!(reply.head.status(), StatusCode::OK);
/// assert_eq!(reply.head.field("content-type").and_then(|value| value.to_str()), Some("text/plain"));
/// assert_eq!(reply.interim[0].status(), StatusCode::EARLY_HINTS);
/// assert!(!reply.reused);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The final response's head.
    pub head: ResponseHead,
    /// The interim responses (1xx) that came before it, `100 Continue` among them; without those that [`ClientConn::interim`](crate::ClientConn::interim) gave.
    pub interim: Vec<ResponseHead>,
    /// The content.
    pub body: Incoming,
    /// The connection's number in this process.
    pub connection: u64,
    /// Whether the connection had completed an exchange before this one.
    pub reused: bool,
}

impl Exchange {
    pub(crate) fn new(
        link: Arc<Link<Client>>,
        id: ExchangeId,
        outgoing: Option<Box<Outgoing>>,
        method: &Method,
    ) -> Self {
        let span = link.span.exchange(id.number(), method.as_str());
        Self::begun(link, id, outgoing, span)
    }

    /// One that was begun elsewhere.
    pub(crate) fn begun(link: Arc<Link<Client>>, id: ExchangeId, outgoing: Option<Box<Outgoing>>, span: Span) -> Self {
        Self { link, id, outgoing: Mutex::new(outgoing), open: true, span }
    }

    /// The connection's number in this process.
    pub fn connection(&self) -> u64 {
        self.link.id()
    }

    /// Its number on the connection, from 0.
    pub fn id(&self) -> ExchangeId {
        self.id
    }

    /// Sends the request's body, which the sending of the head has announced to other threads, until `until` gives something.
    pub(crate) fn send_body<T>(&mut self, until: impl FnMut(&mut State<Client>) -> Option<T>) -> Result<Option<T>> {
        let whole = self.outgoing.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(outgoing) = whole else { return Ok(None) };
        let _entered = self.span.enter();
        let sent = outgoing.send(&self.link, until);
        self.link.act(|state| {
            // Another thread may have taken its turn since.
            state.writing = state.writing.filter(|writing| *writing != self.id);
            state.tell();
        });
        match sent {
            Ok(Sent::Interrupted(first)) => Ok(Some(first)),
            Ok(Sent::Whole | Sent::Unwanted) => {
                *whole = None;
                Ok(None)
            }
            Err(cause) => Err(self.link.broken_off(self.id, cause)),
        }
    }

    pub(crate) fn into_reply(mut self) -> Result<Reply> {
        let id = self.id;
        if self.outgoing.get_mut().is_ok_and(|outgoing| outgoing.is_none())
            && let Some((FinalHead { head, interim, len, reused }, whole)) = self.link.take_reply_at_hand(id)
        {
            self.open = false;
            let (body, connection) = (Incoming::whole(whole, len), self.link.id());
            return Ok(Reply { head, interim, body, connection, reused });
        }
        let early = self.send_body(|state| final_head(state, id))?;
        let span = self.span.clone();
        let _entered = span.enter();
        let found = match early {
            Some(found) => Some(found.map(|head| (head, None))),
            None => self.link.wait(|state| match final_head(state, id)? {
                Ok(head) => Some(Ok((head, state.arrived.take_whole(id)))),
                Err(error) => Some(Err(error)),
            }),
        };
        let (head, whole) = found.unwrap_or_else(|| Err(self.link.gone(Phase::Receive)))?;
        let FinalHead { head, interim, len, reused } = head;
        // From here on the body is the exchange's handle, if it needs one.
        self.open = false;
        let connection = self.link.id();
        let body = match whole {
            Some(whole) => Incoming::whole(whole, len),
            None => {
                let outgoing = self.outgoing.get_mut().unwrap_or_else(PoisonError::into_inner).take();
                let mut body = Incoming::new(self.link.clone(), id, len, outgoing, span.clone());
                body.finish_if_at_end();
                body
            }
        };
        Ok(Reply { head, interim, body, connection, reused })
    }
}

/// Whether a request need only wait, because others are about to make room: a thread in the middle of writing its own, or a
/// reply that was dropped and is being drained. Anything else that holds it back may be in the hands of the calling thread.
pub(crate) fn must_wait(state: &State<Client>) -> bool {
    match state.conn().may_send() {
        Err(SendError::BodyUnfinished) => state.writing.is_some(),
        Err(SendError::Full { .. } | SendError::AnswerFirst) => state.conn().pending() > state.arrived.held(),
        _ => false,
    }
}

impl Link<Client> {
    /// A reply that has come in as a whole, with the last record of its exchange: nothing moves for it, and nobody need hear of it.
    fn take_reply_at_hand(&self, id: ExchangeId) -> Option<(FinalHead, Whole)> {
        let mut state = self.look();
        // Taking from a full store makes room, which those who wait must be told of.
        if state.arrived.is_full() {
            return None;
        }
        let reused = id.number() > 0 || state.is_continued();
        let Replied { head, len, interim, whole } = state.arrived.take_reply(id)?;
        Some((FinalHead { head, interim, len, reused }, whole))
    }
}

struct FinalHead {
    head: ResponseHead,
    interim: Vec<ResponseHead>,
    len: BodyLen,
    reused: bool,
}

/// The final head or the failure of an exchange, once one of them is there.
fn final_head(state: &mut State<Client>, id: ExchangeId) -> Option<Result<FinalHead>> {
    let reused = id.number() > 0 || state.is_continued();
    let Some(exchange) = state.arrived.get_mut(id) else {
        return Some(Err(error::refused(SendError::NoSuchExchange)));
    };
    if let Some((head, len, ())) = exchange.head.take() {
        return Some(Ok(FinalHead { head, interim: std::mem::take(&mut exchange.interim), len, reused }));
    }
    let failure = exchange.failure.clone()?;
    Some(Err(error::failed(failure, state.fault())))
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if self.open {
            self.link.act(|state| {
                state.conn_mut().cancel(self.id, clock::now());
                state.arrived.release(self.id);
            });
        }
    }
}

/// A reserved place in the pipeline. Dropping it gives it back.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Request, Response, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let place = client.reserve()?;
/// assert_eq!(client.available(), 0); // the depth is 1
/// let exchange = client.write_reserved(place, Request::get("/").field("Host", "localhost")?, ())?;
/// server.read()?.expect("a request").responder.send(Response::ok(), "hello")?;
/// client.read(exchange)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "use it with `write_reserved`; dropping it gives the place back"]
pub struct Reservation {
    pub(crate) link: Arc<Link<Client>>,
    slot: Option<Slot>,
}

impl Reservation {
    pub(crate) fn new(link: Arc<Link<Client>>, slot: Slot) -> Self {
        Self { link, slot: Some(slot) }
    }

    pub(crate) fn into_slot(mut self) -> Slot {
        self.slot.take().expect("taken by this consuming method only")
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.link.act(|state| state.conn_mut().release(slot));
        }
    }
}
