//! Proxies under both adapters' clients: what reaches the proxy, what of it reaches the origin, and what is told when it goes wrong.

mod both;
mod over_sync;
mod over_tokio;
mod refusing;
mod scripted;
mod secrets;
mod secured;
mod tunnelled;
