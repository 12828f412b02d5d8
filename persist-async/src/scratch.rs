//! One set of buffers per thread, lent to whichever connection is being driven, so that idle connections hold none.

use std::cell::{Cell, RefCell};

use persist_core::{Conn, Role};

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

/// Outboxes that are kept.
const OUTPUTS_MAX: usize = 8;

impl Scratch {
    fn new() -> Box<Self> {
        Box::new(Self { input: vec![0; READ_BYTES].into_boxed_slice() })
    }
}

/// Gives the machine a buffer to write into, unless it has one.
#[inline]
pub(crate) fn lend<R: Role>(conn: &mut Conn<R>) {
    let mut output = OUTPUTS.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default();
    if output.capacity() == 0 {
        output.reserve(OUTPUT_BYTES.0);
    }
    conn.lend(&mut output);
    keep(output);
}

/// Takes it back, if all in it was written.
#[inline]
pub(crate) fn reclaim<R: Role>(conn: &mut Conn<R>) {
    let mut output = Vec::new();
    conn.reclaim(&mut output);
    keep(output);
}

#[inline]
fn keep(output: Vec<u8>) {
    if output.capacity() > 0 && output.capacity() <= OUTPUT_BYTES.1 {
        // A thread that is ending has no place to keep it.
        let _ = OUTPUTS.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < OUTPUTS_MAX {
                kept.push(output);
            }
        });
    }
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
    /// Outboxes for machines: one is enough unless a handler uses another connection.
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `use_it` with this thread's buffers. A stream that drives another connection from inside gets a fresh set.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_else(Scratch::new);
    let result = use_it(&mut scratch);
    // A thread that is ending has no place to keep them.
    let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    result
}
