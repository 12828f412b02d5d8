//! A network in memory: dials, delays, partitions, resets, and hosts that go down. Bytes arrive in their order or not at all, as TCP has it.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use persist_async::{Accept, Stream, async_trait};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::dice::Dice;
use crate::link::{Link, Side};
use crate::plant::Plant;
use crate::stream::SimStream;
use crate::trace::Trace;

/// How the network behaves in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Milliseconds that bytes fly, and how many more there may be.
    pub(crate) latency: (usize, usize),
    /// Bytes under way in one direction, unread ones included, before writing waits.
    pub(crate) window: usize,
    /// Percent of writes of which only a part is taken.
    pub(crate) short_writes: usize,
    /// Percent of reads that give less than there is.
    pub(crate) short_reads: usize,
}

impl Style {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let base = dice.pick(&[0, 1, 1, 5, 40, 150]);
        let more = dice.pick(&[0, 0, 1, 3]) * base;
        // Content must get through before its deadline: 20 bytes in a millisecond are enough.
        let least = 40 * (base + more);
        Self {
            latency: (base, more),
            window: dice.pick(&[150, 2_000, 16_384, 65_536, 1 << 20]).max(least),
            short_writes: dice.pick(&[0, 5, 30]),
            short_reads: dice.pick(&[0, 5, 30]),
        }
    }
}

/// The network. Clients and servers are known by their numbers.
pub(crate) struct Network {
    net: Mutex<Net>,
    pub(crate) trace: Arc<Trace>,
    /// A partition healed, a host came up, or somebody listens again.
    changed: Notify,
}

pub(crate) struct Net {
    pub(crate) links: Vec<Link>,
    servers: Vec<Host>,
    /// Whether this client and this server cannot reach each other.
    cuts: Vec<Vec<bool>>,
    pub(crate) style: Style,
    pub(crate) plant: Plant,
    dice: Dice,
    /// Woken once the lock is released.
    pub(crate) wakers: Vec<Waker>,
    /// Dials of each client that were begun, and those that succeeded.
    pub(crate) dials: Vec<(u64, u64)>,
    /// Streams that a planted fault keeps.
    pub(crate) kept: Vec<SimStream>,
}

#[derive(Default)]
struct Host {
    state: HostState,
    /// The ends of connections that wait to be accepted.
    queue: VecDeque<SimStream>,
    accepting: Option<Waker>,
    /// Connections that were accepted since somebody listens.
    accepted: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HostState {
    /// It refuses connections.
    #[default]
    Deaf,
    Listening,
    /// It answers nothing at all.
    Dark,
}

impl Network {
    pub(crate) fn new(
        (clients, servers): (usize, usize),
        style: Style,
        dice: Dice,
        plant: Plant,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        let net = Net {
            links: Vec::new(),
            servers: (0..servers).map(|_| Host::default()).collect(),
            cuts: vec![vec![false; servers]; clients],
            style,
            plant,
            dice,
            wakers: Vec::new(),
            dials: vec![(0, 0); clients],
            kept: Vec::new(),
        };
        Arc::new(Self { net: Mutex::new(net), trace, changed: Notify::new() })
    }

    /// Wakers run users' code, which may come back here.
    pub(crate) fn with<T>(&self, change: impl FnOnce(&mut Net) -> T) -> T {
        let mut net = self.net.lock().expect("no panic");
        let result = change(&mut net);
        let wakers = std::mem::take(&mut net.wakers);
        drop(net);
        wakers.into_iter().for_each(Waker::wake);
        result
    }

    /// A connection from a client to a server, once it stands.
    pub(crate) async fn dial(self: &Arc<Self>, client: usize, server: usize) -> io::Result<SimStream> {
        let delay = self.with(|net| {
            net.dials[client].0 += 1;
            let (base, more) = net.style.latency;
            net.dice.millis(2 * base, 2 * (base + more))
        });
        self.trace.say(format_args!("c{client} dials s{server}"));
        tokio::time::sleep(delay).await;
        loop {
            let changed = self.changed.notified();
            match self.with(|net| net.connect(self, client, server)) {
                Some(outcome) => {
                    let link = outcome.as_ref().map(|stream| stream.link);
                    self.trace.say(format_args!("c{client} dialled s{server}: {link:?}"));
                    return outcome;
                }
                // Nobody answers: whoever dials has a deadline.
                None => changed.await,
            }
        }
    }

    /// Somebody listens at a server's address from now on.
    pub(crate) fn listen(self: &Arc<Self>, server: usize) -> SimListener {
        self.with(|net| {
            net.servers[server].state = HostState::Listening;
            net.servers[server].accepted = 0;
            for link in net.links.iter_mut().filter(|link| link.between.1 == server) {
                link.lights_up(Side::Acceptor);
            }
        });
        self.changed.notify_waiters();
        SimListener { network: self.clone(), server }
    }

    /// The server's process, or the whole host, is gone, with all its connections.
    pub(crate) fn crash(&self, server: usize, state: HostState) {
        self.with(|net| {
            let host = &mut net.servers[server];
            host.state = state;
            let waiting = std::mem::take(&mut host.queue);
            let now = Instant::now();
            for link in net.links.iter_mut().filter(|link| link.between.1 == server) {
                link.dies(Side::Acceptor, state == HostState::Dark, now, &mut net.wakers);
            }
            waiting
        });
    }

    /// Nothing gets through between the two until [`heal`](Self::heal). What is under way is held.
    pub(crate) fn cut(&self, client: usize, server: usize) {
        self.with(|net| {
            net.cuts[client][server] = true;
            for link in net.links.iter_mut().filter(|link| link.between == (client, server)) {
                link.cut(Instant::now());
            }
        });
    }

    pub(crate) fn heal(&self, client: usize, server: usize) {
        self.with(|net| {
            net.cuts[client][server] = false;
            for link in net.links.iter_mut().filter(|link| link.between == (client, server)) {
                link.heal(Instant::now(), &mut net.wakers);
            }
        });
        self.changed.notify_waiters();
    }

    /// Something on the way ends a connection for both ends, now.
    pub(crate) fn reset(&self, link: usize) {
        self.with(|net| {
            let link = &mut net.links[link];
            link.breaks(&mut net.wakers);
        });
    }

    /// The connections that have both their ends.
    pub(crate) fn open_links(&self) -> Vec<usize> {
        self.with(|net| (0..net.links.len()).filter(|&link| net.links[link].is_open()).collect())
    }

    /// From now on, nobody can tell what becomes of requests on this server's connections.
    pub(crate) fn harm(&self, server: usize) {
        self.with(|net| {
            net.links.iter_mut().filter(|link| link.between.1 == server).for_each(|link| link.harmed = true)
        });
    }

    /// The ends that somebody holds.
    pub(crate) fn held(&self) -> Vec<String> {
        self.with(|net| {
            let held = net.links.iter().enumerate().flat_map(|(number, link)| {
                let held = [Side::Dialler, Side::Acceptor].into_iter().filter(|&side| link.end(side).held);
                held.map(move |side| format!("the {side:?}'s end of #{number}"))
            });
            held.collect()
        })
    }

    /// Bytes that were written and read at these ends of connections, from this number on.
    pub(crate) fn carried(&self, first: usize, end: impl Fn(&Link) -> Option<Side>) -> (u64, u64) {
        self.with(|net| {
            let ends = net.links[first..].iter().filter_map(|link| end(link).map(|side| link.end(side)));
            ends.fold((0, 0), |(written, read), end| (written + end.written, read + end.read))
        })
    }

    pub(crate) fn accepted(&self, server: usize) -> u64 {
        self.with(|net| net.servers[server].accepted)
    }
}

impl Net {
    /// `None` while nobody can know.
    fn connect(&mut self, network: &Arc<Network>, client: usize, server: usize) -> Option<io::Result<SimStream>> {
        let host = &mut self.servers[server];
        if self.cuts[client][server] || host.state == HostState::Dark {
            return None;
        }
        if host.state == HostState::Deaf {
            return Some(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        let number = self.links.len();
        self.links.push(Link::new((client, server), &self.style, self.dice.fork(number as u64)));
        host.queue.push_back(SimStream::new(network, number, Side::Acceptor));
        self.wakers.extend(host.accepting.take());
        self.dials[client].1 += 1;
        Some(Ok(SimStream::new(network, number, Side::Dialler)))
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Network")
    }
}

/// Connections to one server.
#[derive(Debug)]
pub(crate) struct SimListener {
    network: Arc<Network>,
    server: usize,
}

impl SimListener {
    pub(crate) async fn next(&self) -> io::Result<SimStream> {
        poll_fn(|cx| {
            self.network.with(|net| {
                let host = &mut net.servers[self.server];
                let Some(stream) = host.queue.pop_front() else {
                    host.accepting = Some(cx.waker().clone());
                    return Poll::Pending;
                };
                // A process may have no descriptors left, or the peer may have gone before it was accepted.
                if net.dice.percent(3) {
                    host.queue.push_front(stream);
                    let kind = net.dice.pick(&[io::ErrorKind::Other, io::ErrorKind::ConnectionAborted]);
                    return Poll::Ready(Err(kind.into()));
                }
                host.accepted += 1;
                Poll::Ready(Ok(stream))
            })
        })
        .await
    }
}

#[async_trait]
impl Accept for SimListener {
    async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        let stream = self.next().await?;
        self.network.trace.say(format_args!("s{} accepts #{}", self.server, stream.link));
        Ok((Stream::new(stream), None))
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        let waiting = self.network.with(|net| {
            let host = &mut net.servers[self.server];
            if host.state == HostState::Listening {
                host.state = HostState::Deaf;
            }
            std::mem::take(&mut host.queue)
        });
        drop(waiting);
    }
}

/// The time that bytes fly.
pub(crate) fn flight(style: (usize, usize), dice: &mut Dice) -> Duration {
    dice.millis(style.0, style.0 + style.1)
}
