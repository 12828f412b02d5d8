//! An idle connection holds no buffer: what its machine has on the heap and in itself stays within 440 bytes.

use std::alloc::System;
use std::mem::size_of;

use bytes::Buf;
use persist_core::{
    BodyLen, Client, Config, Conn, Event, Field, FieldName, FieldValue, Instant, Method, Next, Server, StatusCode,
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The core's share of an idle connection, in bytes.
const IDLE_MAX: usize = 440;
const NOW: Instant = Instant::ZERO;

fn small_request() -> Vec<u8> {
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()
}

fn request_with_6_kb_of_head() -> Vec<u8> {
    [b"GET / HTTP/1.1\r\nHost: a\r\nCookie: ", "x".repeat(6 << 10).as_bytes(), b"\r\n\r\n"].concat()
}

// One test, for the allocator counts what all threads do.
#[test]
fn an_idle_connection_holds_no_buffer() {
    for (what, request) in [("a small request", small_request()), ("a head of 6 KiB", request_with_6_kb_of_head())] {
        for (how, piece) in [("whole", usize::MAX), ("in pieces of 100 bytes", 100)] {
            let held = held_by_idle_server(&request, piece);
            assert!(held <= IDLE_MAX, "a server's machine holds {held} bytes after {what}, fed {how}");
        }
    }
    let held = held_by_idle_client();
    assert!(held <= IDLE_MAX, "a client's machine holds {held} bytes after an exchange");
}

/// Bytes that a machine holds on the heap, and its own size, once it answered a request and is idle.
fn held_by_idle_server(request: &[u8], piece: usize) -> usize {
    // Shared by all connections of a server, so no connection's own.
    let config = std::sync::Arc::new(Config::server());
    let region = Region::new(ALLOCATOR);
    let mut conn = Conn::<Server>::new(config, NOW);
    for piece in request.chunks(piece.min(request.len())) {
        serve(&mut conn, piece);
    }
    assert_eq!((conn.completed(), conn.is_idle()), (1, true));
    held(&region, size_of::<Conn<Server>>())
}

fn serve(conn: &mut Conn<Server>, mut input: &[u8]) {
    while let Next::Event(event) = conn.next(&mut input, NOW).expect("the request is well-formed") {
        if let Event::Head { id, ticket, .. } = event {
            conn.send_response(ticket, StatusCode::OK, [], BodyLen::Length(5), NOW)
                .expect("the response is well-formed");
            assert_eq!(conn.send_body(id, b"hello", NOW), Ok(5));
            conn.finish_body(id, None, NOW).expect("the body is complete");
        }
    }
    assert!(input.is_empty(), "all input is taken");
    let mut transmit = conn.transmit(NOW);
    let all = transmit.remaining();
    transmit.advance(all);
}

fn held_by_idle_client() -> usize {
    let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("a") };
    let config = std::sync::Arc::new(Config::client());
    let region = Region::new(ALLOCATOR);
    let mut conn = Conn::<Client>::new(config, NOW);
    conn.send_request(&Method::GET, "/", [host], BodyLen::Empty, NOW).expect("the connection is idle");
    let mut transmit = conn.transmit(NOW);
    let all = transmit.remaining();
    transmit.advance(all);
    let mut input: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    while let Next::Event(event) = conn.next(&mut input, NOW).expect("the response is well-formed") {
        drop(event);
    }
    assert_eq!((conn.completed(), conn.is_idle()), (1, true));
    held(&region, size_of::<Conn<Client>>())
}

fn held(region: &Region<'_, System>, own: usize) -> usize {
    let change = region.change();
    own + change.bytes_allocated - change.bytes_deallocated
}
