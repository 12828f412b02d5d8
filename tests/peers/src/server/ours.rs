//! Ours, with their defaults.

use std::task::Poll;

use bytes::Bytes;

use super::{NAME, listening, runtime};
use crate::Error;
use crate::plan::{Framing, HELLO, content, pieces};

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
                let mut pieces = pieces(len);
                let len = (framing == Framing::Length).then_some(len);
                Body::pieces(move |_| Poll::Ready(pieces.next().map(Ok)), len)
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
                Body::pieces(pieces(len).map(Ok), (framing == Framing::Length).then_some(len))
            }
            _ => Body::from(Bytes::from_static(HELLO)),
        };
        received.responder.send(response, body)
    })?;
    Ok(())
}
