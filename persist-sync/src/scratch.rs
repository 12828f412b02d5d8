//! Buffers that each thread has once, lent to whichever connection it drives, so that idle connections hold none.

use std::cell::{Cell, RefCell};

use persist_core::{Conn, Role, Room};

/// One read from a stream.
const INPUT_BYTES: usize = 64 * 1024;

/// An outbox to begin with holds so much, and is not kept for the next if it has grown beyond the second.
const OUTPUT_BYTES: (usize, usize) = (4 * 1024, 256 * 1024);

thread_local! {
    static INPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static ROOM: RefCell<Room> = const { RefCell::new(Room::new()) };
}

/// Runs `use_it` with this thread's buffer for one read.
pub(crate) fn with_input<T>(use_it: impl FnOnce(&mut [u8]) -> T) -> T {
    // A thread that ends may still drop handles, when its buffer is gone already.
    let mut input = INPUT.try_with(Cell::take).unwrap_or_default();
    if input.is_empty() {
        input = vec![0; INPUT_BYTES];
    }
    let result = use_it(&mut input);
    let _ = INPUT.try_with(|kept| kept.set(input));
    result
}

/// Gives the machine a buffer to write into, and places for its exchanges, if it needs them.
pub(crate) fn lend<R: Role>(conn: &mut Conn<R>) {
    let _ = ROOM.try_with(|room| {
        let mut room = room.borrow_mut();
        room.reserve(OUTPUT_BYTES.0);
        conn.lend(&mut room);
    });
}

/// Takes it back, if all in it was written.
pub(crate) fn reclaim<R: Role>(conn: &mut Conn<R>) {
    let _ = ROOM.try_with(|room| {
        let mut room = room.borrow_mut();
        conn.reclaim(&mut room);
        if room.capacity() > OUTPUT_BYTES.1 {
            *room = Room::new();
        }
    });
}
