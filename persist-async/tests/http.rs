//! The `http` crate's types on both ends: fields in their order and case, trailers, interim responses, framing, failures.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use persist_async::http::{Interim, OriginalFields, Via};
use persist_async::{Blame, Client, ClientConn, Disposition, Phase, SendError, Server, ServerConn};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// A body of these frames, one after another.
struct Frames(Vec<Result<Frame<Bytes>, io::Error>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready((!self.0.is_empty()).then(|| self.0.remove(0)))
    }
}

fn data(text: &'static str) -> Result<Frame<Bytes>, io::Error> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailers(name: &'static str, value: &'static str) -> Result<Frame<Bytes>, io::Error> {
    let mut map = HeaderMap::new();
    map.insert(name, value.parse().expect("a value"));
    Ok(Frame::trailers(map))
}

/// What `peer` has sent when it was silent for once, after an answer that closes.
async fn exchange_raw(mut peer: DuplexStream, answer: &[u8]) -> String {
    let mut buf = vec![0; 4096];
    let n = peer.read(&mut buf).await.expect("a request");
    peer.write_all(answer).await.expect("a peer that reads");
    let mut rest = Vec::new();
    peer.shutdown().await.expect("an end");
    peer.read_to_end(&mut rest).await.expect("the rest");
    String::from_utf8([&buf[..n], &rest].concat()).expect("text")
}

#[tokio::test]
async fn fields_leave_in_the_order_and_case_of_the_extension() {
    let (stream, peer) = tokio::io::duplex(4096);
    let peer =
        tokio::spawn(exchange_raw(peer, b"HTTP/1.1 204 Fine\r\nX-One: 1\r\nx-TWO: 2\r\nConnection: close\r\n\r\n"));
    let conn = ClientConn::new(stream);
    let mut original = persist_async::Fields::new();
    for (name, value) in [("B-oNE", "x"), ("HOST", "x"), ("Gone", "x"), ("a-TWO", "x"), ("B-One", "x")] {
        original.push(name, value).expect("a field");
    }
    let mut request = Request::get("http://user:secret@example.org/path?q");
    for (name, value) in [("a-two", "2"), ("b-one", "1"), ("new", " 4 "), ("host", "h"), ("b-one", "3"), ("b-one", "5")]
    {
        request = request.header(name, value);
    }
    let mut request = request.body(Empty::<Bytes>::new()).expect("a request");
    request.extensions_mut().insert(OriginalFields::from(original));
    let response = conn.send_http(request).await.expect("a reply");
    drop(conn);
    let sent = peer.await.expect("no panic");
    assert_eq!(
        sent,
        "GET /path?q HTTP/1.1\r\nB-oNE: 1\r\nHOST: h\r\na-TWO: 2\r\nB-One: 3\r\nb-one: 5\r\nnew: 4\r\n\r\n"
    );
    let original = response.extensions().get::<OriginalFields>().expect("kept");
    let fields: Vec<_> = original.iter().map(|field| field.name.as_str().to_owned()).collect();
    assert_eq!(fields, ["X-One", "x-TWO", "Connection"]);
    assert_eq!(original.response().expect("a response").reason(), b"Fine");
    assert_eq!(response.headers()["x-two"], "2");
    assert!(!response.extensions().get::<Via>().expect("kept").reused);
}

#[tokio::test]
async fn the_authority_becomes_host_without_its_userinfo_and_a_bare_path_needs_one() {
    let (stream, peer) = tokio::io::duplex(4096);
    let peer = tokio::spawn(exchange_raw(peer, b"HTTP/1.0 200 OK\r\n\r\n"));
    let conn = ClientConn::new(stream);
    let bare = Request::get("/").body(Empty::<Bytes>::new()).expect("a request");
    let error = conn.send_http(bare).await.expect_err("no host");
    assert_eq!((error.phase(), error.disposition()), (Phase::Prepare, Some(Disposition::NotSent)));
    let request = Request::post("http://user:secret@example.org:81").header("transfer-encoding", "gzip");
    let request = request.body(Full::<Bytes>::from("hello")).expect("a request");
    let response = conn.send_http(request).await.expect("a reply");
    assert_eq!(response.version(), http::Version::HTTP_10);
    drop((response, conn));
    assert_eq!(
        peer.await.expect("no panic"),
        "POST / HTTP/1.1\r\nHost: example.org:81\r\nContent-Length: 5\r\n\r\nhello"
    );
}

#[tokio::test]
async fn bodies_and_trailers_go_both_ways() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received| async move {
        let (request, responder) = received.into_http()?;
        assert!(request.extensions().get::<Via>().expect("kept").peer.is_some());
        let echo = Response::builder().header("trailer", "x-check");
        responder.send_http(echo.body(request.into_body()).expect("a response")).await.map_err(Into::into)
            as Result<(), Box<dyn std::error::Error + Send + Sync>>
    }));
    let client = Client::new();
    let url = format!("http://{address}/");
    let frames = vec![data("one, "), data(""), data("two"), trailers("x-check", "42")];
    let request = Request::post(&url).body(Frames(frames)).expect("a request");
    let body = client.send_http(request).await.expect("a reply").into_body().collect().await.expect("a body");
    assert_eq!(body.trailers().expect("trailers")["x-check"], "42");
    assert_eq!(body.to_bytes(), "one, two");

    // Without trailers, a body of known length is sent with it, and comes with it.
    let request = Request::post(&url).body(Full::<Bytes>::from("known")).expect("a request");
    let response = client.send_http(request).await.expect("a reply");
    let body = response.into_body().collect().await.expect("a body");
    assert!(body.trailers().is_none());
    assert_eq!(body.to_bytes(), "known");
}

#[tokio::test]
async fn the_size_hint_shrinks_as_content_is_taken() {
    use http_body::Body as _;
    let (stream, mut peer) = tokio::io::duplex(4096);
    let conn = ClientConn::new(stream);
    let request = Request::get("http://h/").body(Empty::<Bytes>::new()).expect("a request");
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabc").await.expect("room");
    let mut body = conn.send_http(request).await.expect("a reply").into_body();
    assert_eq!(body.size_hint().exact(), Some(6));
    let frame = body.frame().await.expect("a frame").expect("content");
    assert_eq!(frame.into_data().expect("data"), "abc");
    assert_eq!((body.size_hint().exact(), body.is_end_stream()), (Some(3), false));
    peer.write_all(b"def").await.expect("room");
    assert_eq!(body.collect().await.expect("the rest").to_bytes(), "def");
}

#[tokio::test]
async fn interim_responses_come_with_the_final_one() {
    let (client, server) = tokio::io::duplex(4096);
    let server = ServerConn::new(server);
    tokio::spawn(async move {
        let received = server.read().await.expect("no failure").expect("a request");
        let (request, responder) = received.into_http().expect("a target for everybody");
        assert_eq!(request.uri(), "/early");
        let hint = Response::builder().status(103).header("link", "</style.css>").body(()).expect("a response");
        responder.interim_http(&hint).expect("HTTP/1.1");
        responder.send_http(Response::new(Empty::<Bytes>::new())).await.expect("taken");
        let _ = server.read().await;
    });
    let conn = ClientConn::new(client);
    let request = Request::get("http://h/early").body(Empty::<Bytes>::new()).expect("a request");
    let response = conn.send_http(request).await.expect("a reply");
    let Interim(interim) = response.extensions().get().expect("one came");
    assert_eq!((interim.len(), interim[0].status()), (1, StatusCode::EARLY_HINTS));
    assert_eq!(interim[0].headers()["link"], "</style.css>");
}

#[tokio::test]
async fn a_length_that_the_body_does_not_keep_fails_the_exchange() {
    let (stream, _peer) = tokio::io::duplex(4096);
    let conn = ClientConn::new(stream);
    let request = Request::post("http://h/").header("content-length", "9");
    let request = request.body(Frames(vec![data("four")])).expect("a request");
    let error = conn.send_http(request).await.expect_err("five bytes are missing");
    assert_eq!(error.blame(), Blame::Caller);
    assert!(matches!(error.disposition(), Some(Disposition::PartlySent { .. } | Disposition::NotSent)), "{error}");

    let (stream, _peer) = tokio::io::duplex(4096);
    let conn = ClientConn::new(stream);
    let request = Request::post("http://h/").header("content-length", "3");
    let request = request.body(Frames(vec![data("four")])).expect("a request");
    let error = conn.send_http(request).await.expect_err("one byte too many");
    let cause =
        std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>()).expect("an io error");
    assert!(
        cause.get_ref().is_some_and(|cause| cause.is::<SendError>()) || cause.to_string().contains("more than"),
        "{error}"
    );

    for lengths in [&["+3"][..], &[""], &["3", "4"], &["3", "3", "x"], &["18446744073709551616"]] {
        let request =
            lengths.iter().fold(Request::post("http://h/"), |request, len| request.header("content-length", *len));
        let (stream, _peer) = tokio::io::duplex(4096);
        let request = request.body(Empty::<Bytes>::new()).expect("a request");
        let error = ClientConn::new(stream).send_http(request).await.expect_err("no number, or more than one");
        assert_eq!((error.phase(), error.blame()), (Phase::Prepare, Blame::Caller), "{lengths:?}");
    }
}

#[tokio::test]
async fn a_body_that_fails_is_the_cause_of_the_exchanges_error() {
    let (stream, _peer) = tokio::io::duplex(4096);
    let conn = ClientConn::new(stream);
    let frames = Frames(vec![data("begun"), Err(io::Error::other("the disk is gone"))]);
    let error =
        conn.send_http(Request::put("http://h/").body(frames).expect("a request")).await.expect_err("broken off");
    assert_eq!(error.blame(), Blame::Caller);
    assert!(error.to_string().contains("the disk is gone"), "{error}");
    assert!(error.failure().is_some_and(|failure| failure.idempotent));
}

#[tokio::test]
async fn a_response_to_head_says_the_length_and_sends_nothing() {
    let (mut client, server) = tokio::io::duplex(4096);
    let server = ServerConn::new(server);
    tokio::spawn(async move {
        while let Ok(Some(received)) = server.read().await {
            let (_, responder) = received.into_http().expect("a target for everybody");
            let response = Response::builder().header("content-length", "123").body(Empty::<Bytes>::new());
            responder.send_http(response.expect("a response")).await.expect("taken");
        }
    });
    client.write_all(b"HEAD / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.expect("room");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("an end");
    assert!(answer.to_ascii_lowercase().contains("content-length: 123\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_that_is_given_slowly_is_waited_for() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received| async move {
        let (request, responder) = received.into_http().expect("a target for everybody");
        responder.send_http(Response::new(request.into_body())).await
    }));
    let client = Client::new();
    for length in [None, Some("3")] {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let mut request = Request::post(format!("http://{address}/"));
        if let Some(length) = length {
            request = request.header("content-length", length);
        }
        let request = request.body(StreamBody::new(futures_of(receiver))).expect("a request");
        let sending = tokio::spawn(async move {
            for piece in ["a", "b", "c"] {
                tokio::task::yield_now().await;
                sender.send(Bytes::from_static(piece.as_bytes())).await.expect("a reader");
            }
        });
        let response = client.send_http(request).await.expect("a reply");
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "abc", "{length:?}");
        sending.await.expect("no panic");
    }
}

/// The channel's pieces as frames.
fn futures_of(
    mut receiver: tokio::sync::mpsc::Receiver<Bytes>,
) -> impl futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Send {
    Pieces(move |cx: &mut Context<'_>| receiver.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))))
}

struct Pieces<F>(F);

impl<T, F: FnMut(&mut Context<'_>) -> Poll<Option<T>> + Unpin> futures_util::Stream for Pieces<F> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        (self.0)(cx)
    }
}
