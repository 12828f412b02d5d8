//! No password in any error, log or `Debug`, whatever goes wrong. Each kind of failure is provoked, over both adapters, with a listener for
//! everything that is logged.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use persist_proxy::persist_core::{ClientConfig, Router};
use persist_proxy::{Plain, Proxies, Proxy};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::both::{BOTH, Roots, get};
use crate::scripted::Until::{Bytes, Head};
use crate::scripted::{Script, play};

/// As it is, as Basic sends `user:tops3cret`, as bytes, and percent-encoded.
const SECRETS: [&str; 4] = ["tops3cret", "dXNlcjp0b3BzM2NyZXQ", "116, 111, 112, 115, 51", "tops%33cret"];

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A proxy's part, and whether requests come through.
const SCRIPTS: [(&str, Script, bool); 14] = [
    ("http", &[(Head, OK)], true),
    ("http+tunnel", &[(Head, b"HTTP/1.1 200 OK\r\n\r\n"), (Head, OK)], true),
    ("http", &[(Head, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi")], false),
    ("http", &[(Head, b"SSH-2.0-x\r\n\r\n")], false),
    ("http", &[(Head, b"")], false),
    (
        "http+tunnel",
        &[(Head, b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=r\r\nContent-Length: 0\r\n\r\n")],
        false,
    ),
    // Some echo what they got.
    ("http+tunnel", &[(Head, b"HTTP/1.1 403 x\r\nContent-Length: 31\r\n\r\nBasic dXNlcjp0b3BzM2NyZXQ= is no")], false),
    ("http+tunnel", &[(Head, b"HTTP/1.1 502 x\r\nContent-Length: 9\r\n\r\ntops3cret")], false),
    ("http+tunnel", &[(Head, b"SSH-2.0-x\r\n\r\n")], false),
    ("http+tunnel", &[(Head, b"HTTP/1.1 2")], false),
    ("socks4a", &[(Bytes(13), &[0, 93, 0, 0, 0, 0, 0, 0])], false),
    ("socks5", &[(Bytes(4), &[5, 2]), (Bytes(16), &[1, 1])], false),
    ("socks5h", &[(Bytes(4), &[5, 2]), (Bytes(16), &[1, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0])], false),
    ("socks5h", &[(Bytes(4), &[5, 0xff])], false),
];

/// Keeps everything that is logged on this thread.
#[derive(Clone, Debug, Default)]
struct Listener(Arc<Mutex<String>>);

impl Listener {
    fn add(&self, what: impl FnOnce(&mut Words)) {
        let mut words = Words(String::new());
        what(&mut words);
        self.0.lock().expect("nobody panics with it").push_str(&words.0);
    }
}

struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = writeln!(self.0, "{field}={value:?}");
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.add(|words| span.record(words));
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        self.add(|words| values.record(words));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        self.add(|words| event.record(words));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

fn assert_silent(shown: &str) {
    for secret in SECRETS {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
}

#[test]
fn whatever_goes_wrong_on_the_way_no_password_is_shown() {
    let log = Listener::default();
    tracing::subscriber::with_default(log.clone(), || {
        for (kind, script, comes_through) in SCRIPTS {
            for adapter in BOTH {
                let (address, _heard) = play(script);
                let (scheme, plain) = match kind.split_once('+') {
                    Some((scheme, _)) => (scheme, Plain::Tunnelled),
                    None => (kind, Plain::Forwarded),
                };
                let proxy: Proxy = format!("{scheme}://user:tops3cret@{address}").parse().expect("a proxy");
                let proxy = proxy.with_plain(plain);
                let got = get(adapter, &proxy, ClientConfig::default(), Roots::default(), &["http://127.0.0.1:9/"]);
                let route = proxy.route(&"http://127.0.0.1:9".parse().expect("a destination")).expect("a route");
                let mut shown = format!("{proxy} {proxy:?} {route:?} {:?}", Proxies::all(proxy.clone()));
                for result in got {
                    assert_eq!(result.is_ok(), comes_through, "{kind} {adapter:?} {}", script[0].1.escape_ascii());
                    let Err(error) = result else { continue };
                    let _ = write!(shown, "{error} {error:?} {:?}", proxy.failure(&error));
                    let mut cause = std::error::Error::source(&error);
                    while let Some(error) = cause {
                        let _ = write!(shown, " {error} {error:?}");
                        cause = error.source();
                    }
                }
                assert_silent(&shown);
            }
        }
    });
    let log = log.0.lock().expect("nobody panics with it").clone();
    assert!(!log.is_empty(), "nothing was logged, so nothing was proved");
    assert_silent(&log);
}

#[test]
fn no_way_to_write_a_proxy_wrongly_shows_its_password() {
    let wrong = [
        "gopher://user:tops3cret@p",
        "http://user:tops3cret@p:99999",
        "http://user:tops3cret@p:tops",
        "http://user:tops3cret@",
        "http://user:tops3cret@[::1",
        "http://user:tops3cret@1.2",
        "http://user:tops3cret@a..b",
        "http://user:tops3cret%0a@p",
        "http://user:tops3cret%zz@p",
        "http://us%3Aer:tops3cret@p",
        "http://user:tops3cret/x@p",
        "http://user:1/tops3cret@p",
        "http://user:tops3cret?x@p",
        "http://user:tops3cret#x@p",
        "user:tops3cret/x@p",
        "http://user:tops3cret @p",
        "http+unix://user:tops3cret@%zz",
        "socks5://:tops3cret@p",
    ];
    for text in wrong {
        let error = text.parse::<Proxy>().expect_err(text);
        let variable = Proxies::from_variables(|name| (name == "https_proxy").then(|| text.to_owned()));
        let variable = variable.expect_err(text);
        assert_silent(&format!("{error} {error:?} {variable} {variable:?}"));
        assert!(variable.to_string().starts_with("https_proxy: "), "{variable}");
    }
}
