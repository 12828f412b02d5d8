//! The pooled client: absolute URLs in, replies out, over as few connections as the limits ask for.

use std::borrow::Borrow;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use persist_core::pool::{Counts, Loss, Use, Want};
use persist_core::stats::ClientStats;
use persist_core::{
    Attempts, ClientConfig, Contradiction, Decision, Destination, Instant, Outline, Pending, Phase, Repeatable, Replay,
    Request, Way,
};

use crate::body::Body;
use crate::client_conn::Terms;
use crate::clock;
use crate::dial::Connector;
use crate::driver::{After, Look, State};
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::resumable_body::ResumableBody;
use crate::trace::tell;

mod account;
mod lease;
mod shared;
mod tally;
mod upkeep;

use account::{Account, Failures};
use lease::Lease;
use shared::{Shared, Taken};

/// A client with a pool of connections. Cheap to clone: clones share the pool.
///
/// ```
/// use persist_sync::{Client, Request, StatusCode};
/// # use persist_sync::{Received, Response, Server};
/// # let server = Server::bind("127.0.0.1:0")?;
/// # let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
/// # let serving = std::thread::spawn(move || server.serve(|got: Received| got.responder.send(Response::ok(), got.body)));
///
/// let client = Client::new();
/// for n in 0..3 {
///     let reply = client.send(Request::post(format!("http://{address}/echo")), "content")?;
///     assert_eq!(reply.head.status(), StatusCode::OK);
///     assert_eq!(reply.reused, n > 0); // all over one connection
///     assert_eq!(reply.body.bytes(1 << 20)?, "content"); // at most so much
/// }
/// assert_eq!(client.counts().open, 1);
/// # drop(client);
/// # handle.shutdown(std::time::Duration::from_secs(10));
/// # serving.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Threads
/// Connections have no thread of their own. Two kinds of short or idle work have one: each *dial*, so that a request takes whichever comes first, a
/// new connection or one that another request gives back; and, per client, the *upkeep*, started with the first connection and gone with the last one or
/// with the client. It closes idle connections when they are due, looks whether peers have closed theirs, and asks those that were silent for long
/// whether they still answer, as [`UpkeepConfig`](persist_core::UpkeepConfig) says.
///
/// # Failures
/// A failed request is sent again where [`RetryPolicy`](persist_core::RetryPolicy) says that it is safe: one that is provably unprocessed always, one of an
/// idempotent method once, on a fresh connection. What is left failed is told by the error, and kept for [`pending_to`](Self::pending_to).
///
/// # What is not its job
/// A client brings requests to servers and replies back, over few connections. What replies *mean* for further requests is its user's:
/// - **redirects**: a 3xx is a reply like any other. Where to go, whether with the method and the credentials, is a matter of trust (RFC 9110 §15.4);
/// - **cookies**: RFC 6265 asks for a store, a list of public suffixes, and to know which requests belong together, as a browser does;
/// - **caching**: RFC 9111 asks for a store and a policy. A cache can stand in front of a client: conditional requests and a 304 are passed as they are;
/// - **content codings** (`gzip`, `br`): content is given as it is on the wire, because `Range`, digests and `ETag` speak of it in this form;
/// - **authentication**: fields are sent as given. Only those of proxies are `persist-proxy`'s.
///
/// Crates for each of these take requests and replies of the `http` crate's types as a rule, and can be put around [`send`](Self::send).
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

/// A connection that has answered, with what it has to say of itself.
struct Answered {
    lease: Lease,
    after: After,
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
    /// The connection goes back to the pool when the reply's body was read to its end or dropped. It may take as long as
    /// [`ClientConfig::deadline`] says, the body included.
    ///
    /// # Errors
    /// [`Error`] names the destination and the phase; [`Error::failure`] tells what became of the request where a connection had it. The failure is also
    /// kept for [`pending_to`](Self::pending_to).
    pub fn send(&self, request: impl Borrow<Request>, body: impl Into<Body>) -> Result<Reply> {
        self.dispatch(request.borrow(), body.into(), self.deadline(), Failures::Noted)
    }

    /// [`send`](Self::send) with a deadline of its own, in place of the client's: for waiting, dialling, retries, the exchange and the reply's body together.
    ///
    /// # Errors
    /// As [`send`](Self::send). Once a connection has the request, a passed deadline ends the exchange with [`Deadline::Total`](persist_core::Deadline::Total) as the reason of its
    /// failure, and reads of the body fail by the same; before that, the phase is [`Phase::Wait`].
    pub fn send_within(&self, request: impl Borrow<Request>, body: impl Into<Body>, within: Duration) -> Result<Reply> {
        self.dispatch(request.borrow(), body.into(), Some(clock::now() + within), Failures::Noted)
    }

    /// Sends a GET whose content goes on over another connection where it breaks off ([`ResumableBody`]).
    ///
    /// # Errors
    /// As [`send`](Self::send). Whether the content can be resumed shows only with the reply; if not, it is read like any other.
    pub fn download(&self, request: impl Into<Request>) -> Result<ResumableBody> {
        let request = request.into();
        let reply = self.ask(&request)?;
        Ok(ResumableBody::new(self.clone(), request, reply))
    }

    /// What this client owes to a destination: how many requests are not complete, and those that failed since this was last asked, with their dispositions, so that they
    /// can be sent again. At most [`ClientConfig::failures_max`] failures are kept, all destinations together.
    ///
    /// ```no_run
    /// # let client = persist_sync::Client::new();
    /// for failed in client.pending_to(&"http://127.0.0.1:8080".parse()?).failed {
    ///     if failed.error.failure().is_none_or(|failure| failure.is_provably_unprocessed()) {
    ///         client.send(failed.request, ())?;
    ///     }
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pending_to(&self, destination: &Destination) -> Pending {
        self.shared.pending_to(destination)
    }

    /// What it has done so far: requests, retries, dials, and what its connections carried.
    pub fn stats(&self) -> ClientStats {
        self.shared.stats()
    }

    /// What the pool holds.
    pub fn counts(&self) -> Counts {
        self.shared.counts()
    }

    /// Sends a part of a download: its failure is the download's to deal with.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply> {
        self.dispatch(request, Body::empty(), self.deadline(), Failures::Passed)
    }

    /// Waits as long as the policy says before the retry that `attempts` counts.
    pub(crate) fn pause(&self, attempts: Attempts, random: u64) {
        thread::sleep(self.shared.config.retry.delay(attempts, random));
    }

    fn deadline(&self) -> Option<Instant> {
        self.shared.config.deadline.map(|within| clock::now() + within)
    }

    fn dispatch(&self, request: &Request, body: Body, until: Option<Instant>, failures: Failures) -> Result<Reply> {
        let shared = &self.shared;
        let mut reply = None;
        let way = shared.way(&request.target);
        if let Some((way, wire)) = way.as_deref().and_then(|way| Some((way, way.outline(request)?))) {
            let first = shared.begin_at_once(way);
            let account = Account::new(shared, way.destination().clone());
            let answered = self.attempts(way, (request, wire), body, until, first, &mut reply);
            return self.conclude(answered, &mut reply, request, account, failures);
        }
        let (destination, target) =
            Destination::split_url(&request.target).map_err(|error| Error::new(Phase::Prepare, error))?;
        shared.begin(&destination);
        let account = Account::new(shared, destination);
        let answered = self.routed(request, (way, account.destination(), &target), body, until, &mut reply);
        self.conclude(answered, &mut reply, request, account, failures)
    }

    /// The long way: whatever is special about the request is found out, and what is written is built for it.
    fn routed(
        &self,
        request: &Request,
        (way, destination, target): (Option<Arc<Way>>, &Destination, &str),
        body: Body,
        until: Option<Instant>,
        reply: &mut Option<Reply>,
    ) -> Result<Answered> {
        let way = match way {
            Some(way) => way,
            None => self.shared.find_way(&request.target, destination)?,
        };
        let wire = way.route().request(request, destination, target)?;
        self.attempts(&way, (&wire, (&wire).into()), body, until, None, reply)
    }

    /// What the caller is told, and what becomes of the connection.
    fn conclude(
        &self,
        answered: Result<Answered>,
        reply: &mut Option<Reply>,
        request: &Request,
        account: Account,
        failures: Failures,
    ) -> Result<Reply> {
        match answered {
            Ok(Answered { mut lease, after }) => {
                let mut reply = reply.take().expect("a connection that has answered has put its reply there");
                if reply.body.is_whole() {
                    self.shared.completed(lease, account, after);
                    return Ok(reply);
                }
                self.shared.answered(&lease, after);
                // The connection is the reply's until nothing more of it comes.
                reply.body.keep(|| {
                    lease.keep(account.remember(request, failures));
                    lease
                });
                Ok(reply)
            }
            Err(error) => {
                // A proxy on the way keeps its name.
                let error = if error.destination().is_some() { error } else { error.at(account.destination()) };
                tell!(phase = ?error.phase(), disposition = ?error.disposition(), "gave up");
                self.shared.tally.failed.add();
                if failures == Failures::Noted {
                    account.failed(request, &error);
                }
                Err(error)
            }
        }
    }

    fn attempts(
        &self,
        way: &Way,
        (request, wire): (&Request, Outline<'_>),
        body: Body,
        until: Option<Instant>,
        mut first: Option<Taken>,
        reply: &mut Option<Reply>,
    ) -> Result<Answered> {
        let Shared { config, .. } = &*self.shared;
        let spare = body.try_clone();
        let mut body = Some(body);
        let mut attempts = Attempts::default();
        let mut want = Want::Any;
        // What became of it before: a retry takes nothing back.
        let mut earlier: Option<Error> = None;
        loop {
            let Taken { lease, reused, at } = match first.take() {
                Some(taken) => taken,
                None => match self.shared.acquire(way.route(), want, until) {
                    Ok(taken) => taken,
                    Err(error) => return Err(error.after(earlier)),
                },
            };
            // Row 20 of the promise: one look at the socket before a connection is used again.
            let look = if reused { Look::Pooled } else { Look::Not };
            let error = match lease.conn().exchange(wire, &mut body, Terms { look, until, at }, reply, State::after) {
                Ok(Some(after)) => return Ok(Answered { lease, after }),
                Ok(None) => {
                    self.shared.stale(lease);
                    continue;
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
            self.shared.tally.retries.add();
            tell!(counted = attempts.counted, unprocessed = attempts.unprocessed, %error, "retry");
            if body.is_none() {
                body = spare.as_ref().and_then(Body::try_clone);
            }
            // RFC 9112 §9.3.1: on a fresh connection, since others of the pool may be as stale as this one was.
            want = Want::Fresh;
            if so_far != Attempts::default() || attempts.counted > 0 {
                let pause = config.retry.delay(attempts, random());
                // What went wrong says more than that there was no time for another try.
                if until.is_some_and(|until| until <= clock::now() + pause) {
                    return Err(error.after(earlier));
                }
                thread::sleep(pause);
            }
            earlier = Some(error.after(earlier));
        }
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
