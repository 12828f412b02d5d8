//! An idle connection holds no buffer: its share of the heap is small, and the same after a large head, a large body and a burst.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::TcpStream;

use persist_async::{Body, Received, Response, Server};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What a connection of a server may hold between requests: its machine (500 bytes), its task with the handler's future, its socket's registration, its timer.
const IDLE_MAX: usize = 3_500;

const CONNECTIONS: usize = 100;

async fn echo(mut received: Received) {
    let content = received.body.bytes(1 << 20).await.expect("the content");
    let _ = received.responder.send(Response::ok(), Body::from(content)).await;
}

fn exchange(stream: &mut TcpStream, request: &[u8], replies: usize) {
    stream.write_all(request).expect("written");
    let mut heard = Vec::new();
    while heard.windows(4).filter(|end| *end == b"\r\n\r\n").count() < replies || !heard.ends_with(b"\n") {
        let mut piece = [0; 65_536];
        let n = stream.read(&mut piece).expect("a reply");
        assert!(n > 0, "the server closed");
        heard.extend_from_slice(&piece[..n]);
    }
}

// One test, for the allocator counts what all threads do.
#[test]
fn an_idle_connection_holds_no_buffer() {
    let small = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec();
    let large_head = [b"GET / HTTP/1.1\r\nHost: a\r\nCookie: ", "x".repeat(6 << 10).as_bytes(), b"\r\n\r\n"].concat();
    let mut large_body = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200001\r\n\r\n".to_vec();
    large_body.extend_from_slice(&[b'x'; 200_000]);
    large_body.push(b'\n');
    let burst = small.repeat(16);
    for (what, request, replies) in [
        ("a small request", &small, 1),
        ("a head of 6 KiB", &large_head, 1),
        ("a body of 200 KB", &large_body, 1),
        ("a burst", &burst, 16),
    ] {
        let held = held_per_connection(request, replies);
        println!("{held} bytes after {what}");
        assert!(held <= IDLE_MAX, "a connection holds {held} bytes after {what}");
    }
}

fn held_per_connection(request: &[u8], replies: usize) -> usize {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let server = runtime.block_on(Server::bind("127.0.0.1:0")).expect("a port");
    let address = server.local_addr().expect("tcp");
    let handle = server.handle();
    runtime.spawn(server.serve(echo));
    // What is there once, whatever the number of connections: buffers of the thread, the runtime's own.
    let mut warm = TcpStream::connect(address).expect("a connection");
    exchange(&mut warm, request, replies);
    let region = Region::new(ALLOCATOR);
    let streams: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = TcpStream::connect(address).expect("a connection");
            exchange(&mut stream, request, replies);
            stream
        })
        .collect();
    // One more exchange on the first: the thread has been through all the others by then.
    exchange(&mut warm, request, replies);
    let change = region.change();
    assert_eq!(handle.connections(), CONNECTIONS + 1);
    drop(streams);
    (change.bytes_allocated - change.bytes_deallocated) / CONNECTIONS
}
