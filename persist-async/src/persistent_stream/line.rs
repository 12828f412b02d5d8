//! One connection of a persistent stream: messages that stay whole, and heartbeats between them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use persist_core::{Beat, BoxError, Contradiction, Heartbeat, PeerSilent, PersistentStreamConfig};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::clock;
use crate::stream::Stream;

/// One connection.
pub(super) struct Line {
    stream: Stream,
    /// Its number, among all of the persistent stream.
    pub(super) number: u64,
    /// A write took a part of its buffer; the rest is to follow.
    pub(super) mid_message: bool,
    heartbeat: Option<Pulse>,
}

struct Pulse {
    machine: Heartbeat,
    /// The machine's deadline, or an earlier one: it is set anew only when it has passed.
    timer: Pin<Box<Sleep>>,
    payload: Vec<u8>,
    /// Bytes of the payload that are still to be sent. A heartbeat that was begun is finished before anything else is written.
    left: usize,
}

impl Line {
    pub(super) fn new(stream: Stream, number: u64, config: &PersistentStreamConfig) -> Result<Self, Contradiction> {
        let heartbeat = match config.heartbeat {
            None => None,
            Some(heartbeat) => {
                let now = clock::now();
                let machine = Heartbeat::new(heartbeat, now)?;
                let due = machine.poll_timeout().unwrap_or(now);
                let timer = Box::pin(tokio::time::sleep_until(clock::at(due)));
                Some(Pulse { machine, timer, payload: config.heartbeat_payload.clone(), left: 0 })
            }
        };
        Ok(Self { stream, number, mid_message: false, heartbeat })
    }

    /// What comes; nothing at the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<Result<(), BoxError>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(outcome) => Poll::Ready(outcome.map_err(BoxError::from)),
            Poll::Pending => self.poll_pulse(cx).map(Err),
        }
    }

    /// Bytes came.
    pub(super) fn heard(&mut self) {
        if let Some(pulse) = &mut self.heartbeat {
            pulse.machine.handle_received(clock::now());
        }
    }

    /// As much as the system takes. What is not taken has to follow.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<Result<usize, BoxError>> {
        ready!(self.poll_beat(cx))?;
        let n = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.mid_message = n < buf.len();
        Poll::Ready(if n == 0 { Err(io::Error::from(io::ErrorKind::WriteZero).into()) } else { Ok(n) })
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.poll_beat(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx).map_err(BoxError::from)
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        ready!(self.poll_beat(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx).map_err(BoxError::from)
    }

    /// Sends heartbeats as they fall due; ends only with the peer.
    fn poll_pulse(&mut self, cx: &mut Context<'_>) -> Poll<BoxError> {
        loop {
            let mid_message = self.mid_message;
            let Some(pulse) = &mut self.heartbeat else { return Poll::Pending };
            if pulse.left > 0 {
                // A peer that takes no bytes is noticed by the machine.
                match self.poll_beat(cx) {
                    Poll::Ready(Err(error)) => return Poll::Ready(error),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            let Some(pulse) = &mut self.heartbeat else { return Poll::Pending };
            ready!(pulse.timer.as_mut().poll(cx));
            match pulse.machine.handle_timeout(clock::now()) {
                Some(Beat::Dead { silent }) => return Poll::Ready(PeerSilent::new(silent).into()),
                // A message on its way is a sign of life as good as any, and so is a heartbeat that the system has not taken yet.
                Some(Beat::Send) if !mid_message && pulse.left == 0 => pulse.left = pulse.payload.len(),
                Some(Beat::Send) | None => {}
            }
            let due = pulse.machine.poll_timeout().unwrap_or_else(clock::now);
            pulse.timer.as_mut().reset(clock::at(due));
        }
    }

    /// The rest of a heartbeat that was begun.
    fn poll_beat(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        let Some(pulse) = &mut self.heartbeat else { return Poll::Ready(Ok(())) };
        if pulse.left == 0 {
            return Poll::Ready(Ok(()));
        }
        while pulse.left > 0 {
            let rest = &pulse.payload[pulse.payload.len() - pulse.left..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into())),
                n => pulse.left -= n,
            }
        }
        // TLS may hold some of it back; the next write or flush goes on with that.
        let _ = Pin::new(&mut self.stream).poll_flush(cx)?;
        Poll::Ready(Ok(()))
    }
}
