//! What happens to connections that nobody uses.

use std::io::{Read, Write};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use persist_sync::{Client, ClientConfig, Request};

use crate::common::read_head;
use crate::{peer, respond};

const OFTEN: Duration = Duration::from_millis(5);

fn client(change: impl FnOnce(&mut ClientConfig)) -> Client {
    let mut config = ClientConfig::default();
    config.upkeep.interval = OFTEN;
    change(&mut config);
    Client::with_config(config).expect("no contradiction")
}

fn use_once(client: &Client, url: &str) {
    client.send(Request::get(url), ()).expect("a reply").body.bytes(10).expect("a body");
}

/// Only a hang makes this fail, by the harness's patience.
fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_connection_that_the_peer_closes_while_idle_leaves_the_pool_without_anybody_asking() {
    let (url, serving) = peer(1, |_, mut stream| {
        read_head(&mut stream);
        respond(&mut stream, "one");
    });
    let client = client(|_| {});
    use_once(&client, &url);
    serving.join().expect("closed");
    until(|| client.counts().open == 0);
}

#[test]
fn bytes_that_nobody_asked_for_end_an_idle_connection() {
    let (url, serving) = peer(1, |_, mut stream| {
        read_head(&mut stream);
        respond(&mut stream, "one");
        respond(&mut stream, "poison");
        // Until the client has gone: before any request could take it for its reply.
        assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0);
    });
    let client = client(|_| {});
    use_once(&client, &url);
    serving.join().expect("closed");
    until(|| client.counts().open == 0);
}

#[test]
fn an_idle_server_is_asked_whether_it_lives_if_that_is_wanted() {
    let (url, serving) = peer(1, |_, mut stream| {
        let host = read_head(&mut stream);
        let host = host.lines().find(|line| line.starts_with("Host:")).expect("a host").to_owned();
        respond(&mut stream, "one");
        for _ in 0..2 {
            assert_eq!(read_head(&mut stream), format!("OPTIONS * HTTP/1.1\r\n{host}\r\n\r\n"));
            respond(&mut stream, "yes");
        }
        // The third time it is silent, and is left.
        assert!(read_head(&mut stream).starts_with("OPTIONS"));
        assert_eq!(stream.read(&mut [0; 10]).unwrap_or(0), 0);
    });
    let client = client(|config| {
        config.upkeep.interval = Duration::from_millis(100);
        config.upkeep.probe_after = Some(Duration::from_millis(100));
    });
    use_once(&client, &url);
    serving.join().expect("the peer is content");
    until(|| client.counts().open == 0);
}

#[test]
fn the_upkeep_ends_with_the_client_and_closes_what_is_idle() {
    let (told, tell) = channel();
    let (url, serving) = peer(1, move |_, mut stream| {
        read_head(&mut stream);
        respond(&mut stream, "one");
        // In an orderly way: an end of file, no reset.
        told.send(stream.read(&mut [0; 10]).ok()).expect("heard");
    });
    let client = client(|config| config.upkeep.interval = Duration::from_secs(5));
    use_once(&client, &url);
    drop(client);
    assert_eq!(tell.recv().expect("told"), Some(0));
    serving.join().expect("the peer is content");
}

#[test]
fn a_reply_that_was_dropped_is_drained_while_nobody_uses_its_connection() {
    let (go_on, may_go_on) = channel::<()>();
    let (url, serving) = peer(1, move |n, mut stream| {
        assert_eq!(n, 0, "one connection does");
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none").expect("written");
        may_go_on.recv().expect("told");
        stream.write_all(b"two").expect("written");
        read_head(&mut stream);
        respond(&mut stream, "three");
    });
    let client = client(|_| {});
    drop(client.send(Request::get(&*url), ()).expect("a head"));
    go_on.send(()).expect("heard");
    let reply = client.send(Request::get(&*url), ()).expect("a reply");
    assert!(reply.reused);
    assert_eq!(reply.body.bytes(10).expect("a body"), "three");
    serving.join().expect("the peer is content");
}
