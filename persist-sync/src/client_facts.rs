//! What can be asked of a client's connection: its counts, its state, its socket.

use std::io;
use std::net::SocketAddr;
use std::time::Instant as Moment;

use persist_core::stats::ConnStats;
use persist_core::{CloseReason, KeepAliveProbes};

use crate::client_conn::ClientConn;
use crate::driver::StreamRef;
use crate::error::{Error, Result};
use crate::events::Events;

impl ClientConn {
    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        self.link.look().conn().pending()
    }

    /// How many more requests may be written now.
    pub fn available(&self) -> usize {
        self.link.look().conn().available()
    }

    /// Exchanges pending or reserved.
    pub fn in_flight(&self) -> usize {
        self.link.look().conn().in_flight()
    }

    /// What it has done so far. Of one that was taken apart by a hijack only the bytes sent are known.
    pub fn stats(&self) -> ConnStats {
        self.link.stats()
    }

    /// How many exchanges completed.
    pub fn completed(&self) -> u64 {
        self.link.look().conn().completed()
    }

    /// Whether nothing is pending and nothing is half-read or half-written.
    pub fn is_idle(&self) -> bool {
        self.link.look().conn().is_idle()
    }

    /// Whether no further request can be written.
    pub fn is_closing(&self) -> bool {
        self.link.is_closing()
    }

    /// The same, and already behind a request that is the last.
    pub(crate) fn is_over(&self) -> bool {
        self.link.is_over()
    }

    /// Whether the connection failed: a failing stream, a passed deadline, a peer that broke the protocol or left in the middle.
    pub fn is_broken(&self) -> bool {
        self.link.is_broken()
    }

    /// Why the connection ended or is ending; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.link.close_reason()
    }

    /// Why no further request can be written, as the error that writing one would give; `None` while one can. A full pipeline is no such reason.
    pub fn err(&self) -> Option<Error> {
        self.link.err()
    }

    /// What changes from here on: how many requests may be written, how many are in flight, and the end.
    pub fn events(&self) -> Events {
        Events::new(self.link.clone())
    }

    /// Bytes that were written here and have not reached the peer's system: those in our outbox, and on Linux those in the kernel's send queue
    /// that are not acknowledged (of a Unix socket: not read, in bytes of memory). Elsewhere only the outbox is known.
    ///
    /// # Errors
    /// If the connection has ended or failed: then nobody will ever know.
    pub fn unsent_bytes(&self) -> Result<u64> {
        self.link.unsent_bytes()
    }

    /// When bytes last came from the peer; `None` before the first.
    pub fn last_read(&self) -> Option<Moment> {
        self.link.last_read()
    }

    /// When the system last took bytes from us; `None` before the first.
    pub fn last_write(&self) -> Option<Moment> {
        self.link.last_write()
    }

    /// Has the system probe a silent peer ([`KeepAliveProbes`]), or ends that with `None`.
    ///
    /// # Errors
    /// What the system says; a Unix socket has no probes, and a closed connection has no socket.
    pub fn set_keep_alive(&self, probes: Option<KeepAliveProbes>) -> io::Result<()> {
        self.link.set_keep_alive(probes)
    }

    /// The stream, for its addresses and options; `None` once the connection is closed.
    pub fn get_ref(&self) -> Option<StreamRef<'_>> {
        self.link.stream_ref()
    }

    /// The connection's number in this process, as in [`Reply::connection`](crate::Reply::connection).
    pub fn id(&self) -> u64 {
        self.link.id()
    }

    /// Where the peer is; `None` for a Unix socket, and once the connection is closed.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.peer_addr()
    }

    /// Where this end is; `None` for a Unix socket, and once the connection is closed.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.local_addr()
    }

    /// Looks at the socket before an idle connection is used again: an end of file, or bytes that answer nothing, must never meet the next
    /// request (RFC 9112 §9.2). Never waits. [`send`](Self::send) does it by itself.
    pub fn is_reusable(&self) -> bool {
        self.refresh();
        let state = self.link.look();
        state.stream().is_some() && state.conn().is_idle() && !state.conn().is_closing()
    }
}
