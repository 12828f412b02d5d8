//! A load at a fixed rate: so many requests a second whatever the answers do, and how long each took from when it was due. A server that
//! stalls thus pays for every request that fell due meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::plan::Plan;
use crate::{Error, actor, load};

/// A connection, and when the request that it asks now was due.
struct Peer {
    stream: TcpStream,
    due: Option<Instant>,
    unread: usize,
}

pub fn run(plan: &Plan) -> Result<(), Error> {
    let (request, expected) = (plan.request(), load::learn(plan)?);
    let poll = Poll::new()?;
    let mut peers = Vec::new();
    for index in 0..plan.connections {
        let stream = std::net::TcpStream::connect(plan.to)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        peers.push(Peer { stream, due: None, unread: 0 });
    }
    let mut pace =
        Pace { poll, peers, request, expected, interval: Duration::from_secs(1) / plan.rate, took: Vec::new() };
    // Warm, at the same pace.
    pace.ask(u64::from(plan.rate) / 10)?;
    pace.took.clear();
    let begun = actor::ready()?;
    pace.ask(plan.requests)?;
    pace.took.sort_unstable();
    let part = |share: usize| pace.took[(pace.took.len() - 1) * share / 100].as_nanos().to_string();
    actor::done_with(begun, &[part(50), part(90), part(99)])
}

struct Pace {
    poll: Poll,
    peers: Vec<Peer>,
    request: Vec<u8>,
    expected: usize,
    interval: Duration,
    took: Vec<Duration>,
}

impl Pace {
    fn ask(&mut self, requests: u64) -> Result<(), Error> {
        let mut events = Events::with_capacity(1024);
        let begun = Instant::now();
        let mut free: Vec<usize> = (0..self.peers.len()).collect();
        let (mut asked, mut answered) = (0, 0);
        while answered < requests {
            let now = Instant::now();
            // Those for which no connection is free wait, and their time runs.
            while asked < requests && begun + self.interval * asked as u32 <= now {
                let Some(index) = free.pop() else { break };
                let peer = &mut self.peers[index];
                peer.due = Some(begun + self.interval * asked as u32);
                peer.unread = self.expected;
                if peer.stream.write(&self.request)? < self.request.len() {
                    return Err("a small request was not taken at once".into());
                }
                asked += 1;
            }
            // Never asleep: what wakes a sleeper late would be taken for the server's slowness.
            self.poll.poll(&mut events, Some(Duration::ZERO))?;
            for event in &events {
                let index = event.token().0;
                if self.read(index)? {
                    answered += 1;
                    free.push(index);
                }
            }
        }
        Ok(())
    }

    /// Reads what is there; true once the answer is complete.
    fn read(&mut self, index: usize) -> Result<bool, Error> {
        let mut scratch = [0; 4096];
        let peer = &mut self.peers[index];
        loop {
            match peer.stream.read(&mut scratch) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(n) => peer.unread = peer.unread.checked_sub(n).ok_or("more bytes than the response has")?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            if peer.unread == 0 {
                let due = peer.due.take().ok_or("an answer that nobody asked for")?;
                self.took.push(due.elapsed());
                return Ok(true);
            }
        }
    }
}
