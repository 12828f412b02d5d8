//! The server's promises about connections: how many at once, from whom, in which order handlers answer, what few threads and few descriptors cost.

mod common;

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::{LONG, Running, get, read_head, within};
use persist_sync::{
    ClientConn, Config, ListenConfig, Listener, PortUse, ProxyHeaders, Received, Response, Server, ServerConfig,
    StatusCode,
};

/// Answers with the target, and the client's address.
fn told(received: Received) -> persist_sync::Result<()> {
    let peer = received.peer.map(|peer| peer.to_string()).unwrap_or_default();
    let answer = format!("{} {peer}\n", received.head.target());
    received.responder.send(Response::ok(), answer)
}

/// Writes the bytes, and reads until the server closes.
fn raw(stream: &mut TcpStream, bytes: &[u8]) -> String {
    stream.write_all(bytes).expect("written");
    let mut heard = Vec::new();
    // A reset at the end is no news.
    let _ = stream.read_to_end(&mut heard);
    String::from_utf8(heard).expect("text")
}

fn burst(targets: &[&str]) -> String {
    targets.iter().map(|target| format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")).collect()
}

/// A handler that tells when it begins, and answers when it is told to.
fn stepwise(begun: Sender<(String, Sender<()>)>) -> impl Fn(Received) -> persist_sync::Result<()> {
    let begun = Mutex::new(begun);
    move |received: Received| {
        let (go, gone) = channel();
        let target = received.head.target().to_owned();
        begun.lock().expect("no panic").send((target.clone(), go)).expect("the test listens");
        let _ = gone.recv();
        received.responder.send(Response::ok(), target)
    }
}

#[test]
fn handlers_run_side_by_side_and_replies_leave_in_order() {
    let mut config = ServerConfig::default();
    config.concurrent_handlers = 3;
    let (begun, beginnings) = channel();
    let server = Running::start(config, stepwise(begun));
    let mut stream = server.connect();
    let targets = ["/1", "/2", "/3", "/4"];
    stream.write_all(burst(&targets).as_bytes()).expect("written");
    let mut running: Vec<_> = (0..3).map(|_| beginnings.recv_timeout(LONG).expect("a handler began")).collect();
    assert!(beginnings.try_recv().is_err(), "the fourth waits for a place");
    running.sort_by(|a, b| a.0.cmp(&b.0));
    let order: Vec<_> = running.iter().map(|(target, _)| target.as_str()).collect();
    assert_eq!(order, ["/1", "/2", "/3"]);
    // The last is answered first.
    while let Some((_, go)) = running.pop() {
        go.send(()).expect("the handler waits");
        if running.len() == 2 {
            let (target, go) = beginnings.recv_timeout(LONG).expect("there is room for the fourth now");
            assert_eq!(target, "/4");
            go.send(()).expect("the handler waits");
        }
    }
    for target in targets {
        assert!(read_head(&mut stream).starts_with("HTTP/1.1 200 "));
        let mut body = [0; 2];
        stream.read_exact(&mut body).expect("a body");
        assert_eq!(body, target.as_bytes());
    }
    drop(stream);
    server.end(LONG);
}

#[test]
fn a_request_that_comes_while_a_handler_runs_is_begun_beside_it() {
    let (begun, beginnings) = channel();
    let server = Server::bind("127.0.0.1:0").expect("a port").concurrent_handlers(2);
    let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
    let serving = thread::spawn(move || server.serve(stepwise(begun)).expect("served"));
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(burst(&["/1"]).as_bytes()).expect("written");
    let (_, first) = beginnings.recv_timeout(LONG).expect("a handler began");
    stream.write_all(burst(&["/2"]).as_bytes()).expect("written");
    let (target, second) = beginnings.recv_timeout(LONG).expect("and another, beside it");
    assert_eq!(target, "/2");
    // A handler that ends gives its place to whatever comes.
    first.send(()).expect("the handler waits");
    read_head(&mut stream);
    stream.write_all(burst(&["/3"]).as_bytes()).expect("written");
    let (target, third) = beginnings.recv_timeout(LONG).expect("in the place of the first");
    assert_eq!(target, "/3");
    drop((second, third, stream));
    handle.shutdown(LONG);
    within(LONG, move || serving.join().expect("the server is content"));
}

#[test]
fn requests_that_must_not_overlap_are_not_begun_side_by_side() {
    let mut config = ServerConfig::default();
    config.concurrent_handlers = 4;
    let (begun, beginnings) = channel();
    let server = Running::start(config, stepwise(begun));
    let mut stream = server.connect();
    let post = |target| format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    stream.write_all([burst(&["/1"]), post("/2"), burst(&["/3"])].concat().as_bytes()).expect("written");
    for target in ["/1", "/2", "/3"] {
        let (begun, go) = beginnings.recv_timeout(LONG).expect("a handler began");
        assert_eq!(begun, target);
        assert!(beginnings.try_recv().is_err(), "{target} runs alone");
        go.send(()).expect("the handler waits");
        read_head(&mut stream);
        stream.read_exact(&mut [0; 2]).expect("a body");
    }
    drop(stream);
    server.end(LONG);
}

#[test]
fn after_a_reply_that_closes_no_later_handler_is_started() {
    let started = Arc::new(AtomicUsize::new(0));
    for concurrent_handlers in [1, 8] {
        started.store(0, Ordering::SeqCst);
        let mut config = ServerConfig::default();
        config.concurrent_handlers = concurrent_handlers;
        let counted = started.clone();
        let server = Running::start(config, move |received: Received| {
            let mut response = Response::ok();
            if received.head.target() == "/last" {
                response = response.field("Connection", "close").expect("a field");
            } else if received.head.target() != "/1" {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            received.responder.send(response, "x")
        });
        let mut stream = server.connect();
        stream.write_all(burst(&["/1", "/last"]).as_bytes()).expect("written");
        let heard = raw(&mut stream, burst(&["/3", "/4"]).as_bytes());
        assert_eq!(heard.matches("HTTP/1.1 200 OK").count(), 2, "{heard}");
        // Handlers that run side by side may have begun before the reply was given; their replies never leave.
        assert!(concurrent_handlers > 1 || started.load(Ordering::SeqCst) == 0);
        drop(stream);
        server.end(LONG);
    }
}

#[test]
fn a_panic_among_concurrent_handlers_leaves_earlier_replies_whole() {
    let mut config = ServerConfig::default();
    config.concurrent_handlers = 8;
    let (panics, panicked) = channel();
    let (panics, panicked) = (Mutex::new(panics), Mutex::new(panicked));
    let server = Running::start(config, move |received: Received| match received.head.target() {
        "/panic" => {
            panics.lock().expect("held by no panic").send(()).expect("the other waits");
            panic!("a handler that panics, on purpose")
        }
        _ => {
            panicked.lock().expect("held by no panic").recv().expect("the other panics");
            received.responder.send(Response::ok(), "slow")
        }
    });
    let heard = raw(&mut server.connect(), burst(&["/slow", "/panic"]).as_bytes());
    let first = heard.find("200 OK").expect("the first reply");
    let second = heard.find("500 Internal Server Error").expect("the second reply");
    assert!(first < second && heard.contains("slow"), "{heard}");
    server.end(LONG);
}

#[test]
fn a_handler_that_goes_on_after_its_answer_does_not_hold_it_back() {
    let (go, gone) = channel::<()>();
    let gone = Mutex::new(gone);
    let server = Running::start(ServerConfig::default(), move |received: Received| {
        received.responder.send(Response::ok(), "done")?;
        let _ = gone.lock().expect("no panic").recv();
        Ok(())
    });
    let client = server.client(Config::client());
    let reply = within(LONG, move || client.send(get("/"), ()).expect("a reply").body.bytes(10).expect("a body"));
    assert_eq!(reply, "done");
    drop(go);
    server.end(LONG);
}

#[test]
fn connections_beyond_the_limit_wait_their_turn() {
    let mut config = ServerConfig::default();
    config.connections_max = 1;
    let server = Running::start(config, told);
    let first = server.client(Config::client());
    first.send(get("/1"), ()).expect("a reply");
    // They wait in the kernel's queue, each with its request, and come in their order.
    let (tell, order) = channel();
    let mut waiting = Vec::new();
    for n in 0..5 {
        let mut stream = server.connect();
        stream.write_all(burst(&["/x"]).as_bytes()).expect("written");
        let tell = tell.clone();
        waiting.push(thread::spawn(move || {
            read_head(&mut stream);
            tell.send(n).expect("the test listens");
        }));
    }
    first.send(get("/3"), ()).expect("a reply");
    assert!(order.try_recv().is_err() && server.handle.connections() == 1);
    drop(first);
    let order: Vec<_> = (0..5).map(|_| order.recv_timeout(LONG).expect("served in the end")).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    waiting.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(server.end(LONG).connections, 6);
}

#[test]
fn a_peer_with_its_share_is_refused_until_it_lets_go() {
    let mut config = ServerConfig::default();
    config.connections_per_peer_max = NonZeroUsize::new(1);
    let server = Running::start(config, told);
    let first = server.client(Config::client());
    first.send(get("/"), ()).expect("a reply");
    let mut refused = server.connect();
    let end = refused.read(&mut [0]);
    assert!(matches!(end, Ok(0) | Err(_)), "closed without a word");
    first.close().expect("a graceful end");
    drop(first);
    while server.handle.connections() > 0 {
        thread::yield_now();
    }
    let again = server.client(Config::client());
    again.send(get("/"), ()).expect("a reply");
    drop(again);
    let served = server.end(LONG);
    assert_eq!((served.connections, served.refused), (3, 1));
}

#[test]
fn a_proxy_header_tells_the_client_and_its_absence_closes() {
    let mut config = ServerConfig::default();
    config.proxy_headers = ProxyHeaders::Required;
    let server = Running::start(config, told);
    let request = b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".as_slice();
    let version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x07\x12\x34\0\x50".as_slice();
    for (header, client) in [
        (b"PROXY TCP4 192.0.2.1 198.51.100.7 4660 80\r\n".as_slice(), "192.0.2.1:4660"),
        (version_2, "192.0.2.1:4660"),
        (b"PROXY UNKNOWN\r\n", ""),
    ] {
        // Whole, with the header alone first, and with more behind it than is read at once.
        let long = [burst(&["/first"]).repeat(20).as_bytes(), request].concat();
        for (cut, request) in [(0, request), (header.len(), request), (3, request), (0, &*long)] {
            let mut stream = server.connect();
            let own = stream.local_addr().expect("an address").to_string();
            let all = [header, request].concat();
            stream.write_all(&all[..cut]).expect("written");
            thread::yield_now();
            let heard = raw(&mut stream, &all[cut..]);
            let client = if client.is_empty() { &own } else { client };
            assert!(heard.ends_with(&format!("/x {client}\n")), "{heard}");
        }
    }
    assert_eq!(raw(&mut server.connect(), request), "", "no answer to whoever is not the proxy");
    // A connection that says nothing does not hold the shutdown up.
    let counts = |count| {
        while server.handle.connections() != count {
            thread::yield_now();
        }
    };
    counts(0);
    let silent = server.connect();
    counts(1);
    let served = server.end(Duration::from_secs(3600));
    assert_eq!((served.connections, served.aborted), (14, 0));
    drop(silent);
}

#[test]
fn a_proxy_header_that_does_not_come_is_waited_for_no_longer_than_a_head() {
    let mut config = ServerConfig::default();
    config.proxy_headers = ProxyHeaders::Required;
    config.conn.timeouts.header = Some(Duration::from_millis(30));
    let server = Running::start(config, told);
    for said in ["", "PROXY TCP4 192."] {
        let mut stream = server.connect();
        stream.write_all(said.as_bytes()).expect("written");
        assert_eq!(within(LONG, move || raw(&mut stream, b"")), "");
    }
    server.end(LONG);
}

#[test]
fn a_restart_with_an_inherited_socket_refuses_nobody() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("TCP");
    let inherited = OwnedFd::from(socket.try_clone().expect("a second descriptor of the same socket"));
    let old = Server::new(socket).expect("a server");
    let handle = old.handle();
    let old = thread::spawn(move || old.serve(told).expect("served"));
    let clients = thread::spawn(move || {
        for n in 0..200 {
            let conn = ClientConn::new(TcpStream::connect(address).expect("never refused")).expect("a connection");
            let reply = conn.send(get(&format!("/{n}")), ()).expect("a reply");
            assert_eq!(reply.head.status(), StatusCode::OK);
        }
    });
    let new = Server::new(Listener::try_from(inherited).expect("a listener")).expect("a server");
    let new_handle = new.handle();
    let new = thread::spawn(move || new.serve(told).expect("served"));
    handle.shutdown(LONG);
    old.join().expect("the server is content");
    clients.join().expect("every client was served");
    new_handle.shutdown(LONG);
    assert!(new.join().expect("the server is content").connections > 0, "the new server had its share");
}

#[cfg(target_os = "linux")]
#[test]
fn servers_share_a_port_that_both_call_shared() {
    let mut shared = ListenConfig::default();
    shared.port = PortUse::Shared;
    let first = Server::bind_with("127.0.0.1:0", shared).expect("a port");
    let address = first.local_addr().expect("TCP");
    let second = Server::bind_with(address, shared).expect("the same port");
    assert!(Server::bind(address).is_err(), "not without the other's consent");
    let handles = [first.handle(), second.handle()];
    let serving = [first, second].map(|server| thread::spawn(move || server.serve(told).expect("served")));
    for _ in 0..64 {
        let conn = ClientConn::new(TcpStream::connect(address).expect("a connection")).expect("a connection");
        conn.send(get("/"), ()).expect("a reply");
    }
    handles.iter().for_each(|handle| handle.shutdown(LONG));
    let counts = serving.map(|thread| thread.join().expect("the server is content").connections);
    assert_eq!(counts.iter().sum::<u64>(), 64);
    assert!(counts.iter().all(|&count| count > 0), "the kernel shares them out: {counts:?}");
}

/// Set in a process that another test starts to play a part.
const CHILD: &str = "PERSIST_TEST_CHILD";

/// Run by other tests in a process of its own.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn serve_alone() {
    if std::env::var_os(CHILD).is_none() {
        return; // as one of all ignored tests it has nobody to serve, and would wait for ever
    }
    let mut config = ServerConfig::default();
    config.threads_max = 4;
    config.conn.timeouts.idle = Some(Duration::from_secs(3600));
    let server = Running::start(config, told);
    println!("listening on {}", server.addr);
    std::io::stdin().read_line(&mut String::new()).expect("told to end");
    let served = server.end(LONG);
    assert_eq!((served.refused, served.aborted), (0, 0));
}

/// That process; `limit` says how many descriptors it may have. It ends when its standard input does.
struct Alone {
    child: Child,
    address: String,
    /// What else it says.
    _lines: Lines<BufReader<ChildStdout>>,
}

impl Alone {
    fn start(limit: &str) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", &format!("{limit} exec \"$0\" --exact serve_alone --ignored --nocapture")])
            .env(CHILD, "1")
            .arg(std::env::current_exe().expect("this test"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("a child");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let address = lines
            .by_ref()
            .map(|line| line.expect("text"))
            .find_map(|line| line.split_once("listening on ").map(|(_, address)| address.to_owned()))
            .expect("it says where");
        Self { child, address, _lines: lines }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).expect("the kernel takes it")
    }

    fn client(&self) -> ClientConn {
        ClientConn::new(self.connect()).expect("a connection")
    }

    /// What the system says of the process.
    #[cfg(target_os = "linux")]
    fn status(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).expect("a number");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }

    fn ends(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it ends").success());
    }
}

#[test]
fn a_server_without_descriptors_goes_on_when_it_has_some_again() {
    let server = Alone::start("ulimit -n 24;");
    // More than it has descriptors for: some are accepted, the others wait in the kernel's queue.
    let mut streams: Vec<_> = (0..40).map(|_| server.connect()).collect();
    let first = ClientConn::new(streams.remove(0)).expect("a connection");
    first.send(get("/"), ()).expect("those it has are served");
    let last = ClientConn::new(streams.pop().expect("forty of them")).expect("a connection");
    drop(streams); // and now there is room again
    last.send(get("/"), ()).expect("accepting goes on");
    first.send(get("/"), ()).expect("and the old ones are unharmed");
    drop((first, last));
    server.ends();
}

/// `many` clients that are idle, a tenth of them in the middle of a head; others are served meanwhile, and so is each of them when it asks.
#[cfg(target_os = "linux")]
fn idle_clients_starve_nobody(many: usize) {
    let server = Alone::start("");
    let client = server.client();
    let served = |n: usize| {
        let reply = client.send(get(&format!("/{n}")), ()).expect("a reply");
        assert!(reply.body.bytes(100).expect("a body").starts_with(format!("/{n} ").as_bytes()));
    };
    let mut idle = Vec::with_capacity(many);
    for n in 0..many {
        let mut stream = server.connect();
        if n % 10 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: ").expect("written");
        }
        idle.push(stream);
        if n % 100 == 0 {
            served(n);
        }
    }
    let before = server.status("VmRSS");
    for n in 0..1000 {
        served(n);
    }
    for (n, stream) in idle.iter_mut().enumerate() {
        let rest = if n % 10 == 0 { "a\r\n\r\n" } else { "GET / HTTP/1.1\r\nHost: a\r\n\r\n" };
        stream.write_all(rest.as_bytes()).expect("written");
    }
    for stream in &mut idle {
        assert!(read_head(stream).starts_with("HTTP/1.1 200 "));
    }
    // Four workers, the poller, and the two of the test itself.
    let threads = server.status("Threads");
    assert!(threads <= 7, "{threads} threads");
    let after = server.status("VmRSS");
    println!("{many} idle clients: {threads} threads, {before} KiB before their requests, {after} KiB after");
    drop((idle, client));
    server.ends();
}

#[cfg(target_os = "linux")]
#[test]
fn five_hundred_idle_clients_starve_nobody() {
    idle_clients_starve_nobody(500);
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs 10,100 open files: in cargo xtask test --full"]
fn ten_thousand_idle_clients_starve_nobody() {
    idle_clients_starve_nobody(10_000);
}

#[test]
fn a_server_ends_while_a_thread_waits_for_its_turn() {
    let mut config = ServerConfig::default();
    config.threads_max = 1;
    let (begun, beginnings): (_, Receiver<(String, Sender<()>)>) = channel();
    let server = Running::start(config, stepwise(begun));
    let (mut first, mut second) = (server.connect(), server.connect());
    first.write_all(burst(&["/1"]).as_bytes()).expect("written");
    let (_, go) = beginnings.recv_timeout(LONG).expect("a handler began");
    // Complete, but there is no thread for it; it has begun, and so it is answered.
    second.write_all(burst(&["/2"]).as_bytes()).expect("written");
    while server.handle.connections() < 2 {
        thread::yield_now();
    }
    go.send(()).expect("the handler waits");
    let (_, go) = beginnings.recv_timeout(LONG).expect("its turn");
    server.handle.shutdown(LONG);
    go.send(()).expect("the handler waits");
    for stream in [&mut first, &mut second] {
        assert!(raw(stream, b"").starts_with("HTTP/1.1 200 "));
    }
    drop((first, second));
    assert_eq!(server.end(LONG).aborted, 0);
}
