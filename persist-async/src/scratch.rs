//! One set of buffers per thread, lent to whichever connection is being driven, so that idle connections hold none.

use std::cell::Cell;

/// Bytes read at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;

/// The buffers.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// What the socket gives.
    pub(crate) input: Box<[u8]>,
    /// The machine's outbox.
    pub(crate) output: Vec<u8>,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

/// Runs `use_it` with this thread's buffers. A stream that drives another connection from inside gets a fresh set.
pub(crate) fn with<T>(use_it: impl FnOnce(&mut Scratch) -> T) -> T {
    let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_else(|| {
        Box::new(Scratch { input: vec![0; READ_BYTES].into_boxed_slice(), output: Vec::with_capacity(4096) })
    });
    let result = use_it(&mut scratch);
    // A thread that is ending has no place to keep them.
    let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
    result
}
