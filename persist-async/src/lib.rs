//! Persistent HTTP/1.1 connections over tokio.
#![deny(unsafe_code)]

mod address;
mod body;
mod client;
mod client_conn;
mod clock;
mod date;
mod dial;
mod driver;
pub mod error;
mod hijack;
mod incoming;
mod link;
mod part;
mod pump;
mod race;
mod scratch;
mod server;
mod server_conn;
mod stream;
mod wakers;

pub use body::Body;
pub use client::{Client, ClientConfig};
pub use client_conn::{ClientConn, Exchange, Reply, Reservation};
pub use error::{Error, Result};
pub use hijack::{Detached, Hijacked};
pub use incoming::Incoming;
pub use link::Transport;
pub use persist_core;
pub use persist_core::{
    BodyLen, CloseReason, Config, Disposition, ExchangeId, Failure, Fields, Method, Phase, Request, RequestHead,
    Response, ResponseHead, SendError, StatusCode,
};
pub use server::{Listener, Served, Server, ServerConfig, ServerHandle};
pub use server_conn::{Received, Responder, ServerConn};
pub use stream::Stream;
