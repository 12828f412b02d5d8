//! A program that uses persist-proxy and nothing else: which proxy is asked, and a tunnel's handshake over a socket of the program's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use persist_proxy::Proxies;
use persist_proxy::handshake::Handshake;
use persist_proxy::persist_core::{Destination, Host, Router, TargetForm, TunnelStep};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let proxy = std::thread::spawn(move || proxy(&listener));

    let environment = |name: &str| match name {
        "http_proxy" => Some(format!("http://{address}")),
        "no_proxy" => Some("localhost".to_owned()),
        _ => None,
    };
    let proxies = Proxies::from_variables(environment)?;
    let form = |url: &str| Ok::<_, Box<dyn std::error::Error>>(proxies.route(&url.parse::<Destination>()?)?.target_form);
    assert_eq!(form("http://example.com")?, TargetForm::Absolute);
    assert_eq!(form("http://localhost")?, TargetForm::Origin);

    let mut stream = TcpStream::connect(address)?;
    let mut handshake = Handshake::connect(&"example.com".parse::<Host>()?, 22, None, &Default::default())?;
    let mut read = [0; 1024];
    let beyond = loop {
        let sent = handshake.transmit().len();
        stream.write_all(handshake.transmit())?;
        handshake.advance(sent);
        let count = stream.read(&mut read)?;
        let mut input = &read[..count];
        if handshake.handle_input(&mut input)? == TunnelStep::Done {
            break input.to_vec();
        }
    };
    let asked = proxy.join().expect("no panic")?;
    assert!(asked.starts_with("CONNECT example.com:22 HTTP/1.1\r\n"), "{asked}");
    assert_eq!(beyond, b"SSH-2.0-x", "the tunnel's first bytes");
    println!("a proxy chosen, and a tunnel through it");
    Ok(())
}

/// Takes one request for a tunnel, and sends what lies beyond together with its reply.
fn proxy(listener: &TcpListener) -> std::io::Result<String> {
    let (mut stream, _) = listener.accept()?;
    let mut asked = Vec::new();
    let mut byte = [0];
    while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        asked.push(byte[0]);
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x")?;
    Ok(String::from_utf8_lossy(&asked).into_owned())
}
