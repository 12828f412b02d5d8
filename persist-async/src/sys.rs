//! The one system call that no crate wraps safely: how much of what was sent the peer's system has not acknowledged.
#![allow(unsafe_code, reason = "one number is read out of the kernel; the argument stands where it is done")]

/// Bytes in the kernel's send queue that are not acknowledged (a Unix socket's: not read, in memory taken); `None` where the system does not tell.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn unacknowledged(socket: &impl std::os::fd::AsFd) -> std::io::Result<Option<u64>> {
    let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as it is borrowed. Of a socket, TIOCOUTQ (there: SIOCOUTQ) writes one C int to the address it is given.
    match unsafe { libc::ioctl(fd, libc::TIOCOUTQ as _, &raw mut bytes) } {
        0 => Ok(u64::try_from(bytes).ok()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn unacknowledged<S>(_: &S) -> std::io::Result<Option<u64>> {
    Ok(None)
}
