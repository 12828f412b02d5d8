//! TLS to the proxy, through it, and both at once, one inside the other; and whose fault it is when hands cannot be shaken.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;

use persist_proxy::persist_core::{Blame, ClientConfig, Disposition, Phase};
use persist_proxy::{Plain, Proxy, ProxyFailure};
use persist_sync::Stream;
use persist_sync::tls::ServerTls;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::both::{Adapter, BOTH, Got, Roots, get};

/// Signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two of one name would be taken for each other.
        params.distinguished_name.push(DnType::CommonName, name);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root"))
    }

    fn server(&self, name: &str) -> ServerTls {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_owned()]).expect("a name");
        let chain = params.signed_by(&key, &self.0).expect("signed").pem();
        ServerTls::builder().certificate(chain, key.serialize_pem()).build().expect("a configuration")
    }

    fn pem(&self) -> String {
        self.0.pem()
    }
}

/// A proxy, and the origin behind it in one, each in the open or inside TLS. Answers with the request line and the protocols that were agreed on.
fn proxy_and_origin(proxy: Option<ServerTls>, origin: Option<ServerTls>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (proxy, origin) = (proxy.clone(), origin.clone());
            thread::spawn(move || serve(stream.into(), proxy, origin));
        }
    });
    address
}

fn serve(mut stream: Stream, proxy: Option<ServerTls>, origin: Option<ServerTls>) -> Option<()> {
    let mut agreed = Vec::new();
    if let Some(tls) = proxy {
        stream = tls.accept(stream).ok()?;
    }
    loop {
        let head = head(&mut stream)?;
        agreed.extend(stream.alpn().map(|protocol| String::from_utf8_lossy(&protocol).into_owned()));
        let line = head.lines().next()?.to_owned();
        if line.starts_with("CONNECT ") {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
            if let Some(tls) = &origin {
                stream = tls.accept(stream).ok()?;
            }
        } else {
            let said = format!("{line} {}", agreed.join(" "));
            let reply = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{said}", said.len());
            stream.write_all(reply.as_bytes()).ok()?;
        }
    }
}

fn head(stream: &mut Stream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

fn proxy(scheme: &str, address: SocketAddr) -> Proxy {
    format!("{scheme}://localhost:{}", address.port()).parse().expect("a proxy")
}

fn one(
    adapter: Adapter,
    proxy: &Proxy,
    roots: Roots<'_>,
    url: &str,
) -> Result<Got, persist_proxy::persist_core::ExchangeError> {
    get(adapter, proxy, ClientConfig::default(), roots, &[url]).remove(0)
}

#[test]
fn tls_is_spoken_to_the_proxy_through_it_and_inside_itself() {
    let authority = Authority::new("one for all");
    let root = authority.pem();
    let roots = Roots { all: Some(&root), proxies: None };
    let (plain, secured) = ("http://one.example/", "https://one.example/");
    let table = [
        ("https", plain, Plain::Forwarded, "GET http://one.example/ HTTP/1.1 http/1.1"),
        ("https", plain, Plain::Tunnelled, "GET / HTTP/1.1 http/1.1 http/1.1"),
        ("http", secured, Plain::Forwarded, "GET / HTTP/1.1 http/1.1"),
        ("https", secured, Plain::Forwarded, "GET / HTTP/1.1 http/1.1 http/1.1"),
    ];
    for (scheme, url, form, expected) in table {
        let to_proxy = (scheme == "https").then(|| authority.server("localhost"));
        let to_origin = (url == secured).then(|| authority.server("one.example"));
        let proxy = proxy(scheme, proxy_and_origin(to_proxy, to_origin)).with_plain(form);
        for adapter in BOTH {
            let got = one(adapter, &proxy, roots, url).expect("a reply");
            assert_eq!(got.body, expected, "{adapter:?} {scheme} {url}");
        }
    }
}

#[test]
fn a_proxy_that_cannot_be_trusted_is_told_from_such_an_origin() {
    let [of_proxy, of_origin] = ["the proxy's", "the origin's"].map(Authority::new);
    let both = of_proxy.pem() + &of_origin.pem();
    let good = || (of_proxy.server("localhost"), of_origin.server("one.example"));
    // Which one is not believed: because nobody we trust has signed it, or because it is another's.
    let table = [
        (good(), of_origin.pem(), true),
        (good(), of_proxy.pem(), false),
        ((of_proxy.server("other.example"), of_origin.server("one.example")), both.clone(), true),
        ((of_proxy.server("localhost"), of_origin.server("other.example")), both, false),
    ];
    for (n, ((to_proxy, to_origin), root, is_proxys)) in table.into_iter().enumerate() {
        let proxy = proxy("https", proxy_and_origin(Some(to_proxy), Some(to_origin)));
        for adapter in BOTH {
            let roots = Roots { all: Some(&root), proxies: None };
            let error = one(adapter, &proxy, roots, "https://one.example/").expect_err("not believed");
            assert_eq!((error.phase(), error.blame()), (Phase::Handshake, Blame::Peer), "{n} {adapter:?}: {error}");
            assert_eq!(error.disposition(), Some(Disposition::NotSent));
            let failure = proxy.failure(&error);
            let at = error.destination().map(ToString::to_string);
            if is_proxys {
                assert!(matches!(failure, Some(ProxyFailure::NotSecured)), "{n} {adapter:?}: {failure:?}");
                assert_eq!(at, Some(proxy.destination().to_string()));
            } else {
                assert!(failure.is_none(), "{n} {adapter:?}: {failure:?}");
                assert_eq!(at.as_deref(), Some("https://one.example"));
            }
        }
    }
}

#[test]
fn proxies_are_trusted_by_roots_of_their_own_if_there_are_some() {
    let [of_proxy, of_origin] = ["the proxy's", "the origin's"].map(Authority::new);
    let (proxys, origins) = (of_proxy.pem(), of_origin.pem());
    let address = proxy_and_origin(Some(of_proxy.server("localhost")), Some(of_origin.server("one.example")));
    let proxy = proxy("https", address);
    for adapter in BOTH {
        for url in ["http://one.example/", "https://one.example/"] {
            let roots = Roots { all: Some(&origins), proxies: Some(&proxys) };
            one(adapter, &proxy, roots, url).expect("each is trusted by its own");
        }
        // What is trusted as an origin is no proxy for that, nor the other way round.
        for (all, proxies) in [(&proxys, &origins), (&proxys, &proxys)] {
            let roots = Roots { all: Some(all), proxies: Some(proxies) };
            one(adapter, &proxy, roots, "https://one.example/").expect_err("one is not believed");
        }
    }
}

#[test]
fn an_end_that_does_not_speak_tls_is_told_by_which_it_is() {
    use crate::scripted::Until::{Bytes, Head};
    let authority = Authority::new("one for all");
    let root = authority.pem();
    let roots = Roots { all: Some(&root), proxies: None };
    for adapter in BOTH {
        // A plain proxy takes the first bytes of a handshake for a bad request.
        let (address, _heard) = crate::scripted::play(&[(Bytes(5), b"HTTP/1.1 400 Bad Request\r\n\r\n")]);
        let plain = proxy("https", address);
        let error = one(adapter, &plain, roots, "https://one.example/").expect_err("no TLS");
        assert!(matches!(plain.failure(&error), Some(ProxyFailure::NotSecured)), "{adapter:?}: {error:?}");

        let through: crate::scripted::Script =
            &[(Head, b"HTTP/1.1 200 OK\r\n\r\n"), (Bytes(5), b"HTTP/1.1 400 Bad Request\r\n\r\n")];
        let (address, _heard) = crate::scripted::play(through);
        let through = proxy("http", address);
        let error = one(adapter, &through, roots, "https://one.example/").expect_err("no TLS");
        assert_eq!(error.phase(), Phase::Handshake, "{adapter:?}: {error:?}");
        assert!(through.failure(&error).is_none(), "{adapter:?}: {error:?}");
    }
}
