//! What can be asked of a client's connection: its counts, its state, its socket.

use std::io;
use std::net::SocketAddr;
use std::time::Instant as Moment;

#[cfg(feature = "http2")]
use persist_core::{Blame, Phase};
use persist_core::{CloseReason, ConnStats, KeepAliveProbes};

use crate::address;
use crate::client_conn::ClientConn;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::facts::StreamRef;
use crate::link::Transport;

impl<S: Transport> ClientConn<S> {
    /// Exchanges that are not complete, those with unread bodies included.
    pub fn pending(&self) -> usize {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.pending();
        }
        self.link.lock().conn.pending()
    }

    /// How many more requests could be written now.
    pub fn available(&self) -> usize {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.available();
        }
        self.link.lock().conn.available()
    }

    /// Exchanges pending or reserved.
    pub fn in_flight(&self) -> usize {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.in_flight();
        }
        self.link.lock().conn.in_flight()
    }

    /// Whether nothing is going on, so that the connection may be reused.
    pub fn is_idle(&self) -> bool {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.in_flight() == 0;
        }
        self.link.lock().conn.is_idle()
    }

    /// Whether no further request can be written.
    pub fn is_closing(&self) -> bool {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.is_closing();
        }
        self.link.lock().is_closing()
    }

    /// Whether the connection failed: a failing stream, a passed deadline, a peer that broke the protocol or left in the middle.
    pub fn is_broken(&self) -> bool {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.is_broken();
        }
        self.link.lock().is_broken()
    }

    /// Why the connection ended or is ending; `None` while it is not.
    pub fn close_reason(&self) -> Option<CloseReason> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.close_reason();
        }
        self.link.lock().close_reason().cloned()
    }

    /// Why no further request can be written, as the error that writing one would give; `None` while one can. A full pipeline is no such reason.
    pub fn err(&self) -> Option<Error> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.err();
        }
        self.link.err()
    }

    /// What changes from here on: how many requests may be written, how many are in flight, and the end.
    pub fn events(&self) -> Events<S> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return Events::of_http2(self.link.clone(), two.clone());
        }
        Events::new(self.link.clone())
    }

    /// Bytes that were written here and have not reached the peer's system: those in our outbox, and on Linux those in the kernel's send queue
    /// that are not acknowledged (of a Unix socket: not read, in bytes of memory). Elsewhere, and of other streams, only the outbox is known.
    ///
    /// # Errors
    /// If the connection has ended or failed: then nobody will ever know.
    pub fn unsent_bytes(&self) -> Result<u64> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return Err(two.err().unwrap_or_else(unknown_of_http2));
        }
        self.link.unsent_bytes()
    }

    /// When bytes last came from the peer; `None` before the first.
    pub fn last_read(&self) -> Option<Moment> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.last_read();
        }
        self.link.last_read()
    }

    /// When the system last took bytes from us; `None` before the first.
    pub fn last_write(&self) -> Option<Moment> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.last_write();
        }
        self.link.last_write()
    }

    /// Has the system probe a silent peer ([`KeepAliveProbes`]), or ends that with `None`.
    ///
    /// # Errors
    /// What the system says; only TCP has probes, and a closed connection has no socket.
    pub fn set_keep_alive(&self, probes: Option<KeepAliveProbes>) -> io::Result<()> {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            let _ = two;
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "the socket of an HTTP/2 connection is not at hand: PINGs do this",
            ));
        }
        self.link.set_keep_alive(probes)
    }

    /// The stream, for its addresses and options; `None` once the connection is closed.
    pub fn get_ref(&self) -> Option<StreamRef<'_, S>> {
        self.link.stream_ref()
    }

    /// What it has done so far. Of one that was taken apart by a hijack, only the bytes sent are counted.
    pub fn stats(&self) -> ConnStats {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.stats();
        }
        self.link.stats()
    }

    /// How many exchanges completed.
    pub fn completed(&self) -> u64 {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return two.completed();
        }
        self.link.lock().conn.completed()
    }

    /// The connection's number in this process, from 1.
    pub fn id(&self) -> u64 {
        self.link.id
    }

    /// The peer's address, if the stream is a [`TcpStream`](tokio::net::TcpStream) or a [`Stream`](crate::Stream) over TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        self.link.peer()
    }

    /// Our own address, under the same condition, while the stream is open.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.link.lock().stream.as_ref().and_then(address::local)
    }

    /// Looks at the stream before an idle connection is used again: an end of file, or bytes that answer nothing, must never meet the next
    /// request (RFC 9112 §9.2). One read, through TLS where there is TLS; never waits. A connection that fails the look is ended.
    pub fn is_reusable(&self) -> bool {
        #[cfg(feature = "http2")]
        if let Some(two) = &self.two {
            return !two.is_closing();
        }
        self.link.look()
    }
}

#[cfg(feature = "http2")]
fn unknown_of_http2() -> Error {
    Error::new(Phase::Send, "of an HTTP/2 connection it is not known").blaming(Blame::Caller)
}
