//! What happens between the accept of a connection and its first request.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use persist_core::ProxyHeader;
use tokio::io::AsyncReadExt;

use crate::race::{Either, race};
use crate::stream::Stream;

/// What is read at once: the header with addresses, and usually nothing behind it.
const PIECE: usize = 256;

/// Reads the PROXY header that the connection must begin with: the client's address, if the proxy knows it, and what was read behind the header.
///
/// # Errors
/// If there is none, or not in time.
pub(super) async fn proxy_header(
    stream: &mut Stream,
    within: Option<Duration>,
) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
    let Some(within) = within else { return read_header(stream).await };
    match race(read_header(stream), tokio::time::sleep(within)).await {
        Either::Left(result) => result,
        Either::Right(()) => Err(io::Error::new(io::ErrorKind::TimedOut, "no PROXY header came in time")),
    }
}

async fn read_header(stream: &mut Stream) -> io::Result<(Option<SocketAddr>, Vec<u8>)> {
    let mut received = Vec::with_capacity(PIECE);
    loop {
        match ProxyHeader::parse(&received).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))? {
            Some(header) => {
                let rest = received.split_off(header.bytes);
                return Ok((header.addresses.map(|addresses| addresses.source), rest));
            }
            // The parser takes no header that is longer than `ProxyHeader::BYTES_MAX`.
            None if stream.read_buf(&mut received).await? == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    }
}
