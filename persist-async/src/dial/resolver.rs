//! Turns names into addresses.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use async_trait::async_trait;

/// Turns names into addresses. Its deadline is the caller's: the future is dropped when that has passed.
///
/// ```
/// use std::net::SocketAddr;
/// use std::sync::Arc;
///
/// use persist_async::{Client, ClientConfig, Connector, Resolver, async_trait};
///
/// /// Sends every name to one test server.
/// #[derive(Debug)]
/// struct Everything(SocketAddr);
///
/// #[async_trait]
/// impl Resolver for Everything {
///     async fn resolve(&self, _name: &str, _port: u16) -> std::io::Result<Vec<SocketAddr>> {
///         Ok(vec![self.0])
///     }
/// }
///
/// let config = ClientConfig::default();
/// let server = "127.0.0.1:8080".parse()?;
/// let connector = Connector::new(&config).with_resolver(Arc::new(Everything(server)));
/// let client = Client::with_connector(config, connector)?;
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[async_trait]
pub trait Resolver: fmt::Debug + Send + Sync {
    /// The addresses of `name`, with `port`, best first. Never asked for what is an address already.
    ///
    /// # Errors
    /// The name has none, or nobody could be asked.
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>>;
}

/// The system's resolver, `getaddrinfo`, on one of the runtime's threads for blocking work.
///
/// ```
/// use persist_async::{Resolver, SystemResolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let addresses = SystemResolver.resolve("localhost", 80).await?;
/// assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 80));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(tokio::net::lookup_host((name, port)).await?.collect())
    }
}
