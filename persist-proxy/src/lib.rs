//! Routes through proxies, for `persist-sync` and `persist-async` alike.
#![forbid(unsafe_code)]

pub mod handshake;
