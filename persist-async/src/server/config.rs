//! How a server serves.

use std::num::NonZeroUsize;

use persist_core::{Config, FieldValue, InvalidField};

/// How a [`Server`](crate::Server) serves.
///
/// ```
/// use std::num::NonZeroUsize;
/// use persist_async::ServerConfig;
///
/// let mut config = ServerConfig::default().server_name("example/1.0").expect("a field value");
/// config.connections_max = 1000;
/// config.connections_per_peer_max = NonZeroUsize::new(10);
/// config.conn.timeouts.idle = Some(std::time::Duration::from_secs(15));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Each connection: limits, deadlines, strictness, overlap.
    pub conn: Config,
    /// Connections held at the same time, at least 1; further ones wait to be accepted, in their order. 16,384: below the usual limits of open files.
    pub connections_max: usize,
    /// Connections of one peer held at the same time; further ones are closed at once. A peer is an IPv4 address, or an IPv6 network of 64 bits,
    /// which is what one host commonly has. No limit by default: many clients may stand behind one address.
    pub connections_per_peer_max: Option<NonZeroUsize>,
    /// Handlers of one connection that run at the same time, at least 1, which is the default: [`Server::concurrent_handlers`](crate::Server::concurrent_handlers).
    pub concurrent_handlers: usize,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_headers: ProxyHeaders,
    pub(super) server: Option<Box<[u8]>>,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::tls::ServerTls>,
    #[cfg(feature = "http2")]
    pub(super) http2: Option<crate::http2::Http2Config>,
}

/// Whether connections come through a proxy that says, by the PROXY protocol, whom it speaks for.
///
/// ```
/// use persist_async::{ProxyHeaders, Server, ServerConfig};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = ServerConfig::default();
/// config.proxy_headers = ProxyHeaders::Required;
/// let server = Server::bind("127.0.0.1:0").await?.with_config(config); // where only the proxy can reach it
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyHeaders {
    /// They do not; who sends such a header breaks the protocol.
    #[default]
    Absent,
    /// Each does, in version 1 or 2, within [`Timeouts::header`](persist_core::Timeouts::header). One that does not is closed without an answer. Whoever
    /// can connect can claim any address: let only the proxy do so.
    Required,
}

impl ServerConfig {
    /// Adds a `Server` field to each response that has none.
    ///
    /// # Errors
    /// [`InvalidField`] unless `name` may stand in a field value.
    pub fn server_name(mut self, name: &str) -> Result<Self, InvalidField> {
        self.server = Some(FieldValue::new(name.as_bytes())?.as_bytes().into());
        Ok(self)
    }
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            conn: Config::server(),
            connections_max: 16_384,
            connections_per_peer_max: None,
            concurrent_handlers: 1,
            proxy_headers: ProxyHeaders::Absent,
            server: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "http2")]
            http2: None,
        }
    }
}
