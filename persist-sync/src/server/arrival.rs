//! What happens between the accept of a connection and its first request.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;

use persist_core::{Instant, Peer, ProxyHeader};

use crate::stream::Stream;

/// What is read at once: the header with addresses, and usually nothing behind it.
const PIECE: usize = 256;

/// A connection that has yet to say, in a PROXY header, whom it speaks for.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: Stream,
    /// Where it comes from, unless the header says otherwise.
    pub(super) peer: Option<SocketAddr>,
    /// When it is too late.
    pub(super) deadline: Option<Instant>,
    received: Vec<u8>,
}

/// How far an arrival has come.
pub(super) enum Progress {
    /// More of the header is to come.
    Waiting,
    /// The client's address, if the proxy knows it, and what was read behind the header.
    Arrived(Option<SocketAddr>, Vec<u8>),
    /// There is no header.
    Failed,
}

impl Arrival {
    pub(super) fn new(stream: Stream, peer: Option<SocketAddr>, deadline: Option<Instant>) -> Self {
        Self { stream, peer, deadline, received: Vec::new() }
    }

    /// Reads what is there.
    pub(super) fn read(&mut self) -> Progress {
        let mut piece = [0; PIECE];
        loop {
            // The parser takes no header that is longer than `ProxyHeader::BYTES_MAX`, which bounds what is kept.
            match self.stream.try_read(&mut piece) {
                Ok(0) => return Progress::Failed,
                Ok(n) => self.received.extend_from_slice(&piece[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
                Err(_) => return Progress::Failed,
            }
            match ProxyHeader::parse(&self.received) {
                Ok(None) => {}
                Ok(Some(header)) => {
                    let rest = self.received.split_off(header.bytes);
                    return Progress::Arrived(header.addresses.map(|addresses| addresses.source), rest);
                }
                Err(_) => return Progress::Failed,
            }
        }
    }
}

/// How many connections each peer has, where that is limited.
#[derive(Debug)]
pub(super) struct Shares {
    max: Option<NonZeroUsize>,
    counts: HashMap<Peer, usize>,
}

/// A connection that is counted for its peer; give it [back](Shares::give_back).
#[derive(Debug)]
pub(super) struct Share(Option<Peer>);

impl Shares {
    pub(super) fn new(max: Option<NonZeroUsize>) -> Self {
        Self { max, counts: HashMap::new() }
    }

    /// Counts a connection for its peer; `None` if that has its share already.
    pub(super) fn take(&mut self, peer: Option<SocketAddr>) -> Option<Share> {
        let (Some(peer), Some(max)) = (peer.map(Peer::of), self.max) else { return Some(Share(None)) };
        let count = self.counts.entry(peer).or_default();
        if *count >= max.get() {
            return None;
        }
        *count += 1;
        Some(Share(Some(peer)))
    }

    pub(super) fn give_back(&mut self, share: &Share) {
        if let Some(peer) = share.0
            && let Some(count) = self.counts.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&peer);
            }
        }
    }
}
