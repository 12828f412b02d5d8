//! The server against clients that break off, stall, drip and lie, in each phase. Each costs its own connection and nothing else: others are served
//! meanwhile, and at the end nothing is left to cut.

mod common;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use common::{LONG, Running, get, read_head, reset, within};
use persist_sync::persist_core::{Config, Deadline, Side};
use persist_sync::{Body, CloseReason, Disposition, Error, Received, Response, ServerConfig, StatusCode};

const SHORT: Duration = Duration::from_millis(30);

/// What the handler came to with a request, by its target.
type Handled = (String, Result<u64, Error>);

/// A server with few threads and short deadlines, which tells what its handlers came to.
fn server(set: fn(&mut Config)) -> (Running, Receiver<Handled>) {
    let mut config = ServerConfig::default();
    config.threads_max = 2;
    set(&mut config.conn);
    let (tell, told) = channel();
    let tell: Mutex<Sender<Handled>> = Mutex::new(tell);
    let running = Running::start(config, move |received: Received| {
        let target = received.head.target().to_owned();
        let result = handle(&target, received);
        let tell = tell.lock().expect("no panic").clone();
        let _ = tell.send((target, result));
        Ok(())
    });
    (running, told)
}

/// Reads the content and says how much it was; `/large` is answered with more than sockets hold.
fn handle(target: &str, mut received: Received) -> Result<u64, Error> {
    let mut read = 0;
    if target == "/drops-body" {
        drop(received.body);
        return received.responder.send(Response::ok(), "ignored").map(|()| 0);
    }
    if target == "/drops-all" {
        return Ok(0);
    }
    if target == "/refuses" {
        drop(received.body);
        let mut answer = received.responder.send_streaming(Response::ok(), None)?;
        answer.write_all(b"too long").map_err(|error| error.downcast::<Error>().expect("the whole error"))?;
        answer.finish()?;
        return Ok(0);
    }
    while let Some(piece) = received.body.chunk()? {
        read += piece.len() as u64;
    }
    match target {
        "/large" => {
            let mut answer = received.responder.send_streaming(Response::ok(), None)?;
            for _ in 0..1000 {
                answer
                    .write_all(&[b'x'; 1 << 16])
                    .map_err(|error| error.downcast::<Error>().expect("the whole error"))?;
            }
            answer.finish()?;
        }
        "/drops-answer" => drop(received.responder),
        _ => received.responder.send(Response::ok(), format!("{read}"))?,
    }
    Ok(read)
}

/// A good client is served, and then the server ends with nothing to cut.
fn is_unharmed(server: Running) {
    let client = server.client(Config::client());
    let reply = within(LONG, move || client.send(get("/good"), ())).expect("a reply");
    assert_eq!(reply.head.status(), StatusCode::OK);
    drop(reply);
    assert_eq!(within(LONG, move || server.end(LONG)).aborted, 0);
}

fn says(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).expect("written");
}

/// All that comes until the end.
fn hears(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset after the last words is no news.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn resets_in_each_phase() {
    let phases: [fn(&mut TcpStream); 7] = [
        |_| {},
        |stream| says(stream, "GE"),
        |stream| says(stream, "GET / HTTP/1.1\r\nHost: loc"),
        |stream| says(stream, "POST /half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf"),
        |stream| says(stream, "POST /half HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nha"),
        |stream| {
            says(
                stream,
                "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\nGET /behind HTTP/1.1\r\nHost: localhost\r\n\r\n",
            )
        },
        |stream| {
            says(stream, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
            read_head(stream);
        },
    ];
    let (server, handled) = server(|_| {});
    for phase in phases {
        let mut stream = server.connect();
        phase(&mut stream);
        reset(stream);
    }
    is_unharmed(server);
    for (target, result) in handled {
        if target == "/good" {
            continue;
        }
        let error = result.expect_err("broken off");
        match target.as_str() {
            "/half" => {
                let failure = error.failure().expect("what became of it");
                assert_eq!(failure.reason, CloseReason::Io(Side::Read), "{error}");
            }
            // It may not have begun, or have begun and failed.
            "/large" => assert!(error.disposition() != Some(Disposition::ReplyPartial), "{error}"),
            other => panic!("{other} was handled, behind a reply that never left"),
        }
    }
}

#[test]
fn stalled_and_dripping_heads_are_answered_408_in_time() {
    let (server, _) = server(|config| config.timeouts.header = Some(SHORT));
    let heads: Vec<_> = ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nX: y\r\n"]
        .into_iter()
        .map(|said| {
            let mut stream = server.connect();
            says(&mut stream, said);
            stream
        })
        .collect();
    for mut stream in heads {
        let answer = within(LONG, move || hears(&mut stream));
        assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("Connection: close"), "{answer}");
    }
    let mut dripping = server.connect();
    says(&mut dripping, "GET / HTTP/1.1\r\nX: ");
    let answer = within(LONG, move || {
        dripping.set_nonblocking(true).expect("set");
        loop {
            // Each byte comes before the last one's deadline would.
            let _ = dripping.write(b"x");
            thread::sleep(Duration::from_millis(1));
            let mut first = [0; 12];
            if matches!(dripping.read(&mut first), Ok(n) if n > 0) {
                return first;
            }
        }
    });
    assert_eq!(&answer, b"HTTP/1.1 408");
    is_unharmed(server);
}

#[test]
fn stalled_content_fails_its_handler_and_frees_its_thread() {
    let (server, handled) = server(|config| config.timeouts.body_idle = Some(SHORT));
    // More than there are threads.
    let stalled: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = server.connect();
            says(&mut stream, "POST /half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf");
            stream
        })
        .collect();
    for _ in &stalled {
        let (_, result) = handled.recv_timeout(LONG).expect("it does not hang");
        let error = result.expect_err("late");
        let failure = error.failure().expect("what became of it");
        assert_eq!(failure.reason, CloseReason::Timeout(Deadline::BodyIdle), "{error}");
    }
    for mut stream in stalled {
        let answer = within(LONG, move || hears(&mut stream));
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{answer}");
    }
    is_unharmed(server);
}

#[test]
fn a_streamed_refusal_of_a_long_upload_says_close_and_arrives() {
    let (server, _handled) = server(|_| {});
    let mut stream = server.connect();
    says(&mut stream, "POST /refuses HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\nxx");
    let answer = hears(&mut stream);
    assert!(answer.contains("\r\nConnection: close\r\n") && answer.contains("too long"), "{answer}");
    drop(stream);
    is_unharmed(server);
}

#[test]
fn a_client_that_takes_no_reply_meets_the_write_deadline() {
    let (server, handled) = server(|config| config.timeouts.write_stall = Some(SHORT));
    let stuck: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = server.connect();
            says(&mut stream, "GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream
        })
        .collect();
    for _ in &stuck {
        let (_, result) = handled.recv_timeout(LONG).expect("it does not hang");
        let error = result.expect_err("stuck");
        let failure = error.failure().expect("what became of it");
        assert_eq!(failure.reason, CloseReason::Timeout(Deadline::WriteStall), "{error}");
        assert!(matches!(failure.disposition, Disposition::PartlySent { bytes } if bytes > 0), "{error}");
    }
    is_unharmed(server);
    drop(stuck);
}

#[test]
fn a_client_that_does_not_close_is_left_at_the_lingering_deadline() {
    let (server, _) = server(|config| config.timeouts.linger = Some(SHORT));
    let mut stream = server.connect();
    says(&mut stream, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    read_head(&mut stream);
    // It ends by itself, since `stream` stays open.
    is_unharmed(server);
    drop(stream);
}

#[test]
fn a_half_closed_client_gets_its_replies() {
    let (server, _) = server(|_| {});
    let mut stream = server.connect();
    says(
        &mut stream,
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbodyGET /large HTTP/1.1\r\nHost: localhost\r\n\r\n",
    );
    stream.shutdown(Shutdown::Write).expect("shut down");
    let answer = within(LONG, move || hears(&mut stream));
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(answer.len() > 1000 << 16 && answer.ends_with("\r\n0\r\n\r\n"), "{} bytes", answer.len());
    is_unharmed(server);
}

#[test]
fn slow_clients_are_served_byte_by_byte() {
    let (server, handled) = server(|_| {});
    let mut stream = server.connect();
    for byte in b"POST /slow HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nslow\r\n0\r\n\r\n" {
        stream.write_all(&[*byte]).expect("written");
    }
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    assert!(matches!(handled.recv_timeout(LONG), Ok((target, Ok(4))) if target == "/slow"));
    drop(stream);
    is_unharmed(server);
}

#[test]
fn what_is_not_http_is_answered_once_and_closed() {
    let (server, handled) = server(|_| {});
    for (said, status) in [
        ("\x16\x03\x01\x02\0\x01\0\x01\x7c\x03\x03 a TLS hello", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("GET /\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "501"),
    ] {
        let mut stream = server.connect();
        says(&mut stream, said);
        let answer = within(LONG, move || hears(&mut stream));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{said:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{said:?}: {answer}");
    }
    let mut stream = server.connect();
    says(&mut stream, "POST /bad HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(read_head(&mut stream), "HTTP/1.1 100 Continue\r\n\r\n", "the handler has begun");
    says(&mut stream, "4\r\nhalfGARBAGE");
    let (_, result) = handled.recv_timeout(LONG).expect("it does not hang");
    let error = result.expect_err("a violation");
    assert!(matches!(error.failure().map(|failure| &failure.reason), Some(CloseReason::Protocol(_))), "{error}");
    assert!(within(LONG, move || hears(&mut stream)).starts_with("HTTP/1.1 400 "));
    is_unharmed(server);
}

#[test]
fn what_a_handler_drops_costs_at_most_its_connection() {
    let (server, _) = server(|_| {});
    let mut stream = server.connect();
    let with_body = |target: &str, len: usize| {
        format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {len}\r\n\r\n{}", "x".repeat(len))
    };
    // A small body that nobody wants is drained, and the connection goes on.
    says(&mut stream, &with_body("/drops-body", 1000));
    assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
    stream.read_exact(&mut [0; 7]).expect("ignored");
    // Whoever does not answer, answers 500 and closes.
    for (target, mut stream) in [("/drops-answer", stream), ("/drops-all", server.connect())] {
        says(&mut stream, &with_body(target, 10));
        let answer = within(LONG, move || hears(&mut stream));
        assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("Connection: close"), "{target}: {answer}");
    }
    is_unharmed(server);
}

#[test]
fn a_reply_that_breaks_off_is_told_with_its_disposition() {
    // A client of ours sees what the server's cut looks like from outside.
    let (server, handled) = server(|config| config.timeouts.write_stall = Some(SHORT));
    let client = server.client(Config::client());
    let mut reply = client.send(get("/large"), ()).expect("a head");
    let (_, result) = handled.recv_timeout(LONG).expect("it does not hang");
    result.expect_err("nobody took it");
    let error = loop {
        match reply.body.chunk() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it is not complete"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.disposition(), Some(Disposition::ReplyPartial), "{error}");
    drop((reply, client));
    is_unharmed(server);
}

/// Fails, after what stands in front of it.
struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("on purpose"))
    }
}

#[test]
fn a_reply_whose_reader_panics_breaks_off_and_harms_nobody() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        let mut pieces = received.head.target().to_owned().into_bytes().into_iter();
        let content = std::iter::from_fn(move || match pieces.next()? {
            b'!' => panic!("a reader that panics, on purpose"),
            byte => Some(Ok(vec![byte].into())),
        });
        received.responder.send(Response::ok(), Body::pieces(content, None))
    });
    let ask = |target: &str| {
        let mut stream = server.connect();
        says(&mut stream, &format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        hears(&mut stream)
    };
    let broken = ask("/x!");
    assert!(broken.contains("200 OK") && !broken.ends_with("0\r\n\r\n"), "{broken}");
    assert!(ask("/x").ends_with("0\r\n\r\n"), "others are served");
    assert_eq!(within(LONG, move || server.end(LONG)).aborted, 0);
}

#[test]
fn a_reply_without_framing_that_breaks_off_does_not_look_complete() {
    let server = Running::start(ServerConfig::default(), |received: Received| {
        let half: &[u8] = b"half";
        let content: Box<dyn Read + Send> =
            if received.head.target() == "/whole" { Box::new(half) } else { Box::new(half.chain(Broken)) };
        received.responder.send(Response::ok(), Body::reader(content, None))
    });
    for (target, is_whole) in [("/whole", true), ("/broken", false)] {
        let mut stream = server.connect();
        says(&mut stream, &format!("GET {target} HTTP/1.0\r\n\r\n"));
        let ended = stream.read_to_end(&mut Vec::new());
        assert_eq!(ended.map_err(|error| error.kind()).err(), (!is_whole).then_some(io::ErrorKind::ConnectionReset));
    }
}

#[test]
fn a_shutdown_with_a_handler_that_never_ends_cuts_it_at_the_deadline() {
    let (begun, began) = channel();
    let (never, waits) = channel::<()>();
    let (begun, waits) = (Mutex::new(begun), Mutex::new(waits));
    let server = Running::start(ServerConfig::default(), move |received: Received| {
        begun.lock().expect("no panic").send(()).expect("the test listens");
        let _ = waits.lock().expect("no panic").recv();
        received.responder.send(Response::ok(), "late")
    });
    // Keeps its side open for ever, but nothing of its own is cut off.
    let _idle = server.connect();
    let mut stream = server.connect();
    says(&mut stream, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    began.recv_timeout(LONG).expect("a handler began");
    // It returns although the handler does not.
    assert_eq!(within(LONG, move || server.end(SHORT)).aborted, 1);
    assert_eq!(within(LONG, move || hears(&mut stream)), "");
    drop(never);
}
