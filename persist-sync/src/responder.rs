//! The right to answer one request.

use std::borrow::Borrow;
use std::sync::Arc;

use persist_core::{BodyLen, ExchangeId, Phase, Refused, Response, SendError, Server, Ticket};

use crate::body::Body;
use crate::body_writer::BodyWriter;
use crate::clock;
use crate::date::Stamp;
use crate::driver::{Link, State, StreamRef};
use crate::error::{self, Result};
use crate::hijack::Hijacked;
use crate::outgoing::{Outgoing, Sent};
use crate::trace::Span;

/// The right to answer one request, once, from any thread. Replies leave in the order of the requests, whatever the order of the answers.
///
/// Dropping it answers `500` and closes the connection, so that nobody waits for ever.
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
/// let responder = server.read()?.expect("a request").responder;
/// // It may go to any thread.
/// let answering = std::thread::spawn(move || responder.send(Response::ok(), "from elsewhere"));
/// assert_eq!(client.read(exchange)?.body.bytes(100)?, "from elsewhere");
/// answering.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use = "answer the request; dropping the responder answers 500 and closes"]
pub struct Responder {
    pub(crate) link: Arc<Link<Server>>,
    pub(crate) id: ExchangeId,
    pub(crate) ticket: Option<Ticket>,
    pub(crate) stamp: Option<Arc<Stamp>>,
    pub(crate) span: Span,
}

impl Responder {
    /// The number of the exchange on its connection.
    pub fn id(&self) -> ExchangeId {
        self.id
    }

    /// The connection's stream, for a look: where the client is, and which certificate it has shown. `None` once the connection is closed.
    pub fn get_ref(&self) -> Option<StreamRef<'_>> {
        self.link.stream_ref()
    }

    /// Answers, and returns when all of it is with the operating system.
    ///
    /// May come in any order. A reply that is given before its turn is parked; one that does not fit
    /// ([`Limits::parked_bytes_max`](persist_core::Limits::parked_bytes_max)) waits here for its turn, so give it from a thread of its own.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause if the response is invalid (the peer gets a `500`), with a [`Failure`](persist_core::Failure) if the
    /// connection or the body's reader failed.
    pub fn send(mut self, response: impl Borrow<Response>, body: impl Into<Body>) -> Result<()> {
        self.answer(response.borrow(), body.into())
    }

    /// Begins an answer whose content is written by the caller: `len` bytes of it, or any number, chunked, if that is `None`.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_streaming(mut self, response: impl Borrow<Response>, len: Option<u64>) -> Result<BodyWriter> {
        let Some(ticket) = self.ticket.take() else { return Err(error::refused(SendError::NoSuchExchange)) };
        let id = ticket.id();
        match self.send_head(ticket, response.borrow(), len.map_or(BodyLen::Chunked, BodyLen::Length)) {
            Ok(()) => Ok(BodyWriter::new(self.link.clone(), id, len)),
            Err(error) => {
                self.link.act(|state| state.arrived.release(id));
                Err(error)
            }
        }
    }

    /// Sends an interim response (`102 Processing`, `103 Early Hints`) ahead of the answer.
    ///
    /// # Errors
    /// With a [`SendError`] as its cause: the peer speaks HTTP/1.0, the status is not an interim one, the exchange has ended.
    pub fn interim(&self, response: impl Borrow<Response>) -> Result<()> {
        let response = response.borrow();
        let Some(ticket) = &self.ticket else { return Err(error::refused(SendError::NoSuchExchange)) };
        let sent = self.link.act(|state| {
            // It is worth nothing if it comes with the answer.
            state.uncork();
            state.conn_mut().send_interim(ticket, response.status, response.fields.iter(), clock::now())
        });
        sent.map_err(error::refused)
    }

    /// Grants an Upgrade (`101`) or a CONNECT (2xx), and takes the connection apart once the response has left.
    ///
    /// # Errors
    /// As [`send`](Self::send), and if the connection is gone.
    pub fn upgrade(mut self, response: impl Borrow<Response>) -> Result<Hijacked> {
        self.answer(response.borrow(), Body::empty())?;
        self.link.wait(|state| state.is_flushed_or_stuck().then_some(()));
        self.link.hijack()
    }

    fn answer(&mut self, response: &Response, body: Body) -> Result<()> {
        let Some(ticket) = self.ticket.take() else { return Err(error::refused(SendError::NoSuchExchange)) };
        let id = ticket.id();
        let result = self.send_head(ticket, response, body.len()).and_then(|()| self.send_body(id, body));
        self.link.act(|state| state.arrived.release(id));
        result
    }

    fn send_head(&mut self, ticket: Ticket, response: &Response, len: BodyLen) -> Result<()> {
        let id = ticket.id();
        let span = self.span.clone();
        let _entered = span.enter();
        let own = response.fields.lines();
        let mut ticket = Some(ticket);
        let give = |state: &mut State<Server>| {
            let (ticket_now, now) = (ticket.take()?, clock::now());
            let conn = state.conn_mut();
            let given = match self.stamp.as_deref() {
                None => conn.send_response(ticket_now, response.status, own, len, now),
                Some(stamp) => stamp
                    .with(own, now, |added| conn.send_response(ticket_now, response.status, own.and(added), len, now)),
            };
            match given {
                // Others are answered first, and then there is room.
                Err(Refused { ticket: back, error: SendError::ParkedFull { .. } }) => {
                    ticket = Some(back);
                    state.await_turn(id);
                    None
                }
                other => Some(other),
            }
        };
        match self.link.wait(give) {
            Some(Ok(())) => Ok(()),
            Some(Err(Refused { error, .. })) => {
                self.link.act(|state| state.conn_mut().abandon(id, clock::now()));
                // Whoever answers cannot know that the client has gone meanwhile.
                let gone = error == SendError::NoSuchExchange && self.link.close_reason().is_some();
                Err(if gone { self.link.gone(Phase::Send) } else { error::refused(error) })
            }
            None => Err(self.link.gone(Phase::Send)),
        }
    }

    fn send_body(&mut self, id: ExchangeId, body: Body) -> Result<()> {
        if let Some(mut outgoing) = Outgoing::new(id, body) {
            match outgoing.send(&self.link, |_| None::<()>) {
                Ok(Sent::Whole | Sent::Unwanted | Sent::Interrupted(())) => {}
                Err(cause) => return Err(self.link.broken_off(id, cause)),
            }
        }
        // A server's own threads hand what is left to the poller. Where no further reply can come soon, this one waits for none.
        self.link.wait(|state| (state.is_in_burst() || state.is_flushed_or_stuck()).then_some(()));
        let mut state = self.link.look();
        let fault = state.fault();
        match state.arrived.get_mut(id).and_then(|exchange| exchange.failure.clone()) {
            Some(failure) => Err(error::failed(failure, fault)),
            None => Ok(()),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.link.act(|state| {
                state.conn_mut().abandon(ticket.id(), clock::now());
                state.arrived.release(ticket.id());
            });
        }
    }
}

impl Link<Server> {
    pub(crate) fn hijack(&self) -> Result<Hijacked> {
        match self.dismantle() {
            Some((stream, parts)) => Ok(Hijacked::new(stream, parts)),
            None => Err(self.gone(Phase::Close)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    use persist_core::Config;

    use super::*;
    use crate::server_conn::ServerConn;

    /// Three requests came together. Only one byte may be parked, so that one answer before its turn fills what there is.
    struct Burst {
        client: TcpStream,
        conn: ServerConn,
        responders: [Responder; 3],
    }

    fn burst() -> Burst {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let mut config = Config::server();
        config.pipelining.depth = 3;
        config.limits.parked_bytes_max = 1;
        let conn = ServerConn::with_config(listener.accept().expect("a client").0, config).expect("a connection");
        client.write_all(&b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(3)).expect("there is room");
        let responders = [(); 3].map(|()| conn.read().expect("open").expect("a request").responder);
        Burst { client, conn, responders }
    }

    /// Until a thread waits for the stream.
    fn until_one_waits(conn: &ServerConn) {
        while !conn.link().look().is_waited_for() {
            thread::yield_now();
        }
    }

    fn heard(mut client: TcpStream, answers: [&str; 3]) {
        let mut heard = String::new();
        client.read_to_string(&mut heard).expect("answers, and the end");
        let places = answers.map(|answer| heard.find(answer).expect("an answer"));
        assert!(places.is_sorted(), "{heard}");
    }

    #[test]
    fn an_answer_that_finds_no_room_before_its_turn_is_given_when_its_turn_comes() {
        let Burst { client, conn, responders: [first, second, third] } = burst();
        second.send(Response::ok().field("X-Answer", "second").expect("a field"), ()).expect("parked");
        let waiting = thread::spawn(move || third.send(Response::ok(), "third"));
        until_one_waits(&conn);
        first.send(Response::ok(), "first").expect("it is its turn");
        waiting.join().expect("no panic").expect("its turn has come");
        drop(conn);
        heard(client, ["first", "second", "third"]);
    }

    #[test]
    fn content_that_finds_no_room_before_its_turn_is_given_when_its_turn_comes() {
        let Burst { client, conn, responders: [first, second, third] } = burst();
        let mut content = second.send_streaming(Response::ok(), Some(6)).expect("parked");
        let waiting = thread::spawn(move || content.write_all(b"second").map(|()| content.finish()));
        until_one_waits(&conn);
        first.send(Response::ok(), "first").expect("it is its turn");
        waiting.join().expect("no panic").expect("its turn has come").expect("complete");
        third.send(Response::ok(), "third").expect("it is its turn");

        let Burst { client: other, conn: again, responders: [first, second, third] } = burst();
        let waiting = thread::spawn(move || second.send(Response::ok(), "second"));
        until_one_waits(&again);
        first.send(Response::ok(), "first").expect("it is its turn");
        waiting.join().expect("no panic").expect("its turn has come");
        third.send(Response::ok(), "third").expect("it is its turn");
        drop((conn, again));
        heard(client, ["first", "second", "third"]);
        heard(other, ["first", "second", "third"]);
    }
}
