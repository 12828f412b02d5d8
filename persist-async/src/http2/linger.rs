//! The end of a connection whose peer broke the rules: our last word must reach it. A socket that is closed while bytes wait in it is reset, and a reset
//! may throw away what the peer has not read yet.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::io::ReadBuf;
use tokio::time::sleep;

use super::failure::lock;
use super::server::Door;
use crate::link::Transport;

/// What is read and dropped meanwhile; a peer that sends more than this after our goodbye is not listening.
const DROPPED_BYTES_MAX: usize = 1 << 20;

/// Where a stream is left by the connection that had it.
pub(super) type Left<S> = Arc<Mutex<Option<S>>>;

/// Reads what still comes until the peer has closed its side, for at most `limit`. Our side is closed already.
pub(super) async fn linger<S: Transport>(left: &Left<S>, limit: Duration, door: &Door) {
    let Some(mut stream) = lock(left).take() else { return };
    let mut limit = std::pin::pin!(sleep(limit));
    let mut piece = [0; 4096];
    let mut dropped = 0;
    poll_fn(|cx| {
        door.waits(cx);
        if door.is_aborted() || limit.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        // A peer that never stops is read by turns with others.
        for _ in 0..16 {
            let mut buf = ReadBuf::new(&mut piece);
            match Pin::new(&mut stream).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && dropped < DROPPED_BYTES_MAX => {
                    dropped += buf.filled().len();
                }
                Poll::Ready(_) => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
