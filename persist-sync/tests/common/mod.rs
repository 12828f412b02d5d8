//! What the tests share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use persist_sync::persist_core::{Config, Gate, Method, Overlap, Request, Response};
use persist_sync::{ClientConn, Handler, Received, Served, Server, ServerConfig, ServerConn, ServerHandle};

/// Far longer than anything here takes.
pub const LONG: Duration = Duration::from_secs(30);

/// `GET path`
pub fn get(path: &str) -> Request {
    Request::get(path).field("Host", "localhost").expect("a field")
}

/// `POST path`
pub fn post(path: &str) -> Request {
    Request::new(Method::POST, path).field("Host", "localhost").expect("a field")
}

/// A client that pipelines `depth` requests of any method.
pub fn wide_open(depth: u32) -> Config {
    let mut config = Config::client();
    config.pipelining.depth = depth;
    config.pipelining.behind_non_idempotent = Gate::Open;
    config
}

/// A server that lets any requests overlap.
pub fn server_config() -> Config {
    let mut config = Config::server();
    config.pipelining.overlap = Overlap::Any;
    config
}

/// Two ends of one connection.
pub fn pair(client: Config) -> (ClientConn, ServerConn) {
    let (near, far) = UnixStream::pair().expect("a pair");
    let client = ClientConn::with_config(near, client).expect("a connection");
    (client, ServerConn::with_config(far, server_config()).expect("a connection"))
}

/// Two ends of a TCP connection.
pub fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    (near, listener.accept().expect("accepted").0)
}

/// Closes with a reset.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("set");
}

/// What `run` gives on a thread of its own; a panic if that takes longer than `limit`, which only a hang does.
pub fn within<T: Send + 'static>(limit: Duration, run: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::channel();
    let running = thread::spawn(move || drop(tell.send(run())));
    let result = told.recv_timeout(limit);
    if matches!(result, Err(mpsc::RecvTimeoutError::Timeout)) {
        panic!("it hangs");
    }
    running.join().expect("no panic");
    result.expect("sent by a thread that did not panic")
}

/// Reads byte by byte to the end of one head, and gives it.
pub fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("ASCII")
}

/// A server on a port of its own, and its end.
pub struct Running {
    pub addr: SocketAddr,
    pub handle: ServerHandle,
    serving: Option<JoinHandle<Served>>,
}

impl Running {
    pub fn start(config: ServerConfig, handler: impl Handler) -> Self {
        let server = Server::bind("127.0.0.1:0").expect("a port").with_config(config);
        let (addr, handle) = (server.local_addr().expect("TCP"), server.handle());
        let serving = Some(thread::spawn(move || server.serve(handler).expect("served")));
        Self { addr, handle, serving }
    }

    #[cfg(feature = "tls")]
    pub fn start_tls(config: ServerConfig, tls: persist_sync::tls::ServerTls, handler: impl Handler) -> Self {
        let server = Server::bind("127.0.0.1:0").expect("a port").with_tls(tls).with_config(config);
        let (addr, handle) = (server.local_addr().expect("TCP"), server.handle());
        let serving = Some(thread::spawn(move || server.serve(handler).expect("served")));
        Self { addr, handle, serving }
    }

    /// The URL of `path`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).expect("connected")
    }

    pub fn client(&self, config: Config) -> ClientConn {
        ClientConn::with_config(self.connect(), config).expect("a connection")
    }

    pub fn end(mut self, within: Duration) -> Served {
        self.handle.shutdown(within);
        self.serving.take().expect("once").join().expect("the server is content")
    }
}

/// Gives back what it gets.
pub fn echo(received: Received) -> persist_sync::Result<()> {
    received.responder.send(Response::ok(), received.body)
}
