//! Opens sockets: several addresses side by side, on one thread.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use persist_core::{BoxError, HappyEyeballs, HappyEyeballsConfig, SocketConfig};
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

use super::failure::ConnectFailures;
use super::timer::{DialTimer, not_yet};
use crate::clock;
use crate::error::Result;
use crate::ready::wait_to_write;
use crate::stream::Stream;

/// Connects to whichever address answers first; the core says which is tried when.
pub(super) fn race(
    mut addresses: Vec<SocketAddr>,
    schedule: HappyEyeballsConfig,
    config: &SocketConfig,
    timer: &DialTimer,
) -> Result<Stream> {
    if let Some(bind) = config.bind {
        addresses.retain(|address| address.is_ipv4() == bind.is_ipv4());
        if addresses.is_empty() {
            let what = format!("no address of the family of {bind}, which connections are to come from");
            return Err(timer.failed(io::Error::new(io::ErrorKind::AddrNotAvailable, what)));
        }
    }
    let mut race = HappyEyeballs::new(schedule);
    race.handle_resolved(addresses, clock::now());
    let mut under_way: Vec<(SocketAddr, Socket)> = Vec::new();
    let mut failures = Vec::new();
    loop {
        while let Some(address) = race.poll_attempt(clock::now()) {
            match begin(address, config) {
                Ok(socket) => under_way.push((address, socket)),
                Err(error) => {
                    failures.push((address, error));
                    race.handle_failed();
                }
            }
        }
        if race.is_exhausted() {
            return Err(timer.failed(ConnectFailures::into_error(failures)));
        }
        let left = timer.left().map_err(|late| timer.failed(late))?;
        let next = clock::until(race.poll_timeout());
        let at_most = [left, next].into_iter().flatten().min();
        let ready = wait_to_write(under_way.iter().map(|(_, socket)| socket), at_most);
        let ready = ready.map_err(|error| timer.failed(error))?;
        // From the last, so that removing one does not move those that are still to be looked at.
        for at in ready.into_iter().rev() {
            let (address, socket) = under_way.remove(at);
            match finish(&socket) {
                Ok(()) => return connected(socket).map_err(|error| timer.failed(error)),
                Err(error) => {
                    failures.push((address, error));
                    race.handle_failed();
                }
            }
        }
    }
}

/// A socket on its way to one address.
fn begin(address: SocketAddr, config: &SocketConfig) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    set_up(&socket, config)?;
    if let Some(bind) = config.bind {
        socket.bind(&SocketAddr::new(bind, 0).into())?;
    }
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket),
        Err(error) if not_yet(&error) || error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// What came of it, once the system has said that something did.
fn finish(socket: &Socket) -> io::Result<()> {
    match socket.take_error()? {
        Some(error) => Err(error),
        None => socket.peer_addr().map(drop),
    }
}

fn connected(socket: Socket) -> io::Result<Stream> {
    socket.set_nonblocking(false)?;
    Ok(Stream::prepared(socket.into()))
}

fn set_up(socket: &Socket, config: &SocketConfig) -> io::Result<()> {
    socket.set_tcp_nodelay(config.nodelay)?;
    if let Some(probes) = config.keep_alive {
        let keep_alive = TcpKeepalive::new().with_time(probes.idle);
        #[cfg(not(target_os = "openbsd"))]
        let keep_alive = keep_alive.with_interval(probes.interval);
        #[cfg(not(any(target_os = "openbsd", windows)))]
        let keep_alive = keep_alive.with_retries(probes.count);
        socket.set_tcp_keepalive(&keep_alive)?;
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    socket.set_tcp_user_timeout(config.user_timeout)?;
    // Before connecting: the window scale is settled by then.
    if let Some(size) = config.send_buffer {
        socket.set_send_buffer_size(size as usize)?;
    }
    if let Some(size) = config.recv_buffer {
        socket.set_recv_buffer_size(size as usize)?;
    }
    Ok(())
}

/// The socket at a path. Where its server's backlog is full, the system waits for room, and so has a deadline of its own.
#[cfg(unix)]
pub(super) fn unix(path: &str, config: &SocketConfig, timer: &DialTimer) -> Result<Stream> {
    let left = timer.left().map_err(|late| timer.failed(late))?;
    let open = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        if let Some(size) = config.send_buffer {
            socket.set_send_buffer_size(size as usize)?;
        }
        if let Some(size) = config.recv_buffer {
            socket.set_recv_buffer_size(size as usize)?;
        }
        // The kernel takes 0 for ever.
        socket.set_write_timeout(left.map(|left| left.max(Duration::from_millis(1))))?;
        socket.connect(&SockAddr::unix(path)?)?;
        socket.set_write_timeout(None)?;
        Ok(Stream::from(std::os::unix::net::UnixStream::from(socket)))
    };
    open().map_err(|error: io::Error| {
        let cause: BoxError = match timer.left() {
            Err(late) if not_yet(&error) => late.into(),
            _ => error.into(),
        };
        timer.failed(cause)
    })
}

#[cfg(not(unix))]
pub(super) fn unix(_: &str, _: &SocketConfig, timer: &DialTimer) -> Result<Stream> {
    Err(timer.failed(io::Error::new(io::ErrorKind::Unsupported, "this system has no unix sockets")))
}
