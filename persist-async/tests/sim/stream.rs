//! One end of a connection of the network, as a stream.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::link::{Read, Side};
use crate::network::{Net, Network};
use crate::plant::Plant;

pub(crate) struct SimStream {
    network: Arc<Network>,
    pub(crate) link: usize,
    side: Side,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl SimStream {
    pub(crate) fn new(network: &Arc<Network>, link: usize, side: Side) -> Self {
        Self { network: network.clone(), link, side, reading: None, writing: None }
    }

    fn say(&self, what: &str, n: usize) {
        let arrow = if self.side == Side::Dialler { '>' } else { '<' };
        self.network.trace.say(format_args!("  #{}{arrow} {what} {n}", self.link));
    }
}

/// Whether the time has come; if not, the task is woken then.
fn passes(timer: &mut Option<Pin<Box<Sleep>>>, due: Option<Instant>, cx: &mut Context<'_>) -> bool {
    let Some(due) = due else { return false };
    let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
    timer.as_mut().reset(due);
    timer.as_mut().poll(cx).is_ready()
}

impl AsyncRead for SimStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let read = this.network.with(|net| {
                let Net { links, wakers, .. } = net;
                let into = buf.initialize_unfilled();
                links[this.link].read(this.side, Instant::now(), into, cx.waker(), wakers)
            });
            match read {
                Read::Bytes(n) => {
                    buf.advance(n);
                    this.say("reads", n);
                    return Poll::Ready(Ok(()));
                }
                Read::Failed(kind) => return Poll::Ready(Err(kind.into())),
                Read::Wait(due) if passes(&mut this.reading, due, cx) => {}
                Read::Wait(_) => return Poll::Pending,
            }
        }
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let now = Instant::now();
            let room = this.network.with(|net| net.links[this.link].room(this.side, now, cx.waker()));
            let room = match room {
                Ok(room) => room,
                Err(Err(kind)) => return Poll::Ready(Err(kind.into())),
                Err(Ok(due)) if passes(&mut this.writing, due, cx) => continue,
                Err(Ok(_)) => return Poll::Pending,
            };
            let n = this.network.with(|net| net.send(this.link, this.side, &buf[..room.min(buf.len())]));
            this.say("writes", n);
            return Poll::Ready(Ok(n));
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut all = Vec::new();
        let window = self.network.with(|net| net.links[self.link].window);
        for buf in bufs {
            let most = buf.len().min(window - all.len());
            all.extend_from_slice(&buf[..most]);
        }
        self.poll_write(cx, &all)
    }

    fn is_write_vectored(&self) -> bool {
        self.network.with(|net| net.links[self.link].vectored)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say("ends", 0);
        Poll::Ready(self.network.with(|net| {
            let Net { links, wakers, .. } = net;
            links[self.link].shutdown(self.side, Instant::now(), wakers)
        }))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.say("is dropped", 0);
        self.network.with(|net| {
            let Net { links, wakers, .. } = net;
            links[self.link].close(self.side, Instant::now(), wakers);
        });
    }
}

impl Net {
    /// Takes some of these bytes, and says how many: what the writer believes. A planted fault may see to it that something else happens.
    fn send(&mut self, link: usize, side: Side, bytes: &[u8]) -> usize {
        let Self { links, wakers, style, plant, .. } = self;
        let here = &mut links[link];
        let n = if here.dice.percent(style.short_writes) { here.dice.within(1, bytes.len()) } else { bytes.len() };
        let bytes = &bytes[..n];
        here.end_mut(side).written += n as u64;
        let now = Instant::now();
        let strikes = *plant != Plant::Nothing && here.dice.percent(10);
        match plant {
            Plant::LostByte if strikes && n > 1 => {
                let mut fewer = bytes.to_vec();
                fewer.remove(here.dice.below(n));
                here.send(side, now, &fewer, wakers);
            }
            Plant::RepeatedReply if strikes && side == Side::Acceptor && bytes.starts_with(b"HTTP") => {
                here.send(side, now, bytes, wakers);
                here.send(side, now, bytes, wakers);
            }
            Plant::LostWakeUp if strikes => here.send(side, now, bytes, &mut Vec::new()),
            Plant::CrossedReplies if side == Side::Acceptor && bytes.starts_with(b"HTTP/1.1 2") => {
                let waits = |other: &crate::link::Link| {
                    other.is_open() && other.end(Side::Dialler).tap.ids.len() > other.end(Side::Acceptor).tap.ids.len()
                };
                let other = (0..links.len()).find(|&other| other != link && waits(&links[other])).unwrap_or(link);
                links[other].send(side, now, bytes, wakers);
            }
            _ => here.send(side, now, bytes, wakers),
        }
        n
    }
}
