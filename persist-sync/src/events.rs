//! State events of a client connection, to poll or to wait for.

use std::sync::Arc;

use persist_core::{Client, CloseReason, StateEvent, StateWatch};

use crate::driver::{Link, State};

/// What changes on a client connection, for somebody who keeps connections of his own: [`ClientConn::events`](crate::ClientConn::events).
///
/// Counts are coalesced: an event says what is true now, however often it changed since the last. The end is never lost, and is the last event.
/// As an iterator it [waits](Self::wait).
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, CloseReason, StateEvent};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// drop(listener.accept()?); // the peer closes
///
/// let mut seen = Vec::new();
/// for event in client.events() {
///     match event {
///         StateEvent::Closed(reason) => assert_eq!(reason, CloseReason::PeerClosed),
///         StateEvent::Available(places) => seen.push(places),
///         other => println!("{other:?}"),
///     }
/// }
/// assert_eq!(seen.last(), Some(&0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Events {
    link: Arc<Link<Client>>,
    watch: StateWatch,
}

impl Events {
    pub(crate) fn new(link: Arc<Link<Client>>) -> Self {
        Self { link, watch: StateWatch::default() }
    }

    /// What is new, without waiting; `None` if nothing is. What is true at the first call is new.
    pub fn poll(&mut self) -> Option<StateEvent> {
        let watch = &mut self.watch;
        self.link.act(|_| ());
        next(watch, &self.link.look())
    }

    /// Waits for what is new, driving the connection; `None` once the end was told.
    pub fn wait(&mut self) -> Option<StateEvent> {
        let watch = &mut self.watch;
        // Where the stream is gone there may still be something to tell.
        self.link.watch(|state| next(watch, state)).or_else(|| next(watch, &self.link.look()))
    }
}

impl Iterator for Events {
    type Item = StateEvent;

    fn next(&mut self) -> Option<StateEvent> {
        self.wait()
    }
}

fn next(watch: &mut StateWatch, state: &State<Client>) -> Option<StateEvent> {
    let over = match &state.arrived.closed {
        None if state.stream().is_none() => Some(&CloseReason::Switched),
        reason => reason.as_ref(),
    };
    let available = if over.is_some() { 0 } else { state.conn().available() };
    watch.poll(available, state.conn().in_flight(), over)
}
