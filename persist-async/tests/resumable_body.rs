//! Content that breaks off, and goes on over another connection where that is safe.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;

use persist_async::persist_core::{NotResumable, ResumeError};
use persist_async::{Client, ClientConfig, Error, Request, ResumableBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A server that gives each connection the next of these answers, byte for byte, and closes. What it was asked comes out of the channel.
async fn server(answers: Vec<String>) -> (SocketAddr, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = listener.local_addr().expect("an address");
    let (tell, told) = unbounded_channel();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") && stream.read_buf(&mut asked).await.expect("read") > 0 {}
            tell.send(String::from_utf8(asked).expect("ASCII")).expect("heard");
            stream.write_all(answer.as_bytes()).await.expect("written");
            stream.shutdown().await.expect("shut down");
            // Until the client closed, so that nothing is reset.
            while stream.read(&mut [0; 64]).await.is_ok_and(|n| n > 0) {}
        }
    });
    (there, told)
}

fn whole(etag: &str, content: &str, len: usize) -> String {
    format!("HTTP/1.1 200 OK\r\nETag: {etag}\r\nContent-Length: {len}\r\n\r\n{content}")
}

fn part(etag: &str, content: &str, range: &str) -> String {
    let len = range_len(range);
    format!(
        "HTTP/1.1 206 Partial Content\r\nETag: {etag}\r\nContent-Range: bytes {range}\r\nContent-Length: {len}\r\n\r\n{content}"
    )
}

fn range_len(range: &str) -> u64 {
    let (first, last) = range.split('/').next().and_then(|range| range.split_once('-')).expect("a range");
    last.parse::<u64>().expect("a number") - first.parse::<u64>().expect("a number") + 1
}

async fn download(there: SocketAddr) -> ResumableBody {
    let mut config = ClientConfig::default();
    config.retry.backoff.first = std::time::Duration::from_millis(1);
    config.retry.backoff.max = std::time::Duration::from_millis(2);
    let client = Client::with_config(config).expect("no contradiction");
    client.download(Request::get(format!("http://{there}/large"))).await.expect("a reply")
}

fn inside(error: &io::Error) -> &Error {
    error.get_ref().and_then(|inner| inner.downcast_ref()).expect("an error of this crate")
}

#[tokio::test]
async fn content_that_breaks_off_twice_comes_whole() {
    let (there, mut asked) =
        server(vec![whole("\"v1\"", "0123", 10), part("\"v1\"", "45", "4-9/10"), part("\"v1\"", "6789", "6-9/10")])
            .await;
    let mut body = download(there).await;
    assert_eq!((body.total(), body.not_resumable()), (Some(10), None));
    let mut all = String::new();
    body.read_to_string(&mut all).await.expect("all of it");
    assert_eq!((all.as_str(), body.received(), body.resumptions()), ("0123456789", 10, 2));
    assert!(!asked.recv().await.expect("the first").contains("Range"));
    let second = asked.recv().await.expect("the second");
    assert!(second.contains("Range: bytes=4-\r\n") && second.contains("If-Range: \"v1\"\r\n"), "{second}");
    assert!(asked.recv().await.expect("the third").contains("Range: bytes=6-\r\n"));
}

#[tokio::test]
async fn a_server_without_ranges_sends_all_of_it_again_and_what_is_known_is_skipped() {
    let (there, _asked) = server(vec![whole("\"v1\"", "0123", 10), whole("\"v1\"", "0123456789", 10)]).await;
    let mut body = download(there).await;
    let mut all = String::new();
    body.read_to_string(&mut all).await.expect("all of it");
    assert_eq!((all.as_str(), body.resumptions()), ("0123456789", 1));
}

#[tokio::test]
async fn changed_content_is_never_spliced() {
    for second in [whole("\"v2\"", "abcdefghij", 10), part("\"v2\"", "efghij", "4-9/10")] {
        let (there, _asked) = server(vec![whole("\"v1\"", "0123", 10), second]).await;
        let mut body = download(there).await;
        let mut all = Vec::new();
        let error = body.read_to_end(&mut all).await.expect_err("it changed");
        assert_eq!(all, b"0123");
        let cause = inside(&error).source().and_then(|cause| cause.downcast_ref::<ResumeError>());
        assert!(matches!(cause, Some(ResumeError::Changed { received: 4, .. })), "{error}");
        assert!(inside(&error).destination().is_some());
        let again = body.read(&mut [0; 8]).await.expect_err("the same again");
        assert_eq!(again.to_string(), error.to_string());
    }
}

#[tokio::test]
async fn content_without_a_strong_validator_fails_and_says_so() {
    let (there, mut asked) = server(vec![whole("W/\"v1\"", "0123", 10)]).await;
    let mut body = download(there).await;
    assert_eq!(body.not_resumable(), Some(NotResumable::NoStrongValidator));
    let mut all = Vec::new();
    let error = body.read_to_end(&mut all).await.expect_err("it broke off");
    assert_eq!((all.as_slice(), error.kind()), (&b"0123"[..], io::ErrorKind::UnexpectedEof));
    assert!(error.to_string().contains("the response has no strong validator"), "{error}");
    assert!(inside(&error).failure().is_some(), "what became of the request is told as well");
    asked.recv().await.expect("the first");
    assert!(asked.recv().await.is_none(), "nothing else was asked");
}

#[tokio::test]
async fn answers_that_bring_nothing_are_not_asked_for_for_ever() {
    let nothing = part("\"v1\"", "", "4-9/10");
    let (there, mut asked) =
        server(vec![whole("\"v1\"", "0123", 10), nothing.clone(), nothing.clone(), nothing.clone(), nothing]).await;
    let mut body = download(there).await;
    let mut all = Vec::new();
    let error = body.read_to_end(&mut all).await.expect_err("nothing comes");
    assert!(error.to_string().contains("asked 3 times for the rest"), "{error}");
    assert_eq!((all.as_slice(), body.resumptions()), (&b"0123"[..], 3));
    let mut requests = 0;
    while asked.try_recv().is_ok() {
        requests += 1;
    }
    assert_eq!(requests, 4);
}

#[tokio::test]
async fn a_dropped_read_loses_nothing() {
    let (there, _asked) = server(vec![whole("\"v1\"", "0123", 10), part("\"v1\"", "456789", "4-9/10")]).await;
    let mut body = download(there).await;
    let mut all = Vec::new();
    while all.len() < 10 {
        // Each poll is a future of its own, dropped at once.
        let mut one = [0; 1];
        if let Ok(read) = tokio::time::timeout(std::time::Duration::ZERO, body.read(&mut one)).await {
            assert_eq!(read.expect("read"), 1);
            all.push(one[0]);
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(all, b"0123456789");
}
