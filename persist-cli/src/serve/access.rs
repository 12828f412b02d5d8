//! The access report: one line for each exchange on standard error, when its response has gone out or broken off.

use std::fmt;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};

use crate::report::Format;

/// Whether a report is wanted, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub(super) format: Format,
    pub(super) silent: bool,
}

/// One exchange.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Entry {
    /// The connection's number, from 1.
    pub(super) connection: u64,
    /// The request's number on it, from 1.
    pub(super) request: u64,
    /// Whether the connection had carried an earlier request.
    pub(super) reused: bool,
    pub(super) peer: Option<SocketAddr>,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) status: u16,
    /// Content that was sent, in bytes.
    pub(super) bytes: u64,
    /// Whether that is all of it.
    pub(super) complete: bool,
}

impl Access {
    /// Reports an exchange.
    pub(super) fn write(self, entry: &Entry) {
        if !self.silent {
            let mut line = Vec::new();
            // Into a Vec: cannot fail. And nobody is left to tell when standard error is gone.
            let _ = self.format.write(&mut line, entry);
            let _ = io::stderr().write_all(&line);
        }
    }

    /// Content whose exchange is reported when it has been read to its end, or dropped before that.
    /// It is complete after `len` bytes or, without, at its end.
    pub(super) fn count<R>(self, entry: Entry, content: R, len: Option<u64>) -> Counted<R> {
        Counted { access: self, entry, content, len }
    }
}

/// Content that is counted as it is sent.
#[derive(Debug)]
pub(super) struct Counted<R> {
    access: Access,
    entry: Entry,
    content: R,
    len: Option<u64>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (before, room) = (buf.filled().len(), buf.remaining());
        ready!(Pin::new(&mut self.content).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        self.entry.bytes += read as u64;
        self.entry.complete = match self.len {
            Some(len) => self.entry.bytes == len,
            None => self.entry.complete || (read == 0 && room > 0),
        };
        Poll::Ready(Ok(()))
    }
}

impl<R> Drop for Counted<R> {
    fn drop(&mut self) {
        self.access.write(&self.entry);
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connection, request, method, target, status, bytes, .. } = self;
        match self.peer {
            Some(peer) => write!(f, "{peer}")?,
            None => f.write_str("-")?,
        }
        write!(f, " {connection}/{request} {method} {target} {status} {bytes}")?;
        if self.complete { Ok(()) } else { f.write_str(" broken off") }
    }
}
