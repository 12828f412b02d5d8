//! Retries by a rule of one's own, from what the error tells of the failed request: `cargo run -p persist-sync --example retry`.

use std::error::Error;
use std::net::TcpListener;
use std::thread;

use persist_sync::persist_core::RetryPolicy;
use persist_sync::{Client, ClientConfig, Disposition, Reply, Request, Response, ServerConn};

type Boxed = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Boxed> {
    for line in order()? {
        println!("{line}");
    }
    Ok(())
}

/// An order that must be placed once: a POST, which no automatic rule may repeat if the server may have seen it.
pub fn order() -> Result<Vec<String>, Boxed> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/orders", listener.local_addr()?);
    let serving = thread::spawn(move || serve(&listener));
    let mut config = ClientConfig::default();
    config.retry = RetryPolicy::never();
    let client = Client::with_config(config)?;
    let mut log = Vec::new();
    let reply = place(&client, &url, &mut log)?;
    log.push(format!("{}", reply.head.status().as_u16()));
    // Read to its end: a connection that is closed with content unread is reset.
    reply.body.bytes(1 << 20)?;
    drop(client);
    serving.join().expect("no panic")?;
    Ok(log)
}

fn place(client: &Client, url: &str, log: &mut Vec<String>) -> Result<Reply, Boxed> {
    for _ in 0..5 {
        let error = match client.send(Request::post(url), "one of each") {
            Ok(reply) => return Ok(reply),
            Err(error) => error,
        };
        match error.disposition() {
            // Not a byte went out, or the server has said that it did not look at it.
            Some(Disposition::NotSent | Disposition::Declined) => log.push("again: it was not sent".into()),
            // It may have been placed. Only the server knows: ask it, by a method that changes nothing.
            Some(Disposition::SentNoReply | Disposition::PartlySent { .. }) => {
                let known = client.send(Request::get(url), ())?.body.bytes(1 << 20)?;
                if known != "none\n" {
                    return Err("it was placed already".into());
                }
                log.push("again: the server does not know of it".into());
            }
            _ => return Err(error.into()),
        }
    }
    Err("five times are enough".into())
}

/// Reads the first order and goes away without a word; then knows of none; then takes one.
fn serve(listener: &TcpListener) -> Result<(), Boxed> {
    let lost = ServerConn::new(listener.accept()?.0)?;
    let received = lost.read()?;
    lost.abort();
    drop(received);
    let conn = ServerConn::new(listener.accept()?.0)?;
    while let Some(received) = conn.read()? {
        let (status, text) = match received.head.method().as_str() {
            "GET" => (200, "none\n"),
            _ => (201, "placed\n"),
        };
        received.body.bytes(1 << 20)?;
        received.responder.send(Response::new(status.try_into()?), text)?;
    }
    Ok(())
}
