//! Both ends of this crate, back to back: in memory, where the test sets the size of the pipe, and over TCP on loopback.

use std::sync::Arc;

use persist_async::{Body, ClientConn, Config, Method, Received, Request, Response, ServerConn, StatusCode};
use tokio::io::DuplexStream;

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

fn post(target: &str) -> Request {
    Request::new(Method::POST, target).field("Host", "test").expect("a valid field")
}

fn deep(depth: u32) -> Config {
    let mut config = Config::client();
    config.pipelining.depth = depth;
    config
}

/// Answers every request with what it asked for: the target, and the content it sent.
async fn echo(received: Received) {
    let target = received.head.target().to_owned();
    let response = Response::ok().field("Target", target).expect("a target is a field value");
    let _ = received.responder.send(response, Body::reader(received.body, None)).await;
}

fn serve(stream: DuplexStream) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let conn = ServerConn::new(stream);
        while let Ok(Some(received)) = conn.read().await {
            echo(received).await;
        }
    })
}

#[tokio::test]
async fn one_request_gets_its_reply_and_the_connection_persists() {
    let (client, server) = tokio::io::duplex(1 << 16);
    let server = serve(server);
    let conn = ClientConn::new(client);
    for round in 0..3 {
        let mut reply = conn.send(post("/a"), "hello").await.expect("a reply");
        assert_eq!(reply.head.status(), StatusCode::OK);
        assert_eq!(reply.reused, round > 0);
        assert_eq!(reply.body.bytes(100).await.expect("the body"), "hello");
    }
    assert!(conn.is_idle());
    assert_eq!(conn.completed(), 3);
    conn.close().await.expect("a graceful end");
    server.await.expect("the server ends");
}

#[tokio::test]
async fn replies_find_their_requests_at_depth_8_from_64_tasks() {
    let (client, server) = tokio::io::duplex(256);
    serve(server);
    let conn = Arc::new(ClientConn::with_config(client, deep(8)));
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let conn = conn.clone();
            tokio::spawn(async move {
                let target = format!("/{n}");
                let mut reply = conn.send(get(&target), ()).await.expect("a reply");
                let said = reply.head.field("Target").and_then(|value| value.to_str()).map(str::to_owned);
                assert_eq!(said, Some(target));
                assert!(reply.body.bytes(0).await.expect("no content").is_empty());
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the task ends");
    }
    assert_eq!(conn.completed(), 64);
}
