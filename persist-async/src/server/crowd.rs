//! The connections of a server: counted, limited, and reachable for the shutdown.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, Weak};

use persist_core::stats::{ConnStats, ServerStats, Traffic};
use persist_core::{Peer, Server};
use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use tokio::time::Instant;

use super::Served;
use crate::link::Link;
use crate::race::{Either, race};
use crate::stream::Stream;
use crate::sync::{Mutex, MutexGuard};

/// Until when connections may finish once the server is told to end; `None` while it is not.
pub(super) type Deadline = Option<Instant>;

/// All connections of a server.
pub(super) struct Crowd {
    list: Mutex<List>,
    pub(super) deadline: watch::Sender<Deadline>,
    /// One for each connection that may be open; none until the server serves.
    pub(super) places: Semaphore,
    /// The last connection ended.
    empty: Notify,
}

#[derive(Default)]
struct List {
    /// Connections, those included that have said nothing yet.
    open: usize,
    /// By their numbers: the oldest is told first that the server ends.
    links: BTreeMap<u64, Weak<dyn Ends>>,
    /// How many each peer has, where that is limited.
    peers: HashMap<Peer, usize>,
    served: Served,
    /// What the connections that are gone had carried.
    traffic: Traffic,
}

/// A connection that can be told to end.
pub(super) trait Ends: Send + Sync {
    /// In an orderly way: what is pending is finished.
    fn listener_gone(&self);
    /// Now.
    fn abort(&self);
    /// Whether that would cost the client something.
    fn is_busy(&self) -> bool;
    /// What it has carried.
    fn carried(&self) -> ConnStats;
}

impl Ends for Link<Server, Stream> {
    fn listener_gone(&self) {
        Self::listener_gone(self);
    }

    fn abort(&self) {
        Self::abort(self);
    }

    fn is_busy(&self) -> bool {
        self.lock().conn.is_busy()
    }

    fn carried(&self) -> ConnStats {
        self.stats()
    }
}

#[cfg(feature = "http2")]
impl Ends for crate::http2::Door {
    fn listener_gone(&self) {
        Self::listener_gone(self);
    }

    fn abort(&self) {
        Self::abort(self);
    }

    fn is_busy(&self) -> bool {
        self.carried().pending > 0
    }

    fn carried(&self) -> ConnStats {
        Self::carried(self)
    }
}

/// One connection's place in the crowd.
pub(super) struct Member {
    /// None once its task answers for it.
    crowd: Option<Arc<Crowd>>,
    id: Option<u64>,
    peer: Option<Peer>,
}

impl Crowd {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            list: Mutex::default(),
            deadline: watch::Sender::new(None),
            places: Semaphore::new(0),
            empty: Notify::new(),
        })
    }

    /// A connection was accepted. Its place is given back when it leaves.
    pub(super) fn join(self: &Arc<Self>, place: Option<SemaphorePermit<'_>>) -> Member {
        if let Some(place) = place {
            place.forget();
        }
        let mut list = self.list();
        list.open += 1;
        list.served.connections += 1;
        drop(list);
        Member { crowd: Some(self.clone()), id: None, peer: None }
    }

    /// A connection leaves. If it was served, it had carried so much: from here on it counts as one that is gone.
    pub(super) fn leave(&self, id: Option<u64>, peer: Option<Peer>, carried: Option<ConnStats>) {
        let mut list = self.list();
        if let Some(id) = id {
            list.links.remove(&id);
        }
        if let Some(carried) = carried {
            list.traffic += carried;
        }
        // Where they are not counted, there are none.
        if let Some(peer) = peer
            && let Some(count) = list.peers.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                list.peers.remove(&peer);
            }
        }
        list.open -= 1;
        let is_last = list.open == 0;
        if is_last {
            list.peers.shrink_to_fit();
        }
        drop(list);
        self.places.add_permits(1);
        if is_last {
            self.empty.notify_one();
        }
    }

    pub(super) fn open(&self) -> usize {
        self.list().open
    }

    pub(super) fn stats(&self) -> ServerStats {
        let mut stats = ServerStats::default();
        let links: Vec<_> = {
            let list = self.list();
            (stats.open, stats.accepted, stats.refused) = (list.open, list.served.connections, list.served.refused);
            stats.traffic = list.traffic;
            list.links.values().filter_map(Weak::upgrade).collect()
        };
        links.iter().for_each(|link| stats.traffic += link.carried());
        stats
    }

    pub(super) fn served(&self) -> Served {
        self.list().served
    }

    /// Tells the server to end; a second deadline can only be closer than the first.
    pub(super) fn end_by(&self, until: Instant) {
        self.deadline.send_modify(|deadline| {
            *deadline = Some(deadline.map_or(until, |known| known.min(until)));
        });
    }

    /// Waits until the server is told to end.
    pub(super) async fn told_to_end(&self) -> Instant {
        let mut told = self.deadline.subscribe();
        loop {
            if let Some(deadline) = *told.borrow_and_update() {
                return deadline;
            }
            // The sender lives in this very object.
            let _ = told.changed().await;
        }
    }

    /// Lets the connections finish until the deadline, which may come closer, then cuts them.
    pub(super) async fn finish(&self, mut deadline: Instant) {
        self.links().iter().for_each(|link| link.listener_gone());
        let mut told = self.deadline.subscribe();
        told.mark_unchanged();
        loop {
            let empty = self.empty.notified();
            if self.open() == 0 {
                return;
            }
            let event = race(empty, race(told.changed(), tokio::time::sleep_until(deadline))).await;
            match event {
                Either::Left(()) => {}
                Either::Right(Either::Left(_)) => deadline = told.borrow_and_update().unwrap_or(deadline),
                Either::Right(Either::Right(())) => {
                    let left = self.links();
                    self.list().served.aborted = left.iter().filter(|link| link.is_busy()).count() as u64;
                    left.iter().for_each(|link| link.abort());
                    return;
                }
            }
        }
    }

    fn links(&self) -> Vec<Arc<dyn Ends>> {
        self.list().links.values().filter_map(Weak::upgrade).collect()
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Counts it for its peer. False, and counted as refused, if that has its share already.
    pub(super) fn is_from(&mut self, peer: Option<SocketAddr>, max: Option<NonZeroUsize>) -> bool {
        let (Some(peer), Some(max), Some(crowd)) = (peer.map(Peer::of), max, &self.crowd) else { return true };
        let mut list = crowd.list();
        let count = list.peers.entry(peer).or_default();
        if *count >= max.get() {
            list.served.refused += 1;
            return false;
        }
        *count += 1;
        drop(list);
        self.peer = Some(peer);
        true
    }

    /// The connection is about to be served: from here on the shutdown reaches it.
    pub(super) fn serves<E: Ends + 'static>(&mut self, id: u64, conn: &Arc<E>) {
        let Some(crowd) = &self.crowd else { return };
        self.id = Some(id);
        let weak: Weak<E> = Arc::downgrade(conn);
        crowd.list().links.insert(id, weak);
        // It may have been told in between.
        if crowd.deadline.borrow().is_some() {
            conn.listener_gone();
        }
    }

    /// The connection was served, and has carried so much.
    #[cfg(feature = "http2")]
    pub(super) fn carried(mut self, stats: ConnStats) {
        if let Some(crowd) = self.crowd.take() {
            crowd.leave(self.id, self.peer, Some(stats));
        }
    }

    /// Whoever serves the connection sees to it that it [leaves](Crowd::leave).
    pub(super) fn stays(mut self) {
        self.crowd = None;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(crowd) = self.crowd.take() {
            crowd.leave(self.id, self.peer, None);
        }
    }
}
