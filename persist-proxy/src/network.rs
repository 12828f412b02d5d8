//! The address of a proxy as Go's dialers take it: a network and an address in it.

use crate::{InvalidProxy, Proxy, ProxyKind};

/// What kind of address leads to a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Network {
    /// `host:port`, or a whole proxy URL; without a scheme an HTTP proxy, without a port 1080.
    Tcp,
    /// The path of a Unix socket, for an HTTP proxy; or a whole proxy URL.
    Unix,
}

impl Network {
    /// The proxy at `address` in this network.
    ///
    /// ```
    /// use persist_proxy::Network;
    ///
    /// assert_eq!(Network::Tcp.proxy("proxy.example:3128")?.to_string(), "http://proxy.example:3128");
    /// assert_eq!(Network::Unix.proxy("/run/proxy.sock")?.to_string(), "http+unix://%2Frun%2Fproxy.sock");
    /// # Ok::<(), persist_proxy::InvalidProxy>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidProxy`]
    pub fn proxy(self, address: &str) -> Result<Proxy, InvalidProxy> {
        match self {
            Self::Unix if address.is_empty() || address.contains('\0') => Err(InvalidProxy::UnixPath),
            Self::Unix if !address.contains("://") => Ok(Proxy::unix(ProxyKind::Http, address)),
            _ => address.parse(),
        }
    }
}
