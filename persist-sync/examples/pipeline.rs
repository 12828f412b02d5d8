//! Fetches many targets over one connection, pipelined: `cargo run -p persist-sync --example pipeline -- 127.0.0.1:8080 /a /b /c`.

use std::collections::VecDeque;
use std::error::Error;
use std::net::TcpStream;

use persist_sync::{ClientConn, Config, Request};

const DEPTH: u32 = 8;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let address = args.next().ok_or("usage: pipeline ADDRESS TARGET...")?;
    for line in fetch(&address, args)? {
        println!("{line}");
    }
    Ok(())
}

/// One line for each target.
pub fn fetch(address: &str, targets: impl Iterator<Item = String>) -> Result<Vec<String>, Box<dyn Error>> {
    let mut config = Config::client();
    config.pipelining.depth = DEPTH;
    let conn = ClientConn::with_config(TcpStream::connect(address)?, config)?;

    let mut targets = targets.peekable();
    let mut on_their_way = VecDeque::new();
    let mut lines = Vec::new();
    loop {
        while conn.available() > 0
            && let Some(target) = targets.next()
        {
            let exchange = conn.write(Request::get(target.as_str()).field("Host", address)?, ())?;
            on_their_way.push_back((target, exchange));
        }
        let Some((target, exchange)) = on_their_way.pop_front() else { break };
        lines.push(match conn.read(exchange) {
            Ok(reply) => {
                format!("{target}: {}, {} bytes", reply.head.status().as_u16(), reply.body.bytes(64 << 20)?.len())
            }
            // One line says what became of the request, and whether it may be sent again.
            Err(error) => format!("{target}: {error}"),
        });
    }
    conn.close()?;
    Ok(lines)
}
