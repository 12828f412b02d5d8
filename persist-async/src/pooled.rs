//! What a pool asks of its connections, beyond what everybody may.

use std::pin::pin;
use std::task::Context;

use persist_core::{Client, ExchangeId, Outline, Phase, PoolError};
use tokio::time::Instant as Moment;

use crate::body::Body;
use crate::client_conn::ClientConn;
use crate::clock;
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::link::{State, Transport};
use crate::race::{Either, race};
use crate::round_trip::{RoundTrip, Standing, Trip};
use crate::start::Gates;
use crate::wait::{Flush, Patience};
use crate::waiting::Interest;

impl<S: Transport> ClientConn<S> {
    /// Whether an [exchange](Self::exchange) is but a [`RoundTrip`], so that it can be awaited as such: one future less.
    pub(crate) fn is_plain(&self, until: Option<Moment>) -> bool {
        #[cfg(feature = "http2")]
        if self.is_http2() {
            return false;
        }
        until.is_none()
    }

    /// A [`RoundTrip`] [for a pool](RoundTrip::unless_stale) or, by HTTP/2, what is like one; complete by `until`.
    pub(crate) async fn exchange(
        &self,
        request: Outline<'_>,
        body: &mut Option<Body>,
        until: Option<Moment>,
        reply: &mut Option<Reply>,
    ) -> Result<Trip> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            if two.in_flight() == 0 && two.is_closing() {
                return Ok(Trip::Stale);
            }
            *reply = Some(crate::http2::exchange(two, request, body, until).await?);
            return Ok(Trip::Replied(Standing { announced: None, is_over: two.is_closing(), at: clock::now() }));
        }
        let Some(until) = until else {
            return RoundTrip::new(self, request, body, &mut None, reply).unless_stale(None).await;
        };
        if self.link.is_stale() {
            return Ok(Trip::Stale);
        }
        let id = self.start_until(request, body, until).await?;
        let first = self.link.lock().entries.front().is_none_or(|entry| entry.id == id);
        let patience = if first { Patience::None } else { Patience::OnePoll };
        *reply = Some(self.receive(self.hold(id), patience).await?);
        Ok(Trip::Replied(Standing::of(&self.link.lock())))
    }

    async fn start_until(&self, request: Outline<'_>, body: &mut Option<Body>, until: Moment) -> Result<ExchangeId> {
        let asked = Moment::now();
        let started = {
            let mut place = None;
            let start = pin!(self.start(request, body, &mut place, Gates::Wait, Flush::Later));
            race(start, tokio::time::sleep_until(until)).await
        };
        let Either::Left(id) = started else {
            let late = PoolError::Deadline { waited: asked.elapsed(), failures: 0 };
            return Err(Error::new(Phase::Wait, late));
        };
        let id = id?;
        self.link.mutate(|state| {
            let until = clock::of(until);
            state.conn.set_deadline(id, Some(until));
        });
        Ok(id)
    }

    /// Whether no further exchange can begin.
    pub(crate) fn is_over(&self) -> bool {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.is_closing();
        }
        Standing::of(&self.link.lock()).is_over
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
            state.write_through(&mut Context::from_waker(self.link.waiters.waker()));
        });
    }
}
