//! Whether the peer still answers: a PING when nothing was heard for a while (RFC 9113 §6.7).

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Http2Config;
use super::metered::Meter;

/// The watch over one connection.
pub(super) struct Watch {
    pings: Option<PingPong>,
    after: Option<Duration>,
    timeout: Duration,
    sent: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub(super) fn new(pings: Option<PingPong>, config: &Http2Config) -> Self {
        Self { pings, after: config.ping_after, timeout: config.ping_timeout, sent: None, timer: None }
    }

    /// Ready once the peer does not answer any more.
    pub(super) fn poll_dead(&mut self, meter: &Meter, cx: &mut Context<'_>) -> Poll<()> {
        let (Some(pings), Some(after)) = (&mut self.pings, self.after) else { return Poll::Pending };
        loop {
            if self.sent.is_some() {
                match pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.sent = None;
                        self.timer = None;
                    }
                    // The connection ends anyway.
                    Poll::Ready(Err(_)) => return Poll::Pending,
                    Poll::Pending => {}
                }
            }
            let heard = meter.last_read().unwrap_or(meter.started);
            let due = match self.sent {
                // Whatever comes from the peer shows that it lives.
                Some(sent) => sent.max(heard) + self.timeout,
                None => heard + after,
            };
            if Instant::now() < due {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                // A timer that is set too early is left alone: it fires in vain, and is set anew then.
                if timer.deadline() > due {
                    timer.as_mut().reset(due);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                timer.as_mut().reset(due);
                continue;
            }
            if self.sent.is_some() {
                return Poll::Ready(());
            }
            if pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Pending;
            }
            self.sent = Some(Instant::now());
            self.timer = None;
        }
    }
}
