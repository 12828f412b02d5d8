//! The right to speak first on a new connection.

use std::fmt;
use std::io::{self, IoSlice, Read, Write};

use persist_core::{BoxError, DialTimeout};

use crate::dial::{DialTimer, not_yet};
use crate::ready::Directions;
use crate::stream::Stream;

/// A new connection, in the hands of the [`on_connect`](crate::PersistentStream::on_connect) hook: reads and writes block, and fail when the hook's time is up.
///
/// ```
/// use std::io::{BufRead, BufReader, Read, Write};
/// use persist_sync::PersistentStream;
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let there = format!("http://{}", listener.local_addr()?).parse()?;
/// let serving = std::thread::spawn(move || listener.accept()?.0.write_all(b"220 ready\r\nfirst"));
/// let mut stream = PersistentStream::new(there).on_connect(|greeting| {
///     let mut reader = BufReader::new(greeting);
///     let mut line = String::new();
///     reader.read_line(&mut line)?;
///     // What the reader holds beyond that line belongs to whoever reads the stream.
///     let beyond = reader.buffer().to_vec();
///     reader.into_inner().unread(&beyond);
///     if line.starts_with("220 ") { Ok(()) } else { Err("no greeting".into()) }
/// });
/// let mut first = [0; 5];
/// stream.read_exact(&mut first)?;
/// assert_eq!(&first, b"first");
/// serving.join().expect("no panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Greeting<'s> {
    stream: &'s Stream,
    timer: DialTimer,
    unread: Vec<u8>,
}

impl<'s> Greeting<'s> {
    pub(super) fn new(stream: &'s Stream, timer: DialTimer) -> Self {
        Self { stream, timer, unread: Vec::new() }
    }

    /// The stream, for what it knows: addresses, the peer's certificates.
    pub fn stream(&self) -> &Stream {
        self.stream
    }

    /// Gives back bytes that were read too far, behind what the greeting answers: the next read gives them first.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.unread.splice(..0, bytes.iter().copied());
    }

    pub(super) fn into_unread(self) -> Vec<u8> {
        self.unread
    }

    fn until_ready<T>(&self, wanted: Directions, mut call: impl FnMut(&Stream) -> io::Result<T>) -> io::Result<T> {
        loop {
            match call(self.stream) {
                Err(error) if not_yet(&error) => {}
                other => return other,
            }
            let wanted = Directions { write: wanted.write || self.stream.has_unsent(), ..wanted };
            self.timer.wait(self.stream, wanted).map_err(into_io)?;
        }
    }
}

fn into_io(cause: BoxError) -> io::Error {
    match cause.downcast::<io::Error>() {
        Ok(error) => *error,
        Err(cause) if cause.is::<DialTimeout>() => io::Error::new(io::ErrorKind::TimedOut, cause),
        Err(cause) => io::Error::other(cause),
    }
}

impl Read for Greeting<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let n = (&self.unread[..]).read(buf)?;
            self.unread.drain(..n);
            return Ok(n);
        }
        self.until_ready(Directions { read: true, write: false }, |stream| stream.try_read(buf))
    }
}

impl Write for Greeting<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let write = Directions { read: false, write: true };
        let n = self.until_ready(write, |stream| stream.try_write(&[IoSlice::new(buf)]))?;
        self.until_ready(write, Stream::try_flush)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Greeting<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Greeting").field("stream", &self.stream).finish_non_exhaustive()
    }
}
