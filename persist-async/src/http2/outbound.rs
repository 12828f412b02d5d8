//! Content on its way out: at once where the window has room, by a task of its own where it has not or where a reader must be waited for.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::{Reason, SendStream};
use persist_core::{BodyLen, Fields, SendError};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::task::AbortHandle;

use super::convert;
use super::failure::Upload;
use crate::body::{Body, Content, Piece, Pieces, Reader, too_short};
use crate::race::{Either, race};

/// A reader is asked for so many bytes at once.
const PIECE: usize = 16 * 1024;

/// How content leaves.
pub(super) struct Way {
    pub(super) upload: Arc<Upload>,
    /// How long the peer may keep the window shut.
    pub(super) stall: Option<Duration>,
    /// What the peer is told if the content cannot be produced.
    pub(super) reset: Reason,
}

/// Sends a body that has content or trailers. A task that is needed for it is told of.
pub(super) fn send(mut stream: SendStream<Bytes>, body: Body, way: Way) -> Option<AbortHandle> {
    let len = body.len();
    let Body { content, trailers } = body;
    let bytes = match content {
        Content::Empty => Bytes::new(),
        Content::Bytes(bytes) => bytes,
        Content::Reader { reader, .. } => {
            let source = Source::Reader { reader, left: if let BodyLen::Length(len) = len { Some(len) } else { None } };
            return Some(tokio::spawn(pump(stream, source, trailers, way)).abort_handle());
        }
    };
    stream.reserve_capacity(bytes.len());
    if stream.capacity() < bytes.len() {
        return Some(tokio::spawn(pump(stream, Source::Bytes(bytes), trailers, way)).abort_handle());
    }
    let sent = bytes.len();
    // What is wrong with the stream shows where the answer is waited for.
    let ended = match &trailers {
        None => stream.send_data(bytes, true),
        Some(trailers) => {
            let given = if sent > 0 { stream.send_data(bytes, false) } else { Ok(()) };
            given.and_then(|()| stream.send_trailers(convert::trailers(trailers)))
        }
    };
    if ended.is_ok() {
        way.upload.sent(sent);
        way.upload.done();
    }
    None
}

enum Source {
    Bytes(Bytes),
    Reader { reader: Reader, left: Option<u64> },
    Done,
}

/// Why content stops before its end.
enum Stop {
    /// The stream is over: the peer reset it, or wants no more.
    Over,
    /// It cannot be produced.
    Broken(io::Error),
}

async fn pump(mut stream: SendStream<Bytes>, mut source: Source, trailers: Option<Fields>, way: Way) {
    match run(&mut stream, &mut source, trailers, &way).await {
        Ok(()) => way.upload.done(),
        Err(Stop::Over) => {}
        Err(Stop::Broken(error)) => {
            way.upload.failed(error);
            stream.send_reset(way.reset);
        }
    }
}

async fn run(
    stream: &mut SendStream<Bytes>,
    source: &mut Source,
    mut trailers: Option<Fields>,
    way: &Way,
) -> Result<(), Stop> {
    loop {
        // A peer that resets the stream wants no more of it; the reader may have nothing for long.
        let next = match race(next(source), poll_fn(|cx| stream.poll_reset(cx))).await {
            Either::Left(next) => next.map_err(Stop::Broken)?,
            Either::Right(_) => return Err(Stop::Over),
        };
        match next {
            Piece::Content(piece) => give(stream, piece, way).await?,
            Piece::End(own) => {
                trailers = own.or(trailers.take());
                break;
            }
        }
    }
    let ended = match &trailers {
        Some(trailers) => stream.send_trailers(convert::trailers(trailers)),
        None => stream.send_data(Bytes::new(), true),
    };
    ended.map_err(|_| Stop::Over)
}

/// Gives a piece as the window has room for it.
async fn give(stream: &mut SendStream<Bytes>, mut piece: Bytes, way: &Way) -> Result<(), Stop> {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let room = match stream.capacity() {
            0 => match within(way.stall, poll_fn(|cx| stream.poll_capacity(cx))).await {
                None => {
                    let stalled = io::Error::new(io::ErrorKind::TimedOut, "the peer kept its window shut for too long");
                    return Err(Stop::Broken(stalled));
                }
                Some(None | Some(Err(_))) => return Err(Stop::Over),
                Some(Some(Ok(_))) => continue,
            },
            room => room.min(piece.len()),
        };
        stream.send_data(piece.split_to(room), false).map_err(|_| Stop::Over)?;
        way.upload.sent(room);
    }
    Ok(())
}

/// The outcome, unless it takes too long.
async fn within<F: Future>(limit: Option<Duration>, work: F) -> Option<F::Output> {
    let Some(limit) = limit else { return Some(work.await) };
    match race(work, tokio::time::sleep(limit)).await {
        Either::Left(result) => Some(result),
        Either::Right(()) => None,
    }
}

async fn next(source: &mut Source) -> io::Result<Piece> {
    match source {
        Source::Done => Ok(Piece::End(None)),
        Source::Bytes(bytes) => {
            let piece = std::mem::take(bytes);
            *source = Source::Done;
            if piece.is_empty() { Ok(Piece::End(None)) } else { Ok(Piece::Content(piece)) }
        }
        Source::Reader { left: Some(0), reader: Reader::Read(_) } => Ok(Piece::End(None)),
        Source::Reader { reader, left } => {
            let piece = poll_fn(|cx| poll_reader(reader, *left, cx)).await?;
            if let Some(left) = left {
                match &piece {
                    Piece::Content(content) if content.len() as u64 > *left => {
                        return Err(io::Error::other(SendError::TooLong { excess: content.len() as u64 - *left }));
                    }
                    Piece::Content(content) => *left -= content.len() as u64,
                    Piece::End(_) if *left > 0 => return Err(too_short(*left)),
                    Piece::End(_) => {}
                }
            }
            Ok(piece)
        }
    }
}

fn poll_reader(reader: &mut Reader, left: Option<u64>, cx: &mut Context<'_>) -> Poll<io::Result<Piece>> {
    match reader {
        Reader::Pieces(pieces) => Pieces::poll_piece(pieces.as_mut(), cx),
        Reader::Read(reader) => {
            let limit = left.map_or(PIECE, |left| left.min(PIECE as u64) as usize);
            poll_read(reader.as_mut(), limit, cx)
        }
    }
}

fn poll_read(
    mut reader: Pin<&mut (dyn AsyncRead + Send)>,
    limit: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Piece>> {
    let mut buffer = BytesMut::with_capacity(limit);
    let read = std::pin::pin!((&mut reader).take(limit as u64).read_buf(&mut buffer)).poll(cx)?;
    read.map(|n| Ok(if n == 0 { Piece::End(None) } else { Piece::Content(buffer.freeze()) }))
}
