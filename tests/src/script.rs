//! A server that does what a test tells it, however wrong: reads a little, says these bytes, closes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

/// Listens on loopback; to each connection says `reply` as soon as a request's head is there, and closes. Runs as long as the process.
///
/// # Panics
/// If the loopback interface has no port left.
pub fn always_replies(reply: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut request = Vec::new();
                let mut piece = [0; 4096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    match stream.read(&mut piece) {
                        Ok(n @ 1..) => request.extend_from_slice(&piece[..n]),
                        _ => return,
                    }
                }
                let _ = stream.write_all(reply);
            });
        }
    });
    address
}
