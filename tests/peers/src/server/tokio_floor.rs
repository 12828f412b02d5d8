//! The floor on tokio: a task a connection, which parses heads and writes constant bytes; and bodies as a hand-written loop does them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{CONSTANT, head, listening, runtime};
use crate::Error;
use crate::plan::{Framing, PIECE, content};

pub fn run() -> Result<(), Error> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        listening(listener.local_addr().ok())?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                // A peer that goes away is the usual end.
                let _ = serve(stream).await;
            });
        }
    })
}

async fn serve(mut stream: TcpStream) -> Result<(), Error> {
    // One allocation of 1 KiB a connection, as a frugal server would keep it; large heads and bodies make it grow.
    let mut kept: Vec<u8> = Vec::with_capacity(1024);
    let mut out = Vec::new();
    loop {
        if stream.read_buf(&mut kept).await? == 0 {
            return Ok(());
        }
        let mut at = 0;
        while let Some((len, target, length)) = head(&kept[at..])? {
            let body = content(target);
            at += len;
            if length > 0 {
                let there = (kept.len() - at).min(length as usize);
                discard(&mut stream, length - there as u64).await?;
                at += there;
            }
            match body {
                Some((len, framing)) if length == 0 => send_body(&mut stream, len, framing).await?,
                _ => out.extend_from_slice(CONSTANT),
            }
            if at == kept.len() {
                break;
            }
        }
        kept.drain(..at);
        if !out.is_empty() {
            stream.write_all(&out).await?;
            out.clear();
        }
    }
}

async fn discard(stream: &mut TcpStream, mut left: u64) -> Result<(), Error> {
    let mut scratch = vec![0; 64 * 1024];
    while left > 0 {
        let most = left.min(scratch.len() as u64) as usize;
        let n = stream.read(&mut scratch[..most]).await?;
        if n == 0 {
            return Err("the client closed".into());
        }
        left -= n as u64;
    }
    Ok(())
}

async fn send_body(stream: &mut TcpStream, len: u64, framing: Framing) -> Result<(), Error> {
    let framed = match framing {
        Framing::Length => format!("Content-Length: {len}"),
        Framing::Chunked => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!("HTTP/1.1 200 OK\r\nServer: peer\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n{framed}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let size = format!("{:x}\r\n", PIECE.len());
    for _ in 0..len / PIECE.len() as u64 {
        if framing == Framing::Chunked {
            stream.write_all(size.as_bytes()).await?;
        }
        stream.write_all(&PIECE).await?;
        if framing == Framing::Chunked {
            stream.write_all(b"\r\n").await?;
        }
    }
    if framing == Framing::Chunked {
        stream.write_all(b"0\r\n\r\n").await?;
    }
    Ok(())
}
