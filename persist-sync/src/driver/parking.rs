//! Waiting without a thread: a server's poller drives the connections that no handler runs for.

use std::task::Waker;

use persist_core::{Instant, Server};

use super::Link;
use crate::clock;
use crate::part::Part;
use crate::ready::Directions;

/// What a server's poller has to do with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parked {
    /// Wait for the stream, at most until the deadline.
    Waiting(Option<Instant>),
    /// Give it to a thread: a request waits. It is not parked any more.
    Ready,
    /// Leave it alone: a thread has it.
    Busy,
    /// Forget it: it is closed.
    Gone,
}

/// A poller that waits for the stream.
#[derive(Debug)]
pub(super) struct Place {
    /// Has the poller look.
    pub(super) waker: Waker,
    /// Until when it waits at most.
    pub(super) deadline: Option<Instant>,
}

impl Link<Server> {
    /// The server is about to end: no further request is taken, but one that is there already.
    pub(crate) fn end(&self) {
        self.act(|state| {
            state.look_first();
            state.conn_mut().close(clock::now());
        });
    }
}

impl<R: Part> Link<R> {
    /// Gives the connection to a server's poller, unless a request waits to be handled.
    pub(crate) fn park(&self, poller: &Waker) -> Parked {
        let mut state = self.look();
        state.uncork();
        state.settle();
        let parked = if state.arrived.has_fresh() {
            Parked::Ready
        } else if state.stream().is_none() {
            Parked::Gone
        } else {
            let deadline = state.conn().poll_timeout();
            state.arrived.shrink();
            state.place = Some(Place { waker: poller.clone(), deadline });
            Parked::Waiting(deadline)
        };
        self.leave(state);
        parked
    }

    /// The poller saw the stream ready (`closed`: and the end of what the peer sends), or was told to look: moves along what can move, if
    /// the connection is parked.
    pub(crate) fn poll(&self, ready: Directions, closed: bool) -> Parked {
        let mut state = self.look();
        state.stream_is(ready, closed);
        if state.place.is_none() {
            // A handler's thread has it, and will say when it is done.
            return Parked::Busy;
        }
        state.settle();
        let parked = if state.arrived.has_fresh() {
            state.place = None;
            Parked::Ready
        } else if state.stream().is_none() {
            state.place = None;
            Parked::Gone
        } else {
            let deadline = state.conn().poll_timeout();
            if let Some(place) = &mut state.place {
                place.deadline = deadline;
            }
            Parked::Waiting(deadline)
        };
        self.leave(state);
        parked
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::time::Duration;

    use persist_core::Config;

    use super::*;
    use crate::driver::Lending;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    fn connected(config: Config) -> (TcpStream, Arc<Link<Server>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let (server, _) = listener.accept().expect("a client");
        (client, Link::new(server.into(), config, None, Lending::Limited).expect("a connection"))
    }

    #[test]
    fn a_request_that_is_there_at_the_idle_deadline_is_not_lost() {
        let mut config = Config::server();
        config.timeouts.idle = Some(Duration::ZERO);
        let (mut client, link) = connected(config.clone());
        client.write_all(REQUEST).expect("there is room");
        assert_eq!(link.park(Waker::noop()), Parked::Ready, "the deadline has passed, but it was not idle");

        let (_client, link) = connected(config);
        link.park(Waker::noop());
        assert!(link.look().close_reason().is_some(), "with nothing to read, it was");
    }

    #[test]
    fn a_request_that_is_there_when_the_server_is_told_to_end_is_not_lost() {
        let (mut client, link) = connected(Config::server());
        assert!(matches!(link.park(Waker::noop()), Parked::Waiting(_)));
        client.write_all(REQUEST).expect("there is room");
        link.end();
        assert_eq!(link.poll(Directions::default(), false), Parked::Ready);

        let (mut client, link) = connected(Config::server());
        link.end();
        client.write_all(REQUEST).expect("there is room");
        let late = link.poll(Directions { read: true, write: false }, false);
        assert_ne!(late, Parked::Ready, "what comes later is not taken");
    }
}
