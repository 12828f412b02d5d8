//! One exchange, and the queue that joins the two halves of a connection.

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
#[derive(Clone, Copy, Debug)]
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
        }
    }

    /// Whether every byte of our message was accepted by the layer below, and no more will come.
    pub(crate) fn is_sent(&self) -> bool {
        self.sending.is_over() && self.sent == self.queued
    }

    /// Whether our message has begun to leave, has no end but the connection's, and has not come to it.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(self.remaining, Remaining::UntilClose) && self.sent > 0 && !self.is_sent()
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

/// Room for more than that is given back to no thread.
const KEPT_MAX: usize = 64;

/// The exchanges that are not complete, oldest first.
///
/// They stay where they were put until all of them are gone. The room for them is lent with the outbox's: an idle machine has none.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// Those that are gone come first.
    list: Vec<Exchange>,
    /// The place of the oldest; 0 if there is none.
    front: usize,
    next_id: u64,
}

impl Queue {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.list.len() - self.front
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds an exchange and numbers it. Numbers are never given twice, not even after [`pop_back`](Self::pop_back).
    #[inline]
    pub(crate) fn push(&mut self, method: Known, started: Instant) -> &mut Exchange {
        let exchange = Exchange::new(ExchangeId::from_number(self.next_id), method, started);
        self.next_id += 1;
        if self.list.len() == self.list.capacity() {
            self.make_room();
        }
        self.list.push(exchange);
        self.list.last_mut().expect("just pushed")
    }

    /// Cuts off the places of those that are gone, if they are at least as many as the others, so that steady pipelining neither grows nor moves much.
    #[cold]
    fn make_room(&mut self) {
        if self.front >= self.len().max(1) {
            self.list.drain(..self.front);
            self.front = 0;
        } else if self.list.is_empty() {
            self.list.reserve_exact(1); // most connections have one at a time
        } else {
            self.list.reserve(BURST);
        }
    }

    #[inline]
    pub(crate) fn drop_front(&mut self) {
        self.front += 1;
        self.begin_anew();
    }

    /// All places are free again once all exchanges are gone.
    #[inline]
    fn begin_anew(&mut self) {
        if self.front == self.list.len() {
            self.front = 0;
            self.list.clear();
        }
    }

    pub(crate) fn pop_back(&mut self) -> Option<Exchange> {
        let last = self.list.pop()?;
        self.begin_anew();
        Some(last)
    }

    pub(crate) fn remove(&mut self, index: usize) {
        if index == 0 && !self.is_empty() {
            self.drop_front();
        } else if index < self.len() {
            self.list.remove(self.front + index);
        }
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&Exchange> {
        self.list.get(self.front)
    }

    #[inline]
    pub(crate) fn front_mut(&mut self) -> Option<&mut Exchange> {
        self.list.get_mut(self.front)
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<&Exchange> {
        self.list.last()
    }

    #[inline]
    pub(crate) fn back_mut(&mut self) -> Option<&mut Exchange> {
        self.list.last_mut()
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&Exchange> {
        self.list.get(self.front + index)
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut Exchange> {
        self.list.get_mut(self.front + index)
    }

    #[inline]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Exchange> {
        self.list[self.front..].iter()
    }

    /// Where an exchange stands. Ids grow along the queue with few gaps, so the guess is right or just past it.
    #[inline]
    pub(crate) fn index_of(&self, id: ExchangeId) -> Option<usize> {
        let first = self.front()?.id;
        if first == id {
            return Some(0);
        }
        let mut index = usize::try_from(id.number().checked_sub(first.number())?).ok()?.min(self.len() - 1);
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
    #[inline]
    pub(crate) fn shrink(&mut self) {
        if self.list.capacity() > 1 {
            self.free();
        }
    }

    #[inline(never)]
    fn free(&mut self) {
        if self.is_empty() {
            self.list = Vec::new();
        }
    }

    /// Takes over the caller's room, if it has none of its own.
    #[inline]
    pub(crate) fn lend(&mut self, room: &mut Vec<Exchange>) {
        if self.list.capacity() == 0 {
            core::mem::swap(&mut self.list, room);
        }
    }

    /// Whether there is room, and nobody in it.
    #[inline]
    pub(crate) fn has_spare_room(&self) -> bool {
        self.list.is_empty() && self.list.capacity() > 0
    }

    /// Gives the room back, if there is nobody in it.
    #[inline]
    pub(crate) fn reclaim(&mut self, room: &mut Vec<Exchange>) {
        if self.has_spare_room() {
            let list = core::mem::take(&mut self.list);
            if list.capacity() <= KEPT_MAX {
                *room = list;
            }
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

    #[test]
    fn it_behaves_as_a_plain_list_and_does_not_grow_with_what_has_passed_through() {
        let mut random = 7u32;
        let mut queue = Queue::default();
        let mut model: Vec<u64> = Vec::new();
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (what, at) = (random >> 28, (random >> 16) as usize % (model.len() + 1));
            match what {
                0..8 if model.len() < 20 => model.push(queue.push(Known::Get, Instant::ZERO).id.number()),
                8..13 if !model.is_empty() => {
                    queue.drop_front();
                    model.remove(0);
                }
                13 => assert_eq!(queue.pop_back().map(|exchange| exchange.id.number()), model.pop()),
                14 => {
                    queue.remove(at);
                    if at < model.len() {
                        model.remove(at);
                    }
                }
                _ if model.is_empty() => queue.shrink(),
                _ => {}
            }
            assert_eq!(queue.iter().map(|exchange| exchange.id.number()).collect::<Vec<_>>(), model);
            assert_eq!((queue.len(), queue.is_empty()), (model.len(), model.is_empty()));
            assert_eq!(queue.front().map(|exchange| exchange.id.number()), model.first().copied());
            assert_eq!(queue.back_mut().map(|exchange| exchange.id.number()), model.last().copied());
            assert_eq!(queue.get_mut(at).map(|exchange| exchange.id.number()), model.get(at).copied());
            assert!(queue.list.capacity() <= 4 * 20, "{} places for {}", queue.list.capacity(), model.len());
        }
    }
}
