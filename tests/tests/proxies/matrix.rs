//! Each proxy with each scheme, blocking and async: an nginx behind it, with and without TLS. Prints the matrix.
//!
//! What was reused is told by others: by the proxy's log where it keeps one, and by nginx's.

use std::fmt::Write as _;
use std::io::Write as _;

use persist_proxy::{Plain, Proxy, ProxyFailure, with_async, with_sync};
use persist_tests::peers::origin::{Origin, Seen};
use persist_tests::peers::proxy::{Identity, Kind, Login, Proxy as Peer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A proxy as it is set up, and the scheme that it is spoken to by.
#[derive(Clone, Copy, Debug)]
struct Row {
    kind: Kind,
    scheme: &'static str,
    login: Option<Login>,
}

const LOGIN: Option<Login> = Some(("user", "pass-s-word"));

const fn row(kind: Kind, scheme: &'static str, login: Option<Login>) -> Row {
    Row { kind, scheme, login }
}

/// What continuous integration has.
const FEW: &[Row] = &[
    row(Kind::Tinyproxy, "http", None),
    row(Kind::Tinyproxy, "http", LOGIN),
    row(Kind::Microsocks, "socks5", None),
    row(Kind::Microsocks, "socks5h", LOGIN),
];

/// All others that we know of.
const MORE: &[Row] = &[
    row(Kind::Squid, "http", None),
    row(Kind::Squid, "http", LOGIN),
    row(Kind::Privoxy, "http", None),
    row(Kind::Haproxy, "http", None),
    row(Kind::Haproxy, "https", None),
    row(Kind::Apache, "http", None),
    row(Kind::Apache, "https", None),
    row(Kind::Dante, "socks4a", None),
    row(Kind::Dante, "socks5", None),
    row(Kind::Dante, "socks5h", None),
    row(Kind::Ncat, "http", None),
    row(Kind::Ncat, "http", LOGIN),
    row(Kind::ProxyPy, "http", None),
    row(Kind::ProxyPy, "http", LOGIN),
];

/// What is asked of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Forwarded,
    Tunnelled,
    Secured,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Adapter {
    Blocking,
    Async,
}

/// One cell of the matrix.
type Cell = (Way, Adapter);

const CELLS: [Cell; 6] = [
    (Way::Forwarded, Adapter::Blocking),
    (Way::Forwarded, Adapter::Async),
    (Way::Tunnelled, Adapter::Blocking),
    (Way::Tunnelled, Adapter::Async),
    (Way::Secured, Adapter::Blocking),
    (Way::Secured, Adapter::Async),
];

const REQUESTS: usize = 3;

impl Row {
    fn is_socks(self) -> bool {
        self.scheme.starts_with("socks")
    }

    fn name(self) -> String {
        let with = if self.login.is_some() { " with password" } else { "" };
        format!("{} {}{with}", self.kind.name(), self.scheme)
    }

    /// SOCKS only tunnels.
    fn cells(self) -> impl Iterator<Item = Cell> {
        CELLS.into_iter().filter(move |(way, _)| !(self.is_socks() && *way == Way::Forwarded))
    }

    /// Whether it makes tunnels at all.
    fn makes_tunnels(self) -> bool {
        self.kind != Kind::Haproxy
    }

    /// How many requests one connection to the proxy carries at most when it forwards.
    fn keeps_connections(self) -> bool {
        !matches!(self.kind, Kind::Tinyproxy | Kind::Ncat)
    }

    /// Whether it keeps to itself what is said to it. proxy.py passes the login on, from the second request of a connection on.
    fn keeps_secrets(self, way: Way) -> bool {
        way != Way::Forwarded || self.kind != Kind::ProxyPy
    }

    /// The name it reaches this machine by.
    fn host(self) -> &'static str {
        if self.kind == Kind::Haproxy || self.scheme == "socks4a" { "127.0.0.1" } else { "localhost" }
    }

    fn proxy(self, peer: &Peer, password: Option<&str>, way: Way) -> Proxy {
        let login = self.login.map(|(user, right)| {
            let password = password.unwrap_or(right);
            format!("{user}:{password}@")
        });
        let url = format!("{}://{}{}", self.scheme, login.unwrap_or_default(), peer.address);
        let proxy: Proxy = url.parse().expect("a proxy");
        if way == Way::Forwarded { proxy } else { proxy.with_plain(Plain::Tunnelled) }
    }
}

/// An authority for this run: its own certificate, and one for this machine.
pub(crate) struct Trust {
    pub(crate) root: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Trust {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).expect("names");
        let certificate = params.signed_by(&key, &root).expect("signed").pem();
        Self { root: root.pem(), certificate, key: key.serialize_pem() }
    }

    fn identity(&self) -> Identity<'_> {
        (&self.certificate, &self.key)
    }
}

/// The contents of what these URLs lead to, one after the other by one client; or what went wrong, as the proxy's failure if it is that.
fn fetch(proxy: Proxy, adapter: Adapter, trust: &Trust, urls: &[String]) -> Result<Vec<String>, String> {
    match adapter {
        Adapter::Blocking => {
            use persist_sync::{ClientConfig, Connector, Request, tls::ClientTls};
            let tls = ClientTls::builder().root_certificates(&trust.root).build().expect("a configuration");
            let config = ClientConfig::default();
            let connector = Connector::new(&config).with_tls(tls);
            let client = with_sync::ProxyClientConn::with_connector(proxy, config, connector).expect("defaults");
            let get = |url: &String| {
                let reply = client.send(Request::get(url.as_str()), ())?;
                let status = reply.head.status().as_u16();
                Ok((status, reply.body.bytes(10_000)?))
            };
            urls.iter().map(|url| told(get(url), |error| client.failure(error).map(kind))).collect()
        }
        Adapter::Async => {
            use persist_async::{ClientConfig, Connector, Request, tls::ClientTls};
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let tls = ClientTls::builder().root_certificates(&trust.root).build().expect("a configuration");
            runtime.block_on(async {
                let config = ClientConfig::default();
                let connector = Connector::new(&config).with_tls(tls);
                let client = with_async::ProxyClientConn::with_connector(proxy, config, connector).expect("defaults");
                let get = async |url: &String| {
                    let mut reply = client.send(Request::get(url.as_str()), ()).await?;
                    let status = reply.head.status().as_u16();
                    Ok((status, reply.body.bytes(10_000).await?))
                };
                let mut contents = Vec::new();
                for url in urls {
                    contents.push(told(get(url).await, |error| client.failure(error).map(kind))?);
                }
                Ok(contents)
            })
        }
    }
}

type Exchanged<B> = Result<(u16, B), persist_async::Error>;

fn told<B: AsRef<[u8]>>(
    exchanged: Exchanged<B>,
    failure: impl Fn(&persist_async::Error) -> Option<String>,
) -> Result<String, String> {
    match exchanged {
        Ok((200, content)) => Ok(String::from_utf8_lossy(content.as_ref()).into_owned()),
        Ok((status, _)) => Err(format!("status {status}")),
        Err(error) => {
            assert!(!format!("{error} {error:?}").contains("s-word"), "{error:?} shows a password");
            Err(failure(&error).unwrap_or_else(|| format!("{error:?}")))
        }
    }
}

/// The name of a failure, without what it tells.
fn kind(failure: ProxyFailure<'_>) -> String {
    format!("{failure:?}").split('(').next().unwrap_or_default().to_owned()
}

/// Meets one proxy, and compares with its own log where it keeps one. Gives each cell's outcome; `None` if it is not installed.
fn meet(row: Row, origin: &Origin, trust: &Trust, wrong: &mut Vec<String>) -> Option<Vec<(Cell, Result<(), String>)>> {
    let identity = (row.scheme == "https").then(|| trust.identity());
    let peer = Peer::start(row.kind, row.login, identity)?;
    let outcomes = row.cells().map(|cell| ((cell), reach(row, cell, &peer, origin, trust))).collect();
    let mut refused = 0;
    if row.login.is_some() {
        for adapter in [Adapter::Blocking, Adapter::Async] {
            let proxy = row.proxy(&peer, Some("wrongs-word"), Way::Secured);
            let told = fetch(proxy, adapter, trust, &[origin.url("https", row.host(), "/refused")]);
            if told != Err("AuthenticationRequired".to_owned()) {
                wrong.push(format!("{} {adapter:?} with a wrong password: {told:?}", row.name()));
            }
            refused += 1;
        }
    }
    if let Some(mut counts) = peer.requests_by_connection() {
        counts.sort_unstable();
        let tunnels = row.cells().filter(|(way, _)| *way != Way::Forwarded).count();
        let mut expected = vec![1; tunnels + refused];
        match row.keeps_connections() {
            true => expected.extend([REQUESTS; 2]),
            false => expected.extend([1; 2 * REQUESTS]),
        }
        if counts != expected {
            wrong.push(format!("{} logged {counts:?} requests by connection, and not {expected:?}", row.name()));
        }
    }
    Some(outcomes)
}

fn path(row: Row, (way, adapter): Cell) -> String {
    format!("/{}/{way:?}/{adapter:?}/", row.name().replace(' ', "-"))
}

fn reach(row: Row, cell: Cell, peer: &Peer, origin: &Origin, trust: &Trust) -> Result<(), String> {
    let (way, adapter) = cell;
    let scheme = if way == Way::Secured { "https" } else { "http" };
    let paths: Vec<String> = (0..REQUESTS).map(|n| format!("{}{n}", path(row, cell))).collect();
    let urls: Vec<String> = paths.iter().map(|path| origin.url(scheme, row.host(), path)).collect();
    let contents = fetch(row.proxy(peer, None, way), adapter, trust, &urls)?;
    if contents == paths { Ok(()) } else { Err(format!("{contents:?}")) }
}

/// How many connections brought a cell's requests to the origin; each must have come once, for the right host, without what was the proxy's.
fn connections(row: Row, cell: Cell, log: &[Seen]) -> usize {
    let path = path(row, cell);
    let seen: Vec<&Seen> = log.iter().filter(|seen| seen.target.starts_with(&path)).collect();
    assert_eq!(seen.len(), REQUESTS, "{path} in the origin's log");
    for seen in &seen {
        assert!(seen.host.starts_with(row.host()), "{seen:?}");
        assert!(seen.proxy_fields.is_empty() || !row.keeps_secrets(cell.0), "{seen:?}");
    }
    let mut connections: Vec<u64> = seen.iter().map(|seen| seen.connection).collect();
    connections.sort_unstable();
    connections.dedup();
    connections.len()
}

/// Meets all of these, prints the matrix, and fails if a cell is not as it should be.
fn meet_all(rows: &[Row]) {
    let trust = Trust::new();
    let Some(origin) = Origin::start(&trust.certificate, &trust.key) else { return };
    let mut wrong = Vec::new();
    let met: Vec<_> = rows.iter().map(|row| (*row, meet(*row, &origin, &trust, &mut wrong))).collect();
    let log = origin.log();

    let mut text = format!("\n{:34}{:34}{:34}https:// tunnelled\n", "", "http:// forwarded", "http:// tunnelled");
    let _ = writeln!(text, "{:34}{}", "proxy", format!("{:17}{:17}", "blocking", "async").repeat(3));
    for (row, outcomes) in met {
        let _ = write!(text, "{:34}", row.name());
        let Some(outcomes) = outcomes else {
            text += "not installed\n";
            continue;
        };
        for cell in CELLS {
            let told = match outcomes.iter().find(|(known, _)| *known == cell) {
                None => "-".to_owned(),
                Some((_, Ok(()))) => {
                    let over = connections(row, cell, &log);
                    if cell.0 != Way::Forwarded && over != 1 {
                        wrong.push(format!("{} {cell:?}: {over} tunnels", row.name()));
                    }
                    format!("ok, {REQUESTS} over {over}")
                }
                Some((_, Err(told))) if told == "Refused" && cell.0 != Way::Forwarded && !row.makes_tunnels() => {
                    "ok, refused".to_owned()
                }
                Some((_, Err(told))) => {
                    wrong.push(format!("{} {cell:?}: {told}", row.name()));
                    "WRONG".to_owned()
                }
            };
            let _ = write!(text, "{told:17}");
        }
        text = format!("{}\n", text.trim_end());
    }
    text += "(requests over connections, as the origin counts them)\n\n";
    // Past the capture of tests that pass: the matrix is to be seen.
    let _ = std::io::stderr().write_all(text.as_bytes());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tinyproxy_and_microsocks_let_everything_through_to_both_adapters() {
    meet_all(FEW);
}

#[test]
#[ignore = "starts every proxy that is installed: `cargo xtask test --full`"]
fn every_proxy_lets_everything_through_to_both_adapters() {
    meet_all(&[FEW, MORE].concat());
}
