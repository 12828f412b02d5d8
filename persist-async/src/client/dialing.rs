//! A dial of a pooled client: whoever waits for the connection polls it, or else the upkeep.

use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use persist_core::pool::ConnId;
use persist_core::{Phase, Route};

use super::shared::Shared;
use crate::client_conn::ClientConn;
use crate::error::{Error, Result};
use crate::stream::Stream;
use crate::trace::tell;

/// A dial that is under way. Dropped before its end (with its runtime), it counts as one that failed.
pub(super) struct Dial {
    client: Weak<Shared>,
    id: ConnId,
    route: Arc<Route>,
    work: Pin<Box<dyn Future<Output = Result<ClientConn<Stream>>> + Send>>,
    is_done: bool,
}

impl Dial {
    pub(super) fn begin(shared: &Arc<Shared>, id: ConnId, route: Arc<Route>) -> Self {
        tell!(to = %end_of(&route), "dialling");
        shared.count(|stats| stats.dials += 1);
        let (connector, router, to) = (shared.connector.clone(), shared.config.router.clone(), route.clone());
        let config = shared.conn_config.clone();
        let work = async move {
            let stream = connector.connect(&to, &*router).await?;
            #[cfg(feature = "http2")]
            if let Some(http2) = connector.http2_over(&stream) {
                return ClientConn::http2(stream, http2.with_timeouts_of(&config)).await;
            }
            #[cfg(feature = "tls")]
            crate::tls::judge_alpn(&stream)?;
            Ok(ClientConn::with_config(stream, config))
        };
        Self { client: Arc::downgrade(shared), id, route, work: Box::pin(work), is_done: false }
    }

    fn end(&mut self, outcome: Result<ClientConn<Stream>>) {
        self.is_done = true;
        if let Some(shared) = self.client.upgrade() {
            shared.dialed(self.id, &self.route, outcome);
        }
    }
}

impl Future for Dial {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let outcome = ready!(self.work.as_mut().poll(cx));
        self.end(outcome);
        Poll::Ready(())
    }
}

impl Drop for Dial {
    fn drop(&mut self) {
        if !self.is_done {
            self.end(Err(Error::new(Phase::Connect, "whoever dialled is gone: its runtime has shut down")));
        }
    }
}

/// Where a route's socket or last tunnel leads.
#[cfg(feature = "tracing")]
pub(super) fn end_of(route: &Route) -> String {
    route.hops.last().map(|hop| hop.to.to_string()).unwrap_or_default()
}
