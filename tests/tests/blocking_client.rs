//! `persist-sync`'s connections to servers that others wrote.

use std::collections::VecDeque;
use std::io::Read;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use persist_sync::tls::ClientTls;
use persist_sync::{Body, Client, ClientConfig, ClientConn, CloseReason, Config, Connector, Fields, Method, Request};
use persist_tests::certificates::Authority;
use persist_tests::folder::{Folder, content};
use persist_tests::peers::{go, installed, nginx::Nginx, python::HttpServer};
use persist_tests::process::{Running, start_on_a_free_port};

fn connect(address: impl std::net::ToSocketAddrs, depth: u32) -> ClientConn {
    let mut config = Config::client();
    config.pipelining.depth = depth;
    ClientConn::with_config(TcpStream::connect(address).expect("it listens"), config).expect("a connection")
}

fn request(method: Method, target: &str) -> Request {
    Request::new(method, target).field("Host", "localhost").expect("a field")
}

#[test]
fn nginx_serves_a_thousand_pipelined_requests_on_one_connection() {
    let big = content(7, 300_000);
    let files = [("small", b"content".as_slice()), ("big", &big)];
    let Some(nginx) = Nginx::start(files, "") else { return };
    let client = connect(nginx.address, 16);
    let mut under_way = VecDeque::new();
    for n in 0..1000 {
        if under_way.len() == 16 {
            let (method, exchange) = under_way.pop_front().expect("16 of them");
            read(&client, method, exchange, &big);
        }
        let (method, path) =
            [(Method::GET, "/small"), (Method::HEAD, "/big"), (Method::GET, "/none"), (Method::GET, "/big")][n % 4]
                .clone();
        let exchange = client.write(request(method, path), ()).expect("written");
        under_way.push_back((n % 4, exchange));
    }
    for (kind, exchange) in under_way {
        read(&client, kind, exchange, &big);
    }
    assert_eq!(client.completed(), 1000);
    client.close().expect("a graceful end");
    assert_eq!(nginx.log().requests.into_values().collect::<Vec<_>>(), [1000]);
}

fn read(client: &ClientConn, kind: usize, exchange: persist_sync::Exchange, big: &[u8]) {
    let reply = client.read(exchange).expect("a reply");
    let status = reply.head.status().as_u16();
    let announced = reply.head.field("Content-Length").and_then(|value| value.to_str()?.parse().ok());
    let body = reply.body.bytes(1 << 20).expect("a body");
    match kind {
        0 => assert_eq!((status, &body[..]), (200, &b"content"[..])),
        1 => assert_eq!((status, announced, body.len()), (200, Some(big.len()), 0)),
        2 => assert_eq!(status, 404),
        _ => assert!(status == 200 && body == big),
    }
}

/// Passes connections on to `to`, one after the other: the first two break off after so many bytes of the reply.
fn breaking(to: SocketAddr, bytes: u64) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for most in [bytes, bytes, u64::MAX] {
            let (mut near, _) = listener.accept().expect("a connection");
            let mut far = TcpStream::connect(to).expect("it listens");
            let (mut from, mut into) = (near.try_clone().expect("a handle"), far.try_clone().expect("a handle"));
            // Ends with the client's end, or with the connection.
            let asking = thread::spawn(move || drop(std::io::copy(&mut from, &mut into)));
            let _ = std::io::copy(&mut (&mut far).take(most), &mut near);
            let _ = near.shutdown(Shutdown::Both);
            let _ = far.shutdown(Shutdown::Both);
            asking.join().expect("no panic");
        }
    });
    address
}

#[test]
fn a_download_from_nginx_that_breaks_off_twice_comes_whole() {
    let big = content(9, 3_000_000);
    let Some(nginx) = Nginx::start([("big", big.as_slice())], "") else { return };
    let url = format!("http://{}/big", breaking(nginx.address, 1_000_000));
    let mut body = Client::new().download(Request::get(url)).expect("a reply");
    let mut all = Vec::new();
    body.read_to_end(&mut all).expect("all of it");
    assert!(all == big);
    assert_eq!((body.total(), body.resumptions()), (Some(3_000_000), 2));
}

/// A client that trusts an authority, and shows what it has signed for it.
fn secured(authority: &Authority) -> Client {
    let me = authority.sign(&["me"]);
    let roots = std::fs::read(&authority.file).expect("the authority");
    let tls = ClientTls::builder().root_certificates(roots).client_certificate(me.certificate, me.key);
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_tls(tls.build().expect("it can be used"));
    Client::with_connector(config, connector).expect("no contradiction")
}

/// Two replies' contents, and whether the second came over the first's connection.
fn twice(client: &Client, url: &str) -> (Vec<u8>, Vec<u8>, bool) {
    let ask = || {
        let reply = client.send(Request::get(url), ()).expect("a reply");
        let reused = reply.reused;
        (reply.body.bytes(1 << 22).expect("a body").to_vec(), reused)
    };
    let ((first, _), (second, reused)) = (ask(), ask());
    (first, second, reused)
}

#[test]
fn tls_to_nginx_over_its_unix_socket_keeps_the_connection() {
    let authority = Authority::new("the authority");
    let own = authority.sign(&["localhost"]);
    let (folder, big) = (Folder::new(), content(11, 2_000_000));
    let socket = folder.join("tls.sock");
    let extra = format!(
        "listen unix:{} ssl; ssl_certificate {}; ssl_certificate_key {};",
        socket.display(),
        own.certificate_file.display(),
        own.key_file.display()
    );
    let Some(nginx) = Nginx::start([("big", big.as_slice())], &extra) else { return };
    let url = format!("https+unix://{}/big", socket.display().to_string().replace('/', "%2F"));
    let client = secured(&authority);
    let (first, second, reused) = twice(&client, &url);
    assert!(first == big && second == big && reused);
    drop(client);
    assert_eq!(nginx.log().requests.into_values().collect::<Vec<_>>(), [2]);
}

#[test]
fn tls_to_openssl_ends_with_its_goodbye() {
    let Some(program) = installed("openssl") else { return };
    let authority = Authority::new("the authority");
    let own = authority.sign(&["localhost"]);
    let (_running, address) = start_on_a_free_port(|address| {
        let mut command = Command::new(&program);
        command.args(["s_server", "-www", "-accept", &address.to_string(), "-Verify", "1", "-verify_return_error"]);
        command.arg("-CAfile").arg(&authority.file);
        command.arg("-cert").arg(&own.certificate_file).arg("-key").arg(&own.key_file);
        command
    });
    let reply = secured(&authority).send(Request::get(format!("https://localhost:{}/", address.port())), ());
    // Its page has no length: it is whole, since the closing alert came.
    let page = reply.expect("a reply").body.bytes(1 << 20).expect("all of it");
    assert!(String::from_utf8_lossy(&page).contains("me of the authority"), "{page:?}");
}

#[test]
fn tls_to_python_and_node_keeps_the_connection() {
    let authority = Authority::new("the authority");
    let own = authority.sign(&["localhost"]);
    let client = secured(&authority);
    let python = "
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    def do_GET(self):
        self.send_response(200)
        self.send_header('Content-Length', '4')
        self.end_headers()
        self.wfile.write(b'true')
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.load_verify_locations(sys.argv[3])
context.verify_mode = ssl.CERT_REQUIRED
server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_address[1], flush=True)
server.serve_forever()
";
    let node = "
const { readFileSync } = require('fs');
const [cert, key, ca] = process.argv.slice(1).map((file) => readFileSync(file));
require('https').createServer({ cert, key, ca, requestCert: true }, (request, response) => {
  response.end(String(request.client.authorized));
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
";
    for (name, option, program) in [("python3", "-c", python), ("node", "-e", node)] {
        let Some(peer) = installed(name) else { continue };
        let mut command = Command::new(peer);
        command.args([option, program]).arg(&own.certificate_file).arg(&own.key_file).arg(&authority.file);
        let mut running = Running::start(&mut command);
        let url = format!("https://localhost:{}/", running.line());
        assert_eq!(twice(&client, &url), (b"true".to_vec(), b"true".to_vec(), true), "{name}");
    }
}

#[test]
fn a_refused_upload_gets_nginxs_answer() {
    let Some(nginx) = Nginx::start([("a", b"content".as_slice())], "client_max_body_size 1k;") else { return };
    for body in [Body::from(vec![b'x'; 8 << 20]), Body::reader(std::io::repeat(b'x'), Some(8 << 20))] {
        let client = connect(nginx.address, 1);
        let reply = client.send(request(Method::POST, "/a"), body).expect("the answer");
        assert_eq!(reply.head.status().as_u16(), 413);
        assert!(!reply.body.bytes(1 << 20).expect("its content").is_empty());
    }
}

#[test]
fn pythons_server_ends_each_connection_in_an_orderly_way() {
    let folder = Folder::new();
    folder.write("a", "content");
    let Some(server) = HttpServer::start(folder.path()) else { return };
    let client = connect(server.address, 1);
    let reply = client.send(request(Method::GET, "/a"), ()).expect("a reply");
    assert_eq!(reply.body.bytes(100).expect("a body"), "content");
    assert_eq!(client.closed(), Some(CloseReason::PeerSaidClose));
    assert!(client.err().is_some() && !client.is_broken());
}

/// Echoes over one connection, with and without known lengths, and comes back with the trailers if the server returns them.
fn echoes(address: &str, returns_trailers: bool) {
    let client = connect(address, 1);
    let mut trailers = Fields::new();
    trailers.push("X-Sum", "42").expect("a field");
    for n in 0..50 {
        let sent = content(n, (n as usize * 7919) % 200_000);
        let body = match n % 3 {
            0 => Body::from(sent.clone()),
            1 => Body::reader(std::io::Cursor::new(sent.clone()), None),
            _ => Body::from(sent.clone()).with_trailers(trailers.clone()),
        };
        let mut posted = request(Method::POST, "/echo");
        if n % 3 == 2 {
            posted.fields.push("Trailer", "X-Sum").expect("a field");
        }
        let mut reply = client.send(posted, body).expect("a reply");
        assert_eq!((reply.head.status().as_u16(), reply.reused), (200, n > 0));
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut reply.body, &mut got).expect("a body");
        assert!(got == sent, "echo {n}");
        let sum = reply.body.trailers().and_then(|all| all.get("X-Sum")).and_then(|value| value.to_str());
        assert_eq!(sum, (returns_trailers && n % 3 == 2).then_some("42"), "echo {n}");
    }
    client.close().expect("a graceful end");
}

#[test]
fn nodes_server_echoes_on_one_connection() {
    let Some(node) = installed("node") else { return };
    let program = "
const server = require('http').createServer((request, response) => request.pipe(response));
server.listen(0, '127.0.0.1', () => console.log('127.0.0.1:' + server.address().port));
";
    let mut server = Running::start(Command::new(node).args(["-e", program]));
    echoes(&server.line(), false);
}

const GO_ECHO: &str = r#"
package main

import ("fmt"; "io"; "net"; "net/http")

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	fmt.Println(listener.Addr())
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		content, err := io.ReadAll(r.Body)
		if err != nil { panic(err) }
		if len(r.Trailer) > 0 { w.Header().Set("Trailer", "X-Sum") }
		w.Write(content)
		if f, ok := w.(http.Flusher); ok { f.Flush() }
		for name, values := range r.Trailer { w.Header()[name] = values }
	}))
}
"#;

#[test]
#[ignore = "compiles Go's standard library: in cargo xtask test --full"]
fn gos_server_echoes_on_one_connection_with_trailers() {
    let Some(program) = go::Program::compile(GO_ECHO) else { return };
    let mut server = Running::start(&mut Command::new(&program.path));
    echoes(&server.line(), true);
}

const GO_SECURED: &str = r#"
package main

import ("crypto/tls"; "crypto/x509"; "fmt"; "net"; "net/http"; "os")

func main() {
	authority, err := os.ReadFile(os.Args[3])
	if err != nil { panic(err) }
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	server := &http.Server{
		TLSConfig: &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, r.Proto, " to ", r.TLS.PeerCertificates[0].Subject.CommonName)
		}),
	}
	panic(server.ServeTLS(listener, os.Args[1], os.Args[2]))
}
"#;

#[test]
#[ignore = "compiles Go's standard library: in cargo xtask test --full"]
fn tls_to_go_keeps_the_connection() {
    let Some(program) = go::Program::compile(GO_SECURED) else { return };
    let authority = Authority::new("the authority");
    let own = authority.sign(&["localhost"]);
    let mut command = Command::new(&program.path);
    let mut server = Running::start(command.arg(&own.certificate_file).arg(&own.key_file).arg(&authority.file));
    let url = format!("https://localhost:{}/", server.line());
    // It has HTTP/2 to offer, too, and is not asked for it.
    let expected = b"HTTP/1.1 to me of the authority".to_vec();
    assert_eq!(twice(&secured(&authority), &url), (expected.clone(), expected, true));
}
