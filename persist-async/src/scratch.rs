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

/// So much room for machines is kept.
const ROOMS_MAX: usize = 8;

impl Scratch {
    fn new() -> Box<Self> {
        Box::new(Self { input: vec![0; READ_BYTES].into_boxed_slice() })
    }
}

/// Gives the machine a buffer to write into, and places for its exchanges, unless it has them.
#[inline]
pub(crate) fn lend<R: Role>(conn: &mut Conn<R>) {
    // On a thread that is ending it makes its own.
    let _ = ROOMS.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.is_empty() {
            kept.push(Room::default());
        }
        if let Some(room) = kept.last_mut() {
            room.reserve(OUTPUT_BYTES.0);
            conn.lend(room);
            if room.is_empty() {
                kept.pop();
            }
        }
    });
}

/// Takes back what of it is empty again.
#[inline]
pub(crate) fn reclaim<R: Role>(conn: &mut Conn<R>) {
    let _ = ROOMS.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let mut room = Room::default();
        conn.reclaim(&mut room);
        if !room.is_empty() && room.capacity() <= OUTPUT_BYTES.1 && kept.len() < ROOMS_MAX {
            kept.push(room);
        }
    });
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    /// Room for machines: for one is enough unless a handler uses another connection.
    static ROOMS: RefCell<Vec<Room>> = const { RefCell::new(Vec::new()) };
}

/// Runs `use_it` with this thread's buffers. A stream that drives another connection from inside gets a fresh set.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_else(Scratch::new);
    let result = use_it(&mut scratch);
    // A thread that is ending has no place to keep them.
    let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    result
}
