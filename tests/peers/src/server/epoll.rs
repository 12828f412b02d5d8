//! The floor: one epoll loop that parses heads and writes constant bytes. What this machine allows; not a product.

use std::io::{ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::{CONSTANT, head, listening};
use crate::Error;

const LISTENER: Token = Token(usize::MAX);

struct Conn {
    stream: TcpStream,
    /// Of a request whose end has not come.
    kept: Vec<u8>,
    /// Of responses that the socket did not take.
    unsent: Vec<u8>,
}

pub fn run() -> Result<(), Error> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    listening(listener.local_addr().ok())?;
    let mut conns: Vec<Option<Conn>> = Vec::new();
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 64 * 1024];
    let mut out = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = Token(conns.len());
                    poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
                    conns.push(Some(Conn { stream, kept: Vec::new(), unsent: Vec::new() }));
                }
                continue;
            }
            let place = &mut conns[event.token().0];
            let Some(conn) = place else { continue };
            if !conn.unsent.is_empty() {
                let unsent = std::mem::take(&mut conn.unsent);
                send(conn, &unsent)?;
            }
            if event.is_readable() && !answer(conn, &mut scratch, &mut out)? {
                *place = None;
            }
        }
    }
}

/// Answers what has come; false once the peer is gone.
fn answer(conn: &mut Conn, scratch: &mut [u8], out: &mut Vec<u8>) -> Result<bool, Error> {
    loop {
        let n = match conn.stream.read(scratch) {
            Ok(0) => return Ok(false),
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(_) => return Ok(false),
        };
        out.clear();
        let mut input = &scratch[..n];
        let joined;
        if !conn.kept.is_empty() {
            conn.kept.extend_from_slice(input);
            joined = std::mem::take(&mut conn.kept);
            input = &joined;
        }
        while let Some((len, ..)) = head(input)? {
            out.extend_from_slice(CONSTANT);
            input = &input[len..];
            if input.is_empty() {
                break;
            }
        }
        conn.kept.extend_from_slice(input);
        send(conn, out)?;
        // A short read took all that there was; more makes an event of its own.
        if n < scratch.len() {
            return Ok(true);
        }
    }
}

fn send(conn: &mut Conn, mut bytes: &[u8]) -> Result<(), Error> {
    if !conn.unsent.is_empty() {
        conn.unsent.extend_from_slice(bytes);
        return Ok(());
    }
    while !bytes.is_empty() {
        match conn.stream.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                conn.unsent.extend_from_slice(bytes);
                break;
            }
            Err(_) => break,
        }
    }
    Ok(())
}
