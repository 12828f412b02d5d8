//! Waiting for a socket: one `poll` on the socket and on the thread's own waker, so that other threads can end the wait.

use std::cell::OnceCell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::Errno;

/// Which directions of a socket matter, or are ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Directions {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// How long a thread without a waker waits at most before it looks for news: only when descriptors have run out.
const WITHOUT_WAKER: Duration = Duration::from_millis(20);

/// Waits until the socket is ready in a direction that matters, or `timeout` has passed; nobody else can end the wait.
pub(crate) fn wait_alone(socket: &impl AsFd, wanted: Directions, timeout: Option<Duration>) -> io::Result<Directions> {
    wait(socket, wanted, None, timeout)
}

/// Waits until the socket is ready in a direction that matters, the waker was used, or `timeout` has passed.
pub(crate) fn wait_for(
    socket: &impl AsFd,
    wanted: Directions,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Directions> {
    let timeout = match waker {
        Some(_) => timeout,
        None => Some(timeout.map_or(WITHOUT_WAKER, |timeout| timeout.min(WITHOUT_WAKER))),
    };
    wait(socket, wanted, waker, timeout)
}

fn wait(
    socket: &impl AsFd,
    wanted: Directions,
    waker: Option<&Waker>,
    timeout: Option<Duration>,
) -> io::Result<Directions> {
    let mut events = PollFlags::empty();
    events.set(PollFlags::IN, wanted.read);
    events.set(PollFlags::OUT, wanted.write);
    // `try_from` fails on more than `i64::MAX` seconds only: then there is no need to wake up at all.
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());

    // A hung-up socket is always ready: one that is not wanted must stay out, or the wait would spin.
    let socket = PollFd::new(socket, events);
    let sockets = usize::from(!events.is_empty());
    let (woken, ready) = match waker {
        Some(waker) => {
            let mut set = [PollFd::new(&waker.0, PollFlags::IN), socket];
            poll_all(&mut set[..1 + sockets], timeout.as_ref())?;
            (!set[0].revents().is_empty(), set[1].revents())
        }
        None => {
            let mut set = [socket];
            poll_all(&mut set[..sockets], timeout.as_ref())?;
            (false, set[0].revents())
        }
    };
    if let Some(waker) = waker.filter(|_| woken) {
        waker.reset();
    }
    let broken = ready.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL);
    Ok(Directions {
        read: wanted.read && (broken || ready.contains(PollFlags::IN)),
        write: wanted.write && (broken || ready.contains(PollFlags::OUT)),
    })
}

/// Waits until one of the sockets can be written, or has failed, or `timeout` has passed; gives the places of those that are.
pub(crate) fn wait_to_write<'s, S: AsFd + 's>(
    sockets: impl Iterator<Item = &'s S>,
    timeout: Option<Duration>,
) -> io::Result<Vec<usize>> {
    let mut set: Vec<_> = sockets.map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
    let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
    poll_all(&mut set, timeout.as_ref())?;
    Ok(set.iter().enumerate().filter(|(_, socket)| !socket.revents().is_empty()).map(|(at, _)| at).collect())
}

fn poll_all(set: &mut [PollFd<'_>], timeout: Option<&Timespec>) -> io::Result<()> {
    match poll(set, timeout) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Ends the wait of one thread. Each thread has at most one, made when it first waits.
#[derive(Debug)]
pub(crate) struct Waker(imp::Signal);

impl Waker {
    /// The calling thread's own; `None` if the system has no descriptor left for it, or the thread is about to end.
    pub(crate) fn of_this_thread() -> Option<Arc<Self>> {
        thread_local!(static WAKER: OnceCell<Arc<Waker>> = const { OnceCell::new() });
        let find = |cell: &OnceCell<Arc<Self>>| match cell.get() {
            Some(waker) => Some(waker.clone()),
            None => imp::signal().ok().map(|signal| cell.get_or_init(|| Arc::new(Self(signal))).clone()),
        };
        // A thread that ends may still wait, when its waker is gone already.
        WAKER.try_with(find).ok().flatten()
    }

    /// Ends the current wait, or else the next one.
    pub(crate) fn wake(&self) {
        imp::raise(&self.0);
    }

    fn reset(&self) {
        imp::clear(&self.0);
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod imp {
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fd::OwnedFd;
    use rustix::io::{read, write};

    pub(super) type Signal = OwnedFd;

    pub(super) fn signal() -> std::io::Result<Signal> {
        Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
    }

    /// Fails only when the counter is full, and then the wait ends anyway.
    pub(super) fn raise(signal: &Signal) {
        let _ = write(signal, &1u64.to_ne_bytes());
    }

    pub(super) fn clear(signal: &Signal) {
        let _ = read(signal, &mut [0; 8]);
    }
}

/// Elsewhere: a UDP socket that is connected to itself, which every system has.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod imp {
    use std::net::{Ipv4Addr, UdpSocket};

    pub(super) type Signal = UdpSocket;

    pub(super) fn signal() -> std::io::Result<Signal> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(socket.local_addr()?)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Fails only when datagrams wait already, and then the wait ends anyway.
    pub(super) fn raise(signal: &Signal) {
        let _ = signal.send(&[1]);
    }

    pub(super) fn clear(signal: &Signal) {
        while signal.recv(&mut [0; 1]).is_ok() {}
    }
}
