//! Reads and writes of a bare socket that never wait, whether or not the socket is in blocking mode.

use std::io::{self, IoSlice};

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use flagged::{is_silent, read, write};

/// By a flag of each call.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod flagged {
    use super::{IoSlice, io};
    use rustix::fd::AsFd;
    use rustix::io::Errno;
    use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, recv, send, sendmsg};

    /// A peer that is gone is an error, and no signal.
    const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

    pub(in super::super) fn read(socket: &impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(socket, buf, RecvFlags::DONTWAIT)?.0)
    }

    pub(in super::super) fn is_silent(socket: &impl AsFd) -> io::Result<bool> {
        match recv(socket, &mut [0; 1], RecvFlags::DONTWAIT | RecvFlags::PEEK) {
            Err(Errno::AGAIN) => Ok(true),
            Ok(_) | Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    pub(in super::super) fn write(socket: &impl AsFd, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match bufs {
            [one] => Ok(send(socket, one, SEND)?),
            _ => Ok(sendmsg(socket, bufs, &mut SendAncillaryBuffer::default(), SEND)?),
        }
    }
}

/// Elsewhere the socket itself is in non-blocking mode.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn read<'s, S>(socket: &'s S, buf: &mut [u8]) -> io::Result<usize>
where
    &'s S: io::Read,
{
    io::Read::read(&mut &*socket, buf)
}

/// Reading will tell.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn is_silent<S>(_: &S) -> io::Result<bool> {
    Ok(false)
}

/// The same for writing.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn write<'s, S>(socket: &'s S, bufs: &[IoSlice<'_>]) -> io::Result<usize>
where
    &'s S: io::Write,
{
    io::Write::write_vectored(&mut &*socket, bufs)
}
