//! Which protocol a client speaks to a server that knows both: HTTP/2 begins with a preface (RFC 9113 §3.4) that no HTTP/1.1 request begins with.

use std::io;

use persist_core::Timeouts;
use tokio::io::AsyncReadExt;

use crate::race::{Either, race};
use crate::stream::Stream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What is read at once: a small request, whole.
const PIECE: usize = 4096;

/// What a client speaks, and what was read of it.
pub(crate) enum Spoken {
    One(Vec<u8>),
    Two(Vec<u8>),
}

/// Reads as much as tells. TLS shakes hands meanwhile.
///
/// # Errors
/// The client says nothing in time, or leaves.
pub(crate) async fn arrive(stream: &mut Stream, mut read: Vec<u8>, timeouts: &Timeouts) -> io::Result<Spoken> {
    loop {
        let known = read.len().min(PREFACE.len());
        if read[..known] != PREFACE[..known] {
            return Ok(Spoken::One(read));
        }
        if known == PREFACE.len() {
            return Ok(Spoken::Two(read));
        }
        read.reserve(PIECE);
        let limit = if read.is_empty() { timeouts.idle } else { timeouts.header };
        let more = stream.read_buf(&mut read);
        let n = match limit {
            None => more.await?,
            Some(limit) => match race(more, tokio::time::sleep(limit)).await {
                Either::Left(outcome) => outcome?,
                Either::Right(()) => return Err(io::ErrorKind::TimedOut.into()),
            },
        };
        if n == 0 {
            // What is there of a request is for HTTP/1.1 to judge.
            return if read.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Spoken::One(read)) };
        }
    }
}
