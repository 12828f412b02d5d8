//! hyper's server, a task a connection, with and without its `pipeline_flush`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, SERVER};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use super::{NAME, listening, runtime};
use crate::Error;
use crate::plan::{Framing, HELLO, PIECE, content};

pub fn run(pipeline_flush: bool) -> Result<(), Error> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        listening(listener.local_addr().ok())?;
        let mut http = hyper::server::conn::http1::Builder::new();
        http.pipeline_flush(pipeline_flush);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let conn = http.serve_connection(TokioIo::new(stream), service_fn(answer));
            tokio::spawn(async move {
                // A peer that goes away is the usual end.
                let _ = conn.await;
            });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Either<Full<Bytes>, Pieces>>, hyper::Error> {
    let body = content(request.uri().path());
    let mut incoming = request.into_body();
    let mut received = 0;
    while let Some(frame) = incoming.frame().await {
        received += frame?.data_ref().map_or(0, Bytes::len);
    }
    let body = match body {
        Some((len, framing)) if received == 0 => Either::Right(Pieces::new(len, framing)),
        _ => Either::Left(Full::new(Bytes::from_static(HELLO))),
    };
    let mut response = Response::new(body);
    let fields = response.headers_mut();
    fields.insert(SERVER, HeaderValue::from_static(NAME));
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// A body of so many bytes, in pieces that are not copied.
#[derive(Debug)]
pub struct Pieces {
    left: u64,
    framing: Framing,
}

impl Pieces {
    pub fn new(len: u64, framing: Framing) -> Self {
        Self { left: len, framing }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.left.min(PIECE.len() as u64);
        self.left -= size;
        let piece = Bytes::from_static(&PIECE[..size as usize]);
        Poll::Ready((size > 0).then_some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        match self.framing {
            Framing::Length => SizeHint::with_exact(self.left),
            Framing::Chunked => SizeHint::default(),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }
}
