//! Standard output in the order asked, although replies may come over several connections at once.
//!
//! What comes before its turn is kept within one budget; beyond that its connection is not read any further until its turn has come.
//! Every connection takes its requests in the order asked, so the one whose turn it is never waits behind another.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

/// Bytes that may wait for their turn, all together.
const PARKED_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A writer that `count` numbered parts share: it writes part 0, then part 1, and so on.
#[derive(Debug)]
pub(super) struct InOrder<W> {
    state: Mutex<State<W>>,
    turn: watch::Sender<usize>,
}

#[derive(Debug)]
struct State<W> {
    out: W,
    turn: usize,
    parked: BTreeMap<usize, Parked>,
    parked_bytes: usize,
}

#[derive(Debug, Default)]
struct Parked {
    chunks: Vec<Bytes>,
    complete: bool,
}

impl<W: Write> InOrder<W> {
    pub(super) fn new(out: W) -> Self {
        let state = State { out, turn: 0, parked: BTreeMap::new(), parked_bytes: 0 };
        Self { state: Mutex::new(state), turn: watch::Sender::new(0) }
    }

    /// Writes more of a part, or keeps it for later; waits for the part's turn when too much is kept already.
    ///
    /// # Errors
    /// The writer's.
    pub(super) async fn write(&self, part: usize, chunk: Bytes) -> io::Result<()> {
        {
            let mut state = self.lock();
            if state.turn != part && !state.must_wait(part, chunk.len()) {
                state.parked_bytes += chunk.len();
                state.parked.entry(part).or_default().chunks.push(chunk);
                return Ok(());
            }
        }
        self.wait_for(part).await;
        self.lock().write(part, &chunk)
    }

    /// Waits until everything before this part is out.
    pub(super) async fn wait_for(&self, part: usize) {
        // The sender lives as long as `self`, so this cannot fail.
        let _ = self.turn.subscribe().wait_for(|turn| *turn >= part).await;
    }

    /// The part is complete, or will never be. To be called once for each.
    ///
    /// # Errors
    /// The writer's. The turn moves on all the same.
    pub(super) fn finish(&self, part: usize) -> io::Result<()> {
        let mut state = self.lock();
        let result = state.finish(part);
        self.turn.send_replace(state.turn);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State<W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write> State<W> {
    fn must_wait(&self, part: usize, len: usize) -> bool {
        self.turn != part && self.parked_bytes + len > PARKED_BYTES_MAX
    }

    fn write(&mut self, part: usize, chunk: &[u8]) -> io::Result<()> {
        self.flush_parked(part)?;
        self.out.write_all(chunk)
    }

    fn finish(&mut self, part: usize) -> io::Result<()> {
        self.parked.entry(part).or_default().complete = true;
        let mut result = Ok(());
        while self.parked.get(&self.turn).is_some_and(|parked| parked.complete) {
            result = result.and(self.flush_parked(self.turn));
            self.parked.remove(&self.turn);
            self.turn += 1;
        }
        result.and(self.out.flush())
    }

    /// Writes what was kept of the part whose turn it is.
    fn flush_parked(&mut self, part: usize) -> io::Result<()> {
        let Some(parked) = self.parked.get_mut(&part) else { return Ok(()) };
        let chunks = std::mem::take(&mut parked.chunks);
        self.parked_bytes -= chunks.iter().map(Bytes::len).sum::<usize>();
        chunks.iter().try_for_each(|chunk| self.out.write_all(chunk))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Polls once, without a runtime.
    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn written(order: &InOrder<Vec<u8>>) -> String {
        String::from_utf8(order.lock().out.clone()).unwrap()
    }

    fn give(order: &InOrder<Vec<u8>>, part: usize, text: &'static str) {
        assert!(matches!(poll(order.write(part, Bytes::from_static(text.as_bytes()))), Poll::Ready(Ok(()))));
    }

    #[test]
    fn parts_leave_in_order_whatever_order_they_come_in() {
        let order = InOrder::new(Vec::new());
        give(&order, 2, "c");
        give(&order, 0, "a");
        give(&order, 1, "b");
        order.finish(2).unwrap();
        assert_eq!(written(&order), "a");
        order.finish(0).unwrap();
        assert_eq!(written(&order), "a", "part 1 is not complete, so it waits for its next write");
        give(&order, 1, "B");
        assert_eq!(written(&order), "abB");
        order.finish(1).unwrap();
        assert_eq!(written(&order), "abBc");
    }

    #[test]
    fn a_part_waits_for_its_turn_when_too_much_is_parked() {
        let order = InOrder::new(Vec::new());
        let large = Bytes::from(vec![b'x'; PARKED_BYTES_MAX]);
        assert!(poll(order.write(1, large.clone())).is_ready());
        let mut waiting = pin!(order.write(1, Bytes::from_static(b"y")));
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        order.finish(0).unwrap();
        assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        assert_eq!(written(&order).len(), PARKED_BYTES_MAX + 1);
        assert!(written(&order).ends_with('y'));
        assert_eq!(order.lock().parked_bytes, 0);
    }
}
