//! What the system is asked for one number at a time: how much of what was sent its peer has not acknowledged, which no crate wraps safely, and the time, which the
//! standard library takes longer to convert than to read. Each exchange reads it twice.
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

/// The monotonic clock, in nanoseconds since an epoch of its own.
#[cfg(any(target_os = "linux", target_os = "android"))]
#[inline]
pub(crate) fn monotonic_nanos() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec` to the address it is given. It cannot fail: that clock is always there.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn monotonic_nanos() -> u64 {
    static EPOCH: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    // 584 years fit.
    EPOCH.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}
