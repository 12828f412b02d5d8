//! One connection of a persistent stream: whole writes, reads that wait, and heartbeats meanwhile.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use persist_core::{Beat, BoxError, Contradiction, Heartbeat, Instant, PeerSilent, PersistentStreamConfig};

use crate::clock;
use crate::dial::not_yet;
use crate::ready::{Directions, wait_alone};
use crate::stream::Stream;

/// One connection, used by at most one reader and one writer at a time; more take turns.
pub(super) struct Line {
    stream: Stream,
    /// Held for a whole write, so that nothing gets into the middle of it.
    writing: Mutex<()>,
    heartbeat: Option<Pulse>,
}

struct Pulse {
    machine: Mutex<Heartbeat>,
    payload: Vec<u8>,
}

/// Why a read gave nothing.
pub(super) enum Fault {
    /// Its time is up. The connection is as good as before.
    Late,
    Broken(BoxError),
}

impl Line {
    pub(super) fn new(stream: Stream, config: &PersistentStreamConfig, now: Instant) -> Result<Self, Contradiction> {
        let heartbeat = match config.heartbeat {
            None => None,
            Some(heartbeat) => {
                let machine = Mutex::new(Heartbeat::new(heartbeat, now)?);
                Some(Pulse { machine, payload: config.heartbeat_payload.clone() })
            }
        };
        Ok(Self { stream, writing: Mutex::new(()), heartbeat })
    }

    /// Ends it, for everybody who uses it.
    pub(super) fn close(&self) {
        // Fails where it is over already.
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Bytes came.
    pub(super) fn heard(&self, now: Instant) {
        if let Some(pulse) = &self.heartbeat {
            pulse.machine.lock().unwrap_or_else(PoisonError::into_inner).handle_received(now);
        }
    }

    /// What is there, or comes before the deadline; 0 at the end.
    pub(super) fn read(&self, buf: &mut [u8], deadline: Option<Instant>) -> Result<usize, Fault> {
        loop {
            match self.stream.try_read(buf) {
                Err(error) if not_yet(&error) => {}
                other => return other.map_err(|error| Fault::Broken(error.into())),
            }
            let now = clock::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                return Err(Fault::Late);
            }
            let beat = self.beat(now).map_err(Fault::Broken)?;
            let until = [deadline, beat].into_iter().flatten().min();
            let wanted = Directions { read: true, write: self.stream.has_unsent() };
            wait_alone(&self.stream, wanted, clock::until(until)).map_err(|error| Fault::Broken(error.into()))?;
        }
    }

    /// All of it.
    pub(super) fn write(&self, buf: &[u8], deadline: Option<Instant>) -> Result<(), BoxError> {
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = self.send(buf, deadline);
        drop(writing);
        Ok(sent?)
    }

    fn send(&self, mut rest: &[u8], deadline: Option<Instant>) -> io::Result<()> {
        loop {
            let sent = if rest.is_empty() {
                self.stream.try_flush().map(|()| 0)
            } else {
                self.stream.try_write(&[IoSlice::new(rest)])
            };
            match sent {
                Ok(0) => return Ok(()),
                Ok(n) => rest = &rest[n..],
                Err(error) if not_yet(&error) => {
                    let left = clock::until(deadline);
                    if left == Some(Duration::ZERO) {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    wait_alone(&self.stream, Directions { read: false, write: true }, left)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a heartbeat if one is due; says when to look again.
    fn beat(&self, now: Instant) -> Result<Option<Instant>, BoxError> {
        let Some(pulse) = &self.heartbeat else { return Ok(None) };
        let (due, next) = {
            let mut machine = pulse.machine.lock().unwrap_or_else(PoisonError::into_inner);
            (machine.handle_timeout(now), machine.poll_timeout())
        };
        match due {
            None => {}
            Some(Beat::Dead { silent }) => return Err(PeerSilent::new(silent).into()),
            Some(Beat::Send) => match self.writing.try_lock() {
                // A message is on its way, which is a sign of life as good as any.
                Err(TryLockError::WouldBlock) => {}
                // A peer that takes no bytes is noticed by the next look.
                writing => {
                    self.send(&pulse.payload, next)?;
                    drop(writing);
                }
            },
        }
        Ok(next)
    }
}
