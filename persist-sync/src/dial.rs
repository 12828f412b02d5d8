//! Opens sockets.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use persist_core::{Blame, Destination, Phase, Route, Scheme};

use crate::error::{Error, Result, copy_of};
use crate::stream::Stream;

/// Why a dial failed. May be told to several who waited for it.
#[derive(Debug)]
pub(crate) struct DialError {
    phase: Phase,
    cause: io::Error,
}

impl DialError {
    pub(crate) fn connect(cause: io::Error) -> Self {
        Self { phase: Phase::Connect, cause }
    }

    pub(crate) fn to_error(&self) -> Error {
        Error::new(self.phase, copy_of(&self.cause))
    }
}

/// What is to be dialled on a route of one plain socket: the only ones that this version goes.
pub(crate) fn only_hop(route: &Route) -> Result<&Destination> {
    match route.hops.as_slice() {
        [hop] if hop.to.scheme() == Scheme::Http => Ok(&hop.to),
        [_] => Err(unsupported("https needs TLS, which this version does not have")),
        _ => Err(unsupported("tunnels through a proxy are not there yet")),
    }
}

fn unsupported(what: &'static str) -> Error {
    Error::new(Phase::Prepare, what).blaming(Blame::Caller)
}

/// A socket to `destination`: its addresses are tried in the order the resolver gives them, within `timeout` all together.
pub(crate) fn dial(destination: &Destination, timeout: Option<Duration>) -> Result<Stream, DialError> {
    #[cfg(unix)]
    if let Some(path) = destination.unix_path() {
        return std::os::unix::net::UnixStream::connect(path).map(Stream::from).map_err(DialError::connect);
    }
    let (Some(host), Some(port)) = (destination.host(), destination.port()) else {
        let cause = io::Error::new(io::ErrorKind::Unsupported, "this system has no unix sockets");
        return Err(DialError::connect(cause));
    };
    let patience = Patience::new(timeout);
    let addresses = match (host.address(), host.name()) {
        (Some(address), _) => vec![SocketAddr::new(address, port)],
        (None, name) => {
            let looked_up = resolve(name.unwrap_or_default().to_owned(), port, &patience);
            looked_up.map_err(|cause| DialError { phase: Phase::Resolve, cause })?
        }
    };
    let mut last = DialError {
        phase: Phase::Resolve,
        cause: io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"),
    };
    for address in addresses {
        match connect(&address, &patience) {
            Ok(stream) => return Ok(stream.into()),
            Err(cause) => last = DialError::connect(cause),
        }
    }
    Err(last)
}

/// How long a dial may take as a whole.
struct Patience {
    limit: Option<Duration>,
    since: Instant,
}

impl Patience {
    fn new(limit: Option<Duration>) -> Self {
        Self { limit, since: Instant::now() }
    }

    /// What is left of it; `None` for any time.
    ///
    /// # Errors
    /// Nothing is left.
    fn left(&self) -> io::Result<Option<Duration>> {
        let Some(limit) = self.limit else { return Ok(None) };
        match limit.checked_sub(self.since.elapsed()) {
            Some(left) if !left.is_zero() => Ok(Some(left)),
            _ => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {limit:?}"))),
        }
    }
}

fn connect(address: &SocketAddr, patience: &Patience) -> io::Result<TcpStream> {
    match patience.left()? {
        None => TcpStream::connect(address),
        Some(left) => TcpStream::connect_timeout(address, left).map_err(|error| match patience.left() {
            Err(late) => late,
            Ok(_) => error,
        }),
    }
}

/// The system's resolver blocks for as long as it likes, so it does that on a thread of its own.
fn resolve(name: String, port: u16, patience: &Patience) -> io::Result<Vec<SocketAddr>> {
    let look_up = move || (name.as_str(), port).to_socket_addrs().map(Vec::from_iter);
    let Some(left) = patience.left()? else { return look_up() };
    let (answer, answered) = mpsc::sync_channel(1);
    thread::Builder::new().name("persist-resolve".into()).spawn(move || {
        // Nobody listens any more if it took too long.
        let _ = answer.send(look_up());
    })?;
    match answered.recv_timeout(left) {
        Ok(addresses) => addresses,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("no addresses within {left:?}"))),
    }
}
