//! One set of buffers per thread, lent to whichever connection is being driven, so that idle connections hold none.

use std::cell::{Cell, RefCell};

use persist_core::{Conn, Role, Room};

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

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
        Box::new(Self { input: vec![0; READ_BYTES].into_boxed_slice() })
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
        if self.at_hand.capacity() > 0 {
            return self.put_aside(conn);
        }
        conn.reclaim(&mut self.at_hand);
        if self.at_hand.capacity() > OUTPUT_BYTES.1 {
            self.at_hand = Room::new();
        }
    }

    /// Another connection has put its room here meanwhile, or this one was lent none.
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
    // On a thread that is ending it makes its own.
    let _ = ROOMS.try_with(|rooms| rooms.borrow_mut().lend(conn));
}

/// Takes back what of it is empty again.
#[inline]
pub(crate) fn reclaim<R: Role>(conn: &mut Conn<R>) {
    let _ = ROOMS.try_with(|rooms| rooms.borrow_mut().reclaim(conn));
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
