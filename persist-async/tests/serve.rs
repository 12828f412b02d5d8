//! The server over TCP and Unix sockets: handlers, panics, shutdown.

use std::time::Duration;

use persist_async::{Body, ClientConn, Received, Request, Response, Server, StatusCode};
use tokio::net::TcpStream;

fn get(target: &str) -> Request {
    Request::get(target).field("Host", "test").expect("a valid field")
}

async fn handler(mut received: Received) {
    match received.head.target() {
        "/panic" => panic!("a handler that panics, on purpose"),
        "/drop" => {}
        "/peer" => {
            let peer = received.peer.map(|peer| peer.to_string()).unwrap_or_default();
            let _ = received.responder.send(Response::ok(), peer).await;
        }
        _ => {
            let content = received.body.bytes(1 << 20).await.expect("the content");
            let _ = received.responder.send(Response::ok(), Body::from(content)).await;
        }
    }
}

#[tokio::test]
async fn a_panic_answers_500_and_closes_and_others_are_unharmed() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let serving = tokio::spawn(server.serve(handler));
    let connect = async || ClientConn::new(TcpStream::connect(address).await.expect("a connection"));

    let healthy = connect().await;
    healthy.send(get("/"), ()).await.expect("a reply");
    for target in ["/panic", "/drop"] {
        let conn = connect().await;
        let reply = conn.send(get(target), ()).await.expect("a reply");
        assert_eq!(reply.head.status(), StatusCode::INTERNAL_SERVER_ERROR);
        drop(reply);
        conn.closed().await;
    }
    let mut reply = healthy.send(get("/peer"), ()).await.expect("a reply");
    let peer = reply.body.bytes(100).await.expect("the body");
    assert_eq!(peer, healthy.local_addr().expect("tcp").to_string());
    assert!(reply.head.field("Date").is_some());

    drop(healthy);
    handle.shutdown(Duration::from_secs(60));
    let served = serving.await.expect("no panic").expect("no error");
    assert_eq!((served.connections, served.aborted), (3, 0));
}
