//! Both servers, `persist-sync`'s and `persist-async`'s, under clients that others wrote.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use persist_tests::certificates::Authority;
use persist_tests::folder::{Folder, content};
use persist_tests::peers::{go, installed, python::python};
use persist_tests::process::{Said, run, run_with_input};

/// A server that gives back what it gets.
struct Echo {
    what: &'static str,
    address: SocketAddr,
    end: Box<dyn FnOnce()>,
    /// How many connections it had, and how many it had to cut.
    serving: JoinHandle<(u64, u64)>,
}

const LONG: Duration = Duration::from_secs(30);

impl Echo {
    /// One of each kind.
    fn both() -> [Self; 2] {
        [Self::blocking(), Self::on_tokio()]
    }

    fn blocking() -> Self {
        use persist_sync::{Received, Response, Server};
        let server = Server::bind("127.0.0.1:0").expect("a port");
        let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
        let echo = |received: Received| received.responder.send(Response::ok(), received.body);
        let serving = std::thread::spawn(move || {
            let served = server.serve(echo).expect("served");
            (served.connections, served.aborted)
        });
        Self { what: "persist-sync", address, end: Box::new(move || handle.shutdown(LONG)), serving }
    }

    fn on_tokio() -> Self {
        use persist_async::{Received, Response, Server, ServerHandle};
        let (told, telling): (Sender<(SocketAddr, ServerHandle)>, _) = channel();
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let server = Server::bind("127.0.0.1:0").await.expect("a port");
                told.send((server.local_addr().expect("TCP"), server.handle())).expect("the test listens");
                let echo = |received: Received| received.responder.send(Response::ok(), received.body);
                let served = server.serve(echo).await.expect("served");
                (served.connections, served.aborted)
            })
        });
        let (address, handle) = telling.recv().expect("it listens");
        Self { what: "persist-async", address, end: Box::new(move || handle.shutdown(LONG)), serving }
    }

    /// Ends it; all was content to come over so many connections.
    fn had(self, connections: u64) {
        (self.end)();
        let (had, cut) = self.serving.join().expect("the server is content");
        assert_eq!((had, cut), (connections, 0), "{}", self.what);
    }
}

fn is_content(said: &Said) {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
}

#[test]
fn curl_uploads_twice_over_one_connection_and_gets_it_back() {
    let Some(curl) = installed("curl") else { return };
    let folder = Folder::new();
    // Past 1 MiB curl waits for `100 Continue`.
    let sent = content(3, 3 << 20);
    let file = folder.write("sent", &sent);
    for server in Echo::both() {
        let (one, two) = (folder.join("one"), folder.join("two"));
        let mut command = Command::new(&curl);
        command.args(["--silent", "--show-error", "--fail", "--data-binary"]).arg(format!("@{}", file.display()));
        command.arg("-o").arg(&one).arg(format!("http://{}/one", server.address));
        command.arg("-o").arg(&two).arg(format!("http://{}/two", server.address));
        is_content(&run(&mut command));
        for got in [one, two] {
            assert!(std::fs::read(&got).expect("curl wrote it") == sent, "{}", server.what);
            std::fs::remove_file(got).expect("it is there");
        }
        server.had(1);
    }
}

#[test]
fn pythons_client_sends_a_hundred_requests_over_one_connection() {
    let program = "
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1])
for n in range(100):
    sent = bytes([n]) * (n * 997)
    chunked = n % 2 == 1
    body = iter([sent[:5000], sent[5000:]]) if chunked else sent
    connection.request('POST', '/', body, encode_chunked=chunked, headers={'Transfer-Encoding': 'chunked'} if chunked else {})
    response = connection.getresponse()
    assert (response.status, response.read()) == (200, sent), n
connection.close()
";
    for server in Echo::both() {
        let Some(said) = python(program, &[&server.address.to_string()]) else { return };
        is_content(&said);
        server.had(1);
    }
}

#[test]
fn nodes_agent_keeps_its_socket() {
    let Some(node) = installed("node") else { return };
    let program = "
const http = require('http');
const [host, port] = process.argv[1].split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
const once = (n) => new Promise((resolve, reject) => {
  const sent = Buffer.alloc(n * 10000, String(n));
  const request = http.request({ host, port, agent, method: 'POST' }, (response) => {
    const parts = [];
    response.on('data', (part) => parts.push(part));
    response.on('end', () => sent.equals(Buffer.concat(parts)) ? resolve() : reject(new Error('changed: ' + n)));
    response.on('error', reject);
  });
  request.on('error', reject);
  // Half of them chunked.
  if (n % 2) { request.write(sent); request.end(); } else request.end(sent);
});
Promise.all(Array.from({ length: 50 }, (_, n) => once(n))).then(() => agent.destroy(), (error) => { console.error(error); process.exit(1); });
";
    for server in Echo::both() {
        is_content(&run(Command::new(&node).args(["-e", program]).arg(server.address.to_string())));
        server.had(1);
    }
}

const GO_CLIENT: &str = r#"
package main

import ("bytes"; "fmt"; "io"; "net/http"; "net/http/httptrace"; "os")

func main() {
	for n := 0; n < 200; n++ {
		sent := bytes.Repeat([]byte{byte(n)}, n*997)
		var body io.Reader = bytes.NewReader(sent)
		// Without a length that Go can see, it sends chunks.
		if n%2 == 1 { body = io.MultiReader(body) }
		request, err := http.NewRequest("POST", "http://"+os.Args[1]+"/", body)
		if err != nil { panic(err) }
		trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
			if info.Reused != (n > 0) { panic(fmt.Sprint("reused: ", info.Reused, " at ", n)) }
		}}
		response, err := http.DefaultClient.Do(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
		if err != nil { panic(err) }
		got, err := io.ReadAll(response.Body)
		if err != nil { panic(err) }
		response.Body.Close()
		if response.StatusCode != 200 || !bytes.Equal(got, sent) { panic(fmt.Sprint("changed: ", n)) }
	}
}
"#;

#[test]
#[ignore = "compiles Go's standard library: in cargo xtask test --full"]
fn gos_client_keeps_its_connection() {
    let Some(program) = go::Program::compile(GO_CLIENT) else { return };
    for server in Echo::both() {
        is_content(&run(Command::new(&program.path).arg(server.address.to_string())));
        server.had(1);
    }
}

#[test]
#[ignore = "needs wrk: in cargo xtask test --full"]
fn wrk_counts_no_error_on_64_connections() {
    let Some(wrk) = installed("wrk") else { return };
    for server in Echo::both() {
        let url = format!("http://{}/", server.address);
        let said = run(Command::new(&wrk).args(["--threads", "1", "--connections", "64", "--duration", "2s"]).arg(url));
        is_content(&said);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        // It mentions these only if there were any.
        assert!(!said.contains("Socket errors") && !said.contains("Non-2xx"), "{}: {said}", server.what);
        let requests = said.lines().find_map(|line| line.split_once(" requests in ")?.0.trim().parse::<u64>().ok());
        assert!(requests.is_some_and(|requests| requests > 64), "{}: {said}", server.what);
        // It opens one to see whether anybody listens.
        server.had(65);
    }
}

#[test]
fn clients_of_others_speak_tls_with_the_blocking_server_and_keep_their_connections() {
    use persist_sync::tls::ServerTls;
    use persist_sync::{Received, Response, Server};
    let authority = Authority::new("the authority");
    let (other, own) = (authority.sign(&["other.example"]), authority.sign(&["localhost"]));
    let tls = ServerTls::builder().certificate(other.certificate, other.key).certificate(own.certificate, own.key);
    let server = Server::bind("127.0.0.1:0").expect("a port").with_tls(tls.build().expect("it can be used"));
    let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
    let serving = std::thread::spawn(move || {
        server.serve(|received: Received| received.responder.send(Response::ok(), "hello")).expect("served")
    });
    let (port, ca) = (address.port().to_string(), authority.file.to_str().expect("UTF-8").to_owned());
    let url = format!("https://localhost:{port}/");
    let python = "
import http.client, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
connection = http.client.HTTPSConnection('localhost', int(sys.argv[1]), context=context)
for n in range(2):
    connection.request('GET', '/')
    print(connection.getresponse().read().decode(), end='')
";
    let node = "
const https = require('https');
const [port, ca] = process.argv.slice(1);
const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: require('fs').readFileSync(ca) });
const once = () => new Promise((resolve, reject) => https.get({ host: 'localhost', port, agent }, (response) => {
  response.on('data', (part) => process.stdout.write(part));
  response.on('end', resolve);
}).on('error', reject));
once().then(once).then(() => agent.destroy());
";
    let clients: [(&str, &[&str], &str); 4] = [
        ("curl", &["-q", "--silent", "--show-error", "--cacert", &ca, &url, &url], ""),
        ("python3", &["-c", python, &port, &ca], ""),
        ("node", &["-e", node, &port, &ca], ""),
        (
            "openssl",
            &[
                "s_client",
                "-quiet",
                "-verify_return_error",
                "-CAfile",
                &ca,
                "-servername",
                "localhost",
                "-connect",
                &url[8..url.len() - 1],
            ],
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        ),
    ];
    let mut connections = 0;
    for (name, arguments, input) in clients {
        let Some(program) = installed(name) else { continue };
        let said = run_with_input(Command::new(program).args(arguments), input.as_bytes());
        assert_eq!(said.code, Some(0), "{name}: {}", said.stderr);
        assert_eq!(String::from_utf8_lossy(&said.stdout).matches("hello").count(), 2, "{name}");
        connections += 1;
    }
    handle.shutdown(LONG);
    assert_eq!(serving.join().expect("no panic").connections, connections);
}

const GO_SECURED: &str = r#"
package main

import ("crypto/tls"; "crypto/x509"; "fmt"; "io"; "net/http"; "os")

func main() {
	authority, err := os.ReadFile(os.Args[2])
	if err != nil { panic(err) }
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for n := 0; n < 50; n++ {
		response, err := client.Post("https://localhost:"+os.Args[1]+"/", "text/plain", io.LimitReader(zeros{}, int64(n)*20011))
		if err != nil { panic(err) }
		got, err := io.ReadAll(response.Body)
		if err != nil { panic(err) }
		response.Body.Close()
		if response.StatusCode != 200 || len(got) != n*20011 { panic(fmt.Sprint("changed: ", n)) }
	}
}

type zeros struct{}

func (zeros) Read(into []byte) (int, error) { return len(into), nil }
"#;

#[test]
#[ignore = "compiles Go's standard library: in cargo xtask test --full"]
fn gos_client_keeps_its_connection_through_tls() {
    use persist_sync::tls::ServerTls;
    use persist_sync::{Received, Response, Server};
    let Some(program) = go::Program::compile(GO_SECURED) else { return };
    let authority = Authority::new("the authority");
    let own = authority.sign(&["localhost"]);
    let tls = ServerTls::builder().certificate(own.certificate, own.key).build().expect("it can be used");
    let server = Server::bind("127.0.0.1:0").expect("a port").with_tls(tls);
    let (port, handle) = (server.local_addr().expect("TCP").port(), server.handle());
    let echo = |received: Received| received.responder.send(Response::ok(), received.body);
    let serving = std::thread::spawn(move || server.serve(echo).expect("served"));
    is_content(&run(Command::new(&program.path).arg(port.to_string()).arg(&authority.file)));
    handle.shutdown(LONG);
    let served = serving.join().expect("no panic");
    assert_eq!((served.connections, served.aborted), (1, 0));
}
