//! One set of buffers per thread, lent to whichever connection is being driven, so that idle connections hold none.

use std::cell::{Cell, RefCell};

use persist_core::{Conn, Role, Room};

/// Bytes read at once, straight to where they are wanted.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// Bytes read at once to be copied from here: so many that small chunks need few calls, and so few that the rest of a large one is worth reading straight.
pub(crate) const READ_BYTES_COPIED: usize = READ_BYTES / 2;

/// So many bytes more are read than the content that is expected: mostly the framing of the next chunk, which would need a read of its own. That the end of a message leaves its
/// last read short is of use, too: the socket is known to be dry then.
pub(crate) const READ_BYTES_BEHIND: usize = 128;

/// Bytes read at once where a message begins: enough for many small ones. What is behind them may be content, which is better read to where it is wanted.
pub(crate) const READ_BYTES_FIRST: usize = 8 * 1024;

/// The buffers.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// What the socket gives.
    pub(crate) input: Box<[u8]>,
}

/// An outbox to begin with holds so much, and is not kept for the next if it has grown beyond the second.
const OUTPUT_BYTES: (usize, usize) = (8 * 1024, 256 * 1024);

/// So much room for machines is kept besides that which is at hand.
const ROOMS_MAX: usize = 8;

/// Room for machines. Driving one connection takes what is at hand and puts it back there; the others are for handlers that use further connections.
#[derive(Debug)]
struct Rooms {
    at_hand: Room,
    others: Vec<Room>,
}

impl Scratch {
    fn new() -> Box<Self> {
        Box::new(Self { input: vec![0; READ_BYTES_COPIED].into_boxed_slice() })
    }
}

impl Rooms {
    const fn new() -> Self {
        Self { at_hand: Room::new(), others: Vec::new() }
    }

    #[inline]
    fn lend<R: Role>(&mut self, conn: &mut Conn<R>) {
        if self.at_hand.capacity() == 0 {
            self.find();
        }
        conn.lend(&mut self.at_hand);
    }

    #[cold]
    fn find(&mut self) {
        if let Some(room) = self.others.pop() {
            self.at_hand = room;
        }
        self.at_hand.reserve(OUTPUT_BYTES.0);
    }

    #[inline]
    fn reclaim<R: Role>(&mut self, conn: &mut Conn<R>) {
        if self.at_hand.capacity() > 0 && conn.is_lent() {
            return self.put_aside(conn);
        }
        conn.reclaim(&mut self.at_hand);
        if self.at_hand.capacity() > OUTPUT_BYTES.1 {
            self.at_hand = Room::new();
        }
    }

    /// Another connection has put its room here meanwhile.
    #[cold]
    fn put_aside<R: Role>(&mut self, conn: &mut Conn<R>) {
        let mut room = Room::new();
        conn.reclaim(&mut room);
        if (1..=OUTPUT_BYTES.1).contains(&room.capacity()) && self.others.len() < ROOMS_MAX {
            self.others.push(room);
        }
    }
}

/// Gives the machine a buffer to write into, and places for its exchanges, unless it has them.
#[inline]
pub(crate) fn lend<R: Role>(conn: &mut Conn<R>) {
    // What waits to be written is in the room that it has. On a thread that is ending it makes its own.
    if !conn.is_lent() {
        let _ = ROOMS.try_with(|rooms| rooms.borrow_mut().lend(conn));
    }
}

/// Takes back what of it is empty again.
#[inline]
pub(crate) fn reclaim<R: Role>(conn: &mut Conn<R>) {
    if conn.has_spare_room() {
        let _ = ROOMS.try_with(|rooms| rooms.borrow_mut().reclaim(conn));
    }
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    static ROOMS: RefCell<Rooms> = const { RefCell::new(Rooms::new()) };
}

/// Runs `use_it` with this thread's buffers. A stream that drives another connection from inside gets a fresh set.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_else(Scratch::new);
    let result = use_it(&mut scratch);
    // A thread that is ending has no place to keep them.
    let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    result
}

#[cfg(test)]
mod tests {
    use persist_core::{Config, Instant, Response, Server, StatusCode};

    use super::*;

    fn fresh() -> Conn<Server> {
        Conn::new(Config::server(), Instant::ZERO)
    }

    /// Has it answer something so large that its outbox grows beyond what is kept.
    fn grown(rooms: &mut Rooms) -> Conn<Server> {
        let mut conn = fresh();
        rooms.lend(&mut conn);
        let mut input = &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..];
        let Ok(persist_core::Next::Event(persist_core::Event::Head { ticket, .. })) =
            conn.next(&mut input, Instant::ZERO)
        else {
            panic!("a request")
        };
        let content = vec![0; OUTPUT_BYTES.1 + 1];
        let fields = Response::new(StatusCode::OK).fields;
        conn.send_whole_response(ticket, StatusCode::OK, &fields, &content, Instant::ZERO).expect("taken");
        conn
    }

    #[test]
    fn connections_that_drive_each_other_each_get_room_and_it_is_used_again() {
        let mut rooms = Rooms::new();
        for round in 0..3 {
            let mut conns: Vec<_> = (0..ROOMS_MAX + 3).map(|_| fresh()).collect();
            for conn in &mut conns {
                rooms.lend(conn);
                assert_eq!(rooms.at_hand.capacity(), 0, "it is lent, in round {round}");
            }
            for conn in conns.iter_mut().rev() {
                rooms.reclaim(conn);
                assert_eq!(rooms.at_hand.capacity(), OUTPUT_BYTES.0, "something is at hand, in round {round}");
            }
            assert_eq!(rooms.others.len(), ROOMS_MAX, "no more are kept, in round {round}");
        }
    }

    #[test]
    fn one_at_a_time_uses_the_same_room_for_ever() {
        let mut rooms = Rooms::new();
        for _ in 0..100 {
            let mut conn = fresh();
            rooms.lend(&mut conn);
            rooms.lend(&mut conn);
            rooms.reclaim(&mut conn);
            rooms.reclaim(&mut conn);
        }
        // Lending twice is no harm, but for the second room that it made.
        assert!(rooms.others.len() <= 1, "{}", rooms.others.len());
    }

    #[test]
    fn what_a_machine_still_needs_stays_there_and_what_grew_is_not_kept() {
        let mut rooms = Rooms::new();
        let mut conn = grown(&mut rooms);
        rooms.reclaim(&mut conn);
        assert_eq!(rooms.at_hand.capacity(), 0, "it is in use");
        let unsent = conn.unsent_bytes();
        assert!(unsent > OUTPUT_BYTES.1);
        bytes::Buf::advance(&mut conn.transmit(Instant::ZERO), unsent);
        rooms.reclaim(&mut conn);
        assert_eq!(rooms.at_hand.capacity(), 0, "too large to keep");

        let mut conn = grown(&mut rooms);
        let mut other = fresh();
        rooms.lend(&mut other);
        rooms.reclaim(&mut other);
        let unsent = conn.unsent_bytes();
        bytes::Buf::advance(&mut conn.transmit(Instant::ZERO), unsent);
        rooms.reclaim(&mut conn);
        assert_eq!((rooms.at_hand.capacity(), rooms.others.len()), (OUTPUT_BYTES.0, 0), "nor beside another");
    }
}
