//! The crate's examples, run: each is a program that fails if what it shows does not hold. The one with Redis is run beside Redis, in `tests`.
#![allow(unreachable_pub, dead_code, reason = "programs elsewhere")]

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::Duration;

use persist_sync::{Client, Method, Request, Server};

#[path = "../examples/download.rs"]
mod download;
#[path = "../examples/events.rs"]
mod events;
#[path = "../examples/pipeline.rs"]
mod pipeline;
#[path = "../examples/retry.rs"]
mod retry;
#[path = "../examples/serve.rs"]
mod serve;
#[path = "../examples/websocket.rs"]
mod websocket;

#[test]
fn targets_are_fetched_pipelined_from_a_server_that_keeps_connections() {
    let server = Server::bind("127.0.0.1:0").expect("a port");
    let (address, handle) = (server.local_addr().expect("TCP").to_string(), server.handle());
    let serving = thread::spawn(move || server.serve(serve::answer).expect("served"));
    let targets = (0..20).map(|n| format!("/{n}"));
    let lines = pipeline::fetch(&address, targets).expect("fetched");
    assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "/0: 200, 7 bytes", "/19: 200, 8 bytes"));
    let client = Client::new();
    let url = format!("http://{address}/");
    for (number, text) in ["one", "two"].into_iter().enumerate() {
        let reply = client.send(Request::new(Method::PUT, &*url), text).expect("a reply");
        assert_eq!(reply.reused, number > 0);
        assert_eq!(reply.body.bytes(10).expect("an echo"), text);
    }
    drop(client);
    handle.shutdown(Duration::from_secs(30));
    assert_eq!(serving.join().expect("no panic").connections, 2);
}

#[test]
fn a_websocket_is_spoken_over_a_hijacked_connection() {
    assert_eq!(websocket::talk().expect("it runs"), ["HELLO", "WORLD"]);
}

#[test]
fn events_are_read_as_they_come() {
    assert_eq!(events::listen().expect("it runs"), ["event 0", "event 1", "event 2"]);
}

#[test]
fn an_order_is_placed_once_although_the_server_goes_away() {
    assert_eq!(retry::order().expect("it runs"), ["again: the server does not know of it", "201"]);
}

#[test]
fn a_download_goes_on_where_it_broke_off() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/large", listener.local_addr().expect("an address"));
    let answers = [
        "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 10\r\n\r\n0123",
        "HTTP/1.1 206 Partial Content\r\nETag: \"v1\"\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n\r\n456789",
    ];
    let serving = thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a head");
                asked.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).expect("written");
            stream.shutdown(Shutdown::Write).expect("shut down");
            while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("large");
    assert_eq!(download::download(&url, &file).expect("all of it"), "10 bytes, 1 resumptions");
    assert_eq!(std::fs::read_to_string(file).expect("the file"), "0123456789");
    serving.join().expect("the peer is content");
}
