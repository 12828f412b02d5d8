//! Ours, with their defaults.

use bytes::Bytes;

use super::{NAME, listening, runtime};
use crate::Error;
use crate::plan::{Framing, HELLO, PIECE, content};

pub fn run_async() -> Result<(), Error> {
    use persist_async::persist_core::FieldLines;
    use persist_async::{Body, Received, Response, Server, ServerConfig};

    const PLAIN: FieldLines<'static> = FieldLines::from_static("Content-Type: text/plain\r\n");

    async fn answer(mut received: Received) -> persist_async::Result<()> {
        let body = content(received.head.target());
        let mut length = 0;
        while let Some(piece) = received.body.chunk().await? {
            length += piece.len();
        }
        let response = Response::ok().lines(PLAIN);
        let body = match body {
            Some((len, framing)) if length == 0 => {
                let reader = tokio::io::AsyncReadExt::take(Xs, len);
                Body::reader(reader, (framing == Framing::Length).then_some(len))
            }
            _ => Body::from(Bytes::from_static(HELLO)),
        };
        received.responder.send(response, body).await
    }

    runtime()?.block_on(async {
        let server = Server::bind("127.0.0.1:0").await?.with_config(ServerConfig::default().server_name(NAME)?);
        listening(server.local_addr())?;
        server.serve(answer).await?;
        Ok(())
    })
}

pub fn run_sync() -> Result<(), Error> {
    use persist_sync::persist_core::FieldLines;
    use persist_sync::{Body, Received, Response, Server, ServerConfig};

    const PLAIN: FieldLines<'static> = FieldLines::from_static("Content-Type: text/plain\r\n");

    let server = Server::bind("127.0.0.1:0")?.with_config(ServerConfig::default().server_name(NAME)?);
    listening(server.local_addr())?;
    server.serve(|mut received: Received| {
        let body = content(received.head.target());
        let mut length = 0;
        while let Some(piece) = received.body.chunk()? {
            length += piece.len();
        }
        let response = Response::ok().lines(PLAIN);
        let body = match body {
            Some((len, framing)) if length == 0 => {
                let reader = std::io::Read::take(Xs, len);
                Body::reader(reader, (framing == Framing::Length).then_some(len))
            }
            _ => Body::from(Bytes::from_static(HELLO)),
        };
        received.responder.send(response, body)
    })?;
    Ok(())
}

/// Gives the bytes of [`PIECE`] for ever, as fast as they can be copied.
#[derive(Debug)]
pub struct Xs;

impl std::io::Read for Xs {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = buf.len().min(PIECE.len());
        buf[..n].copy_from_slice(&PIECE[..n]);
        Ok(n)
    }
}

impl tokio::io::AsyncRead for Xs {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let n = buf.remaining().min(PIECE.len());
        buf.put_slice(&PIECE[..n]);
        std::task::Poll::Ready(Ok(()))
    }
}
