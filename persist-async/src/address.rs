//! What can be said about a stream's socket, for the kinds of streams that have one.

use std::any::Any;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};

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

/// An address or none, in half the room: each connection has its peer's.
pub(crate) enum Short {
    None,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl From<Option<SocketAddr>> for Short {
    fn from(address: Option<SocketAddr>) -> Self {
        match address {
            None => Self::None,
            Some(SocketAddr::V4(address)) => Self::V4(address),
            Some(SocketAddr::V6(address)) => Self::V6(Box::new(address)),
        }
    }
}

impl Short {
    pub(crate) fn get(&self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::V4(address) => Some((*address).into()),
            Self::V6(address) => Some((**address).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_the_same_in_half_the_room() {
        for text in ["127.0.0.1:80", "[2001:db8::1]:65535", "[fe80::1%7]:0", "[::ffff:10.0.0.1]:8080"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(Short::from(Some(address)).get(), Some(address));
        }
        assert_eq!(Short::from(None).get(), None);
        assert!(size_of::<Short>() <= size_of::<Option<SocketAddr>>() / 2);
    }
}
