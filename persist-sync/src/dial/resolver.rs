//! Names into addresses.

use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, mpsc};
use std::thread;

use super::timer::DialTimer;
use crate::error::Result;

/// Turns names into addresses.
///
/// May block for as long as it likes: it is called on a thread of its own wherever the dial has a deadline, and left behind there when
/// that has passed.
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
/// use persist_sync::Resolver;
///
/// /// Every name is this machine.
/// #[derive(Debug)]
/// struct Here;
///
/// impl Resolver for Here {
///     fn resolve(&self, _name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
///         Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
///     }
/// }
/// # assert_eq!(Here.resolve("example.com", 80)?[0].port(), 80);
/// # Ok::<(), io::Error>(())
/// ```
pub trait Resolver: Debug + Send + Sync {
    /// The addresses of `name`, the preferred ones first, each with `port`. Literal addresses never come here.
    ///
    /// # Errors
    /// Whatever kept it from knowing. No addresses are an error, too, but need not be told as one.
    fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's own resolver (`getaddrinfo`), with its hosts file, its search list and its timeouts.
///
/// ```
/// use persist_sync::{Resolver, SystemResolver};
///
/// let addresses = SystemResolver.resolve("localhost", 80)?;
/// assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolver for SystemResolver {
    fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        (name, port).to_socket_addrs().map(Vec::from_iter)
    }
}

/// Asks within the time that the phase has; at least one address.
pub(super) fn resolve(
    resolver: &Arc<dyn Resolver>,
    name: &str,
    port: u16,
    timer: &DialTimer,
) -> Result<Vec<SocketAddr>> {
    let late = |timeout| timer.failed(timeout);
    let addresses = match timer.left().map_err(late)? {
        None => resolver.resolve(name, port),
        Some(left) => {
            let (answer, answered) = mpsc::sync_channel(1);
            let (resolver, asked) = (resolver.clone(), name.to_owned());
            let ask = move || {
                // Nobody listens any more if it took too long.
                let _ = answer.send(resolver.resolve(&asked, port));
            };
            let asking = thread::Builder::new().name("persist-resolve".into()).spawn(ask);
            asking.map_err(|error| timer.failed(error))?;
            match answered.recv_timeout(left) {
                Ok(addresses) => addresses,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    timer.left().map_err(late)?;
                    Err(io::ErrorKind::TimedOut.into())
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other("the resolver panicked")),
            }
        }
    };
    match addresses {
        Ok(addresses) if addresses.is_empty() => {
            Err(timer.failed(io::Error::new(io::ErrorKind::NotFound, "the name has no addresses")))
        }
        Ok(addresses) => Ok(addresses),
        Err(error) => Err(timer.failed(error)),
    }
}
