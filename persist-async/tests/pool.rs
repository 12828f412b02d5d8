//! The pooled client over real sockets: reuse, limits, stale connections, retries, errors that say where and why.

use persist_async::persist_core::{Disposition, RetryPolicy};
use persist_async::{Body, Client, ClientConfig, Method, Phase, Received, Request, Response, Server, ServerHandle};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

async fn echo(mut received: Received) {
    let content = received.body.bytes(1 << 20).await.expect("the content");
    let _ = received.responder.send(Response::ok(), Body::from(content)).await;
}

async fn server() -> (String, ServerHandle) {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    tokio::spawn(server.serve(echo));
    (format!("http://{address}"), handle)
}

#[tokio::test]
async fn a_connection_is_reused_once_its_body_was_read_and_not_before() {
    let (url, _server) = server().await;
    let client = Client::new();
    let first = client.send(Request::new(Method::PUT, &url), vec![b'x'; 200_000]).await.expect("a reply");
    let mut second = client.send(Request::get(&url), ()).await.expect("a reply");
    assert_ne!(first.connection, second.connection, "the first one's body is unread");
    assert!(second.body.bytes(10).await.expect("the body").is_empty());
    let third = client.send(Request::get(&url), ()).await.expect("a reply");
    assert_eq!((third.connection, third.reused), (second.connection, true));
    let mut first = first;
    assert_eq!(first.body.bytes(200_000).await.expect("the body").len(), 200_000);
    assert_eq!((client.counts().open, client.counts().exchanges), (2, 0));
}

#[tokio::test]
async fn no_more_connections_than_allowed_and_everybody_is_served() {
    let (url, server) = server().await;
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (2, 2);
    let client = Client::with_config(config).expect("no contradiction");
    let tasks: Vec<_> = (0..50)
        .map(|n| {
            let (client, url) = (client.clone(), url.clone());
            tokio::spawn(async move {
                let body = n.to_string();
                let mut reply = client.send(Request::new(Method::POST, &url), body.clone()).await.expect("a reply");
                assert_eq!(reply.body.bytes(10).await.expect("the body"), body);
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic");
    }
    assert!(server.connections() <= 2);
    assert_eq!(client.counts().exchanges, 0);
}

#[tokio::test]
async fn a_request_dropped_while_it_waits_leaves_its_place_to_others() {
    let (url, _server) = server().await;
    let mut config = ClientConfig::default();
    (config.pool.per_destination_max, config.pool.idle_per_destination_max) = (1, 1);
    let client = Client::with_config(config).expect("no contradiction");
    let held = client.send(Request::new(Method::PUT, &url), vec![0; 200_000]).await.expect("a reply");
    {
        let waiting = client.send(Request::get(&url), ());
        let mut waiting = std::pin::pin!(waiting);
        assert!(poll_once(waiting.as_mut()).await.is_none());
        assert_eq!(client.counts().waiting, 1);
    }
    assert_eq!(client.counts().waiting, 0);
    drop(held);
    client.send(Request::get(&url), ()).await.expect("a reply");
}

async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
        std::task::Poll::Pending => std::task::Poll::Ready(None),
    })
    .await
}

#[tokio::test]
async fn a_stale_connection_is_never_used_even_for_a_post() {
    // A server of one reply per connection, which closes without saying so.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (closed, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let n = stream.read(&mut [0; 4096]).await.expect("a request");
            assert!(n > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.expect("written");
            drop(stream);
            let _ = closed.send(());
        }
    });
    let mut config = ClientConfig::default();
    config.retry = RetryPolicy::never();
    let client = Client::with_config(config).expect("no contradiction");
    for _ in 0..5 {
        let mut reply = client.send(Request::new(Method::POST, &url), "x").await.expect("a reply");
        assert!(!reply.reused);
        assert_eq!(reply.body.bytes(2).await.expect("the body"), "ok");
        told.recv().await.expect("the server closes");
    }
}

#[tokio::test]
async fn a_refused_connection_names_the_url_and_the_phase() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = socket.local_addr().expect("an address").as_socket().expect("an internet address");
    let url = format!("http://{address}");
    let error = Client::new().send(Request::get(&url), ()).await.expect_err("nobody listens");
    assert_eq!((error.phase(), error.disposition()), (Phase::Connect, Some(Disposition::NotSent)));
    assert!(error.to_string().contains(&url), "{error}");
    let error = Client::new().send(Request::get("http://no.such.host.invalid/"), ()).await.expect_err("no such host");
    assert_eq!(error.phase(), Phase::Resolve);
    let error = Client::new().send(Request::get("ftp://host/"), ()).await.expect_err("another scheme");
    assert_eq!(error.phase(), Phase::Prepare);
}
