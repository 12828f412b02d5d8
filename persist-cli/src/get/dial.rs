//! A socket to a destination: resolve, then connect to each address in turn.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use persist_async::Stream;
use persist_core::{Destination, TargetForm};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::failure::Failed;
use crate::exit::Exit;

/// Dials, within the limit if there is one.
pub(super) async fn dial(to: &Destination, form: TargetForm, limit: Option<Duration>) -> Result<Stream, Failed> {
    let Some(limit) = limit else { return open(to, form).await };
    match timeout(limit, open(to, form)).await {
        Ok(result) => result,
        Err(_) => Err(Failed::new(format!("connecting to {to}: no connection within {limit:?}"), Exit::Timeout)),
    }
}

async fn open(to: &Destination, form: TargetForm) -> Result<Stream, Failed> {
    #[cfg(unix)]
    if let Some(path) = to.unix_path() {
        let stream = tokio::net::UnixStream::connect(path).await;
        return stream.map(Stream::from).map_err(|error| refused(path, &error));
    }
    let (Some(host), Some(port)) = (to.host(), to.port()) else {
        return Err(Failed::new("connecting: Unix sockets are not supported on this system".to_owned(), Exit::Connect));
    };
    let addresses: Vec<SocketAddr> = match (host.address(), host.name()) {
        (Some(address), _) => vec![SocketAddr::new(address, port)],
        (None, name) => match lookup_host((name.unwrap_or_default(), port)).await {
            Ok(addresses) => addresses.collect(),
            Err(error) => {
                let (whose, exit) = match form {
                    TargetForm::Origin => ("host", Exit::Resolve),
                    TargetForm::Absolute => ("proxy", Exit::ResolveProxy),
                };
                return Err(Failed::new(format!("resolving the {whose} {host}: {error}"), exit));
            }
        },
    };
    let mut last = Failed::new(format!("resolving the host {host}: it has no address"), Exit::Resolve);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // A request waits for no acknowledgement; a socket that refuses the option still works.
                let _ = stream.set_nodelay(true);
                return Ok(stream.into());
            }
            Err(error) if form == TargetForm::Absolute => last = refused(&format!("the proxy {address}"), &error),
            Err(error) => last = refused(&address.to_string(), &error),
        }
    }
    Err(last)
}

fn refused(to: &str, error: &io::Error) -> Failed {
    Failed::new(format!("connecting to {to}: {error}"), Exit::Connect)
}
