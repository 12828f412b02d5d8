//! A request and its reply, sent and awaited at once or written and read apart: what comes of it depends on what the peer says alone, not on that, nor on where
//! its bytes were cut.

use std::pin::{Pin, pin};
use std::task::Poll;

use persist_async::{ClientConn, CloseReason, Disposition, Error, Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::coop::unconstrained;

/// How a caller goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    AtOnce,
    Apart,
}

/// What the peer does behind its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Stays,
    Closes,
}

async fn poll_once<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn ask(conn: &ClientConn<DuplexStream>, way: Way, request: &Request) -> Result<Reply, Error> {
    match way {
        Way::AtOnce => conn.send(request, ()).await,
        Way::Apart => conn.read(conn.write(request, ()).await?).await,
    }
}

/// The reply in words: its status behind those of interim responses, its content if that is short, and its trailers.
async fn said(mut reply: Reply) -> Result<String, Error> {
    let content = reply.body.bytes(1 << 20).await?;
    let mut statuses: Vec<_> = reply.interim.iter().map(|head| head.status().as_u16().to_string()).collect();
    statuses.push(reply.head.status().as_u16().to_string());
    let content = match content.len() {
        0 => "nothing".to_owned(),
        len @ 1..10 => format!("{len} {}", String::from_utf8_lossy(&content)),
        len => len.to_string(),
    };
    let trailers = reply.body.trailers().map_or(String::new(), |trailers| format!(" {} trailers", trailers.len()));
    Ok(format!("{}: {content}{trailers}", statuses.join(" ")))
}

/// What comes of a request whose peer says `pieces`, one read each; and what is left of the connection.
async fn outcome(way: Way, pieces: [&[u8]; 2], then: Then) -> String {
    let (near, mut far) = tokio::io::duplex(1 << 18);
    let conn = ClientConn::new(near);
    let request = Request::get("/").field("Host", "test").expect("a field");
    let mut asking = pin!(async { said(ask(&conn, way, &request).await?).await });
    let mut came = poll_once(asking.as_mut()).await;
    assert!(came.is_none() && far.read(&mut [0; 1_000]).await.expect("a request") > 0);
    for piece in pieces.into_iter().filter(|piece| !piece.is_empty()) {
        let _ = far.write_all(piece).await; // whoever has heard enough is gone
        if came.is_none() {
            came = poll_once(asking.as_mut()).await;
        }
    }
    let kept = (then == Then::Stays).then_some(far);
    let came = match came {
        Some(came) => came,
        None => asking.await,
    };
    let came = match came {
        Ok(reply) => reply,
        Err(error) => match error.disposition() {
            Some(Disposition::SentNoReply) => "no reply".to_owned(),
            Some(Disposition::ReplyPartial) => "part of a reply".to_owned(),
            other => panic!("{other:?}: {error}"),
        },
    };
    let reason = match conn.is_reusable() {
        true => None,
        // Where the first bytes behind a reply say little, the next say why it is over.
        false if conn.close_reason().is_none() => Some(conn.closed().await),
        false => conn.close_reason(),
    };
    let left = match reason {
        None => "open".to_owned(),
        Some(CloseReason::Protocol(_)) => "a violation".to_owned(),
        Some(reason) => format!("{reason:?}"),
    };
    drop(kept);
    format!("{came}, {left}")
}

/// Whole, and in two pieces wherever they can be cut; a long text here and there.
fn cuts(text: &[u8]) -> impl Iterator<Item = [&[u8]; 2]> {
    let step = text.len() / 200 + 1;
    (0..text.len()).step_by(step).map(|at| text.split_at(at).into())
}

#[tokio::test]
async fn what_comes_of_a_request_depends_on_what_the_peer_says_alone() {
    use Then::{Closes, Stays};
    let long = "x".repeat(100_000);
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n{long}");
    let short = &whole[..whole.len() - 1];
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nSum: 5\r\n\r\n";
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let twice = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!";
    let rows = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Stays, "200: 5 hello, open"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", Closes, "200: 5 hello, PeerClosed"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Stays, "200: nothing, open"),
        ("HTTP/1.1 204 No Content\r\n\r\n", Stays, "204: nothing, open"),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", Stays, "304: nothing, open"),
        (whole.as_str(), Stays, "200: 100000, open"),
        (chunked, Stays, "200: 5 hello 1 trailers, open"),
        ("HTTP/1.1 200 OK\r\n\r\nhello", Closes, "200: 5 hello, PeerClosed"),
        ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Stays, "200: 2 ok, PeerSaidClose"),
        ("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", Stays, "200: 2 ok, PeerSaidClose"),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            Stays,
            "103 102 200: 2 ok, open",
        ),
        ("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Closes, "103 204: nothing, PeerClosed"),
        (evil, Stays, "200: 2 ok, Poisoned"),
        (evil, Closes, "200: 2 ok, Poisoned"),
        ("HTTP/1.1 204 No Content\r\n\r\n\0", Stays, "204: nothing, Poisoned"),
        ("HTTP/1.1 103 Early Hints\r\n\r\n\0", Stays, "no reply, a violation"),
        ("\0", Stays, "no reply, a violation"),
        (twice, Stays, "part of a reply, a violation"),
        ("", Closes, "no reply, PeerClosedEarly"),
        ("HTTP/1.1 200 OK\r\nContent-Le", Closes, "part of a reply, PeerClosedEarly"),
        ("HTTP/1.1 103 Early Hints\r\n\r\n", Closes, "no reply, PeerClosedEarly"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell", Closes, "part of a reply, PeerClosedEarly"),
        (short, Closes, "part of a reply, PeerClosedEarly"),
        (&chunked[..chunked.len() - 1], Closes, "part of a reply, PeerClosedEarly"),
    ];
    for (text, then, expected) in rows {
        for way in [Way::AtOnce, Way::Apart] {
            for pieces in cuts(text.as_bytes()).chain([[text.as_bytes(), b""]]) {
                // Or tokio would let nothing move, now and then, and expect all of the task's futures to be polled again.
                let came = unconstrained(outcome(way, pieces, then)).await;
                let cut = pieces[0].len();
                assert_eq!(came, expected, "{way:?}, cut at {cut}: {:?}", &text[..text.len().min(100)]);
            }
        }
    }
}
