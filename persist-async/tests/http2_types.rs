//! The `http` crate's types over HTTP/2: what a head says goes out once, and bodies that are not at hand are waited for.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use persist_async::http::{OriginalFields, Via};
use persist_async::http2::Http2Config;
use persist_async::{ClientConn, Error, Received, Server, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// What comes through a channel.
struct Slow(mpsc::Receiver<Bytes>);

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

async fn connected<F>(handler: impl Fn(Received) -> F + Send + Sync + 'static) -> ClientConn<TcpStream>
where
    F: Future<Output = Result<(), Error>> + Send + 'static,
{
    let config = ServerConfig::default().server_name("ours").expect("a name");
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let server = server.with_config(config).with_http2(Http2Config::server());
    let address = server.local_addr().expect("TCP");
    tokio::spawn(server.serve(handler));
    let stream = TcpStream::connect(address).await.expect("a server");
    ClientConn::http2(stream, Http2Config::client()).await.expect("a preface")
}

fn get() -> Request<Empty<Bytes>> {
    Request::get("http://example/").body(Empty::new()).expect("a request")
}

#[tokio::test]
async fn a_head_says_everything_once_and_nothing_of_the_connection() {
    let conn = connected(|received| async move {
        let (request, responder) = received.into_http().expect("a target for everybody");
        assert!(request.extensions().get::<Via>().is_some());
        assert!(request.extensions().get::<OriginalFields>().is_none(), "names of HTTP/2 have one case");
        let response = Response::builder()
            .header("content-length", "5")
            .header("server", "theirs")
            .header("connection", "keep-alive, x-hop")
            .header("keep-alive", "timeout=5")
            .header("keep-alive", "max=5")
            .header("upgrade", "h2c")
            .header("te", "gzip")
            .header("x-kept", "1");
        responder.send_http(response.body(Full::new(Bytes::from("hello"))).expect("a response")).await
    });
    let response = conn.await.send_http(get()).await.expect("a reply");
    let fields: Vec<_> = response.headers().keys().map(http::HeaderName::as_str).collect();
    for name in ["content-length", "server", "date", "x-kept"] {
        assert_eq!(response.headers().get_all(name).iter().count(), 1, "{name}");
    }
    assert_eq!((fields.len(), &response.headers()["server"]), (4, &"theirs".parse().expect("a value")), "{fields:?}");
    assert!(response.extensions().get::<OriginalFields>().is_none());
    assert_eq!(response.into_body().bytes(100).await.expect("a body"), "hello");
}

#[tokio::test]
async fn a_length_that_only_the_body_knows_is_said() {
    let conn = connected(|received| async move {
        let (_, responder) = received.into_http().expect("a target for everybody");
        responder.send_http(Response::new(Full::new(Bytes::from("hello")))).await
    });
    let response = conn.await.send_http(get()).await.expect("a reply");
    assert_eq!(
        (&response.headers()["content-length"], &response.headers()["server"]),
        (&5.into(), &"ours".parse().expect("a value"))
    );
}

#[tokio::test]
async fn a_body_that_is_not_at_hand_is_waited_for() {
    for length in [None, Some("3")] {
        let (senders, mut given) = mpsc::unbounded_channel();
        let conn = connected(move |received| {
            let senders = senders.clone();
            async move {
                let (_, responder) = received.into_http().expect("a target for everybody");
                let (sender, receiver) = mpsc::channel(1);
                senders.send(sender).expect("the test");
                let mut response = Response::builder();
                if let Some(length) = length {
                    response = response.header("content-length", length);
                }
                responder.send_http(response.body(Slow(receiver)).expect("a response")).await
            }
        });
        // The head is there before any content is.
        let response = conn.await.send_http(get()).await.expect("a reply");
        let sender: mpsc::Sender<_> = given.recv().await.expect("a handler");
        for piece in ["a", "b", "c"] {
            sender.send(Bytes::from(piece)).await.expect("a reader");
        }
        drop(sender);
        assert_eq!(response.into_body().collect().await.expect("a body").to_bytes(), "abc", "{length:?}");
    }
}
