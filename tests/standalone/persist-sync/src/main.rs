//! A program that uses persist-sync and nothing else: a server, and a client that pipelines to it, in blocking code.

use std::net::{TcpListener, TcpStream};

use persist_sync::{ClientConn, Config, Error, Request, Response, ServerConn};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("a client comes");
        let conn = ServerConn::new(stream).expect("a socket");
        let mut answered = 0;
        while let Some(received) = conn.read()? {
            let said = format!("you asked for {}", received.head.target());
            received.responder.send(Response::ok(), said)?;
            answered += 1;
        }
        Ok::<_, Error>(answered)
    });

    let mut config = Config::client();
    config.pipelining.depth = 8;
    let conn = ClientConn::with_config(TcpStream::connect(address)?, config)?;
    let mut exchanges = Vec::new();
    for number in 0..8 {
        let request = Request::get(format!("/{number}")).field("Host", address.to_string())?;
        exchanges.push(conn.write(request, ())?);
    }
    for (number, exchange) in exchanges.into_iter().enumerate() {
        let reply = conn.read(exchange)?;
        assert_eq!(reply.body.bytes(100)?, format!("you asked for /{number}"));
    }
    conn.close()?;
    assert_eq!(serving.join().expect("no panic")?, 8);
    println!("8 requests pipelined over one connection");
    Ok(())
}
