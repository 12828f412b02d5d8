//! Dialling: from a route to a stream that reaches its end.
//!
//! A [`Resolver`] turns names into addresses, a [`Dialer`] opens a socket to the first hop, and the [`Connector`] walks the rest of the route:
//! the handshake with each proxy, and TLS wherever a hop leads to an `https` destination. Each part can be replaced by one of your own.
//! Every phase has its deadline ([`DialConfig`](persist_core::DialConfig)), and each failure names its phase and its hop.

mod connect;
mod connector;
mod failure;
mod resolver;
mod socket;
mod timer;
mod tunnel;

pub use connector::Connector;
pub use failure::ConnectFailures;
pub use resolver::{Resolver, SystemResolver};
pub use socket::{Dialer, SocketDialer};
pub use timer::DialTimer;
pub(crate) use timer::not_yet;
