//! A proxy and the origin behind it in one: answers each connection's reads with what a script says, and keeps what it read.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

/// How far to read before the next thing is said.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// Exactly so many bytes.
    Bytes(usize),
    /// To the empty line.
    Head,
    /// To the end of a line.
    Line,
}

/// What is waited for, and then said; step by step.
pub(crate) type Script = &'static [(Until, &'static [u8])];

/// Listens on loopback, plays the script to each connection, and closes. What it read comes through the channel, step by step.
pub(crate) fn play(script: Script) -> (SocketAddr, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            for (read, said) in script {
                let mut heard = Vec::new();
                let is_done = |heard: &[u8]| match read {
                    Until::Bytes(n) => heard.len() >= *n,
                    Until::Line => heard.ends_with(b"\r\n"),
                    Until::Head => heard.ends_with(b"\r\n\r\n"),
                };
                while !is_done(&heard) {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(1..) => heard.extend_from_slice(&byte),
                        _ => break,
                    }
                }
                let _ = sender.send(heard);
                let _ = stream.write_all(said);
            }
        }
    });
    (address, receiver)
}
