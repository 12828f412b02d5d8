//! HTTP/2 with clients and servers that others wrote.

use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use persist_async::http2::Http2Config;
use persist_async::tls::ClientTls;
use persist_async::{Client, ClientConfig, ClientConn, Connector, Request};
use persist_tests::certificates::{Authority, Identity};
use persist_tests::folder::{Folder, content};
use persist_tests::peers::{go, installed, nginx::Nginx};
use persist_tests::process::{Running, run};
use tokio::runtime::Runtime;

use super::{App, curl, installed_quietly, text};

const VERSION: [&str; 4] = ["-o", "/dev/null", "-w", "%{http_version}"];

fn trusted() -> (Authority, Identity) {
    let authority = Authority::new("authority");
    let identity = authority.sign(&["localhost", "127.0.0.1"]);
    (authority, identity)
}

/// A client of ours that trusts this authority, and speaks HTTP/2 where it can.
fn client(authority: &Authority) -> Client {
    let roots = std::fs::read(&authority.file).expect("written");
    let tls = ClientTls::builder().root_certificates(roots).alpn(["h2", "http/1.1"]).build().expect("usable");
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_tls(tls).with_http2(Http2Config::client());
    Client::with_connector(config, connector).expect("no contradiction")
}

#[test]
fn curl_chooses_the_protocol() {
    let Some(program) = installed("curl") else { return };
    let app = App::start();
    let said = |path: &str, arguments: &[&str]| curl(&program, &[&[app.url(path).as_str()], arguments].concat());
    let known = "--http2-prior-knowledge";
    assert_eq!(said("/hello", &[&VERSION[..], &[known]].concat()), "2");
    assert_eq!(said("/hello?name=two", &[known]), "hello two\n");
    assert_eq!(said("/events", &[known, "-N"]), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    assert_eq!(said("/long", &[known, "--compressed"]).len(), 23_000);
    // `Upgrade: h2c` is ignored, as a server may (RFC 9110 §7.8): the exchange is one of HTTP/1.1.
    assert_eq!(said("/hello", &[&VERSION[..], &["--http2"]].concat()), "1.1");

    let folder = Folder::new();
    let sent = content(7, 3 << 20);
    let data = format!("@{}", folder.write("sent", &sent).display());
    let got = folder.join("got");
    said("/echo", &[known, "--data-binary", &data, "-o", got.to_str().expect("UTF-8")]);
    assert!(std::fs::read(&got).expect("curl wrote it") == sent);

    let (authority, identity) = trusted();
    let secured = App::start_secured(&identity);
    let roots = authority.file.to_str().expect("UTF-8");
    let url = format!("https://localhost:{}/hello", secured.address.port());
    for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let arguments = [&VERSION[..], &["--cacert", roots, option, &url]].concat();
        assert_eq!(curl(&program, &arguments), version);
    }
}

/// What it sends fits into what Node takes into memory for one session, 10 MB: it resets its own streams beyond that.
const NODE_CLIENT: &str = "
const http2 = require('http2');
const session = http2.connect('http://' + process.argv[1]);
session.on('error', (error) => { console.error(error); process.exit(1); });
const once = (n) => new Promise((resolve, reject) => {
  const sent = Buffer.alloc(n * 2000, String(n));
  const stream = session.request({ ':path': '/echo', ':method': 'POST' });
  const parts = [];
  stream.on('data', (part) => parts.push(part));
  stream.on('end', () => sent.equals(Buffer.concat(parts)) ? resolve() : reject(new Error('changed: ' + n)));
  stream.on('error', reject);
  stream.end(sent);
});
const pinged = new Promise((resolve, reject) => session.on('connect', () => session.ping((error) => error ? reject(error) : resolve())));
Promise.all([pinged, ...Array.from({ length: 50 }, (_, n) => once(n))]).then(() => session.close(), (error) => { console.error(error); process.exit(1); });
";

#[test]
fn nodes_client_sends_fifty_streams_over_one_connection() {
    let Some(node) = installed("node") else { return };
    let app = App::start();
    let said = run(Command::new(node).args(["-e", NODE_CLIENT]).arg(app.address.to_string()));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(app.connections(), 1);
}

const NODE_SERVER: &str = "
const http2 = require('http2');
const server = http2.createServer((request, response) => {
  if (request.url === '/push') {
    response.stream.pushStream({ ':path': '/pushed' }, (error, pushed) => {
      pushed.respond({ ':status': 200 });
      pushed.end('by the server');
    });
    return response.end('asked for');
  }
  if (request.url === '/refuse') return response.stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
  response.setTrailer('x-check', '42');
  request.pipe(response);
});
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
";

#[test]
fn nodes_server_answers_pushes_and_refuses() {
    let Some(node) = installed("node") else { return };
    let mut running = Running::start(Command::new(node).args(["-e", NODE_SERVER]));
    let port: u16 = running.line().parse().expect("a port");
    Runtime::new().expect("a runtime").block_on(async {
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("node listens");
        let conn = ClientConn::http2(stream, Http2Config::client().accept_pushes()).await.expect("a preface");
        let to = |path: &str| Request::get(path).field("Host", "node").expect("a field");
        let mut exchange = conn.write(to("/push"), ()).await.expect("a place");
        let pushed = conn.pushed(&mut exchange).await.expect("no failure").expect("a push");
        assert_eq!(pushed.request.target(), "/pushed");
        assert_eq!(pushed.reply().await.expect("a reply").body.bytes(100).await.expect("content"), "by the server");
        assert_eq!(conn.read(exchange).await.expect("a reply").body.bytes(100).await.expect("content"), "asked for");

        let error = conn.send(to("/refuse"), ()).await.expect_err("refused");
        assert!(error.failure().expect("a failure").is_provably_unprocessed(), "{error}");

        let sent = content(5, 2 << 20);
        let post = http::Request::post("http://node/echo").body(Full::<Bytes>::from(sent.clone())).expect("a request");
        let reply = conn.send_http(post).await.expect("a reply").into_body().collect().await.expect("content");
        assert_eq!(reply.trailers().expect("trailers")["x-check"], "42");
        assert!(reply.to_bytes() == sent);
    });
}

#[test]
fn nginx_speaks_http2_over_tls_and_the_pool_keeps_one_connection() {
    let (authority, identity) = trusted();
    let folder = Folder::new();
    let socket = folder.join("nginx.sock");
    let extra = format!(
        "listen unix:{} ssl http2; ssl_certificate {}; ssl_certificate_key {};",
        socket.display(),
        identity.certificate_file.display(),
        identity.key_file.display()
    );
    let body = content(9, 300_000);
    let Some(_nginx) = Nginx::start([("file", body.as_slice())], &extra) else { return };
    let client = client(&authority);
    let url = format!("https+unix://{}/file", socket.display().to_string().replace('/', "%2F"));
    Runtime::new().expect("a runtime").block_on(async {
        let mut connections = Vec::new();
        for _ in 0..20 {
            let mut reply = client.send(Request::get(&url), ()).await.expect("a reply");
            assert_eq!(reply.head.version(), persist_async::persist_core::Version::Http2);
            assert!(reply.body.bytes(1 << 20).await.expect("content") == body);
            connections.push(reply.connection);
        }
        connections.dedup();
        assert_eq!(connections.len(), 1);
    });
}

#[test]
#[ignore = "needs nghttp2's tools: in cargo xtask test --full"]
fn nghttp_and_h2load_find_no_failure() {
    let Some(nghttp) = installed_quietly("nghttp") else { return };
    let Some(h2load) = installed_quietly("h2load") else { return };
    let app = App::start();
    let said = text(run(Command::new(nghttp).arg("-v").arg(app.url("/hello?name=nghttp"))));
    assert!(said.contains("hello nghttp") && said.contains(":status: 200"), "{said}");
    let said = text(run(Command::new(h2load).args(["-n20000", "-c8", "-m32"]).arg(app.url("/hello"))));
    assert!(said.contains("20000 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
    assert!(said.contains("20000 2xx"), "{said}");
}

const GO_CLIENT: &str = r#"
package main

import ("bytes"; "crypto/tls"; "crypto/x509"; "fmt"; "io"; "net/http"; "os"; "sync")

func main() {
	pem, err := os.ReadFile(os.Args[2])
	if err != nil { panic(err) }
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	once := func(n int) {
		sent := bytes.Repeat([]byte{byte(n)}, n*9973)
		response, err := client.Post(os.Args[1], "application/octet-stream", bytes.NewReader(sent))
		if err != nil { panic(err) }
		got, err := io.ReadAll(response.Body)
		if err != nil { panic(err) }
		if response.ProtoMajor != 2 || !bytes.Equal(got, sent) { panic(fmt.Sprint("changed: ", n, response.Proto)) }
	}
	once(1)
	var all sync.WaitGroup
	for n := 0; n < 100; n++ {
		all.Add(1)
		go func(n int) { defer all.Done(); once(n) }(n)
	}
	all.Wait()
}
"#;

const GO_SERVER: &str = r#"
package main

import ("fmt"; "io"; "net"; "net/http"; "os")

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	echo := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Proto")
		io.Copy(w, r.Body)
		w.Header().Set("X-Proto", r.Proto)
	}
	panic(http.ServeTLS(listener, http.HandlerFunc(echo), os.Args[1], os.Args[2]))
}
"#;

#[test]
#[ignore = "compiles Go's standard library: in cargo xtask test --full"]
fn gos_client_and_server_speak_it() {
    let (authority, identity) = trusted();
    let Some(program) = go::Program::compile(GO_CLIENT) else { return };
    let app = App::start_secured(&identity);
    let url = format!("https://localhost:{}/echo", app.address.port());
    let said = run(Command::new(&program.path).arg(url).arg(&authority.file));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(app.connections(), 1);

    let Some(program) = go::Program::compile(GO_SERVER) else { return };
    let mut command = Command::new(&program.path);
    let mut running = Running::start(command.arg(&identity.certificate_file).arg(&identity.key_file));
    let url = format!("https://localhost:{}/", running.line().parse::<u16>().expect("a port"));
    let client = client(&authority);
    Runtime::new().expect("a runtime").block_on(async {
        for n in 0..20 {
            let sent = content(n, 200_000);
            let post = http::Request::post(&url).body(Full::<Bytes>::from(sent.clone())).expect("a request");
            let reply = client.send_http(post).await.expect("a reply").into_body().collect().await.expect("content");
            assert_eq!(reply.trailers().expect("trailers")["x-proto"], "HTTP/2.0");
            assert!(reply.to_bytes() == sent);
        }
        assert_eq!(client.counts().open, 1);
    });
}

#[test]
#[ignore = "needs openssl: in cargo xtask test --full"]
fn openssl_agrees_on_the_protocol() {
    let Some(openssl) = installed_quietly("openssl") else { return };
    let (authority, identity) = trusted();
    let app = App::start_secured(&identity);
    for (offered, agreed) in [("h2,http/1.1", "h2"), ("http/1.1", "http/1.1")] {
        let said = s_client(&openssl, &authority, &app, offered);
        assert!(said.contains(&format!("ALPN protocol: {agreed}")), "{said}");
        assert!(said.contains("Verification: OK"), "{said}");
    }
    assert!(s_client(&openssl, &authority, &app, "spdy/3").contains("no application protocol"));
}

fn s_client(openssl: &Path, authority: &Authority, app: &App, offered: &str) -> String {
    let mut command = Command::new(openssl);
    command.args(["s_client", "-alpn", offered, "-servername", "localhost", "-connect"]).arg(app.address.to_string());
    let said = run(command.arg("-CAfile").arg(&authority.file));
    String::from_utf8_lossy(&said.stdout).into_owned() + &said.stderr
}
