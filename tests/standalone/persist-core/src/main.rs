//! A program that uses persist-core and nothing else: both ends of a connection, and a network that is two buffers.

use persist_core::bytes::Buf as _;
use persist_core::{
    BodyLen, Client, Config, Conn, Event, Field, FieldName, FieldValue, Instant, Method, Next, Role, Server, StatusCode,
};

const HOST: Field<'static> =
    Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("example.org") };

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let now = Instant::ZERO;
    let mut config = Config::client();
    config.pipelining.depth = 3;
    let mut client = Conn::<Client>::new(config, now);
    let mut server = Conn::<Server>::new(Config::server(), now);

    let mut sent = Vec::new();
    for target in ["/1", "/2", "/3"] {
        sent.push(client.send_request(&Method::GET, target, [HOST], BodyLen::Empty, now)?);
    }
    let requests = wire(&mut client, now);
    let mut input = &requests[..];
    let mut tickets = Vec::new();
    while let Next::Event(event) = server.next(&mut input, now)? {
        if let Event::Head { ticket, .. } = event {
            tickets.push(ticket);
        }
    }
    // In any order; they leave in the requests'.
    let statuses = [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND, StatusCode::NOT_MODIFIED];
    for (ticket, status) in tickets.into_iter().zip(statuses).rev() {
        server.send_response(ticket, status, [], BodyLen::Empty, now)?;
    }
    let replies = wire(&mut server, now);
    let mut input = &replies[..];
    let mut received = Vec::new();
    while let Next::Event(event) = client.next(&mut input, now)? {
        if let Event::Head { id, head, .. } = event {
            received.push((id, head.status().as_u16()));
        }
    }
    assert_eq!(received, [(sent[0], 204), (sent[1], 404), (sent[2], 304)]);
    assert!(client.is_idle() && server.is_idle());
    println!("3 requests, 3 replies, no network");
    Ok(())
}

/// What a machine has to send, all of it accepted.
fn wire<R: Role>(conn: &mut Conn<R>, now: Instant) -> Vec<u8> {
    let mut out = conn.transmit(now);
    let mut bytes = Vec::with_capacity(out.remaining());
    while out.has_remaining() {
        let piece = out.chunk().to_vec();
        out.advance(piece.len());
        bytes.extend(piece);
    }
    bytes
}
