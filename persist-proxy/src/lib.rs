//! Routes through proxies, for `persist-sync` and `persist-async` alike.
//!
//! [`Proxies`] is a [`Router`](persist_core::Router): told, or read from the environment, it says for each destination by which
//! [`Proxy`] it is reached. The [`handshake`]s that make tunnels are pure machines; the adapters move their bytes.
#![forbid(unsafe_code)]

mod failure;
pub mod handshake;
mod network;
mod no_proxy;
mod proxy;
mod select;
mod url;
#[cfg(feature = "async")]
pub mod with_async;
#[cfg(feature = "sync")]
pub mod with_sync;

pub use failure::ProxyFailure;
pub use network::Network;
pub use no_proxy::NoProxy;
pub use persist_core;
pub use proxy::{Plain, Proxy, ProxyKind};
pub use select::{InvalidVariable, Proxies};
pub use url::InvalidProxy;

/// The examples of the README, run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
