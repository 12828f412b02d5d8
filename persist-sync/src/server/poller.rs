//! The poller: one thread that accepts, and waits for every connection that no handler runs for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use persist_core::stats::{ServerStats, Traffic};
use persist_core::{Config, Instant};

use super::arrival::{Arrival, Progress, Share, Shares};
use super::control::{Control, Notice, Seat, TOLD};
use super::listener::{Listener, register};
use super::workers::Workers;
use super::{ProxyHeaders, Served, ServerConfig};
use crate::clock;
use crate::date::Stamp;
use crate::driver::Parked;
use crate::ready::Directions;
use crate::server_conn::ServerConn;
use crate::stream::Stream;

const LISTENER: Token = Token(usize::MAX - 1);

/// Events taken from the system at once.
const EVENTS: usize = 1024;

/// How long a reply waits at most for others of its burst, if the handler of the next request takes long.
const BURST: Duration = Duration::from_millis(1);

/// The first and the longest pause after an accept that failed for want of resources.
const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// How long a connection that was cut has to be let go by the thread that runs its handler.
const AFTER_CUT: Duration = Duration::from_millis(200);

pub(super) struct Poller {
    poll: Poll,
    listener: Option<Listener>,
    config: ServerConfig,
    /// What is in it for each connection, which all share.
    conn: Arc<Config>,
    stamp: Arc<Stamp>,
    control: Arc<Control>,
    workers: Workers,
    seats: HashMap<usize, (Arc<Seat>, Share)>,
    /// Connections that have yet to say whom they speak for.
    arrivals: HashMap<usize, Arrival>,
    shares: Shares,
    /// Until when TLS must have been agreed on.
    #[cfg(feature = "tls")]
    handshakes: HashMap<usize, Instant>,
    /// When to look at which connection.
    looks: BTreeSet<(Instant, usize)>,
    /// When to let go of whose replies.
    bursts: VecDeque<(Instant, usize)>,
    next_token: usize,
    /// Connections may be waiting to be accepted.
    acceptable: bool,
    accept_again: Option<Instant>,
    pause: Duration,
    ending: Option<Instant>,
    cut: bool,
    served: Served,
    /// What the connections carried that are gone.
    carried: Traffic,
}

impl Poller {
    pub(super) fn new(
        listener: Listener,
        config: ServerConfig,
        stamp: Arc<Stamp>,
        control: Arc<Control>,
        workers: Workers,
    ) -> io::Result<Self> {
        let poll = control.take_poll()?;
        register(poll.registry(), &listener, LISTENER, Interest::READABLE)?;
        let config = ServerConfig { connections_max: config.connections_max.max(1), ..config };
        let shares = Shares::new(config.connections_per_peer_max);
        Ok(Self {
            poll,
            listener: Some(listener),
            conn: Arc::new(config.conn.clone()),
            config,
            stamp,
            control,
            workers,
            seats: HashMap::new(),
            arrivals: HashMap::new(),
            shares,
            #[cfg(feature = "tls")]
            handshakes: HashMap::new(),
            looks: BTreeSet::new(),
            bursts: VecDeque::new(),
            next_token: 0,
            acceptable: true,
            accept_again: None,
            pause: ACCEPT_PAUSE.0,
            ending: None,
            cut: false,
            served: Served::default(),
            carried: Traffic::default(),
        })
    }

    pub(super) fn run(mut self) -> io::Result<Served> {
        self.control.begins();
        let mut events = Events::with_capacity(EVENTS);
        let ended = loop {
            if self.is_done() {
                break Ok(self.served);
            }
            match self.poll.poll(&mut events, clock::until(self.wake_at())) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => break Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.acceptable = true,
                    TOLD => {}
                    Token(token) => {
                        // The end of the peer's data may come with the data, and is told only once.
                        let closed = event.is_read_closed() || event.is_error();
                        let ready = Directions { read: event.is_readable() || closed, write: event.is_writable() };
                        self.look(token, ready, closed);
                    }
                }
            }
            self.hear();
            self.look_at_due();
            self.let_go_of_bursts();
            self.accept();
            self.control.connections.store(self.open(), Ordering::Relaxed);
        };
        self.workers.close();
        ended
    }

    /// Whether the server has ended, or what is left will not let itself be ended.
    fn is_done(&self) -> bool {
        let Some(deadline) = self.ending else { return false };
        self.seats.is_empty() || (self.cut && clock::now() >= deadline + AFTER_CUT)
    }

    fn wake_at(&self) -> Option<Instant> {
        let look = self.looks.first().map(|&(when, _)| when);
        let end = self.ending.map(|deadline| if self.cut { deadline + AFTER_CUT } else { deadline });
        let burst = self.bursts.front().map(|&(when, _)| when);
        [look, burst, end, self.accept_again].into_iter().flatten().min()
    }

    fn hear(&mut self) {
        let mut told = self.control.hear();
        told.answer(|| self.stats());
        for notice in told.notices {
            match notice {
                Notice::Look(token) => self.look(token, Directions::default(), false),
                Notice::Burst(token) => self.bursts.push_back((clock::now() + BURST, token)),
                Notice::Done(token) => self.forget(token),
            }
        }
        if let Some(deadline) = told.shutdown {
            if self.ending.is_none() {
                // Nobody waits in the socket's queue for a server that is leaving: they are refused, and may go elsewhere.
                self.listener = None;
                // Whoever has not said for whom it speaks has no request that would have to be waited for.
                self.arrivals.clear();
                let tokens: Vec<usize> = self.seats.keys().copied().collect();
                for token in tokens {
                    if let Some((seat, _)) = self.seats.get(&token) {
                        seat.conn.link().end();
                        self.look(token, Directions::default(), false);
                    }
                }
            }
            self.ending = Some(deadline);
            if !self.cut && clock::now() >= deadline {
                self.cut = true;
                self.cut_all();
            }
        }
    }

    fn cut_all(&mut self) {
        let tokens: Vec<usize> = self.seats.keys().copied().collect();
        for token in tokens {
            if let Some((seat, _)) = self.seats.get(&token) {
                self.served.aborted += u64::from(seat.conn.link().look().conn().is_busy());
                seat.conn.abort();
                self.look(token, Directions::default(), false);
            }
        }
    }

    fn look_at_due(&mut self) {
        let now = clock::now();
        while let Some(&(when, token)) = self.looks.first() {
            if when > now {
                break;
            }
            self.looks.pop_first();
            if let Some((seat, _)) = self.seats.get(&token) {
                seat.look_at(None);
            }
            self.look(token, Directions::default(), false);
        }
    }

    fn let_go_of_bursts(&mut self) {
        let now = clock::now();
        while let Some(&(when, token)) = self.bursts.front() {
            if when > now {
                break;
            }
            self.bursts.pop_front();
            if let Some((seat, _)) = self.seats.get(&token) {
                seat.conn.link().act(|state| state.uncork());
            }
        }
    }

    /// Moves a connection along, unless a thread has it, and hands it to one if a request is complete.
    fn look(&mut self, token: usize, ready: Directions, closed: bool) {
        let Some((seat, _)) = self.seats.get(&token) else { return self.arrive(token, closed) };
        let seat = seat.clone();
        let parked = seat.conn.link().poll(ready, closed);
        self.deal_with(&seat, parked);
    }

    fn deal_with(&mut self, seat: &Arc<Seat>, parked: Parked) {
        match parked {
            Parked::Busy => {}
            Parked::Waiting(deadline) => {
                #[cfg(feature = "tls")]
                let Some(deadline) = self.shake_hands(seat, deadline) else { return };
                self.schedule(seat, deadline);
            }
            Parked::Gone => self.forget(seat.token),
            Parked::Ready => {
                if !self.workers.run(seat.clone()) {
                    seat.conn.abort();
                    self.forget(seat.token);
                }
            }
        }
    }

    /// Sees to it that the connection is looked at by then. A look that comes too early finds that out by itself, so only an earlier one counts.
    fn schedule(&mut self, seat: &Arc<Seat>, deadline: Option<Instant>) {
        let Some(deadline) = deadline else { return };
        let before = seat.looked_at();
        if before.is_some_and(|before| before <= deadline) {
            return;
        }
        if let Some(before) = before {
            self.looks.remove(&(before, seat.token));
        }
        seat.look_at(Some(deadline));
        self.looks.insert((deadline, seat.token));
    }

    /// Until when to wait for a connection that may not have agreed on TLS yet; `None` if it is too late for that, and it is closed.
    #[cfg(feature = "tls")]
    fn shake_hands(&mut self, seat: &Arc<Seat>, deadline: Option<Instant>) -> Option<Option<Instant>> {
        let Some(&by) = self.handshakes.get(&seat.token) else { return Some(deadline) };
        if seat.conn.link().look().stream().is_none_or(|stream| !stream.is_handshaking()) {
            self.handshakes.remove(&seat.token);
            return Some(deadline);
        }
        if by <= clock::now() {
            seat.conn.abort();
            self.forget(seat.token);
            return None;
        }
        Some(Some(deadline.map_or(by, |deadline| deadline.min(by))))
    }

    fn forget(&mut self, token: usize) {
        #[cfg(feature = "tls")]
        self.handshakes.remove(&token);
        let Some((seat, share)) = self.seats.remove(&token) else { return };
        self.shares.give_back(&share);
        self.carried += seat.conn.stats();
        if let Some(when) = seat.looked_at() {
            self.looks.remove(&(when, token));
        }
    }

    fn stats(&self) -> ServerStats {
        let mut stats = ServerStats::default();
        (stats.open, stats.accepted, stats.refused) = (self.open(), self.served.connections, self.served.refused);
        stats.traffic = self.carried;
        self.seats.values().for_each(|(seat, _)| stats.traffic += seat.conn.stats());
        stats
    }

    /// Connections that are open.
    fn open(&self) -> usize {
        self.seats.len() + self.arrivals.len()
    }

    fn accept(&mut self) {
        if self.accept_again.is_some_and(|again| again <= clock::now()) {
            self.accept_again = None;
        }
        while self.acceptable && self.accept_again.is_none() && self.open() < self.config.connections_max {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((stream, peer)) => {
                    self.pause = ACCEPT_PAUSE.0;
                    self.admit(stream, peer);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.acceptable = false,
                    // That connection was gone before it was accepted.
                    io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset => {}
                    // Descriptors or memory: a connection that ends makes room. The waiting ones keep waiting in the socket's queue.
                    _ => {
                        self.accept_again = Some(clock::now() + self.pause);
                        self.pause = (self.pause * 2).min(ACCEPT_PAUSE.1);
                    }
                },
            }
        }
    }

    /// A connection that fails here is closed, which its peer will see.
    fn admit(&mut self, stream: Stream, peer: Option<SocketAddr>) {
        self.served.connections += 1;
        let token = self.next_token;
        self.next_token += 1;
        let both = Interest::READABLE | Interest::WRITABLE;
        if stream.attach().and_then(|()| register(self.poll.registry(), &stream, Token(token), both)).is_err() {
            return;
        }
        match self.config.proxy_headers {
            // Usually the request is there already, but the poller will say so.
            ProxyHeaders::Absent => self.seat(token, stream, peer, Directions::default(), false),
            ProxyHeaders::Required => {
                let deadline = self.config.conn.timeouts.header.map(|within| clock::now() + within);
                if let Some(deadline) = deadline {
                    self.looks.insert((deadline, token));
                }
                self.arrivals.insert(token, Arrival::new(stream, peer, deadline));
            }
        }
    }

    /// Reads on in the PROXY header of a connection.
    fn arrive(&mut self, token: usize, closed: bool) {
        let Some(arrival) = self.arrivals.get_mut(&token) else { return };
        let progress = arrival.read();
        let late = arrival.deadline.is_some_and(|deadline| deadline <= clock::now());
        if matches!(progress, Progress::Waiting) && !late {
            return;
        }
        let Some(arrival) = self.arrivals.remove(&token) else { return };
        if let Some(deadline) = arrival.deadline {
            self.looks.remove(&(deadline, token));
        }
        if let Progress::Arrived(source, rest) = progress {
            let ready = Directions { read: true, write: true };
            self.seat(token, arrival.stream.with_leftover(rest), source.or(arrival.peer), ready, closed);
        }
    }

    /// Takes a registered connection among those that are served.
    fn seat(&mut self, token: usize, stream: Stream, peer: Option<SocketAddr>, ready: Directions, closed: bool) {
        let Some(share) = self.shares.take(peer) else {
            self.served.refused += 1;
            return;
        };
        #[cfg(feature = "tls")]
        let stream = match &self.config.tls {
            None => Ok(stream),
            Some(tls) => {
                if let Some(within) = self.config.conn.timeouts.header {
                    self.handshakes.insert(token, clock::now() + within);
                }
                tls.accept(stream)
            }
        };
        #[cfg(not(feature = "tls"))]
        let stream = io::Result::Ok(stream);
        let conn = stream.and_then(|stream| ServerConn::accepted(stream, peer, self.conn.clone(), self.stamp.clone()));
        let Ok(conn) = conn else { return self.shares.give_back(&share) };
        let seat = Seat::new(token, conn, self.control.clone());
        let link = seat.conn.link();
        let mut parked = link.park(&seat.clone().into());
        // Only once what stood in front of the stream was read: what is behind it in the socket will not be told of again.
        let polled = link.poll(ready, closed);
        if matches!(parked, Parked::Waiting(_)) {
            parked = polled;
        }
        self.seats.insert(token, (seat.clone(), share));
        self.deal_with(&seat, parked);
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.control.ends(self.stats());
    }
}
