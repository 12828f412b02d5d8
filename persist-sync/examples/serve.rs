//! A server that keeps connections and echoes what it gets: `cargo run -p persist-sync --example serve -- 127.0.0.1:8080`.

use std::io;

use persist_sync::{Body, Method, Received, Response, Result, Server};

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let server = Server::bind(address)?;
    if let Some(address) = server.local_addr() {
        println!("listening on http://{address}");
    }
    server.serve(answer)?;
    Ok(())
}

/// What is sent comes back; what is asked for is named.
pub fn answer(received: Received) -> Result<()> {
    let body = match *received.head.method() {
        Method::POST | Method::PUT => Body::from(received.body),
        _ => Body::from(format!("{} {}\n", received.head.method().as_str(), received.head.target())),
    };
    received.responder.send(Response::ok(), body)
}
