//! One set of buffers per thread, lent to whichever connection is being driven, so that idle connections hold none.

use std::cell::Cell;

use persist_core::{Conn, Role};

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// The buffers.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// What the socket gives.
    pub(crate) input: Box<[u8]>,
    /// Outboxes for machines: one is enough unless a handler uses another connection.
    outputs: Vec<Vec<u8>>,
}

/// An outbox to begin with holds so much, and is not kept for the next if it has grown beyond the second.
const OUTPUT_BYTES: (usize, usize) = (8 * 1024, 256 * 1024);

/// Outboxes that are kept.
const OUTPUTS: usize = 8;

impl Scratch {
    fn new() -> Box<Self> {
        Box::new(Self { input: vec![0; READ_BYTES].into_boxed_slice(), outputs: Vec::with_capacity(OUTPUTS) })
    }

    /// Gives the machine a buffer to write into, unless it has one.
    pub(crate) fn lend<R: Role>(&mut self, conn: &mut Conn<R>) {
        let mut output = self.outputs.pop().unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES.0));
        conn.lend(&mut output);
        self.keep(output);
    }

    /// Takes it back, if all in it was written.
    pub(crate) fn reclaim<R: Role>(&mut self, conn: &mut Conn<R>) {
        let mut output = Vec::new();
        conn.reclaim(&mut output);
        self.keep(output);
    }

    fn keep(&mut self, output: Vec<u8>) {
        if output.capacity() > 0 && output.capacity() <= OUTPUT_BYTES.1 && self.outputs.len() < OUTPUTS {
            self.outputs.push(output);
        }
    }
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Runs `use_it` with this thread's buffers. A stream that drives another connection from inside gets a fresh set.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_else(Scratch::new);
    let result = use_it(&mut scratch);
    // A thread that is ending has no place to keep them.
    let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    result
}
