//! The pooled client: absolute URLs in, replies out, over as few connections as the limits ask for.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use persist_core::keep_alive::KeepAlive;
use persist_core::pool::{Counts, Loss, Use, Want};
use persist_core::{
    Attempts, ClientConfig, Contradiction, Decision, Destination, Phase, Repeatable, Replay, Request, Route,
};

use crate::body::Body;
use crate::dial::Connector;
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::resumable_body::ResumableBody;

mod lease;
mod shared;

pub(crate) use lease::Lease;
use shared::Shared;

/// A client with a pool of connections. Cheap to clone: clones share the pool.
///
/// ```no_run
/// use persist_async::{Client, Request};
///
/// # async fn example() -> Result<(), persist_async::Error> {
/// let client = Client::new();
/// let mut reply = client.send(Request::get("http://127.0.0.1:8080/"), ()).await?;
/// println!("{} {:?}", reply.head.status(), reply.body.bytes(1 << 20).await?);
/// # Ok(())
/// # }
/// ```
///
/// Connections have no task of their own. Two kinds of short or idle work are spawned onto the runtime: one task per *dial*, so that a dropped
/// request does not waste a connection that is nearly there, and one per client that wakes when an idle connection is due to be closed.
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

    /// A client, configured. On each connection the first reply is awaited before anything is pipelined behind it.
    ///
    /// # Errors
    /// Two settings that cannot both hold.
    pub fn with_config(config: ClientConfig) -> Result<Self, Contradiction> {
        let connector = Connector::new(&config);
        Self::with_connector(config, connector)
    }

    /// The same with a connector of its own: another resolver or dialer. The connector's deadlines and sockets count, not those of `config`.
    ///
    /// # Errors
    /// As [`with_config`](Self::with_config).
    pub fn with_connector(config: ClientConfig, connector: Connector) -> Result<Self, Contradiction> {
        config.check()?;
        Ok(Self { shared: Shared::new(config, connector)? })
    }

    /// Sends a request and reads its reply. The target is an absolute URL: `http`, `https` (feature `tls`), `http+unix` or `https+unix`; `Host` is added if there is none.
    ///
    /// The connection goes back to the pool when the reply's body was read to its end or dropped.
    ///
    /// # Errors
    /// [`Error`] names the destination and the phase; [`Error::failure`] tells what became of the request where a connection had it.
    pub async fn send(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Reply> {
        let request = request.borrow();
        let (destination, target) =
            Destination::split_url(&request.target).map_err(|error| Error::new(Phase::Prepare, error))?;
        let config = &self.shared.config;
        let route =
            config.router.route(&destination).map_err(|error| Error::new(Phase::Route, error).at(&destination))?;
        let wire = route.request(request, &destination, &target)?;
        self.attempts(&Arc::new(route), &wire, body.into()).await.map_err(|error| match error.destination() {
            // A proxy on the way keeps its name.
            Some(_) => error,
            None => error.at(&destination),
        })
    }

    /// Sends a GET whose content goes on over another connection where it breaks off ([`ResumableBody`]).
    ///
    /// # Errors
    /// As [`send`](Self::send). Whether the content can be resumed shows only with the reply; if not, it is read like any other.
    pub async fn download(&self, request: impl Into<Request>) -> Result<ResumableBody> {
        let request = request.into();
        let reply = self.send(&request, ()).await?;
        Ok(ResumableBody::new(self.clone(), request, reply))
    }

    /// Waits as long as the policy says before the retry that `attempts` counts.
    pub(crate) async fn pause(&self, attempts: Attempts, random: u64) {
        let delay = self.shared.config.retry.delay(attempts, random);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// What the pool holds.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    async fn attempts(&self, route: &Arc<Route>, wire: &Request, body: Body) -> Result<Reply> {
        let Shared { config, .. } = &*self.shared;
        let spare = body.try_clone();
        let mut body = Some(body);
        let mut attempts = Attempts::default();
        let mut want = Want::Any;
        loop {
            let lease = self.shared.acquire(route, want).await?;
            let error = match self.attempt(&lease, wire, &mut body).await {
                Ok(mut reply) => {
                    let announced = reply.head.field("Keep-Alive").map(|value| KeepAlive::parse(value.as_bytes()));
                    self.shared.answered(&lease, announced);
                    reply.body.keep(lease);
                    return Ok(reply);
                }
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
                tokio::time::sleep(config.retry.delay(attempts, random())).await;
            }
        }
    }

    async fn attempt(&self, lease: &Lease, wire: &Request, body: &mut Option<Body>) -> Result<Reply> {
        lease.conn().exchange(wire, body).await
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
