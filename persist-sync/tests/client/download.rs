//! Content that breaks off, and goes on over another connection where that is safe.

use std::error::Error as _;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use persist_sync::persist_core::{Disposition, NotResumable, ResumeError};
use persist_sync::{Client, ClientConfig, Error, Request, ResumableBody};

use crate::common::read_head;

/// A server that gives each connection the next of these answers, byte for byte, and closes. What it was asked comes out of the channel.
fn server(answers: Vec<String>) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/large", listener.local_addr().expect("an address"));
    let (tell, told) = channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().expect("a connection");
            tell.send(read_head(&mut stream)).expect("heard");
            stream.write_all(answer.as_bytes()).expect("written");
            stream.shutdown(Shutdown::Write).expect("shut down");
            // Until the client closed, so that nothing is reset.
            while stream.read(&mut [0; 64]).is_ok_and(|n| n > 0) {}
        }
    });
    (url, told)
}

fn whole(etag: &str, content: &str, len: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {len}\r\n\r\n{content}")
}

fn part(etag: &str, content: &str, range: &str, len: usize) -> String {
    format!(
        "HTTP/1.1 206 Partial Content\r\nETag: {etag}\r\nContent-Range: bytes {range}\r\nContent-Length: {len}\r\n\r\n{content}"
    )
}

fn client() -> Client {
    let mut config = ClientConfig::default();
    config.retry.backoff.first = Duration::from_millis(1);
    config.retry.backoff.max = Duration::from_millis(2);
    Client::with_config(config).expect("no contradiction")
}

fn download(url: &str) -> ResumableBody {
    client().download(Request::get(url)).expect("a reply")
}

/// All of it, or what came before the error.
fn read(body: &mut ResumableBody) -> (String, Option<io::Error>) {
    let mut all = String::new();
    let error = body.read_to_string(&mut all).err();
    (all, error)
}

fn inside(error: &io::Error) -> &Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("an error of this crate")
}

#[test]
fn content_that_breaks_off_twice_comes_whole() {
    let answers =
        vec![whole("\"v1\"", "0123", 10), part("\"v1\"", "45", "4-9/10", 6), part("\"v1\"", "6789", "6-9/10", 4)];
    let (url, asked) = server(answers);
    let mut body = download(&url);
    assert_eq!((body.total(), body.not_resumable()), (Some(10), None));
    let (all, error) = read(&mut body);
    assert!(error.is_none(), "{error:?}");
    assert_eq!((all.as_str(), body.received(), body.resumptions()), ("0123456789", 10, 2));
    assert!(!asked.recv().expect("the first").contains("Range"));
    let second = asked.recv().expect("the second");
    assert!(second.contains("Range: bytes=4-\r\n") && second.contains("If-Range: \"v1\"\r\n"), "{second}");
    assert!(asked.recv().expect("the third").contains("Range: bytes=6-\r\n"));
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again_and_what_is_known_is_skipped() {
    let (url, _asked) = server(vec![whole("\"v1\"", "0123", 10), whole("\"v1\"", "0123456789", 10)]);
    let mut body = download(&url);
    let (all, error) = read(&mut body);
    assert!(error.is_none(), "{error:?}");
    assert_eq!((all.as_str(), body.resumptions()), ("0123456789", 1));
}

#[test]
fn changed_content_is_never_spliced() {
    for second in [whole("\"v2\"", "abcdefghij", 10), part("\"v2\"", "efghij", "4-9/10", 6)] {
        let (url, _asked) = server(vec![whole("\"v1\"", "0123", 10), second]);
        let mut body = download(&url);
        let (all, error) = read(&mut body);
        assert_eq!(all, "0123");
        let error = error.expect("it changed");
        let cause = inside(&error).source().and_then(|cause| cause.downcast_ref::<ResumeError>());
        assert!(matches!(cause, Some(ResumeError::Changed { received: 4, .. })), "{error}");
        assert!(inside(&error).destination().is_some());
        let again = body.read(&mut [0; 8]).expect_err("the same again");
        assert_eq!(again.to_string(), error.to_string());
    }
}

#[test]
fn content_without_a_strong_validator_fails_and_says_so() {
    let (url, asked) = server(vec![whole("W/\"v1\"", "0123", 10)]);
    let client = client();
    let mut body = client.download(Request::get(&*url)).expect("a reply");
    assert_eq!(body.not_resumable(), Some(NotResumable::NoStrongValidator));
    let (all, error) = read(&mut body);
    let error = error.expect("it broke off");
    assert_eq!((all.as_str(), error.kind()), ("0123", io::ErrorKind::UnexpectedEof));
    assert!(error.to_string().contains("the response has no strong validator"), "{error}");
    let there = url.trim_end_matches("/large").parse().expect("a destination");
    assert_eq!(inside(&error).destination(), Some(&there));
    assert_eq!(inside(&error).disposition(), Some(Disposition::ReplyPartial));
    let pending = client.pending_to(&there);
    assert_eq!((pending.unfinished, pending.failed.len()), (0, 0), "a download deals with failures itself");
    asked.recv().expect("the first");
    assert!(asked.recv().is_err(), "nothing else was asked");
}

#[test]
fn answers_that_bring_nothing_are_not_asked_for_for_ever() {
    let nothing = part("\"v1\"", "", "4-9/10", 6);
    let (url, asked) =
        server(vec![whole("\"v1\"", "0123", 10), nothing.clone(), nothing.clone(), nothing.clone(), nothing]);
    let mut body = download(&url);
    let (all, error) = read(&mut body);
    let error = error.expect("nothing comes");
    assert!(error.to_string().contains("asked 3 times for the rest"), "{error}");
    assert_eq!((all.as_str(), body.resumptions(), asked.try_iter().count()), ("0123", 3, 4));
}
