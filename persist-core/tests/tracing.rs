//! What the machine tells `tracing`, and what it never does.
#![cfg(feature = "tracing")]

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use bytes::Buf;
use persist_core::{BodyLen, Client, Config, Conn, Field, FieldName, FieldValue, Instant, Method, Next};
use tracing::field::{Field as Recorded, Visit};
use tracing::span;

#[derive(Clone, Default)]
struct Capture(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Recorded, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{field}={value:?} ");
    }
}

impl tracing::Subscriber for Capture {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = self.0.lock().expect("no panic while held");
        event.record(&mut Line(&mut text));
        text.push('\n');
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn an_exchange_is_told_from_request_to_close_without_a_secret() {
    let capture = Capture::default();
    tracing::subscriber::set_global_default(capture.clone()).expect("the only test of this program");
    let now = Instant::ZERO;
    let mut conn = Conn::<Client>::new(Config::client(), now);
    let field = |name, value| Field { name: FieldName::from_static(name), value: FieldValue::from_static(value) };
    let fields = [field("Host", "h"), field("Authorization", "Basic c2VjcmV0")];
    conn.send_request(&Method::GET, "/?token=secret", fields, BodyLen::Empty, now).expect("sent");
    let mut out = conn.transmit(now);
    out.advance(out.remaining());
    let mut input: &[u8] = b"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\nContent-Length: 6\r\n\r\nsecret";
    while let Ok(Next::Event(_)) = conn.next(&mut input, now) {}
    conn.abort(now);
    let told = capture.0.lock().expect("no panic while held").clone();
    for expected in ["request", "method=GET", "status=200", "closed", "aborted by the caller"] {
        assert!(told.contains(expected), "{expected} is missing in:\n{told}");
    }
    assert!(!told.contains("secret") && !told.contains("c2Vj"), "{told}");
}
