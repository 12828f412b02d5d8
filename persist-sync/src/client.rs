//! The pooled client: absolute URLs in, replies out, over as few connections as the limits ask for.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::thread;

use persist_core::keep_alive::KeepAlive;
use persist_core::pool::{Counts, Loss, Use, Want};
use persist_core::{
    Attempts, ClientConfig, Contradiction, Decision, Destination, Phase, Repeatable, Replay, Request, Route,
};

use crate::body::Body;
use crate::dial::Connector;
use crate::error::{Error, Result};
use crate::exchange::Reply;

mod lease;
mod shared;

use lease::Lease;
use shared::Shared;

/// A client with a pool of connections. Cheap to clone: clones share the pool.
///
/// ```no_run
/// use persist_sync::{Client, persist_core::Request};
///
/// let client = Client::new();
/// let reply = client.send(Request::get("http://127.0.0.1:8080/"), ())?;
/// println!("{} {:?}", reply.head.status(), reply.body.bytes(1 << 20)?);
/// # Ok::<(), persist_sync::Error>(())
/// ```
///
/// Connections have no thread of their own. Two kinds of short or idle work have one: each *dial*, so that a request takes whichever comes first, a
/// new connection or one that another request gives back; and, per client, closing idle connections when they are due, started with the first and
/// gone with the last connection.
///
/// A failed request is sent again where [`RetryPolicy`](persist_core::RetryPolicy) says that it is safe. Redirects, cookies and caches are not its job.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl Client {
    /// A client with the defaults of [`ClientConfig`].
    pub fn new() -> Self {
        Self::with_config(ClientConfig::default()).expect("the defaults do not contradict each other: tested")
    }

    /// A client, configured. The pipelining depth is not used: a pooled connection carries one exchange at a time, so that a thread
    /// which holds one reply and sends another request never waits for itself. A [`ClientConn`](crate::ClientConn) pipelines.
    ///
    /// # Errors
    /// Two settings that cannot both hold.
    pub fn with_config(config: ClientConfig) -> Result<Self, Contradiction> {
        let connector = Connector::new(&config);
        Self::with_connector(config, connector)
    }

    /// The same, with a connector of the caller's: it brings its own deadlines and socket options; those of `config` are not used.
    ///
    /// # Errors
    /// Two settings that cannot both hold.
    pub fn with_connector(config: ClientConfig, connector: Connector) -> Result<Self, Contradiction> {
        config.check()?;
        Ok(Self { shared: Shared::new(config, connector)? })
    }

    /// Sends a request and reads its reply. The target is an absolute `http`, `https` (feature `tls`), `http+unix` or `https+unix` URL; `Host` is added if there is none.
    ///
    /// The connection goes back to the pool when the reply's body was read to its end or dropped.
    ///
    /// # Errors
    /// [`Error`] names the destination and the phase; [`Error::failure`] tells what became of the request where a connection had it.
    pub fn send(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Reply> {
        let request = request.borrow();
        let (destination, target) =
            Destination::split_url(&request.target).map_err(|error| Error::new(Phase::Prepare, error))?;
        let config = &self.shared.config;
        let route =
            config.router.route(&destination).map_err(|error| Error::new(Phase::Route, error).at(&destination))?;
        let wire = route.request(request, &destination, &target)?;
        self.attempts(&route, &wire, body.into()).map_err(|error| match error.destination() {
            // A proxy on the way, perhaps.
            Some(_) => error,
            None => error.at(&destination),
        })
    }

    /// What the pool holds.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    fn attempts(&self, route: &Route, wire: &Request, body: Body) -> Result<Reply> {
        let Shared { config, .. } = &*self.shared;
        let spare = body.try_clone();
        let mut body = Some(body);
        let mut attempts = Attempts::default();
        let mut want = Want::Any;
        loop {
            let lease = self.shared.acquire(route, want)?;
            let error = match lease.conn().exchange(wire, &mut body) {
                Ok(reply) => return Ok(self.lent(reply, lease)),
                Err(error) => error,
            };
            let replay = match (&body, &spare) {
                (Some(_), _) => Replay::Untouched,
                (None, Some(_)) => Replay::Whole,
                (None, None) => Replay::Spent,
            };
            let so_far = attempts;
            match error.failure() {
                Some(failure) => {
                    lease.end(Loss::Broken);
                    let repeatable = Repeatable::of(&wire.method, &wire.fields);
                    match config.retry.decide(failure, repeatable, replay, attempts) {
                        Decision::Retry { attempts: next, .. } => attempts = next,
                        Decision::GiveUp(_) => return Err(error),
                    }
                }
                // The connection had ended before it took the request: nobody's fault, and nothing was sent.
                None if lease.is_over() && attempts.unprocessed < config.retry.unprocessed_max => {
                    attempts.unprocessed += 1;
                    lease.end(Loss::Expected);
                }
                None => {
                    lease.give_back(Use::Unused);
                    return Err(error);
                }
            }
            if body.is_none() {
                body = spare.as_ref().and_then(Body::try_clone);
            }
            // RFC 9112 §9.3.1: on a fresh connection, since others of the pool may be as stale as this one was.
            want = Want::Fresh;
            if so_far != Attempts::default() || attempts.counted > 0 {
                thread::sleep(config.retry.delay(attempts, random()));
            }
        }
    }

    /// The reply keeps its connection until nothing more of it comes.
    fn lent(&self, mut reply: Reply, lease: Lease) -> Reply {
        let announced = reply.head.field("Keep-Alive").map(|value| KeepAlive::parse(value.as_bytes()));
        self.shared.answered(&lease, announced);
        reply.body.keep(lease);
        reply
    }
}

/// Any number, for jitter: the seed that the standard library draws for its hash maps.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("counts", &self.counts()).finish_non_exhaustive()
    }
}
