//! One exchange, and the queue that joins the two halves of a connection.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::Role;
use super::event::ExchangeId;
use super::expiry::NEVER;
use super::half::Half;
use crate::close::CloseReason;
use crate::method::Known;
use crate::time::Instant;

/// What is left of our message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// `Content-Length`: so many bytes.
    Length(u64),
    /// Chunks until the last one.
    Chunked,
    /// Whatever comes, until the connection closes.
    UntilClose,
}

/// Where `Expect: 100-continue` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Not asked, or settled: content flows.
    Settled,
    /// The client waits for `100 Continue`.
    Waiting,
}

/// Why no exchange follows this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    PeerSaidClose,
    PeerClosed,
    OurClose,
    MaxRequests,
    /// Its message will stay incomplete, on the wire or on the way in.
    Unfinished,
}

impl From<Last> for CloseReason {
    fn from(last: Last) -> Self {
        match last {
            Last::PeerSaidClose => Self::PeerSaidClose,
            Last::PeerClosed => Self::PeerClosed,
            Last::OurClose => Self::OurClose,
            Last::MaxRequests => Self::MaxRequests,
            Last::Unfinished => Self::Unfinished,
        }
    }
}

/// A request and its responses, as far as the connection cares.
#[derive(Debug)]
pub struct Exchange {
    pub(crate) id: ExchangeId,
    pub(crate) method: Known,
    /// Our message.
    pub(crate) sending: Half,
    /// The peer's message.
    pub(crate) receiving: Half,
    /// What is left of our content; means something while `sending` is `Body`.
    pub(crate) remaining: Remaining,
    pub(crate) expect: Expect,
    /// The connection ends after this exchange, for this reason.
    pub(crate) last: Option<Last>,
    /// An upgrade was asked for; after CONNECT likewise.
    pub(crate) may_switch: bool,
    /// The switch was agreed upon.
    pub(crate) switched: bool,
    /// Nobody wants the rest of the peer's message: it is dropped, within the drain budget.
    pub(crate) unwanted: bool,
    /// `Ended` was said: the caller hears no more of it.
    pub(crate) ended: bool,
    /// Server: the request was HTTP/1.0, so no interim response, no chunked coding.
    pub(crate) http10: bool,
    /// Server: the HTTP/1.0 request asked for keep-alive.
    pub(crate) asks_keep_alive: bool,
    /// Interim responses received.
    pub(crate) interim: u16,
    pub(crate) interim_bytes: u32,
    /// Bytes of our message that were put into the outbox.
    pub(crate) queued: u64,
    /// Bytes of our message that the layer below accepted.
    pub(crate) sent: u64,
    /// Bytes of the peer's final message.
    pub(crate) received: u64,
    /// Bytes of content received, for the body limit and the minimum rate.
    pub(crate) content: u64,
    /// Bytes dropped since the rest became unwanted.
    pub(crate) dropped: u64,
    /// When the request began.
    pub(crate) started: Instant,
    /// Client: so many milliseconds after its start it must be over; `NEVER` if it may take its time. In few bytes, since an idle machine has the place, too.
    pub(crate) due_after: u32,
    /// Server: a response that was given before its turn.
    pub(crate) parked: Vec<u8>,
}

impl Exchange {
    pub(crate) fn new(id: ExchangeId, method: Known, started: Instant) -> Self {
        Self {
            id,
            method,
            sending: Half::Idle,
            receiving: Half::Idle,
            remaining: Remaining::Length(0),
            expect: Expect::Settled,
            last: None,
            may_switch: false,
            switched: false,
            unwanted: false,
            ended: false,
            http10: false,
            asks_keep_alive: false,
            interim: 0,
            interim_bytes: 0,
            queued: 0,
            sent: 0,
            received: 0,
            content: 0,
            dropped: 0,
            started,
            due_after: NEVER,
            parked: Vec::new(),
        }
    }

    /// Whether every byte of our message was accepted by the layer below, and no more will come.
    pub(crate) fn is_sent(&self) -> bool {
        self.sending.is_over() && self.sent == self.queued
    }

    /// Whether every byte of our message was taken from the caller, be its end announced or not.
    pub(crate) fn is_whole(&self) -> bool {
        self.sending == Half::Done || self.remaining == Remaining::Length(0)
    }

    /// Client: the caller has the whole reply; what becomes of the rest of an upload cannot make it a failure any more.
    pub(crate) fn is_answered<R: Role>(&self) -> bool {
        R::IS_CLIENT && self.receiving == Half::Done && !self.unwanted
    }

    /// Client: the caller gave it up, and was not told yet what became of it.
    pub(crate) fn is_given_up<R: Role>(&self) -> bool {
        R::IS_CLIENT && self.unwanted && !self.ended
    }

    /// Whether nothing is missing from our message but the word that it is complete.
    pub(crate) fn lacks_only_its_end(&self) -> bool {
        self.sending == Half::Body && self.is_whole()
    }

    /// Our message stays as it is on the wire; returns how many bytes were not handed down, and never will be.
    pub(crate) fn cut(&mut self) -> u64 {
        let unsent = self.queued - self.sent;
        self.queued = self.sent;
        self.sending = Half::Failed;
        self.expect = Expect::Settled;
        if let Remaining::Length(left) = &mut self.remaining {
            *left += unsent;
        }
        unsent
    }

    /// Whether the peer's message is through, and ours is out or given up.
    pub(crate) fn is_complete(&self) -> bool {
        self.receiving == Half::Done && self.is_sent()
    }
}

/// How many exchanges room is made for when a second one joins the first: one burst of a usual depth.
const BURST: usize = 15;

/// The exchanges that are not complete, oldest first. The first is inline: most connections have no other.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    first: Option<Exchange>,
    rest: VecDeque<Exchange>,
    next_id: u64,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.rest.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Adds an exchange and numbers it. Numbers are never given twice, not even after [`pop_back`](Self::pop_back).
    pub(crate) fn push(&mut self, method: Known, started: Instant) -> &mut Exchange {
        let exchange = Exchange::new(ExchangeId(self.next_id), method, started);
        self.next_id += 1;
        if self.first.is_none() {
            return self.first.insert(exchange);
        }
        if self.rest.capacity() == 0 {
            self.rest.reserve(BURST);
        }
        self.rest.push_back(exchange);
        self.rest.back_mut().expect("just pushed")
    }

    pub(crate) fn drop_front(&mut self) {
        self.first = None;
        if !self.rest.is_empty() {
            self.first = self.rest.pop_front();
        }
    }

    pub(crate) fn pop_back(&mut self) -> Option<Exchange> {
        self.rest.pop_back().or_else(|| self.first.take())
    }

    pub(crate) fn remove(&mut self, index: usize) -> Option<Exchange> {
        if index == 0 {
            let front = self.first.take();
            self.drop_front();
            front
        } else {
            self.rest.remove(index - 1)
        }
    }

    pub(crate) fn front(&self) -> Option<&Exchange> {
        self.first.as_ref()
    }

    pub(crate) fn front_mut(&mut self) -> Option<&mut Exchange> {
        self.first.as_mut()
    }

    pub(crate) fn back(&self) -> Option<&Exchange> {
        self.rest.back().or(self.first.as_ref())
    }

    pub(crate) fn back_mut(&mut self) -> Option<&mut Exchange> {
        self.rest.back_mut().or(self.first.as_mut())
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Exchange> {
        if index == 0 { self.first.as_ref() } else { self.rest.get(index - 1) }
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Exchange> {
        if index == 0 { self.first.as_mut() } else { self.rest.get_mut(index - 1) }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Exchange> {
        self.first.iter().chain(&self.rest)
    }

    /// Where an exchange stands. Ids grow along the queue with few gaps, so the guess is right or just past it.
    pub(crate) fn index_of(&self, id: ExchangeId) -> Option<usize> {
        let first = self.first.as_ref()?.id;
        if first == id {
            return Some(0);
        }
        let mut index = usize::try_from(id.0.checked_sub(first.0)?).ok()?.min(self.len() - 1);
        loop {
            match self.get(index)?.id.cmp(&id) {
                Ordering::Equal => return Some(index),
                Ordering::Greater => index -= 1,
                Ordering::Less => return None,
            }
        }
    }

    /// The number that the next exchange will get.
    pub(crate) fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Gives back the memory of a burst that is over.
    pub(crate) fn shrink(&mut self) {
        if self.rest.is_empty() && self.rest.capacity() > 0 {
            self.rest = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_behind_a_gap_and_never_given_twice() {
        let mut queue = Queue::default();
        let ids: Vec<_> = (0..4).map(|_| queue.push(Known::Get, Instant::ZERO).id).collect();
        queue.pop_back();
        let fresh = queue.push(Known::Get, Instant::ZERO).id;
        assert!(!ids.contains(&fresh));
        assert_eq!(queue.index_of(fresh), Some(3));
        assert_eq!(queue.index_of(ids[3]), None);
        queue.drop_front();
        assert_eq!((queue.index_of(ids[0]), queue.index_of(ids[2]), queue.index_of(fresh)), (None, Some(1), Some(2)));
    }
}
