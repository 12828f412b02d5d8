//! How HTTP/2 is spoken.

use std::time::Duration;

use persist_core::{Config, Timeouts};

/// How HTTP/2 is spoken at one end. [`client`](Self::client) and [`server`](Self::server) have the defaults.
///
/// ```
/// use persist_async::http2::Http2Config;
/// use persist_async::{ClientConn, Request, Response, Server};
/// use tokio::net::TcpStream;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut config = Http2Config::server();
/// config.streams_max = 100;
/// let server = Server::bind("127.0.0.1:0").await?.with_http2(config); // beside HTTP/1.1
/// let address = server.local_addr().expect("TCP");
/// tokio::spawn(server.serve(|received| async move { received.responder.send(Response::ok(), "hello").await }));
///
/// let conn = ClientConn::http2(TcpStream::connect(address).await?, Http2Config::client()).await?;
/// let request = Request::get("/").field("Host", address.to_string())?;
/// assert_eq!(conn.send(request, ()).await?.body.bytes(100).await?, "hello");
/// assert_eq!(conn.available(), 100); // what the server grants
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Http2Config {
    /// Server: streams that a client may have open, and handlers of one connection that run, at the same time. Client: streams that are opened at the same time, if the
    /// server grants so many. 128.
    pub streams_max: u32,
    /// Bytes of one message's content that the peer may send before they are read. 256 KiB; at most 2^31 - 1.
    pub stream_window: u32,
    /// The same for all streams of a connection together. 1 MiB.
    pub connection_window: u32,
    /// Bytes of the fields of one head, as RFC 9113 §6.5.2 counts them: 32 more for each field. 64 KiB; a head beyond it is refused (a request with `431`). Heads of more than 65,535 bytes are
    /// refused in any case, but by a tower service.
    pub head_bytes_max: u32,
    /// Bytes of one stream that wait here to be written. 256 KiB.
    pub stream_outbox_bytes_max: u32,
    /// Streams that the peer opened and reset before they were looked at. Beyond it, the connection ends with `ENHANCE_YOUR_CALM`. 20.
    pub resets_max: u32,
    /// Streams that were reset because the peer broke the protocol on them, in the life of a connection. Beyond it, likewise. 1,024.
    pub errors_max: u32,
    /// A PING is sent when nothing was heard for so long; `None` for never. 30 s.
    pub ping_after: Option<Duration>,
    /// How long its answer may take before the connection is given up. 15 s.
    pub ping_timeout: Duration,
    /// Whether a client takes pushed responses.
    pub pushes: Pushes,
    /// What a client speaks where there is no ALPN to ask.
    pub cleartext: Cleartext,
    /// Deadlines: `idle`, `header`, `body_idle`, `total`, `write_stall`, `linger` and `max_age` count here. A [`Server`](crate::Server) and a [`Client`](crate::Client) put those of their own
    /// configuration here.
    pub timeouts: Timeouts,
    pub(crate) heads: Heads,
}

/// Whether a server makes heads of its requests, as those of HTTP/1.1 are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Heads {
    #[default]
    Made,
    /// Handlers take each request as it came: of its head the method is enough.
    #[cfg(feature = "tower")]
    Spared,
}

/// Whether a client takes pushed responses (RFC 9113 §8.4).
///
/// ```
/// use persist_async::http2::{Http2Config, Pushes};
///
/// assert_eq!(Http2Config::client().pushes, Pushes::Refused);
/// assert_eq!(Http2Config::client().accept_pushes().pushes, Pushes::Accepted);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pushes {
    /// The server is told to send none; one that does breaks the protocol.
    #[default]
    Refused,
    /// They are kept for [`ClientConn::pushed`](crate::ClientConn::pushed), within the limits of streams and windows.
    Accepted,
}

/// What a client speaks over cleartext.
///
/// ```
/// use persist_async::http2::{Cleartext, Http2Config};
/// use persist_async::{Client, ClientConfig, Connector};
///
/// let http2 = Http2Config::client().prior_knowledge();
/// assert_eq!(http2.cleartext, Cleartext::Http2);
/// let config = ClientConfig::default();
/// let connector = Connector::new(&config).with_http2(http2);
/// let client = Client::with_connector(config, connector)?; // `http:` is HTTP/2, too
/// # let _ = client;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cleartext {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge (RFC 9113 §3.3). A server that does not know it will answer an error of HTTP/1.1, which is one of the protocol.
    Http2,
}

impl Http2Config {
    /// The defaults of a client.
    pub fn client() -> Self {
        Self {
            streams_max: 128,
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            head_bytes_max: 64 * 1024,
            stream_outbox_bytes_max: 256 * 1024,
            resets_max: 20,
            errors_max: 1024,
            ping_after: Some(Duration::from_secs(30)),
            ping_timeout: Duration::from_secs(15),
            pushes: Pushes::Refused,
            cleartext: Cleartext::Http1,
            timeouts: Timeouts::client(),
            heads: Heads::Made,
        }
    }

    /// The defaults of a server.
    pub fn server() -> Self {
        Self { timeouts: Timeouts::server(), ..Self::client() }
    }

    /// A client's: speaks HTTP/2 over cleartext, too, without asking.
    #[must_use]
    pub fn prior_knowledge(mut self) -> Self {
        self.cleartext = Cleartext::Http2;
        self
    }

    /// A client's: takes pushed responses.
    #[must_use]
    pub fn accept_pushes(mut self) -> Self {
        self.pushes = Pushes::Accepted;
        self
    }

    /// With the deadlines of a connection's configuration.
    pub(crate) fn with_timeouts_of(&self, config: &Config) -> Self {
        Self { timeouts: config.timeouts, ..self.clone() }
    }
}
