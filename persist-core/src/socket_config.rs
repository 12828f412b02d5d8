//! How a TCP socket is set up, the same for both adapters; what a system does not have is left out there.

use core::net::IpAddr;
use core::time::Duration;

use crate::contradiction::{Contradiction, at_most};

/// Options of a TCP socket.
///
/// ```
/// use core::time::Duration;
/// use persist_core::{KeepAliveProbes, SocketConfig};
///
/// let mut config = SocketConfig::default();
/// config.keep_alive = Some(KeepAliveProbes { idle: Duration::from_secs(30), ..KeepAliveProbes::default() });
/// config.user_timeout = Some(Duration::from_secs(20));
/// assert_eq!(config.check(), Ok(()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketConfig {
    /// The local address that connections come from; addresses of the other family are then not tried. `None`, the default: the system chooses.
    pub bind: Option<IpAddr>,
    /// Whether small writes leave at once (`TCP_NODELAY`). On by default: a burst is written in one call already.
    pub nodelay: bool,
    /// TCP's own liveness probes (`SO_KEEPALIVE`). Off by default: the deadlines of a connection notice a dead peer sooner.
    pub keep_alive: Option<KeepAliveProbes>,
    /// How long sent bytes may stay unacknowledged before the connection fails (`TCP_USER_TIMEOUT`, Linux and Android only; ignored elsewhere).
    /// Off by default: the system's own limit, about a quarter of an hour.
    pub user_timeout: Option<Duration>,
    /// Bytes that the kernel buffers for sending (`SO_SNDBUF`). `None`, the default: the system's own choice, which grows with use.
    pub send_buffer: Option<u32>,
    /// The same for receiving (`SO_RCVBUF`).
    pub recv_buffer: Option<u32>,
}

/// TCP keepalive: how long a silent connection is left alone, and how it is then probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAliveProbes {
    /// Silence before the first probe (`TCP_KEEPIDLE`). 60 s.
    pub idle: Duration,
    /// From one unanswered probe to the next (`TCP_KEEPINTVL`). 10 s.
    pub interval: Duration,
    /// Unanswered probes before the connection fails (`TCP_KEEPCNT`). 3.
    pub count: u32,
}

impl SocketConfig {
    /// Checks it.
    ///
    /// # Errors
    /// Probes with times below a second, which the kernel does not keep, or none at all; a buffer of no bytes.
    pub fn check(&self) -> Result<(), Contradiction> {
        if let Some(KeepAliveProbes { idle, interval, count }) = self.keep_alive {
            let least = ("the least", Duration::from_secs(1));
            at_most(least, ("keep_alive idle", idle), "the kernel counts whole seconds")?;
            at_most(least, ("keep_alive interval", interval), "the kernel counts whole seconds")?;
            at_most(("the least", 1), ("keep_alive count", count), "no probe would ever be sent")?;
        }
        if let Some(timeout) = self.user_timeout {
            let least = ("the least", Duration::from_millis(1));
            at_most(least, ("user_timeout", timeout), "the kernel takes 0 for no limit")?;
        }
        for (name, size) in [("send_buffer", self.send_buffer), ("recv_buffer", self.recv_buffer)] {
            at_most(("the least", 1), (name, size.unwrap_or(1)), "nothing could be buffered")?;
        }
        Ok(())
    }
}

impl Default for SocketConfig {
    fn default() -> Self {
        Self { bind: None, nodelay: true, keep_alive: None, user_timeout: None, send_buffer: None, recv_buffer: None }
    }
}

impl Default for KeepAliveProbes {
    fn default() -> Self {
        Self { idle: Duration::from_secs(60), interval: Duration::from_secs(10), count: 3 }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(SocketConfig::default().check(), Ok(()));
        let probing = SocketConfig { keep_alive: Some(KeepAliveProbes::default()), ..SocketConfig::default() };
        assert_eq!(probing.check(), Ok(()));
    }

    #[test]
    fn what_the_kernel_would_not_keep_is_refused_with_both_values() {
        let probes = KeepAliveProbes { idle: Duration::from_millis(500), ..KeepAliveProbes::default() };
        let config = SocketConfig { keep_alive: Some(probes), ..SocketConfig::default() };
        let refused = config.check().expect_err("half a second").to_string();
        assert!(refused.contains("1s") && refused.contains("500ms"), "{refused}");
        let silent = KeepAliveProbes { count: 0, ..KeepAliveProbes::default() };
        assert!(SocketConfig { keep_alive: Some(silent), ..SocketConfig::default() }.check().is_err());
        assert!(SocketConfig { user_timeout: Some(Duration::ZERO), ..SocketConfig::default() }.check().is_err());
        assert!(SocketConfig { send_buffer: Some(0), ..SocketConfig::default() }.check().is_err());
    }
}
