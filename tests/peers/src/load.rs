//! A load for servers, as light as can be: it counts bytes of small responses, whose length it has learnt from the first.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::client::BlockingWorker as _;
use crate::client::floor::Blocking;
use crate::plan::{Plan, content};
use crate::{Error, actor, pace};

pub fn run(plan: &Plan) -> Result<(), Error> {
    if plan.target == crate::streams::TARGET {
        return crate::streams::run(plan);
    }
    if plan.upload > 0 || content(&plan.target).is_some() {
        return bodies(plan);
    }
    if plan.rate > 0 {
        return pace::run(plan);
    }
    let burst = plan.request().repeat(plan.depth);
    let expected = learn(plan)? * plan.depth;
    let mut poll = Poll::new()?;
    let mut load = Load { poll: &mut poll, peers: Vec::new(), burst, expected, scratch: vec![0; 256 * 1024] };
    // In steps, for a backlog holds only so many.
    while load.peers.len() < plan.connections {
        let step = (plan.connections - load.peers.len()).min(64);
        load.connect(plan.to, step)?;
    }
    let begun = actor::ready()?;
    load.start(plan.bursts())?;
    load.finish()?;
    actor::done(begun)
}

/// Bodies are read, or sent, by one blocking connection.
fn bodies(plan: &Plan) -> Result<(), Error> {
    let mut worker = Blocking::connect(plan)?;
    worker.run(1)?;
    let begun = actor::ready()?;
    worker.run(plan.bursts())?;
    actor::done(begun)
}

/// How many bytes the server's response to the request has.
pub fn learn(plan: &Plan) -> Result<usize, Error> {
    let mut stream = std::net::TcpStream::connect(plan.to)?;
    stream.write_all(&plan.request())?;
    let mut read = Vec::new();
    let mut scratch = [0; 4096];
    loop {
        let n = stream.read(&mut scratch)?;
        if n == 0 {
            return Err("the server closed instead of answering".into());
        }
        read.extend_from_slice(&scratch[..n]);
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut fields);
        if let httparse::Status::Complete(len) = head.parse(&read)? {
            let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
            let length = length.and_then(|field| std::str::from_utf8(field.value).ok()?.parse::<usize>().ok());
            return Ok(len + length.ok_or("the response has no Content-Length")?);
        }
    }
}

struct Peer {
    stream: TcpStream,
    /// Bytes of the burst that are still to be written.
    unwritten: usize,
    /// Bytes of responses that are still to come.
    unread: usize,
    bursts: u64,
}

struct Load<'p> {
    poll: &'p mut Poll,
    peers: Vec<Peer>,
    burst: Vec<u8>,
    expected: usize,
    scratch: Vec<u8>,
}

impl Load<'_> {
    /// Opens so many connections more, and lets each have one burst answered.
    fn connect(&mut self, to: SocketAddr, count: usize) -> Result<(), Error> {
        let first = self.peers.len();
        for index in first..first + count {
            let stream = std::net::TcpStream::connect(to)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            self.poll.registry().register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            self.peers.push(Peer { stream, unwritten: 0, unread: 0, bursts: 1 });
            self.burst(index)?;
        }
        self.finish()
    }

    fn start(&mut self, bursts: u64) -> Result<(), Error> {
        if bursts == 0 {
            return Ok(());
        }
        for index in 0..self.peers.len() {
            self.peers[index].bursts = bursts;
            self.burst(index)?;
        }
        Ok(())
    }

    /// Until each connection has had its bursts answered.
    fn finish(&mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(1024);
        let mut left = self.peers.iter().filter(|peer| peer.bursts > 0).count();
        while left > 0 {
            self.poll.poll(&mut events, None)?;
            for event in &events {
                let index = event.token().0;
                if self.peers[index].bursts == 0 {
                    continue;
                }
                if event.is_writable() && self.peers[index].unwritten > 0 {
                    self.write(index)?;
                }
                if event.is_readable() {
                    self.read(index)?;
                    left -= usize::from(self.peers[index].bursts == 0);
                }
            }
        }
        Ok(())
    }

    fn burst(&mut self, index: usize) -> Result<(), Error> {
        let peer = &mut self.peers[index];
        peer.unwritten = self.burst.len();
        peer.unread = self.expected;
        self.write(index)
    }

    fn write(&mut self, index: usize) -> Result<(), Error> {
        let peer = &mut self.peers[index];
        while peer.unwritten > 0 {
            match peer.stream.write(&self.burst[self.burst.len() - peer.unwritten..]) {
                Ok(n) => peer.unwritten -= n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Error> {
        loop {
            let peer = &mut self.peers[index];
            match peer.stream.read(&mut self.scratch) {
                Ok(0) => return Err("the server closed a connection".into()),
                Ok(n) => {
                    if peer.unread == self.expected && !self.scratch.starts_with(b"HTTP/1.1 200") {
                        return Err("a response is not 200".into());
                    }
                    peer.unread = peer.unread.checked_sub(n).ok_or("more bytes than the responses have")?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if peer.unread == 0 {
                peer.bursts -= 1;
                if peer.bursts == 0 {
                    return Ok(());
                }
                // Nothing can be there to read: what was asked for has come. The next answer makes an event of its own.
                return self.burst(index);
            }
        }
    }
}
