//! What can be said about a stream's socket, for the kinds of streams that have one.

use std::any::Any;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::stream::Stream;

/// The peer's address.
pub(crate) fn peer<S: 'static>(stream: &S) -> Option<SocketAddr> {
    tcp(stream)?.peer_addr().ok()
}

/// Our own address.
pub(crate) fn local<S: 'static>(stream: &S) -> Option<SocketAddr> {
    tcp(stream)?.local_addr().ok()
}

/// The TCP socket at the bottom.
pub(crate) fn tcp<S: 'static>(stream: &S) -> Option<&TcpStream> {
    let stream: &dyn Any = stream;
    stream.downcast_ref().map_or_else(|| stream.downcast_ref(), Stream::tcp_below)
}
