//! Server-Sent Events: a response without an end, whose lines are read as they come: `cargo run -p persist-sync --example events`.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::thread;

use persist_sync::{Client, Request, Response, ServerConn};

type Boxed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Boxed> {
    for event in listen()? {
        println!("{event}");
    }
    Ok(())
}

/// Reads three events, and has enough.
pub fn listen() -> Result<Vec<String>, Boxed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/events", listener.local_addr()?);
    let serving = thread::spawn(move || tell(&listener));
    let client = Client::new();
    let reply = client.send(Request::get(url).field("Accept", "text/event-stream")?, ())?;
    let mut events = Vec::new();
    for line in BufReader::new(reply.body).lines() {
        if let Some(data) = line?.strip_prefix("data: ") {
            events.push(data.to_owned());
        }
        if events.len() == 3 {
            break;
        }
    }
    // The reply was dropped before its end: the connection is closed, and the server's next write fails.
    drop(client);
    let told = serving.join().expect("no panic")?;
    assert!(told >= 3);
    Ok(events)
}

/// Tells one client as many events as it wants to hear; gives their number.
fn tell(listener: &TcpListener) -> Result<u64, Boxed> {
    let conn = ServerConn::new(listener.accept()?.0)?;
    let Some(received) = conn.read()? else { return Ok(0) };
    let response = Response::ok().field("Content-Type", "text/event-stream")?.field("Cache-Control", "no-store")?;
    let mut body = received.responder.send_streaming(response, None)?;
    for number in 0.. {
        // Each write is a chunk, and is on its way when it returns.
        if write!(body, "data: event {number}\n\n").and_then(|()| body.flush()).is_err() {
            return Ok(number);
        }
    }
    Ok(0)
}
