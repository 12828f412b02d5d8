//! Everything that a `PersistentStream` decides by, in one place.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::contradiction::{Contradiction, at_most};
use crate::dialing::DialConfig;
use crate::heartbeat::HeartbeatConfig;
use crate::route::{Direct, Router};
use crate::session::SessionConfig;
use crate::socket_config::SocketConfig;

/// The configuration of a stream that keeps a session over several connections, in both adapters.
///
/// ```
/// use core::time::Duration;
/// use persist_core::{HeartbeatConfig, PersistentStreamConfig};
///
/// let mut config = PersistentStreamConfig::default();
/// config.heartbeat = Some(HeartbeatConfig::every(Duration::from_secs(30)));
/// assert_eq!(
///     config.check().unwrap_err().to_string(),
///     "the least 1 contradicts heartbeat_payload 0: a heartbeat of no bytes reaches nobody",
/// );
/// config.heartbeat_payload = b"PING\r\n".to_vec();
/// assert_eq!(config.check(), Ok(()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PersistentStreamConfig {
    /// When it redials, and when it gives up.
    pub session: SessionConfig,
    /// How often a silent peer is sent the payload, and how long its answer may take. `None`, the default: never.
    pub heartbeat: Option<HeartbeatConfig>,
    /// What a heartbeat sends, in the protocol that is spoken over the stream. What the peer answers is read like anything else.
    pub heartbeat_payload: Vec<u8>,
    /// How long dialling may take, the `on_connect` hook included, and how addresses are raced.
    pub dial: DialConfig,
    /// How sockets are set up.
    pub socket: SocketConfig,
    /// How the destination is reached.
    pub router: Arc<dyn Router>,
}

impl PersistentStreamConfig {
    /// Checks all parts.
    ///
    /// # Errors
    /// [`Contradiction`], naming the two settings and their values.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.session.check()?;
        self.dial.check()?;
        self.socket.check()?;
        let Some(heartbeat) = self.heartbeat else { return Ok(()) };
        heartbeat.check()?;
        let payload = ("heartbeat_payload", self.heartbeat_payload.len());
        at_most(("the least", 1), payload, "a heartbeat of no bytes reaches nobody")
    }
}

impl Default for PersistentStreamConfig {
    fn default() -> Self {
        Self {
            session: SessionConfig::default(),
            heartbeat: None,
            heartbeat_payload: Vec::new(),
            dial: DialConfig::default(),
            socket: SocketConfig::default(),
            router: Arc::new(Direct),
        }
    }
}
