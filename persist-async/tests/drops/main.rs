//! Futures, exchanges, bodies and streams that are dropped at any point: the pairing of the others holds, or the connection closes, typed.
//!
//! How often each future is polled before it is dropped is drawn from seeds: the same ones each time, more and others where `PERSIST_FRESH_SEEDS` is set.

#[cfg(feature = "tls")]
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "../certificates/mod.rs"]
mod certificates;
mod connection;
mod pooled;
mod streams;

use std::ops::Range;
use std::pin::Pin;
use std::task::Poll;
use std::time::{SystemTime, UNIX_EPOCH};

use persist_async::Request;

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

/// Polls so many times at most, and drops it; `u32::MAX` is to the end.
async fn poll_times<F: Future>(future: F, times: u32) -> Option<F::Output> {
    if times == u32::MAX {
        return Some(future.await);
    }
    let mut future = std::pin::pin!(future);
    for _ in 0..times {
        let mut once = std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        });
        if let Some(output) = Pin::new(&mut once).await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

/// A small generator of the test's own, so that a failure can be replayed by its seed.
struct Seed(u64);

impl Seed {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % n
    }
}

/// These, or ten times as many others.
fn seeds(fixed: Range<u64>) -> Range<u64> {
    match std::env::var_os("PERSIST_FRESH_SEEDS") {
        None => fixed,
        Some(_) => {
            let first = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos() as u64 >> 8);
            first..first + 10 * (fixed.end - fixed.start)
        }
    }
}
