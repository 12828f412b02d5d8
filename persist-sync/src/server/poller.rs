//! The poller: one thread that accepts, and waits for every connection that no handler runs for.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use persist_core::Instant;

use super::control::{Control, Notice, Seat, TOLD};
use super::listener::{Listener, register};
use super::workers::Workers;
use super::{Served, ServerConfig};
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

/// How long accepting pauses when descriptors have run out.
const WITHOUT_DESCRIPTORS: Duration = Duration::from_millis(100);

/// How long a connection that was cut has to be let go by the thread that runs its handler.
const AFTER_CUT: Duration = Duration::from_millis(200);

pub(super) struct Poller {
    poll: Poll,
    listener: Option<Listener>,
    config: ServerConfig,
    stamp: Arc<Stamp>,
    control: Arc<Control>,
    workers: Workers,
    seats: HashMap<usize, Arc<Seat>>,
    /// When to look at which connection.
    looks: BTreeSet<(Instant, usize)>,
    /// When to let go of whose replies.
    bursts: VecDeque<(Instant, usize)>,
    next_token: usize,
    /// Connections may be waiting to be accepted.
    acceptable: bool,
    accept_again: Option<Instant>,
    ending: Option<Instant>,
    cut: bool,
    served: Served,
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
        Ok(Self {
            poll,
            listener: Some(listener),
            config,
            stamp,
            control,
            workers,
            seats: HashMap::new(),
            looks: BTreeSet::new(),
            bursts: VecDeque::new(),
            next_token: 0,
            acceptable: true,
            accept_again: None,
            ending: None,
            cut: false,
            served: Served { connections: 0, aborted: 0 },
        })
    }

    pub(super) fn run(mut self) -> io::Result<Served> {
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
            self.control.connections.store(self.seats.len(), Ordering::Relaxed);
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
        let told = self.control.hear();
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
                let tokens: Vec<usize> = self.seats.keys().copied().collect();
                for token in tokens {
                    if let Some(seat) = self.seats.get(&token) {
                        seat.conn.listener_gone();
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
            self.served.aborted += 1;
            if let Some(seat) = self.seats.get(&token) {
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
            if let Some(seat) = self.seats.get(&token) {
                seat.look_at(None);
                self.look(token, Directions::default(), false);
            }
        }
    }

    fn let_go_of_bursts(&mut self) {
        let now = clock::now();
        while let Some(&(when, token)) = self.bursts.front() {
            if when > now {
                break;
            }
            self.bursts.pop_front();
            if let Some(seat) = self.seats.get(&token) {
                seat.conn.link().act(|state| state.uncork());
            }
        }
    }

    /// Moves a connection along, unless a thread has it, and hands it to one if a request is complete.
    fn look(&mut self, token: usize, ready: Directions, closed: bool) {
        let Some(seat) = self.seats.get(&token).cloned() else { return };
        match seat.conn.link().poll(ready, closed) {
            Parked::Busy => {}
            Parked::Waiting(deadline) => self.schedule(&seat, deadline),
            Parked::Gone => self.forget(token),
            Parked::Ready => {
                if !self.workers.run(seat.clone()) {
                    seat.conn.abort();
                    self.forget(token);
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

    fn forget(&mut self, token: usize) {
        if let Some(seat) = self.seats.remove(&token)
            && let Some(when) = seat.looked_at()
        {
            self.looks.remove(&(when, token));
        }
    }

    fn accept(&mut self) {
        if self.accept_again.is_some_and(|again| again <= clock::now()) {
            self.accept_again = None;
        }
        while self.acceptable && self.accept_again.is_none() && self.seats.len() < self.config.connections_max {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok(stream) => self.admit(stream),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => self.acceptable = false,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    // Descriptors or memory: a connection that ends makes room. The waiting ones keep waiting in the socket's queue.
                    _ => self.accept_again = Some(clock::now() + WITHOUT_DESCRIPTORS),
                },
            }
        }
    }

    /// A connection that fails here is closed, which its peer will see.
    fn admit(&mut self, stream: Stream) {
        #[cfg(feature = "tls")]
        let stream = match &self.config.tls {
            None => stream,
            Some(tls) => match tls.accept(stream) {
                Ok(stream) => stream,
                Err(_) => return,
            },
        };
        let Ok(conn) = ServerConn::stamped(stream, self.config.conn.clone(), self.stamp.clone()) else { return };
        let token = self.next_token;
        self.next_token += 1;
        let seat = Seat::new(token, conn, self.control.clone());
        let link = seat.conn.link();
        link.park(&seat.clone().into());
        let registry = self.poll.registry();
        let both = Interest::READABLE | Interest::WRITABLE;
        let registered = link.look().stream().map(|stream| register(registry, stream, Token(token), both));
        if let Some(Ok(())) = registered {
            self.served.connections += 1;
            self.seats.insert(token, seat);
            // Usually the request is there already, but the poller will say so; only the deadline must be known.
            self.look(token, Directions::default(), false);
        }
    }
}
