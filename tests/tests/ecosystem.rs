//! An axum application on the async server, and HTTP/2 at both ends, with programs that others wrote.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use persist_async::http2::Http2Config;
use persist_async::tls::ServerTls;
use persist_async::{Served, Server, ServerHandle};
use persist_tests::certificates::Identity;
use persist_tests::folder::{Folder, content};
use persist_tests::peers::installed;
use persist_tests::process::{Said, run};
use tokio::runtime::Runtime;

#[path = "../../persist-async/examples/axum.rs"]
#[allow(unreachable_pub, dead_code, reason = "a program elsewhere")]
mod axum_example;
#[path = "ecosystem/http2.rs"]
mod http2;

/// The example's application on a server of ours.
struct App {
    runtime: Runtime,
    address: SocketAddr,
    handle: ServerHandle,
    serving: tokio::task::JoinHandle<std::io::Result<Served>>,
}

impl App {
    fn start() -> Self {
        Self::serve(|server| server)
    }

    /// The same behind TLS.
    fn start_secured(identity: &Identity) -> Self {
        let tls = ServerTls::builder().certificate(&identity.certificate, &identity.key).build().expect("usable");
        Self::serve(|server| server.with_tls(tls))
    }

    fn serve(change: impl FnOnce(Server) -> Server) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let server = runtime.block_on(Server::bind("127.0.0.1:0")).expect("a port");
        let server = change(server.with_http2(Http2Config::server()));
        let (address, handle) = (server.local_addr().expect("TCP"), server.handle());
        let serving = runtime.spawn(server.serve_service(axum_example::app()));
        Self { runtime, address, handle, serving }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it; gives how many connections there were.
    fn connections(self) -> u64 {
        self.handle.shutdown(Duration::from_secs(30));
        let served = self.runtime.block_on(self.serving).expect("no panic").expect("served");
        assert_eq!(served.aborted, 0);
        served.connections
    }
}

fn curl(program: &Path, arguments: &[&str]) -> String {
    let said = run(Command::new(program).args(["--silent", "--show-error"]).args(arguments));
    assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.stderr);
    text(said)
}

fn text(said: Said) -> String {
    String::from_utf8(said.stdout).expect("text")
}

#[test]
fn curl_finds_everything_an_axum_application_has() {
    let Some(program) = installed("curl") else { return };
    let app = App::start();
    let said = |path: &str, arguments: &[&str]| {
        let url = app.url(path);
        let mut all = vec![url.as_str()];
        all.extend_from_slice(arguments);
        curl(&program, &all)
    };
    assert_eq!(said("/hello?name=you", &[]), "hello you\n");
    assert_eq!(said("/hello", &["--http1.0"]), "hello world\n");
    assert_eq!((said("/count", &[]), said("/count", &[])), ("1\n".into(), "2\n".into()));
    let json = ["-H", "content-type: application/json", "-d", r#"{"numbers":[1,2,3]}"#];
    assert_eq!(said("/json", &json), r#"{"sum":6}"#);
    assert_eq!(said("/events", &["-N"]), "data: 1\n\ndata: 2\n\ndata: 3\n\n");
    let status = ["-o", "/dev/null", "-w", "%{http_code} %{content_type}"];
    assert_eq!(said("/events", &status), "200 text/event-stream");
    assert!(said("/slow", &status).starts_with("408 "));
    assert!(said("/json", &[&status[..], &["-d", "no JSON"]].concat()).starts_with("415 "));
    assert!(said("/nowhere", &status).starts_with("404 "));
    assert!(said("/hello", &[&status[..], &["-d", ""]].concat()).starts_with("405 "));

    let plain = said("/long", &[]);
    assert_eq!(plain.len(), 23_000);
    assert_eq!(said("/long", &["--compressed"]), plain);
    let size = ["--compressed", "-o", "/dev/null", "-w", "%{size_download}"];
    assert!(said("/long", &size).parse::<usize>().expect("a number") < 1000, "it is compressed");
}

#[test]
fn curl_sends_long_bodies_both_ways_over_one_connection() {
    let Some(program) = installed("curl") else { return };
    let app = App::start();
    let folder = Folder::new();
    let sent = content(3, 3 << 20);
    let file = folder.write("sent", &sent);
    let got = folder.join("got");
    let data = format!("@{}", file.display());
    let (echo, upload) = (app.url("/echo"), app.url("/upload"));
    let small = folder.write("small", vec![b'a'; 1000]);
    let small = format!("file=@{}", small.display());
    let arguments = [
        "--data-binary",
        &data,
        "-o",
        got.to_str().expect("UTF-8"),
        &echo,
        "--next",
        "--silent",
        "-F",
        &small,
        &upload,
    ];
    assert_eq!(curl(&program, &arguments), "small: 1000 bytes\n");
    assert!(std::fs::read(&got).expect("curl wrote it") == sent);
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_websocket_echoes_over_the_stream_that_an_axum_handler_took() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::Message;

    let app = App::start();
    let address = app.address;
    app.runtime.block_on(async move {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a server");
        let url = format!("ws://{address}/ws");
        let (mut socket, response) = tokio_tungstenite::client_async(url, stream).await.expect("a handshake");
        assert_eq!(response.status(), 101);
        for text in ["one", "two"] {
            socket.send(Message::text(text)).await.expect("sent");
            assert_eq!(socket.next().await.expect("an answer").expect("a message"), Message::text(text));
        }
        socket.close(None).await.expect("sent");
        while let Some(message) = socket.next().await {
            assert!(message.expect("an orderly end").is_close());
        }
    });
}

/// What a browser makes of it: events, a WebSocket, and a page that says so.
#[test]
#[ignore = "needs Chromium: cargo xtask test --full"]
fn chromium_hears_events_and_a_websocket() {
    let Some(program) = ["chromium", "chromium-browser", "google-chrome"].into_iter().find_map(installed_quietly)
    else {
        eprintln!("left out: Chromium is not installed");
        return;
    };
    let app = App::start();
    let folder = Folder::new();
    let profile = format!("--user-data-dir={}", folder.path().display());
    let options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"];
    let page = text(run(Command::new(program).args(options).arg(profile).arg(app.url("/"))));
    assert!(page.contains(r#"<span id="events">1 2 3 </span>"#), "{page}");
    assert!(page.contains(r#"<span id="socket">hello over WebSocket </span>"#), "{page}");
}

fn installed_quietly(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[test]
#[ignore = "a second of load: cargo xtask test --full"]
fn wrk_finds_no_failure_in_an_axum_application() {
    let Some(program) = installed_quietly("wrk") else {
        eprintln!("left out: wrk is not installed");
        return;
    };
    let app = App::start();
    let said = run(Command::new(program).args(["-t2", "-c32", "-d1s"]).arg(app.url("/hello")));
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let report = text(said);
    assert!(report.contains("Requests/sec"), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");
    // wrk opens one more first, to see whether anybody is there.
    assert_eq!(app.connections(), 33);
}
