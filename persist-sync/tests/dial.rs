//! Dialling: races of addresses, deadlines of each phase, socket options, and routes through tunnels.

mod common;

use std::error::Error as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::read_head;
use persist_sync::persist_core::{
    Blame, BoxError, ClientConfig, Destination, DialConfig, DialTimeout, Direct, Hop, KeepAliveProbes, Means, Phase,
    PoolKey, Resolve, Route, RouteError, Router, TargetForm, Tunnel, TunnelStep,
};
use persist_sync::{Client, ConnectFailures, Connector, Disposition, Fields, Request, Resolver};
use socket2::{Domain, SockRef, Socket, Type};

/// Gives the addresses it was told, for any name.
#[derive(Debug)]
struct Told(Vec<SocketAddr>);

impl Resolver for Told {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(self.0.clone())
    }
}

/// Answers when it is told to: never, in these tests.
#[derive(Debug)]
struct Stalled(Mutex<Receiver<()>>);

impl Resolver for Stalled {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        let _ = self.0.lock().expect("one at a time").recv();
        Ok(Vec::new())
    }
}

/// A port that is bound and refuses, because nobody listens.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let address = socket.local_addr().expect("an address").as_socket().expect("of TCP");
    (socket, address)
}

/// A port that neither accepts nor refuses: its backlog is full.
fn silent() -> (Socket, Vec<Socket>, SocketAddr) {
    let (socket, address) = refusing();
    socket.listen(0).expect("listening");
    let mut queued = Vec::new();
    loop {
        let next = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let connected = next.connect_timeout(&address.into(), Duration::from_millis(50));
        queued.push(next);
        if connected.is_err() {
            return (socket, queued, address);
        }
    }
}

fn to(url: &str) -> Destination {
    url.parse().expect("a destination")
}

fn direct(url: &str) -> Route {
    Direct.route(&to(url)).expect("a route")
}

fn told(addresses: &[SocketAddr]) -> Connector {
    Connector::default().with_resolver(Arc::new(Told(addresses.to_vec())))
}

#[test]
fn an_address_that_refuses_is_followed_by_the_next() {
    let (_kept, refuses) = refusing();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = listener.local_addr().expect("an address");
    let stream = told(&[refuses, there]).connect(&direct("http://example.com"), &Direct).expect("the second");
    assert_eq!(stream.peer_addr(), Some(there));
}

#[test]
fn an_address_that_is_silent_is_raced_by_the_next() {
    let (_kept, _queued, silent) = silent();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = listener.local_addr().expect("an address");
    let stream = told(&[silent, there]).connect(&direct("http://example.com"), &Direct).expect("the second");
    assert_eq!(stream.peer_addr(), Some(there));
}

#[test]
fn addresses_that_all_fail_are_told_each_with_its_reason() {
    let ((_one, first), (_two, second)) = (refusing(), refusing());
    let error = told(&[first, second]).connect(&direct("http://example.com"), &Direct).expect_err("both refuse");
    assert_eq!((error.phase(), error.disposition()), (Phase::Connect, Some(Disposition::NotSent)));
    assert_eq!(error.destination(), Some(&to("http://example.com")));
    let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).expect("the system's error");
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
    let failures = cause.get_ref().and_then(|inner| inner.downcast_ref::<ConnectFailures>()).expect("one for each");
    assert_eq!(failures.attempts.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [first, second]);
}

#[test]
fn each_phase_of_a_dial_has_its_deadline() {
    let short = Some(Duration::from_millis(20));
    let timeout = |error: &persist_sync::Error| {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<DialTimeout>());
        (error.phase(), cause.map(|timeout| timeout.phase))
    };
    let with = |change: fn(&mut DialConfig, Option<Duration>)| {
        let mut config = ClientConfig::default();
        change(&mut config.dial, short);
        Connector::new(&config)
    };

    let (_answer, never) = channel();
    let connector = with(|dial, short| dial.resolve = short).with_resolver(Arc::new(Stalled(Mutex::new(never))));
    let error = connector.connect(&direct("http://example.com"), &Direct).expect_err("nobody answers");
    assert_eq!(timeout(&error), (Phase::Resolve, Some(Phase::Resolve)));
    assert!(error.to_string().contains("no addresses within 20ms"), "{error}");

    let (_kept, _queued, silent) = silent();
    for change in
        [|dial: &mut DialConfig, short| dial.connect = short, |dial: &mut DialConfig, short| dial.total = short]
    {
        let connector = with(change);
        let error = connector.connect(&direct(&format!("http://{silent}")), &Direct).expect_err("nobody answers");
        assert_eq!(timeout(&error), (Phase::Connect, Some(Phase::Connect)));
    }

    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let router = Toy(proxy.local_addr().expect("an address"), Resolve::There);
    let route = router.route(&to("http://example.com")).expect("a route");
    let error = with(|dial, short| dial.handshake = short).connect(&route, &router).expect_err("nobody answers");
    assert_eq!(timeout(&error), (Phase::Tunnel, Some(Phase::Tunnel)));
    assert_eq!(error.destination(), Some(&to("http://example.com")));
}

#[test]
fn sockets_are_set_up_as_configured() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let stream = Connector::default().connect(&direct(&url), &Direct).expect("a stream");
    assert!(stream.as_tcp().expect("tcp").nodelay().expect("an option"));

    let mut config = ClientConfig::default();
    config.socket.nodelay = false;
    config.socket.bind = Some(Ipv4Addr::new(127, 0, 0, 2).into());
    let probes = KeepAliveProbes { idle: Duration::from_secs(33), interval: Duration::from_secs(7), count: 5 };
    (config.socket.keep_alive, config.socket.user_timeout) = (Some(probes), Some(Duration::from_millis(12_345)));
    (config.socket.send_buffer, config.socket.recv_buffer) = (Some(20_000), Some(30_000));
    let stream = Connector::new(&config).connect(&direct(&url), &Direct).expect("a stream");
    assert_eq!(stream.local_addr().map(|address| address.ip()), config.socket.bind);
    let options = SockRef::from(stream.as_tcp().expect("tcp"));
    assert!(!options.tcp_nodelay().expect("an option"));
    assert!(options.keepalive().expect("an option"));
    // Linux gives twice of what was asked for, and tells so.
    assert!((20_000..=40_000).contains(&options.send_buffer_size().expect("an option")));
    assert!((30_000..=60_000).contains(&options.recv_buffer_size().expect("an option")));
    #[cfg(target_os = "linux")]
    {
        assert_eq!(options.tcp_keepalive_time().expect("an option"), probes.idle);
        assert_eq!(options.tcp_keepalive_interval().expect("an option"), probes.interval);
        assert_eq!(options.tcp_keepalive_retries().expect("an option"), probes.count);
        assert_eq!(options.tcp_user_timeout().expect("an option"), config.socket.user_timeout);
    }
    // A connection keeps to it.
    let conn = persist_sync::ClientConn::new(stream).expect("a connection");
    let stream = conn.hijack().expect("idle").stream;
    assert!(!stream.as_tcp().expect("tcp").nodelay().expect("an option"));
}

#[test]
fn addresses_of_another_family_than_ours_are_not_tried() {
    let mut config = ClientConfig::default();
    config.socket.bind = Some(Ipv4Addr::LOCALHOST.into());
    let error = Connector::new(&config).connect(&direct("http://[::1]:1"), &Direct).expect_err("none fits");
    assert_eq!(error.phase(), Phase::Connect);
    assert!(error.to_string().contains("127.0.0.1"), "{error}");
}

#[test]
fn a_unix_socket_is_dialled_by_its_path() {
    let folder = std::env::temp_dir().join(format!("persist-sync-dial-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let _ = std::fs::remove_file(&path);
    let route = Route::direct(&Destination::unix(to("http://localhost").scheme(), path.to_str().expect("text")));
    let error = Connector::default().connect(&route, &Direct).expect_err("nobody is there yet");
    assert_eq!(error.phase(), Phase::Connect);
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    let mut stream = Connector::default().connect(&route, &Direct).expect("a stream");
    let (mut far, _) = listener.accept().expect("a connection");
    far.write_all(b"hello").expect("written");
    let mut heard = [0; 5];
    stream.read_exact(&mut heard).expect("read");
    assert_eq!(&heard, b"hello");
    std::fs::remove_dir_all(&folder).expect("removed");
}

/// Routes everything through a proxy that is told `GO host:port` and says `OK`, or why not.
#[derive(Debug)]
struct Toy(SocketAddr, Resolve);

#[derive(Debug)]
struct ToyTunnel(Vec<u8>);

#[derive(Debug, PartialEq, thiserror::Error)]
#[error("the toy said {0:?}")]
struct ToyRefused(String);

impl Router for Toy {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        Ok(Route {
            pool_key: PoolKey::from(destination),
            hops: vec![
                Hop::socket(to(&format!("http://{}", self.0))),
                Hop::through(Means::Socks5 { resolve: self.1 }, destination.clone(), None),
            ],
            target_form: TargetForm::Origin,
            fields: Fields::new(),
        })
    }

    fn tunnel(&self, hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        Ok(Box::new(ToyTunnel(format!("GO {}\n", hop.to.authority_with_port()).into_bytes())))
    }
}

impl Tunnel for ToyTunnel {
    fn transmit(&self) -> &[u8] {
        &self.0
    }

    fn advance(&mut self, n: usize) {
        self.0.drain(..n);
    }

    fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, BoxError> {
        let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Ok(TunnelStep::Pending) };
        let said = String::from_utf8_lossy(&input[..end]).into_owned();
        *input = &input[end + 1..];
        if said == "OK" { Ok(TunnelStep::Done) } else { Err(ToyRefused(said).into()) }
    }

    fn handle_eof(&mut self) -> BoxError {
        ToyRefused("nothing".into()).into()
    }
}

/// A proxy that tells what it was asked, and then plays what it is given.
fn toy_proxy(resolve: Resolve, mut play: impl FnMut(&str, TcpStream) + Send + 'static) -> Toy {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let toy = Toy(listener.local_addr().expect("an address"), resolve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a connection");
            let mut asked = String::new();
            let mut reader = BufReader::with_capacity(1, &stream);
            reader.read_line(&mut asked).expect("a line");
            play(asked.trim_end(), stream.try_clone().expect("the same"));
        }
    });
    toy
}

#[test]
fn a_request_goes_through_a_tunnel_and_what_came_behind_its_reply_is_kept() {
    let toy = toy_proxy(Resolve::There, |asked, mut stream| {
        assert_eq!(asked, "GO example.com:8080");
        // In one piece with the beginning of what follows.
        stream.write_all(b"OK\nHTTP/1.1 200 OK\r\nContent-Le").expect("written");
        let head = read_head(&mut stream);
        assert!(head.starts_with("GET /a HTTP/1.1\r\nHost: example.com:8080\r\n"), "{head}");
        stream.write_all(b"ngth: 5\r\n\r\nhello").expect("written");
    });
    // The reply began before its request was sent, which HTTP does not allow: the stream is looked at by itself.
    let route = toy.route(&to("http://example.com:8080")).expect("a route");
    let mut stream = Connector::default().connect(&route, &toy).expect("a stream");
    assert!(stream.as_tcp().is_none(), "reading past the leftover would lose it");
    let mut first = [0; 8];
    stream.read_exact(&mut first).expect("read");
    assert_eq!(&first, b"HTTP/1.1");
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: example.com:8080\r\n\r\n").expect("written");
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("read");
    assert_eq!(rest, b" 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    assert!(stream.as_tcp().is_some());
}

#[test]
fn a_pooled_client_goes_through_tunnels_and_reuses_them() {
    let toy = toy_proxy(Resolve::There, |asked, mut stream| {
        assert_eq!(asked, "GO example.com:80");
        stream.write_all(b"OK\n").expect("written");
        for _ in 0..2 {
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").expect("written");
        }
    });
    let mut config = ClientConfig::default();
    config.router = Arc::new(toy);
    let client = Client::with_config(config).expect("no contradiction");
    for reused in [false, true] {
        let reply = client.send(Request::get("http://example.com/"), ()).expect("a reply");
        assert_eq!(reply.reused, reused);
        assert_eq!(reply.body.bytes(10).expect("a body"), "hello");
    }
}

#[test]
fn a_refused_tunnel_is_an_error_at_its_hop_with_the_refusal_as_a_value() {
    let toy = toy_proxy(Resolve::There, |_, mut stream| stream.write_all(b"NO\n").expect("written"));
    let mut config = ClientConfig::default();
    config.router = Arc::new(toy);
    let client = Client::with_config(config).expect("no contradiction");
    let error = client.send(Request::get("http://example.com/"), ()).expect_err("refused");
    assert_eq!((error.phase(), error.disposition()), (Phase::Tunnel, Some(Disposition::NotSent)));
    assert_eq!(error.destination(), Some(&to("http://example.com")));
    let cause = error.source().and_then(|cause| cause.downcast_ref::<ToyRefused>());
    assert_eq!(cause, Some(&ToyRefused("NO".into())));
}

#[test]
fn a_name_that_is_resolved_here_is_tried_by_address_after_address() {
    let (asked, were_asked): (Sender<String>, _) = channel();
    let toy = toy_proxy(Resolve::Here, move |line, mut stream| {
        asked.send(line.to_owned()).expect("listened to");
        stream.write_all(if line.contains("192.0.2.2") { b"OK\n" } else { b"NO\n" }).expect("written");
    });
    let route = toy.route(&to("http://example.com:81")).expect("a route");
    let addresses = ["192.0.2.1:81", "192.0.2.2:81", "192.0.2.3:81"].map(|address| address.parse().expect("one"));
    let stream = told(&addresses).connect(&route, &toy).expect("the second address");
    assert_eq!(stream.peer_addr(), Some(toy.0), "a stream to the proxy");
    assert_eq!(were_asked.try_iter().collect::<Vec<_>>(), ["GO 192.0.2.1:81", "GO 192.0.2.2:81"]);
}

#[test]
fn routes_that_cannot_be_walked_are_refused_before_anything_is_dialled() {
    let hop = Hop::through(Means::HttpConnect, to("http://example.com"), None);
    let route = |hops| Route { hops, ..direct("http://example.com") };
    for hops in [vec![], vec![hop], vec![Hop::socket(to("http://a")), Hop::socket(to("http://b"))]] {
        let error = Connector::default().connect(&route(hops), &Direct).expect_err("no way");
        assert_eq!((error.phase(), error.blame()), (Phase::Prepare, Blame::Caller));
    }
}
