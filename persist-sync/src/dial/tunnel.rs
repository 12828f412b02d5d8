//! Moves the bytes of a handshake with a proxy.

use std::io::IoSlice;

use persist_core::{BoxError, Tunnel, TunnelStep};

use super::timer::{DialTimer, not_yet};
use crate::ready::Directions;
use crate::stream::Stream;

/// One read. Handshakes are short, and what follows them belongs to the next layer.
const READ_BYTES: usize = 4 * 1024;

/// A handshake that has not taken what was read by then never will.
const UNTAKEN_BYTES_MAX: usize = 64 * 1024;

/// Carries the handshake out; gives the bytes that came behind it.
pub(super) fn carry_out(stream: &Stream, tunnel: &mut dyn Tunnel, timer: &DialTimer) -> Result<Vec<u8>, BoxError> {
    let mut inbox = Vec::new();
    // Some refuse without having heard us out, and close. After a failed write their refusal must still reach the caller.
    let mut not_sent = None;
    loop {
        if let Err(error) = send(stream, tunnel, timer) {
            tunnel.advance(tunnel.transmit().len());
            not_sent.get_or_insert(error);
        }
        let mut input = &inbox[..];
        if !input.is_empty() {
            if tunnel.handle_input(&mut input)? == TunnelStep::Done {
                send(stream, tunnel, timer)?;
                return not_sent.map_or_else(|| Ok(input.to_vec()), Err);
            }
            let taken = inbox.len() - input.len();
            inbox.drain(..taken);
            if taken > 0 && !tunnel.transmit().is_empty() {
                continue;
            }
        }
        if inbox.len() > UNTAKEN_BYTES_MAX {
            return Err("the proxy sent more than its protocol allows".into());
        }
        match receive(stream, &mut inbox, timer) {
            Ok(0) => {
                let closed = tunnel.handle_eof();
                return Err(not_sent.unwrap_or(closed));
            }
            Ok(_) => {}
            Err(error) => return Err(not_sent.unwrap_or(error)),
        }
    }
}

fn send(stream: &Stream, tunnel: &mut dyn Tunnel, timer: &DialTimer) -> Result<(), BoxError> {
    loop {
        let waiting = tunnel.transmit();
        let sent = if waiting.is_empty() {
            stream.try_flush().map(|()| 0)
        } else {
            stream.try_write(&[IoSlice::new(waiting)])
        };
        match sent {
            Ok(0) => return Ok(()),
            Ok(n) => tunnel.advance(n),
            Err(error) if not_yet(&error) => timer.wait(stream, Directions { read: false, write: true })?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn receive(stream: &Stream, inbox: &mut Vec<u8>, timer: &DialTimer) -> Result<usize, BoxError> {
    let mut buffer = [0; READ_BYTES];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(n) => {
                inbox.extend_from_slice(&buffer[..n]);
                return Ok(n);
            }
            Err(error) if not_yet(&error) => timer.wait(stream, Directions { read: true, write: false })?,
            Err(error) => return Err(error.into()),
        }
    }
}
