//! What a pool asks of its connections, beyond what everybody may.

use std::pin::pin;
use std::task::Context;

use persist_core::keep_alive::KeepAlive;
use persist_core::{Client, ExchangeId, Outline, Phase, PoolError, Slot};
use tokio::time::Instant as Moment;

use crate::body::Body;
use crate::client_conn::ClientConn;
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::link::{State, Transport};
use crate::race::{Either, race};
use crate::round_trip::{RoundTrip, Trip};
use crate::start::Gates;
use crate::wait::Patience;
use crate::waiting::Interest;

impl<S: Transport> ClientConn<S> {
    /// [`send`](Self::send), which leaves the body where it is unless the connection takes the request; complete by `until`.
    pub(crate) async fn exchange(
        &self,
        request: Outline<'_>,
        body: &mut Option<Body>,
        until: Option<Moment>,
    ) -> Result<Reply> {
        self.exchange_in(&mut None, request, body, until).await
    }

    /// The same in a place that was reserved, if one was.
    pub(crate) async fn exchange_in(
        &self,
        place: &mut Option<Slot>,
        request: Outline<'_>,
        body: &mut Option<Body>,
        until: Option<Moment>,
    ) -> Result<Reply> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return crate::http2::exchange(two, request, body, until).await;
        }
        let Some(until) = until else {
            return match RoundTrip::new(self, request, body, place).await? {
                Trip::Reply(reply) => Ok(reply),
                Trip::Behind(exchange) => self.receive(exchange, Patience::OnePoll).await,
            };
        };
        let id = self.start_until(request, body, until).await?;
        let first = self.link.lock().entries.front().is_none_or(|entry| entry.id == id);
        let patience = if first { Patience::None } else { Patience::OnePoll };
        self.receive(self.hold(id), patience).await
    }

    async fn start_until(&self, request: Outline<'_>, body: &mut Option<Body>, until: Moment) -> Result<ExchangeId> {
        let asked = Moment::now();
        let started = {
            let mut place = None;
            let start = pin!(self.start(request, body, &mut place, Gates::Wait));
            race(start, tokio::time::sleep_until(until)).await
        };
        let Either::Left(id) = started else {
            let late = PoolError::Deadline { waited: asked.elapsed(), failures: 0 };
            return Err(Error::new(Phase::Wait, late));
        };
        let id = id?;
        self.link.mutate(|state| {
            let until = state.clock.of(until);
            state.conn.set_deadline(id, Some(until));
        });
        Ok(id)
    }

    /// What the peer has announced, and whether no further exchange can begin.
    pub(crate) fn standing(&self) -> (Option<KeepAlive>, bool) {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return (None, two.is_closing());
        }
        let state = self.link.lock();
        (state.conn.announced(), !may_go_on(&state))
    }

    /// Whether no further exchange can begin.
    pub(crate) fn is_over(&self) -> bool {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.is_closing();
        }
        !may_go_on(&self.link.lock())
    }

    /// Whether the connection is idle and fails a [look](Self::is_reusable). One that is in use is its users' to judge.
    pub(crate) fn is_stale(&self) -> bool {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.in_flight() == 0 && two.is_closing();
        }
        self.link.is_stale()
    }

    /// Waits until nothing is going on, or nothing will ever again.
    pub(crate) async fn settled(&self) {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            let _ = two;
            return;
        }
        let settled = |state: &mut State<Client, S>, _| (state.conn.is_idle() || state.is_closing()).then_some(());
        self.link.wait(Interest::Connection, settled).await;
    }

    /// Ends an idle connection in an orderly way (TLS says goodbye), as far as that goes without waiting.
    pub(crate) fn close_idle(&self) {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.close_soon();
        }
        self.link.mutate(|state| {
            let now = state.now();
            state.conn.close(now);
            state.write_through(&mut Context::from_waker(&self.link.waker));
        });
    }
}

/// Whether another request may follow, at once or when there is room.
fn may_go_on<S>(state: &State<Client, S>) -> bool {
    state.stream.is_some() && state.conn.may_go_on()
}
