//! `--resolve`, `--connect-to` and `--unix-socket`: connections that go elsewhere than the URL says. What is asked for, and whose certificate is
//! expected, stay as they are. Names and meanings are curl's.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use persist_async::{DialTimer, Dialer, Resolver, Result, SocketDialer, Stream, SystemResolver, async_trait};
use persist_core::{Destination, Hop, Host, Route, RouteError, Router, Tunnel};

/// `--resolve` and `--connect-to`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct PlaceOptions {
    /// Take these for the addresses of a name, for connections to this port: HOST:PORT:ADDRESS[,ADDRESS]...; * is every name
    #[arg(long, value_name = "ENTRY")]
    pub(super) resolve: Vec<Entry>,
    /// Connect to HOST2:PORT2 where HOST1:PORT1 is meant: HOST1:PORT1:HOST2:PORT2, where what is left out is any, or the same
    #[arg(long, value_name = "RULE")]
    pub(super) connect_to: Vec<Rule>,
}

/// One `--resolve`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// `None`: every name.
    name: Option<String>,
    port: u16,
    addresses: Vec<IpAddr>,
}

/// One `--connect-to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    from: (Option<Host>, Option<u16>),
    to: (Option<Host>, Option<u16>),
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // curl's `+` lets an entry grow old, which takes longer than we run.
        let text = text.strip_prefix('+').unwrap_or(text);
        let mut parts = text.splitn(3, ':');
        let (Some(host), Some(port), Some(addresses)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("it is HOST:PORT:ADDRESS".to_owned());
        };
        let name = match host {
            "*" => None,
            _ => {
                let host: Host = host.parse().map_err(|error| format!("{host:?}: {error}"))?;
                Some(host.name().ok_or("only names are resolved, not addresses")?.to_owned())
            }
        };
        let address = |text: &str| {
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
            bare.parse().map_err(|_| format!("{text:?} is no address"))
        };
        let addresses = addresses.split(',').map(address).collect::<Result<_, String>>()?;
        Ok(Self { name, port: number(port)?, addresses })
    }
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut rest = text;
        let mut next = || {
            let end = if rest.starts_with('[') { rest.find("]:").map(|at| at + 1) } else { rest.find(':') };
            let (part, behind) = match end {
                Some(at) => (&rest[..at], &rest[at + 1..]),
                None => (rest, ""),
            };
            rest = behind;
            part
        };
        let (host, port, to_host, to_port) = (next(), next(), next(), next());
        if text.matches(':').count() < 3 || !rest.is_empty() {
            return Err("it is HOST1:PORT1:HOST2:PORT2".to_owned());
        }
        let pair = |host: &str, port: &str| -> Result<_, String> {
            let host = Some(host).filter(|host| !host.is_empty());
            let host = host.map(|host| host.parse().map_err(|error| format!("{host:?}: {error}"))).transpose()?;
            Ok((host, Some(port).filter(|port| !port.is_empty()).map(number).transpose()?))
        };
        Ok(Self { from: pair(host, port)?, to: pair(to_host, to_port)? })
    }
}

fn number(port: &str) -> Result<u16, String> {
    port.parse().map_err(|_| format!("{port:?} is no port"))
}

impl Rule {
    /// Where a connection to this place goes, if the rule is about it.
    fn apply(&self, at: &Destination) -> Option<Destination> {
        let (host, port) = (at.host()?, at.port()?);
        let is_it = self.from.0.as_ref().is_none_or(|from| from == host) && self.from.1.is_none_or(|from| from == port);
        let host = || self.to.0.clone().unwrap_or_else(|| host.clone());
        is_it.then(|| Destination::tcp(at.scheme(), host(), self.to.1.unwrap_or(port)))
    }
}

/// The first rule that is about this place decides.
fn apply(rules: &[Rule], at: &Destination) -> Destination {
    rules.iter().find_map(|rule| rule.apply(at)).unwrap_or_else(|| at.clone())
}

/// Names as the entries say, and the system's resolver for all others.
#[derive(Debug)]
struct Entries(Vec<Entry>);

#[async_trait]
impl Resolver for Entries {
    async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let by_name = |wanted: Option<&str>| {
            let is_it = |entry: &&Entry| entry.port == port && entry.name.as_deref() == wanted;
            // The last one counts, as in curl.
            self.0.iter().rfind(is_it)
        };
        match by_name(Some(name)).or_else(|| by_name(None)) {
            Some(entry) => Ok(entry.addresses.iter().map(|&address| SocketAddr::new(address, port)).collect()),
            None => SystemResolver.resolve(name, port).await,
        }
    }
}

/// The resolver that the options ask for.
pub(super) fn resolver(options: &PlaceOptions) -> Arc<dyn Resolver> {
    if options.resolve.is_empty() { Arc::new(SystemResolver) } else { Arc::new(Entries(options.resolve.clone())) }
}

/// Opens sockets to where the rules say.
#[derive(Debug)]
pub(super) struct ByRules {
    pub(super) sockets: SocketDialer,
    pub(super) rules: Vec<Rule>,
}

#[async_trait]
impl Dialer for ByRules {
    async fn dial(&self, to: &Destination, timer: &mut DialTimer) -> Result<Stream> {
        self.sockets.dial(&apply(&self.rules, to), timer).await
    }
}

/// Opens every socket at one place.
#[derive(Debug)]
pub(super) struct Always {
    pub(super) sockets: SocketDialer,
    pub(super) to: Destination,
}

#[async_trait]
impl Dialer for Always {
    async fn dial(&self, _: &Destination, timer: &mut DialTimer) -> Result<Stream> {
        self.sockets.dial(&self.to, timer).await
    }
}

/// A router whose tunnels to `end`, the origin, lead to where the rules say.
pub(super) struct Redirected<'r> {
    pub(super) router: &'r dyn Router,
    pub(super) rules: &'r [Rule],
    pub(super) end: &'r Destination,
}

impl Router for Redirected<'_> {
    fn route(&self, destination: &Destination) -> Result<Route, RouteError> {
        self.router.route(destination)
    }

    fn tunnel(&self, hop: &Hop) -> Result<Box<dyn Tunnel>, RouteError> {
        if hop.to != *self.end {
            return self.router.tunnel(hop);
        }
        let mut hop = hop.clone();
        hop.to = apply(self.rules, &hop.to);
        self.router.tunnel(&hop)
    }
}

impl fmt::Debug for Redirected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redirected").field("router", &self.router).field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn went(rules: &[&str], to: &str) -> String {
        let rules: Vec<Rule> = rules.iter().map(|rule| rule.parse().expect("a rule")).collect();
        apply(&rules, &to.parse().expect("a destination")).to_string()
    }

    #[test]
    fn a_rule_leads_elsewhere_and_what_it_leaves_out_is_any_or_the_same() {
        assert_eq!(went(&["a:80:b:81"], "http://a"), "http://b:81");
        assert_eq!(went(&["a:80:b:81"], "http://a:8080"), "http://a:8080");
        assert_eq!(went(&["A::b:"], "http://a:8080"), "http://b:8080");
        assert_eq!(went(&[":443::444"], "https://x"), "https://x:444");
        assert_eq!(went(&["::[::1]:"], "https://x"), "https://[::1]");
        assert_eq!(went(&["[::1]:80:b:1"], "http://[::1]"), "http://b:1");
        assert_eq!(went(&["a::b:", "::c:"], "http://a"), "http://b", "the first that fits");
    }

    #[tokio::test]
    async fn an_entry_stands_for_a_name_and_a_port_and_the_last_one_counts() {
        let entries = ["a:80:10.0.0.1", "*:81:10.0.0.2,[::1]", "+A:80:10.0.0.3"];
        let entries = Entries(entries.iter().map(|entry| entry.parse().expect("an entry")).collect());
        let found = async |name: &str, port| entries.resolve(name, port).await.expect("addresses");
        assert_eq!(found("a", 80).await, ["10.0.0.3:80".parse().expect("an address")]);
        let expected: Vec<SocketAddr> = ["10.0.0.2:81", "[::1]:81"].map(|it| it.parse().expect("an address")).to_vec();
        assert_eq!(found("whatever", 81).await, expected);
    }

    #[test]
    fn what_is_no_rule_and_no_entry_is_refused() {
        for text in ["", "a", "a:80", "a:80:b", "a:x:b:1", "a:80:b:1:2", "a b:80:c:1"] {
            assert!(text.parse::<Rule>().is_err(), "{text:?}");
        }
        for text in ["", "a:80", "a:80:b", "a:80:", "127.0.0.1:80:127.0.0.2", "a:99999:127.0.0.1", "-a:80"] {
            assert!(text.parse::<Entry>().is_err(), "{text:?}");
        }
    }
}
