//! Moves the bytes of a handshake with a proxy.

use std::io;

use bytes::Bytes;
use persist_core::{Phase, Tunnel, TunnelStep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{Error, Result};
use crate::stream::Stream;

/// Bytes read at once: a proxy's reply is small, and what is read behind it belongs to the stream.
const READ_BYTES: usize = 4 * 1024;

/// Bytes that a handshake may leave unconsumed while it wants more. None of those that exist leaves any.
const UNCONSUMED_MAX: usize = 64 * 1024;

/// Lets `tunnel` speak until it is done; what was read behind its last byte is the first that the returned stream gives.
pub(super) async fn pass(mut stream: Stream, mut tunnel: Box<dyn Tunnel>) -> Result<Stream> {
    let broken = |cause: io::Error| Error::new(Phase::Tunnel, cause);
    let refused = |cause| Error::new(Phase::Tunnel, cause);
    let mut unconsumed = Vec::new();
    // Some refuse without having heard us out, and close. After a failed write their refusal must still reach the caller.
    let mut not_written = None;
    loop {
        if let Err(error) = write(&mut stream, &mut *tunnel).await {
            tunnel.advance(tunnel.transmit().len());
            not_written.get_or_insert(error);
        }
        let mut input = unconsumed.as_slice();
        if !input.is_empty() {
            if tunnel.handle_input(&mut input).map_err(refused)? == TunnelStep::Done {
                write(&mut stream, &mut *tunnel).await.map_err(broken)?;
                let leftover = Bytes::copy_from_slice(input);
                return not_written.map_or_else(|| Ok(stream.with_leftover(leftover)), |error| Err(broken(error)));
            }
            let consumed = unconsumed.len() - input.len();
            unconsumed.drain(..consumed);
            if consumed > 0 && !tunnel.transmit().is_empty() {
                continue;
            }
        }
        if unconsumed.len() > UNCONSUMED_MAX {
            return Err(broken(io::Error::new(
                io::ErrorKind::InvalidData,
                "the proxy sent more than its protocol allows",
            )));
        }
        unconsumed.reserve(READ_BYTES);
        match (&mut stream).take(READ_BYTES as u64).read_buf(&mut unconsumed).await {
            Ok(0) => {
                let closed = tunnel.handle_eof();
                return Err(not_written.map_or_else(|| refused(closed), broken));
            }
            Ok(_) => {}
            Err(error) => return Err(broken(not_written.unwrap_or(error))),
        }
    }
}

async fn write(stream: &mut Stream, tunnel: &mut dyn Tunnel) -> io::Result<()> {
    while !tunnel.transmit().is_empty() {
        match stream.write(tunnel.transmit()).await? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => tunnel.advance(n),
        }
    }
    stream.flush().await
}
