//! What can be said about a stream's socket, for the kinds of streams that have one.

use std::any::Any;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;

use crate::stream::Stream;

/// The peer's address.
pub(crate) fn peer<S: 'static>(stream: &S) -> Option<SocketAddr> {
    tcp(stream)?.peer_addr().ok()
}

/// Our own address.
pub(crate) fn local<S: 'static>(stream: &S) -> Option<SocketAddr> {
    tcp(stream)?.local_addr().ok()
}

/// Whether nothing waits to be read, not even an end of file; `None` if the stream has no socket that can be asked. One system call, never waits.
pub(crate) fn is_quiet<S: 'static>(stream: &S) -> Option<bool> {
    #[cfg(unix)]
    if let Some(unix) = unix(stream) {
        return Some(has_nothing(&SockRef::from(unix)));
    }
    tcp(stream).map(|tcp| has_nothing(&SockRef::from(tcp)))
}

fn has_nothing(socket: &SockRef<'_>) -> bool {
    // Not through tokio: its readiness is as old as its last look at epoll.
    let mut byte = [MaybeUninit::uninit()];
    matches!(socket.peek(&mut byte), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
}

fn tcp<S: 'static>(stream: &S) -> Option<&TcpStream> {
    let stream: &dyn Any = stream;
    match stream.downcast_ref::<Stream>() {
        Some(Stream::Tcp(tcp)) => Some(tcp),
        Some(_) => None,
        None => stream.downcast_ref(),
    }
}

#[cfg(unix)]
fn unix<S: 'static>(stream: &S) -> Option<&UnixStream> {
    let stream: &dyn Any = stream;
    match stream.downcast_ref::<Stream>() {
        Some(Stream::Unix(unix)) => Some(unix),
        Some(_) => None,
        None => stream.downcast_ref(),
    }
}
