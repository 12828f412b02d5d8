//! What is told to `tracing`: spans of connections and exchanges, what a client does about them, and no secret.

use std::io::{self, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use persist_sync::persist_core::Destination;
use persist_sync::{
    Client, ClientConfig, ClientConn, Connector, DialTimer, Dialer, Error, Phase, Request, Response, ServerConn, Stream,
};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;

/// What was told, as text.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<u8>>>);

impl Told {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

impl Write for Told {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Told {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[derive(Debug)]
struct Nowhere;

impl Dialer for Nowhere {
    fn dial(&self, _: &Destination, _: &mut DialTimer) -> Result<Stream, Error> {
        Err(Error::new(Phase::Connect, "there is no way"))
    }
}

fn listen(told: &Told) {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
        .with_ansi(false)
        .with_span_events(FmtSpan::NONE)
        .with_writer(told.clone())
        .finish();
    // Dials have threads of their own.
    tracing_subscriber::util::SubscriberInitExt::try_init(subscriber).expect("the only one of this program");
}

#[test]
fn connections_and_exchanges_have_spans_and_nothing_secret_is_told() {
    let told = Told::default();
    listen(&told);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = thread::spawn(move || {
        for _ in 0..2 {
            let conn = ServerConn::new(listener.accept().expect("a connection").0).expect("a socket");
            let mut answered = 0;
            while answered < 2
                && let Some(received) = conn.read().expect("a request")
            {
                answered += 1;
                received.responder.send(Response::ok(), "confidential").expect("sent");
            }
            conn.abort();
        }
    });
    let client = Client::new();
    let config = ClientConfig::default();
    let connector = Connector::new(&config).with_dialer(Arc::new(Nowhere));
    let nowhere = Client::with_connector(config, connector).expect("no contradiction");
    nowhere.send(Request::get("http://nowhere/hidden?key=hunter2"), ()).expect_err("there is no way");
    let request = || Request::post(format!("http://{address}/hidden?key=hunter2"));
    for _ in 0..2 {
        let request = request().field("Authorization", "Bearer hunter2").expect("a field");
        client.send(request, "hunter2").expect("a reply").body.bytes(100).expect("a body");
    }
    drop(client);
    let conn = ClientConn::new(std::net::TcpStream::connect(address).expect("connected")).expect("a socket");
    let reply = conn.send(Request::get("/").field("Host", "h").expect("a field"), ()).expect("a reply");
    reply.body.bytes(100).expect("a body");
    drop(conn.hijack().expect("not closed"));
    serving.join().expect("no panic");
    let text = told.text();
    for part in [
        "dialling to=",
        "dialled connection=",
        "reused connection=",
        "hijacked connection=",
        "dial failed",
        "gave up",
        "closed",
    ] {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
    for span in
        ["connection{connection=", "role=\"client\"", "role=\"server\"", ":exchange{connection=", "method=\"POST\""]
    {
        assert!(text.contains(span), "{span} is missing:\n{text}");
    }
    assert!(!text.contains("hunter2") && !text.contains("hidden") && !text.contains("confidential"), "{text}");
}
