//! State events of a client connection, to poll or to await.

use std::fmt;
use std::sync::Arc;

use persist_core::{Client, CloseReason, StateEvent, StateWatch};

use crate::link::{Link, State, Transport};
use crate::waiting::Interest;

/// What changes on a client connection, for somebody who keeps connections of his own: [`ClientConn::events`](crate::ClientConn::events).
///
/// Counts are coalesced: an event says what is true now, however often it changed since the last. The end is never lost, and is the last event.
///
/// ```
/// use persist_async::{ClientConn, CloseReason, StateEvent};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let client = ClientConn::new(near);
/// drop(far); // the peer closes
///
/// let (mut events, mut seen) = (client.events(), Vec::new());
/// while let Some(event) = events.wait().await {
///     match event {
///         StateEvent::Closed(reason) => assert_eq!(reason, CloseReason::PeerClosed),
///         StateEvent::Available(places) => seen.push(places),
///         other => println!("{other:?}"),
///     }
/// }
/// assert_eq!(seen.last(), Some(&0));
/// # Ok(())
/// # }
/// ```
pub struct Events<S> {
    link: Arc<Link<Client, S>>,
    #[cfg(feature = "http2")]
    two: Option<Arc<crate::http2::Two>>,
    watch: StateWatch,
}

impl<S: Transport> Events<S> {
    pub(crate) fn new(link: Arc<Link<Client, S>>) -> Self {
        Self {
            link,
            #[cfg(feature = "http2")]
            two: None,
            watch: StateWatch::default(),
        }
    }

    #[cfg(feature = "http2")]
    pub(crate) fn of_http2(link: Arc<Link<Client, S>>, two: Arc<crate::http2::Two>) -> Self {
        Self { two: Some(two), ..Self::new(link) }
    }

    /// What is new, without waiting; `None` if nothing is. What is true at the first call is new.
    pub fn poll(&mut self) -> Option<StateEvent> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.news(&mut self.watch);
        }
        next(&mut self.watch, &self.link.lock())
    }

    /// Waits for what is new, driving the connection; `None` once the end was told. Dropping the future loses nothing.
    pub async fn wait(&mut self) -> Option<StateEvent> {
        let watch = &mut self.watch;
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.event(watch).await;
        }
        self.link
            .wait(Interest::State, |state, _| match next(watch, state) {
                None if state.stream.is_none() => Some(None),
                None => None,
                event => Some(event),
            })
            .await
    }
}

fn next<S>(watch: &mut StateWatch, state: &State<Client, S>) -> Option<StateEvent> {
    let over = match state.closed.as_deref() {
        None if state.stream.is_none() => Some(&CloseReason::Switched),
        reason => reason,
    };
    let available = if over.is_some() { 0 } else { state.conn.available() };
    watch.poll(available, state.conn.in_flight(), over)
}

impl<S> fmt::Debug for Events<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("connection", &self.link.id).finish_non_exhaustive()
    }
}
