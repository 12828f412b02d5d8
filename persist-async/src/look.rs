//! The look at an idle connection before it is used again: one read that never waits, judged by the core.

use std::any::Any;
use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};

use persist_core::{Client, Glance, Verdict};
use socket2::SockRef;
use tokio::net::TcpStream;

use crate::link::{Link, State, Transport};
use crate::stream::{Stream, poll_now, receive};

/// Line ends that a peer may have sent after its last response, each in a read of its own.
const LOOKS_MAX: u32 = 4;

impl<S: Transport> Link<Client, S> {
    /// Whether nothing is going on, and the look finds a reason why nothing must. One that is in use is its users' to judge.
    pub(crate) fn is_stale(&self) -> bool {
        let mut state = self.lock();
        state.tick();
        state.look_before_reuse(&mut Context::from_waker(self.waiters.waker()));
        state.conn.pending() == 0 && (state.stream.is_none() || state.conn.is_closing())
    }

    /// Whether an idle connection may carry another exchange: nothing has come that answers no request, not even an end of file. If it may
    /// not, it is ended. One system call, or one step through a TLS session; never waits.
    pub(crate) fn look(&self) -> bool {
        self.lock().is_usable(self.waiters.waker())
    }
}

impl<S: Transport> State<Client, S> {
    fn is_usable(&mut self, waker: &Waker) -> bool {
        self.tick();
        self.look(&mut Context::from_waker(waker));
        self.stream.is_some() && !self.conn.is_closing()
    }

    /// A look, if the machine finds it necessary, before another exchange begins.
    pub(crate) fn look_before_reuse(&mut self, cx: &mut Context<'_>) {
        if self.conn.is_look_due() {
            self.look(cx);
        }
    }

    /// One look, under the lock.
    fn look(&mut self, cx: &mut Context<'_>) {
        self.pass_deadline();
        for look in 0.. {
            if !self.conn.is_idle() {
                break;
            }
            match self.glance(cx) {
                Verdict::Usable => break,
                verdict => {
                    self.settle();
                    if verdict == Verdict::LookAgain && look < LOOKS_MAX {
                        continue;
                    }
                    // The machine knows why by now.
                    let now = self.now();
                    self.conn.abort(now);
                    break;
                }
            }
        }
        if self.conn.has_event() || !self.inbox.is_empty() {
            self.settle();
        }
    }

    /// One read, whose outcome is the machine's.
    fn glance(&mut self, cx: &mut Context<'_>) -> Verdict {
        let mut buf = [0; 64];
        match self.stream.as_mut().map(|stream| read_now(stream, cx, &mut buf)) {
            None => Glance::Failed.verdict(),
            Some(Ok(0)) => {
                self.read_ended(Ok(()));
                Glance::Eof.verdict()
            }
            Some(Ok(n)) => {
                self.inbox.push(&buf[..n]);
                Glance::Bytes(&buf[..n]).verdict()
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => Glance::Nothing.verdict(),
            Some(Err(error)) => {
                self.read_ended(Err(error));
                Glance::Failed.verdict()
            }
        }
    }
}

fn read_now<S: Transport>(stream: &mut S, cx: &mut Context<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let any: &mut dyn Any = stream;
    if let Some(stream) = any.downcast_mut::<Stream>() {
        return stream.read_now(cx, buf);
    }
    if let Some(stream) = any.downcast_ref::<TcpStream>() {
        return receive(&SockRef::from(stream), buf);
    }
    #[cfg(unix)]
    if let Some(stream) = any.downcast_ref::<tokio::net::UnixStream>() {
        return receive(&SockRef::from(stream), buf);
    }
    poll_now(Pin::new(stream), cx, buf)
}
