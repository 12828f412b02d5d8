//! Opens sockets.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use persist_core::{Destination, Phase, Route, Scheme};
use tokio::net::TcpStream;

use crate::client::unsupported;
use crate::error::{Error, Result, copy_of};
use crate::race::{Either, race};
use crate::stream::Stream;

/// Why a dial failed. May be told to several who waited for it.
#[derive(Debug)]
pub(crate) struct DialError {
    phase: Phase,
    cause: io::Error,
}

impl DialError {
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

/// A socket to `destination`: its addresses are tried in the order the resolver gives them.
pub(crate) async fn dial(destination: &Destination, timeout: Option<Duration>) -> Result<Stream, DialError> {
    let Some(timeout) = timeout else { return connect(destination).await };
    match race(connect(destination), tokio::time::sleep(timeout)).await {
        Either::Left(outcome) => outcome,
        Either::Right(()) => {
            let text = format!("no connection within {timeout:?}");
            Err(DialError { phase: Phase::Connect, cause: io::Error::new(io::ErrorKind::TimedOut, text) })
        }
    }
}

async fn connect(destination: &Destination) -> Result<Stream, DialError> {
    #[cfg(unix)]
    if let Some(path) = destination.unix_path() {
        let connected = tokio::net::UnixStream::connect(path).await;
        return connected.map(Stream::Unix).map_err(|cause| DialError { phase: Phase::Connect, cause });
    }
    let (Some(host), Some(port)) = (destination.host(), destination.port()) else {
        let cause = io::Error::new(io::ErrorKind::Unsupported, "this system has no unix sockets");
        return Err(DialError { phase: Phase::Connect, cause });
    };
    let addresses: Vec<SocketAddr> = match (host.address(), host.name()) {
        (Some(address), _) => vec![SocketAddr::new(address, port)],
        (None, name) => {
            let looked_up = tokio::net::lookup_host((name.unwrap_or_default(), port)).await;
            looked_up.map_err(|cause| DialError { phase: Phase::Resolve, cause })?.collect()
        }
    };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no addresses");
    let mut phase = Phase::Resolve;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests leave when they are complete; waiting for more to send only delays them. Failing to say so does no harm.
                let _ = stream.set_nodelay(true);
                return Ok(Stream::Tcp(stream));
            }
            Err(error) => (phase, last) = (Phase::Connect, error),
        }
    }
    Err(DialError { phase, cause: last })
}
