//! A server of HTTP/1.1 that breaks off at whim: it reads requests by hand, counts those that came in whole by their targets, and for each decides by a
//! number of its own what becomes of the connection.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::SockRef;

use crate::seeded::Random;

/// The server, until it is dropped.
#[derive(Debug)]
pub struct Whimsical {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<HashMap<String, u32>>>,
    over: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// What happens behind a request that came in whole.
#[derive(Clone, Copy, Debug)]
enum Whim {
    Keep,
    SayClose,
    /// The reply is whole, and then the connection ends without a word: whatever comes next is lost.
    CloseSilently,
    CloseUnanswered,
    ResetUnanswered,
    ReplyPartly,
    ReplyThenReset,
}

impl Whimsical {
    /// Listens on a port of the system's choice.
    ///
    /// # Panics
    /// Where there is none.
    pub fn start(seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let over = Arc::new(AtomicBool::new(false));
        let (counting, stopping) = (seen.clone(), over.clone());
        let accepting = thread::spawn(move || {
            for (number, stream) in (seed << 32..).zip(listener.incoming()) {
                if stopping.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let counting = counting.clone();
                thread::spawn(move || drop(serve(&stream, &mut Random::new(number), &counting)));
            }
        });
        Self { address, seen, over, accepting: Some(accepting) }
    }

    /// How often each request came in whole, by its target.
    ///
    /// # Panics
    /// If a thread of the server did.
    pub fn seen(&self) -> HashMap<String, u32> {
        self.seen.lock().expect("no panic").clone()
    }
}

impl Drop for Whimsical {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // It waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

fn serve(mut stream: &TcpStream, random: &mut Random, seen: &Mutex<HashMap<String, u32>>) -> io::Result<()> {
    // A client that stalls is the client's fault, and would be seen there.
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    stream.set_nodelay(true)?;
    if random.below(20) == 0 {
        // Not even the first request is read.
        return if random.below(2) == 0 { Ok(()) } else { reset(stream) };
    }
    let mut input = Vec::new();
    loop {
        let Some(target) = read_request(stream, &mut input)? else { return Ok(()) };
        *seen.lock().expect("no panic").entry(target.clone()).or_default() += 1;
        let whim = match random.below(24) {
            0 => Whim::SayClose,
            1 | 2 => Whim::CloseSilently,
            3 => Whim::CloseUnanswered,
            4 => Whim::ResetUnanswered,
            5 => Whim::ReplyPartly,
            6 => Whim::ReplyThenReset,
            _ => Whim::Keep,
        };
        let mut content = target.clone().into_bytes();
        content.resize(content.len() + random.below(3) * random.below(40_000), b'.');
        let close = if matches!(whim, Whim::SayClose) { "Connection: close\r\n" } else { "" };
        let mut reply = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n", content.len()).into_bytes();
        reply.extend(content);
        match whim {
            Whim::Keep => stream.write_all(&reply)?,
            Whim::SayClose | Whim::CloseSilently => return stream.write_all(&reply),
            Whim::CloseUnanswered => return Ok(()),
            Whim::ResetUnanswered => return reset(stream),
            Whim::ReplyPartly => return stream.write_all(&reply[..random.below(reply.len())]),
            Whim::ReplyThenReset => {
                stream.write_all(&reply)?;
                return reset(stream);
            }
        }
    }
}

/// The next request's target, once all of it was read; `None` at the end.
fn read_request(mut stream: &TcpStream, input: &mut Vec<u8>) -> io::Result<Option<String>> {
    let mut buf = [0; 16 * 1024];
    loop {
        if let Some(head) = input.windows(4).position(|end| end == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&input[..head]).into_owned();
            let target = text.split(' ').nth(1).unwrap_or_default().to_owned();
            let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            let whole = head + 4 + length.map_or(0, |length| length.parse().expect("a length"));
            if input.len() >= whole {
                input.drain(..whole);
                return Ok(Some(target));
            }
        }
        match stream.read(&mut buf)? {
            0 => return Ok(None),
            n => input.extend_from_slice(&buf[..n]),
        }
    }
}

/// Whatever is under way is lost.
fn reset(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}
