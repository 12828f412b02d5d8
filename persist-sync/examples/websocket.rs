//! WebSocket over connections that were taken apart after an Upgrade, both ends by the crate tungstenite: `cargo run -p persist-sync --example websocket`.

use std::error::Error;
use std::net::{TcpListener, TcpStream};
use std::thread;

use persist_sync::{ClientConn, Detached, Request, Response, ServerConn, StatusCode};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocket};

type Boxed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Boxed> {
    for line in talk()? {
        println!("{line}");
    }
    Ok(())
}

/// Says two words to a server that shouts them back.
pub fn talk() -> Result<Vec<String>, Boxed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serving = thread::spawn(move || shout(listener.accept()?.0));
    let mut socket = open(TcpStream::connect(address)?, &address.to_string())?;
    let mut answers = Vec::new();
    for word in ["hello", "world"] {
        socket.send(word.into())?;
        answers.push(socket.read()?.into_text()?.to_string());
    }
    socket.close(None)?;
    // Until the server has closed in turn.
    while socket.read().is_ok() {}
    serving.join().expect("no panic")?;
    Ok(answers)
}

/// The client's side: an ordinary exchange, and then the stream, with whatever came behind the response.
fn open(stream: TcpStream, host: &str) -> Result<WebSocket<Detached>, Boxed> {
    let key = generate_key();
    let request = Request::get("/chat")
        .field("Host", host)?
        .field("Connection", "Upgrade")?
        .field("Upgrade", "websocket")?
        .field("Sec-WebSocket-Version", "13")?
        .field("Sec-WebSocket-Key", &key)?;
    let conn = ClientConn::new(stream)?;
    let reply = conn.send(request, ())?;
    let accepted = reply.head.field("Sec-WebSocket-Accept").and_then(|value| value.to_str());
    if reply.head.status() != StatusCode::SWITCHING_PROTOCOLS || accepted != Some(&derive_accept_key(key.as_bytes())) {
        return Err(format!("no WebSocket here: {}", reply.head.status().as_u16()).into());
    }
    Ok(WebSocket::from_raw_socket(conn.into_stream()?, Role::Client, None))
}

/// The server's side: `upgrade` answers, and hands over the stream. Not one byte is lost, even if the client spoke too early.
fn shout(stream: TcpStream) -> Result<(), Boxed> {
    let conn = ServerConn::new(stream)?;
    let Some(received) = conn.read()? else { return Ok(()) };
    let Some(key) = received.head.field("Sec-WebSocket-Key") else {
        received.responder.send(Response::new(StatusCode::BAD_REQUEST), "a WebSocket, please\n")?;
        return Ok(());
    };
    let response = Response::new(StatusCode::SWITCHING_PROTOCOLS)
        .field("Connection", "Upgrade")?
        .field("Upgrade", "websocket")?
        .field("Sec-WebSocket-Accept", derive_accept_key(key.as_bytes()))?;
    let stream = received.responder.upgrade(response)?.into_stream();
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, None);
    while let Ok(message) = socket.read() {
        if message.is_text() {
            socket.send(message.into_text()?.to_uppercase().into())?;
        }
    }
    Ok(())
}
