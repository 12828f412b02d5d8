//! Taking a connection apart without losing a byte.

use std::io::{self, Read, Write};

use persist_core::{ExchangeId, Failure, Parts};

use crate::stream::Stream;

/// What a connection was made of. Not one byte is lost or there twice.
///
/// ```
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, ServerConn};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut near = TcpStream::connect(listener.local_addr()?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let hijacked = server.hijack()?; // between messages
/// assert!(hijacked.leftover.is_empty() && hijacked.unsent.is_empty() && hijacked.failures.is_empty());
/// std::io::Write::write_all(&mut &hijacked.stream, b"anything")?;
/// std::io::Read::read_exact(&mut near, &mut [0; 8])?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Hijacked {
    /// The stream, blocking again.
    pub stream: Stream,
    /// Bytes that were read and belong to no message: they precede whatever the stream gives next.
    pub leftover: Vec<u8>,
    /// Bytes that must still be written, ahead of anything else.
    pub unsent: Vec<u8>,
    /// The exchanges that were not complete.
    pub failures: Vec<(ExchangeId, Failure)>,
}

impl Hijacked {
    pub(crate) fn new(stream: Stream, parts: Parts) -> Self {
        Self { stream, leftover: parts.leftover, unsent: parts.unsent, failures: parts.failures }
    }

    /// One object that reads the leftover first and then the stream, and writes what is unsent before anything else.
    pub fn into_stream(self) -> Detached {
        Detached { stream: self.stream, leftover: io::Cursor::new(self.leftover), unsent: self.unsent }
    }
}

/// A stream that knows what was read ahead of it and what was not written yet.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
/// use persist_sync::{ClientConn, Request, Response, ServerConn, StatusCode};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let client = ClientConn::new(TcpStream::connect(listener.local_addr()?)?)?;
/// let server = ServerConn::new(listener.accept()?.0)?;
///
/// let request = Request::get("/").field("Host", "localhost")?.field("Upgrade", "echo")?.field("Connection", "upgrade")?;
/// let exchange = client.write(request, ())?;
/// let received = server.read()?.expect("a request");
/// let granted = Response::new(StatusCode::SWITCHING_PROTOCOLS).field("Upgrade", "echo")?;
/// let mut far = received.responder.upgrade(granted)?.into_stream();
/// far.write_all(b"hello")?;
///
/// assert_eq!(client.read(exchange)?.head.status(), StatusCode::SWITCHING_PROTOCOLS);
/// let mut near = client.into_stream()?; // reads the leftover first
/// let mut heard = [0; 5];
/// near.read_exact(&mut heard)?;
/// assert_eq!(&heard, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Detached {
    stream: Stream,
    leftover: io::Cursor<Vec<u8>>,
    unsent: Vec<u8>,
}

impl Detached {
    /// The stream underneath. Reading from it directly would skip the leftover.
    pub fn get_ref(&self) -> &Stream {
        &self.stream
    }

    fn send_unsent(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Read for Detached {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // An answer cannot be waited for before the question has left.
        self.send_unsent()?;
        match self.leftover.read(buf)? {
            0 => self.stream.read(buf),
            n => Ok(n),
        }
    }
}

impl Write for Detached {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.send_unsent()?;
        self.stream.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_unsent()?;
        self.stream.flush()
    }
}
