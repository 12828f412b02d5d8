//! Dialling: resolvers, sockets and their options, proxies on the way, deadlines, and errors that name the step that failed.

use std::error::Error as _;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use persist_async::persist_core::{
    BoxError, Destination, DialTimeout, Direct, Hop, KeepAliveProbes, Means, PoolKey, Resolve, Route, RouteError,
    Router, TargetForm, Tunnel, TunnelStep,
};
use persist_async::{
    Client, ClientConfig, Connector, DialTimer, Dialer, Phase, Request, Resolver, Response, Result, Server, Stream,
    async_trait,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A server that answers with the port that the client comes from, and who it is.
async fn origin() -> SocketAddr {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received| async move {
        let peer = received.peer.map_or_else(String::new, |peer| peer.ip().to_string());
        let answer = format!("{} of {peer}", received.head.target());
        received.responder.send(Response::ok(), answer).await
    }));
    address
}

async fn get(client: &Client, url: &str) -> Result<String> {
    let mut reply = client.send(Request::get(url), ()).await?;
    let content = reply.body.bytes(1 << 16).await?;
    Ok(String::from_utf8(content.to_vec()).expect("text"))
}

/// A port that is bound and does not listen, so that it refuses connections for as long as this lives.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
    let address = socket.local_addr().expect("an address").as_socket().expect("an internet address");
    (socket, address)
}

/// Knows what it was told, and notes what it was asked.
#[derive(Debug, Default)]
struct Names {
    addresses: Vec<SocketAddr>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        self.asked.lock().expect("no panic").push(format!("{name}:{port}"));
        Ok(self.addresses.clone())
    }
}

#[tokio::test]
async fn a_name_is_resolved_by_the_given_resolver_and_its_addresses_are_tried_until_one_answers() {
    let (_held, dead) = refusing();
    let asked = Arc::default();
    let resolver = Names { addresses: vec![dead, origin().await], asked: Arc::clone(&asked) };
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_resolver(Arc::new(resolver));
    let client = Client::with_connector(config, connector).expect("no contradiction");
    assert_eq!(get(&client, "http://somewhere.test/a").await.expect("a reply"), "/a of 127.0.0.1");
    assert_eq!(*asked.lock().expect("no panic"), ["somewhere.test:80"]);
}

#[tokio::test]
async fn a_name_without_addresses_and_one_without_a_working_address_are_different_failures() {
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_resolver(Arc::new(Names::default()));
    let route = Route::direct(&"http://somewhere.test".parse().expect("a destination"));
    let error = connector.connect(&route, &Direct).await.expect_err("no addresses");
    assert_eq!(error.phase(), Phase::Resolve);
    let (_held, dead) = refusing();
    let (_held_too, dead_too) = refusing();
    let resolver = Names { addresses: vec![dead, dead_too], asked: Arc::default() };
    let connector = Connector::new(&config).with_resolver(Arc::new(resolver));
    let error = connector.connect(&route, &Direct).await.expect_err("both refuse");
    assert_eq!(error.phase(), Phase::Connect);
    let text = error.to_string();
    assert!(text.contains(&dead.to_string()) && text.contains(&dead_too.to_string()), "{text}");
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>()).expect("an io::Error");
    assert_eq!(cause.kind(), io::ErrorKind::ConnectionRefused);
}

/// Never answers.
#[derive(Debug)]
struct Mute;

#[async_trait]
impl Resolver for Mute {
    async fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        std::future::pending().await
    }
}

#[async_trait]
impl Dialer for Mute {
    async fn dial(&self, _: &Destination, timer: &mut DialTimer) -> Result<Stream> {
        timer.within(Phase::Connect, std::future::pending()).await
    }
}

#[tokio::test(start_paused = true)]
async fn each_phase_has_its_deadline_and_the_error_says_which_one_passed() {
    let config = ClientConfig::default();
    let route = Route::direct(&"http://somewhere.test".parse().expect("a destination"));
    let resolving = Connector::new(&config).with_resolver(Arc::new(Mute));
    let connecting = Connector::new(&config).with_dialer(Arc::new(Mute));
    for (connector, phase, limit) in
        [(&resolving, Phase::Resolve, config.dial.resolve), (&connecting, Phase::Connect, config.dial.connect)]
    {
        let error = connector.connect(&route, &Direct).await.expect_err("too late");
        let timeout = error.source().and_then(|source| source.downcast_ref::<DialTimeout>()).expect("a timeout");
        assert_eq!((error.phase(), Some(timeout.after)), (phase, limit));
        assert_eq!(error.destination(), Some(&route.hops[0].to));
    }
}

#[tokio::test]
async fn sockets_are_set_up_as_configured() {
    let address = origin().await;
    let mut config = ClientConfig::default();
    config.socket.keep_alive = Some(KeepAliveProbes::default());
    config.socket.user_timeout = Some(Duration::from_secs(20));
    (config.socket.send_buffer, config.socket.recv_buffer) = (Some(16 << 10), Some(16 << 10));
    let route = Route::direct(&format!("http://{address}").parse().expect("a destination"));
    let stream = Connector::new(&config).connect(&route, &Direct).await.expect("connected");
    let socket = socket2::SockRef::from(stream.as_tcp().expect("tcp"));
    assert!(socket.tcp_nodelay().expect("an option") && socket.keepalive().expect("an option"));
    // The kernel may double what was asked for, for its own use.
    assert!((16 << 10..=64 << 10).contains(&socket.recv_buffer_size().expect("an option")));
    #[cfg(target_os = "linux")]
    {
        assert_eq!(socket.tcp_keepalive_time().expect("an option"), Duration::from_secs(60));
        assert_eq!(socket.tcp_keepalive_retries().expect("an option"), 3);
        assert_eq!(socket.tcp_user_timeout().expect("an option"), Some(Duration::from_secs(20)));
    }
    config.socket.nodelay = false;
    let stream = Connector::new(&config).connect(&route, &Direct).await.expect("connected");
    assert!(!stream.as_tcp().expect("tcp").nodelay().expect("an option"));
}

#[cfg(target_os = "linux")] // where all of 127.0.0.0/8 is this host
#[tokio::test]
async fn connections_come_from_the_address_they_are_bound_to() {
    let address = origin().await;
    let mut config = ClientConfig::default();
    config.socket.bind = Some("127.0.0.9".parse().expect("an address"));
    let client = Client::with_config(config.clone()).expect("no contradiction");
    assert_eq!(get(&client, &format!("http://{address}/")).await.expect("a reply"), "/ of 127.0.0.9");
    config.socket.bind = Some("::1".parse().expect("an address"));
    let client = Client::with_config(config).expect("no contradiction");
    let error = get(&client, &format!("http://{address}/")).await.expect_err("the other family");
    assert!(error.to_string().contains("no address of the family of ::1"), "{error}");
}

/// A dialer without any socket.
#[derive(Debug)]
struct InMemory;

#[async_trait]
impl Dialer for InMemory {
    async fn dial(&self, to: &Destination, _: &mut DialTimer) -> Result<Stream> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let name = to.to_string();
        tokio::spawn(async move {
            let mut head = [0; 4096];
            while let Ok(1..) = theirs.read(&mut head).await {
                let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                let _ = theirs.write_all(reply.as_bytes()).await;
            }
        });
        Ok(Stream::new(ours))
    }
}

#[tokio::test]
async fn a_dialer_may_bring_any_stream() {
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_dialer(Arc::new(InMemory));
    let client = Client::with_connector(config, connector).expect("no contradiction");
    for reused in [false, true] {
        let mut reply = client.send(Request::get("http://nowhere.test/"), ()).await.expect("a reply");
        assert_eq!(reply.body.bytes(100).await.expect("the content"), "http://nowhere.test");
        assert_eq!(reply.reused, reused);
    }
}

/// The protocol of these tests' proxies: `GO host:port` and a line feed; `OK` or `NO` and a line feed.
#[derive(Debug)]
struct Toy {
    out: Vec<u8>,
    heard: Vec<u8>,
}

#[derive(Debug, PartialEq)]
enum ToyError {
    No,
    End,
}

impl std::fmt::Display for ToyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::No { "the proxy says no" } else { "the proxy hung up" })
    }
}

impl std::error::Error for ToyError {}

impl Tunnel for Toy {
    fn transmit(&self) -> &[u8] {
        &self.out
    }

    fn advance(&mut self, n: usize) {
        self.out.drain(..n);
    }

    fn handle_input(&mut self, input: &mut &[u8]) -> Result<TunnelStep, BoxError> {
        while let Some((first, rest)) = input.split_first() {
            *input = rest;
            match *first {
                b'\n' if self.heard == b"OK" => return Ok(TunnelStep::Done),
                b'\n' => return Err(ToyError::No.into()),
                byte => self.heard.push(byte),
            }
        }
        Ok(TunnelStep::Pending)
    }

    fn handle_eof(&mut self) -> BoxError {
        ToyError::End.into()
    }
}

/// Reaches everything through a chain of toy proxies.
#[derive(Debug)]
struct Through {
    proxies: Vec<SocketAddr>,
    resolve: Resolve,
}

impl Router for Through {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        let proxies = self.proxies.iter().map(|proxy| format!("http://{proxy}").parse().expect("a destination"));
        let mut hops: Vec<Hop> = Vec::new();
        for to in proxies.chain([destination.clone()]) {
            hops.push(if hops.is_empty() {
                Hop::socket(to)
            } else {
                Hop::through(Means::Socks5 { resolve: self.resolve }, to, None)
            });
        }
        Ok(Route {
            pool_key: PoolKey::from(destination),
            hops,
            target_form: TargetForm::Origin,
            fields: Default::default(),
        })
    }

    fn tunnel(&self, hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        let out = format!("GO {}\n", hop.to.authority_with_port()).into_bytes();
        Ok(Box::new(Toy { out, heard: Vec::new() }))
    }
}

/// A toy proxy. Notes what it is asked for; goes to `instead` of where it is told, if that is given.
async fn proxy(instead: Option<SocketAddr>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = asked.clone();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let mut line = String::new();
                client.read_line(&mut line).await.expect("a line");
                let to = line.trim_start_matches("GO ").trim_end().to_owned();
                log.lock().expect("no panic").push(to.clone());
                let reached = match instead {
                    Some(instead) => TcpStream::connect(instead).await,
                    None => TcpStream::connect(&to).await,
                };
                match reached {
                    Ok(mut server) => {
                        client.write_all(b"OK\n").await.expect("written");
                        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                    Err(_) => client.write_all(b"NO\n").await.expect("written"),
                }
            });
        }
    });
    (address, asked)
}

fn client_through(proxies: Vec<SocketAddr>, resolve: Resolve, resolver: impl Resolver + 'static) -> Client {
    let mut config = ClientConfig::default();
    config.router = Arc::new(Through { proxies, resolve });
    let connector = Connector::new(&config).with_resolver(Arc::new(resolver));
    Client::with_connector(config, connector).expect("no contradiction")
}

#[tokio::test]
async fn a_chain_of_proxies_leads_to_the_origin() {
    let origin = origin().await;
    let (first, asked_first) = proxy(None).await;
    let (second, asked_second) = proxy(None).await;
    let client = client_through(vec![first, second], Resolve::There, Names::default());
    assert_eq!(get(&client, &format!("http://{origin}/x")).await.expect("a reply"), "/x of 127.0.0.1");
    assert_eq!(*asked_first.lock().expect("no panic"), [second.to_string()]);
    assert_eq!(*asked_second.lock().expect("no panic"), [origin.to_string()]);
    assert_eq!(client.counts().idle, 1);
}

#[tokio::test]
async fn names_are_the_proxys_or_ours_to_resolve() {
    let origin = origin().await;
    let (there, asked) = proxy(Some(origin)).await;
    let client = client_through(vec![there], Resolve::There, Names::default());
    get(&client, "http://somewhere.test/").await.expect("a reply");
    assert_eq!(*asked.lock().expect("no panic"), ["somewhere.test:80"]);

    let (here, asked) = proxy(None).await;
    let client = client_through(vec![here], Resolve::Here, Names { addresses: vec![origin], asked: Arc::default() });
    get(&client, &format!("http://somewhere.test:{}/", origin.port())).await.expect("a reply");
    assert_eq!(*asked.lock().expect("no panic"), [origin.to_string()]);
}

#[tokio::test]
async fn the_next_address_is_asked_for_when_the_proxy_does_not_get_to_the_first() {
    let origin = origin().await;
    let (here, asked) = proxy(None).await;
    // Nobody listens at this address with the origin's port.
    let other: SocketAddr = format!("127.0.0.2:{}", origin.port()).parse().expect("an address");
    let client =
        client_through(vec![here], Resolve::Here, Names { addresses: vec![other, origin], asked: Arc::default() });
    let url = format!("http://somewhere.test:{}/", origin.port());
    get(&client, &url).await.expect("a reply");
    assert_eq!(*asked.lock().expect("no panic"), [other.to_string(), origin.to_string()]);
}

#[tokio::test]
async fn a_refused_tunnel_is_told_to_everybody_who_waits_with_its_cause_as_a_value() {
    let (_held, dead) = refusing();
    let (proxy, _) = proxy(None).await;
    let client = client_through(vec![proxy], Resolve::There, Names::default());
    let url = format!("http://{dead}/");
    let (one, two) = tokio::join!(get(&client, &url), get(&client, &url));
    for error in [one.expect_err("refused"), two.expect_err("refused")] {
        assert_eq!(error.phase(), Phase::Tunnel);
        assert_eq!(error.destination().map(ToString::to_string), Some(format!("http://{dead}")));
        let cause = error.source().and_then(|source| source.downcast_ref::<ToyError>());
        assert_eq!(cause, Some(&ToyError::No));
    }
}

#[tokio::test]
async fn what_comes_behind_a_proxys_last_byte_is_the_first_that_the_stream_gives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let router = Through { proxies: vec![listener.local_addr().expect("an address")], resolve: Resolve::There };
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a connection");
        client.read_exact(&mut [0; "GO somewhere:80\n".len()]).await.expect("its question");
        client.write_all(b"OK\nSSH-2.0-").await.expect("written");
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.expect("the end");
        client.write_all(b"toy").await.expect("written");
    });
    let route = router.route(&"http://somewhere".parse().expect("a destination")).expect("a route");
    let mut stream = Connector::default().connect(&route, &router).await.expect("connected");
    let mut banner = [0; 4];
    stream.read_exact(&mut banner).await.expect("four bytes");
    assert_eq!(&banner, b"SSH-");
    stream.shutdown().await.expect("shut down");
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.expect("the rest");
    assert_eq!(rest, "2.0-toy");
}

#[tokio::test]
async fn a_proxy_that_hangs_up_is_told_as_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let router = Through { proxies: vec![listener.local_addr().expect("an address")], resolve: Resolve::There };
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.expect("a connection");
        client.read_exact(&mut [0; "GO somewhere:80\n".len()]).await.expect("its question");
    });
    let route = router.route(&"http://somewhere".parse().expect("a destination")).expect("a route");
    let error = Connector::default().connect(&route, &router).await.expect_err("it hung up");
    assert_eq!(error.phase(), Phase::Tunnel);
    assert_eq!(error.source().and_then(|source| source.downcast_ref()), Some(&ToyError::End));
}

#[tokio::test]
async fn a_route_that_is_none_is_refused_before_anything_is_dialled() {
    let to: Destination = "http://127.0.0.1:9".parse().expect("a destination");
    let mut route = Route::direct(&to);
    route.hops.push(Hop::socket(to));
    let error = Connector::default().connect(&route, &Direct).await.expect_err("two sockets");
    assert_eq!(error.phase(), Phase::Prepare);
    route.hops.clear();
    let error = Connector::default().connect(&route, &Direct).await.expect_err("no hops");
    assert_eq!(error.phase(), Phase::Prepare);
}
