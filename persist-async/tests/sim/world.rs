//! What everybody in one run shares.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use bytes::Bytes;

use crate::dice::Dice;
use crate::hosts::ServerStyle;
use crate::network::Network;
use crate::oracle::Oracle;
use crate::plan::Whims;
use crate::plant::Plant;
use crate::trace::Trace;

pub(crate) struct World {
    pub(crate) net: Arc<Network>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Arc<Trace>,
    pub(crate) plant: Plant,
    pub(crate) whims: Whims,
    pub(crate) servers: ServerStyle,
    /// Nothing is to befall anybody.
    pub(crate) calm: bool,
    /// The clients are done, so there is nothing to disturb any more.
    pub(crate) quiet: AtomicBool,
}

impl World {
    /// Whether the planted fault, if it is this one, is to show with this request: with every eighth.
    pub(crate) fn strikes(&self, plant: Plant, n: u64) -> bool {
        self.plant == plant && Dice::new(n).percent(12)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }
}

/// Something that is said once, and heard in the order in which it was waited for. (Tokio's `watch` wakes in an order of its own, and not always the same.)
#[derive(Default)]
pub(crate) struct Signal(Mutex<(bool, Vec<Waker>)>);

impl Signal {
    pub(crate) fn set(&self) {
        let mut state = self.0.lock().expect("no panic");
        state.0 = true;
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.lock().expect("no panic").0
    }

    pub(crate) async fn wait(&self) {
        poll_fn(|cx| {
            let mut state = self.0.lock().expect("no panic");
            if state.0 {
                return Poll::Ready(());
            }
            if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.1.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Content as it comes in, compared with what it should be.
pub(crate) struct Check {
    want: Bytes,
    seen: usize,
}

impl Check {
    pub(crate) fn new(want: Bytes) -> Self {
        Self { want, seen: 0 }
    }

    pub(crate) fn eat(&mut self, piece: &[u8]) -> Result<(), String> {
        let (from, to) = (self.seen, self.seen + piece.len());
        self.seen = to;
        match self.want.get(from..to) {
            Some(want) if want == piece => Ok(()),
            Some(_) => Err(format!("bytes {from}..{to} are not what was sent")),
            None => Err(format!("{to} bytes came of {}", self.want.len())),
        }
    }

    pub(crate) fn end(&self) -> Result<(), String> {
        if self.seen == self.want.len() {
            return Ok(());
        }
        Err(format!("it ended after {} bytes of {}", self.seen, self.want.len()))
    }
}
