//! The pooled client: absolute URLs in, replies out, over as few connections as the limits ask for.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use persist_core::pool::{Counts, Loss, Use, Want};
use persist_core::{
    Attempts, ClientConfig, ClientStats, Contradiction, Decision, Destination, Outline, Pending, Phase, Repeatable,
    Replay, Request, Way,
};
use tokio::time::Instant as Moment;

use crate::body::Body;
use crate::clock;
use crate::dial::Connector;
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::resumable_body::ResumableBody;
use crate::round_trip::{RoundTrip, Trip};
use crate::trace::tell;

mod account;
mod dialing;
mod gather;
mod jobs;
mod lease;
mod shared;
mod state;
mod turn;
mod upkeep;

use account::{Account, Failures};
pub(crate) use lease::Lease;
use shared::Shared;
use upkeep::Runs;

/// A client with a pool of connections. Cheap to clone: clones share the pool.
///
/// ```
/// use persist_async::{Client, Request, StatusCode};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let server = persist_async::Server::bind("127.0.0.1:0").await?;
/// # let address = server.local_addr().expect("TCP");
/// # tokio::spawn(server.serve(|got| async move { got.responder.send(persist_async::Response::ok(), got.body).await }));
/// let client = Client::new();
/// for n in 0..3 {
///     let mut reply = client.send(Request::post(format!("http://{address}/echo")), "content").await?;
///     assert_eq!(reply.head.status(), StatusCode::OK);
///     assert_eq!(reply.reused, n > 0); // all over one connection
///     assert_eq!(reply.body.bytes(1 << 20).await?, "content"); // at most so much
/// }
/// assert_eq!(client.counts().open, 1);
/// # Ok(())
/// # }
/// ```
///
/// Neither requests nor connections have tasks or channels: whoever waits for a reply drives its connection, and whoever waits for a connection dials it. What is left to do beside
/// them is one future per client, [`upkeep`](Self::upkeep), which is spawned when it is first needed, or run by you.
///
/// A connection lives by the runtime in which it was dialled. A client may outlive that, and may be used in several that run at the same time; but connections of one that is
/// there and does not run (a `current_thread` runtime between two `block_on`s) give no sign of life, and requests over them wait for their deadlines: let each such
/// runtime have a client of its own.
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
    /// The connection goes back to the pool when the reply's body was read to its end or dropped. It may take as long as
    /// [`ClientConfig::deadline`] says, the body included.
    ///
    /// # Errors
    /// [`Error`] names the destination and the phase; [`Error::failure`] tells what became of the request where a connection had it. The failure is also
    /// kept for [`pending_to`](Self::pending_to).
    pub async fn send(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Reply> {
        let until = self.shared.config.deadline.map(clock::after);
        self.dispatch(request.borrow(), &mut Some(body.into()), until, Failures::Noted).await
    }

    /// [`send`](Self::send) with a deadline of its own, in place of the client's: for waiting, dialling, retries, the exchange and the reply's body together.
    ///
    /// # Errors
    /// As [`send`](Self::send). Once a connection has the request, a passed deadline ends the exchange with [`Deadline::Total`](persist_core::Deadline::Total) as the reason of its
    /// failure, and reads of the body fail by the same; before that, the phase is [`Phase::Wait`].
    pub async fn send_within(
        &self,
        request: impl Borrow<Request>,
        body: impl Into<Body>,
        within: Duration,
    ) -> Result<Reply> {
        self.dispatch(request.borrow(), &mut Some(body.into()), Some(clock::after(within)), Failures::Noted).await
    }

    /// Sends a GET whose content goes on over another connection where it breaks off ([`ResumableBody`]).
    ///
    /// # Errors
    /// As [`send`](Self::send). Whether the content can be resumed shows only with the reply; if not, it is read like any other.
    pub async fn download(&self, request: impl Into<Request>) -> Result<ResumableBody> {
        let request = request.into();
        let reply = self.ask(&request).await?;
        Ok(ResumableBody::new(self.clone(), request, reply))
    }

    /// What this client owes to a destination: how many requests are not complete, and those that failed since this was last asked, with their dispositions, so that they
    /// can be sent again. At most [`ClientConfig::failures_max`] failures are kept, all destinations together.
    ///
    /// ```no_run
    /// # async fn example(client: &persist_async::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// for failed in client.pending_to(&"http://127.0.0.1:8080".parse()?).failed {
    ///     if failed.error.failure().is_none_or(|failure| failure.is_provably_unprocessed()) {
    ///         client.send(failed.request, ()).await?;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pending_to(&self, destination: &Destination) -> Pending {
        self.shared.pending_to(destination)
    }

    /// What a client does beside its requests: it closes connections that grow old, looks after idle ones
    /// ([`UpkeepConfig`](persist_core::UpkeepConfig)), reads and drops what replies that nobody wanted left behind, tells those who wait too long, and finishes dials
    /// whose requests were dropped.
    ///
    /// A task does so, spawned when it is first needed. Call this before the first request to run it yourself, in a task of your own or beside
    /// other futures: it ends when the last clone of the client is gone. If it is dropped before, a task is spawned again with the next need.
    ///
    /// ```no_run
    /// # async fn example() {
    /// let client = persist_async::Client::new();
    /// let upkeep = client.upkeep();
    /// tokio::join!(upkeep, async move {
    ///     let _ = client.send(persist_async::Request::get("http://127.0.0.1:8080/"), ()).await;
    /// });
    /// # }
    /// ```
    pub fn upkeep(&self) -> impl Future<Output = ()> + Send + use<> {
        let keeper = self.shared.keeper(Runs::Users);
        async move {
            if let Some(keeper) = keeper {
                keeper.run().await;
            }
        }
    }

    /// Sends a part of a download: its failure is the download's to deal with.
    pub(crate) async fn ask(&self, request: &Request) -> Result<Reply> {
        self.dispatch(
            request,
            &mut Some(Body::empty()),
            self.shared.config.deadline.map(clock::after),
            Failures::Passed,
        )
        .await
    }

    async fn dispatch(
        &self,
        request: &Request,
        body: &mut Option<Body>,
        until: Option<Moment>,
        failures: Failures,
    ) -> Result<Reply> {
        let shared = &self.shared;
        let (way, mut first) = shared.begin(&request.target);
        let destination;
        let mut account = match &way {
            Some(way) => Account::opened(shared, way.destination()),
            None => {
                destination = destination_of(request)?.0;
                Account::open(shared, &destination)
            }
        };
        let mut reply = None;
        match self.attempts(&mut account, request, (&way, &mut first), body, until, &mut reply).await {
            Ok(lease) => {
                if let (Some(mut lease), Some(reply)) = (lease, &mut reply) {
                    lease.keep(account.keep(request, failures));
                    reply.body.keep(lease);
                }
                Ok(reply.expect("an attempt that succeeds puts it there"))
            }
            Err(error) => {
                // A proxy on the way keeps its name.
                let error = if error.destination().is_some() { error } else { error.at(account.destination()) };
                tell!(phase = ?error.phase(), disposition = ?error.disposition(), "gave up");
                self.shared.count(|stats| stats.failed += 1);
                if failures == Failures::Noted {
                    account.failed(request, &error);
                }
                Err(error)
            }
        }
    }

    /// Waits as long as the policy says before the retry that `attempts` counts.
    pub(crate) async fn pause(&self, attempts: Attempts, random: u64) {
        let delay = self.shared.config.retry.delay(attempts, random);
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
    }

    /// What it has done so far: requests, retries, dials, and what its connections carried.
    pub fn stats(&self) -> ClientStats {
        self.shared.stats()
    }

    /// What the pool holds.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Tries until the reply is put into its place; the connection is given back if more is to come from it. `known` is the way, and the first
    /// connection. What is to be moved later is borrowed: a future that is given something keeps room for it twice.
    async fn attempts(
        &self,
        account: &mut Account<'_>,
        request: &Request,
        (known, first): (&Option<Arc<Way>>, &mut Option<Lease>),
        body: &mut Option<Body>,
        until: Option<Moment>,
        reply: &mut Option<Reply>,
    ) -> Result<Option<Lease>> {
        let Shared { config, .. } = &*self.shared;
        let found;
        let way = match known {
            Some(way) => way,
            None => {
                found = self.shared.find_way(&request.target, account.destination())?;
                &found
            }
        };
        let written;
        let (route, outline) = match way.outline(request) {
            Some(outline) => (way.route(), outline),
            None => {
                let (destination, target) = destination_of(request)?;
                written = way.route().request(request, &destination, &target)?;
                (way.route(), Outline::from(&written))
            }
        };
        let spare = body.as_ref().filter(|body| !body.is_empty()).and_then(Body::try_clone);
        let mut attempts = Attempts::default();
        let mut want = Want::Any;
        // What became of it before: a retry takes nothing back.
        let mut earlier: Option<Error> = None;
        loop {
            let lease = match first.take() {
                Some(lease) => lease,
                None => match self.shared.acquire(route, want, until).await {
                    Ok(lease) => lease,
                    Err(error) => return Err(error.after(earlier)),
                },
            };
            let mut at = lease.lent_at;
            if lease.is_of_many {
                gather::let_others_read().await;
                at = None;
            }
            // Row 20 of the promise: a look at the socket before a connection is used again.
            let conn = lease.conn();
            let outcome = if conn.is_plain(until) {
                RoundTrip::new(conn, outline, body, &mut None, reply).unless_stale(at).await
            } else {
                conn.exchange(outline, body, until, reply).await
            };
            let error = match outcome {
                Ok(Trip::Replied(standing)) => {
                    let is_whole = reply.as_ref().is_some_and(|reply| reply.body.is_whole());
                    return Ok(lease.answered(standing, is_whole.then_some(account)));
                }
                Ok(Trip::Stale) => {
                    self.shared.stale(lease.conn());
                    lease.end(Loss::Expected);
                    continue;
                }
                Err(error) => error,
            };
            let replay = match (&*body, &spare) {
                (Some(_), _) => Replay::Untouched,
                (None, Some(_)) => Replay::Whole,
                (None, None) => Replay::Spent,
            };
            let so_far = attempts;
            match error.failure() {
                Some(failure) => {
                    lease.end(Loss::Broken);
                    let repeatable = Repeatable::of(&request.method, &request.fields);
                    match config.retry.decide(failure, repeatable, replay, attempts) {
                        Decision::Retry { attempts: next, .. } => attempts = next,
                        Decision::GiveUp(_) => return Err(error.after(earlier)),
                    }
                }
                // The connection had ended before it took the request: nobody's fault, and nothing was sent.
                None if lease.is_over() && attempts.unprocessed < config.retry.unprocessed_max => {
                    attempts.unprocessed += 1;
                    lease.end(Loss::Expected);
                }
                None => {
                    lease.give_back(Use::Unused);
                    return Err(error.after(earlier));
                }
            }
            tell!(counted = attempts.counted, unprocessed = attempts.unprocessed, %error, "retry");
            self.shared.count(|stats| stats.retries += 1);
            if body.is_none() {
                *body = spare.as_ref().and_then(Body::try_clone);
            }
            // RFC 9112 §9.3.1: on a fresh connection, since others of the pool may be as stale as this one was.
            want = Want::Fresh;
            if so_far != Attempts::default() || attempts.counted > 0 {
                let pause = clock::after(config.retry.delay(attempts, random()));
                // What went wrong says more than that there was no time for another try.
                if until.is_some_and(|until| until <= pause) {
                    return Err(error.after(earlier));
                }
                tokio::time::sleep_until(pause).await;
            }
            earlier = Some(error.after(earlier));
        }
    }
}

/// Where a request goes, and the target to ask for there.
fn destination_of(request: &Request) -> Result<(Destination, String)> {
    Destination::split_url(&request.target).map_err(|error| Error::new(Phase::Prepare, error))
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
