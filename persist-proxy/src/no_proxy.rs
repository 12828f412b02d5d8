//! `NO_PROXY`: destinations that are reached directly. The rules, and where others differ, are in docs/proxy.md.

use std::net::IpAddr;

use persist_core::{Destination, Host};

/// A list of destinations that no proxy is used for.
///
/// ```
/// use persist_proxy::NoProxy;
///
/// let list = NoProxy::parse("localhost, .example.com, 10.0.0.0/8, [::1]:8080");
/// assert!(list.matches(&"http://www.example.com".parse()?));
/// assert!(list.matches(&"http://10.1.2.3:81".parse()?));
/// assert!(!list.matches(&"http://badexample.com".parse()?));
/// # Ok::<(), persist_core::UrlError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    hosts: Hosts,
    /// Only this port; any, if none was given.
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// The name itself and everything below it.
    Domain(String),
    /// An address, and how many of its leading bits count.
    Network(IpAddr, u8),
}

impl NoProxy {
    /// Reads a list, separated by commas or white space. Entries that mean nothing match nothing.
    pub fn parse(text: &str) -> Self {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        Self { rules: entries.filter_map(Rule::parse).collect() }
    }

    /// From `no_proxy`, then `NO_PROXY`, as `get` gives them; an empty variable is like none.
    pub fn from_variables(get: impl Fn(&str) -> Option<String>) -> Self {
        let set =
            ["no_proxy", "NO_PROXY"].into_iter().find_map(|name| get(name).filter(|list| !list.trim().is_empty()));
        Self::parse(&set.unwrap_or_default())
    }

    /// Whether `destination` is reached directly.
    pub fn matches(&self, destination: &Destination) -> bool {
        let Some((host, port)) = destination.host().zip(destination.port()) else { return true };
        self.rules.iter().any(|rule| rule.port.is_none_or(|only| only == port) && rule.hosts.matches(host))
    }
}

impl Rule {
    fn parse(entry: &str) -> Option<Self> {
        if entry == "*" {
            return Some(Self { hosts: Hosts::All, port: None });
        }
        if let Some(hosts) = Hosts::network(entry) {
            return Some(Self { hosts, port: None });
        }
        let (host, port) = match entry.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (entry, None),
        };
        let hosts = Hosts::network(host).or_else(|| Hosts::domain(host))?;
        Some(Self { hosts, port })
    }
}

impl Hosts {
    fn network(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Self::Network(address, bits))
    }

    fn domain(text: &str) -> Option<Self> {
        let text = text.strip_prefix("*.").or(text.strip_prefix('.')).unwrap_or(text);
        let text = text.strip_suffix('.').unwrap_or(text);
        (!text.is_empty() && !text.contains(['/', '*', ':'])).then(|| Self::Domain(text.to_ascii_lowercase()))
    }

    fn matches(&self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::Network(network, bits) => host.address().is_some_and(|address| within(address, *network, *bits)),
            Self::Domain(domain) => host.name().is_some_and(|name| {
                let name = name.strip_suffix('.').unwrap_or(name);
                name.strip_suffix(domain.as_str()).is_some_and(|above| above.is_empty() || above.ends_with('.'))
            }),
        }
    }
}

/// Whether the first `bits` bits of an address are those of a network of its family, which has that many.
fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let differing = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => u128::from(address.to_bits() ^ network.to_bits()) << 96,
        (IpAddr::V6(address), IpAddr::V6(network)) => address.to_bits() ^ network.to_bits(),
        _ => return false,
    };
    differing.leading_zeros() >= u32::from(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_table_holds() {
        let table = [
            ("*", "http://anything", true),
            ("", "http://anything", false),
            ("example.com", "http://example.com", true),
            ("example.com", "http://EXAMPLE.com.", true),
            ("example.com", "http://www.example.com", true),
            ("example.com", "http://badexample.com", false),
            (".example.com", "http://example.com", true),
            (".example.com", "http://www.example.com", true),
            ("*.example.com", "http://www.example.com", true),
            ("www.example.com", "http://example.com", false),
            ("example.com:8080", "http://example.com:8080", true),
            ("example.com:8080", "http://example.com", false),
            ("example.com:443", "https://example.com", true),
            ("a b,c", "http://b", true),
            ("10.0.0.1", "http://10.0.0.1", true),
            ("10.0.0.1", "http://10.0.0.10", false),
            ("10.0.0.0/8", "http://10.200.3.4", true),
            ("10.0.0.0/8", "http://11.0.0.1", false),
            ("0.0.0.0/0", "http://11.0.0.1", true),
            ("0.0.0.0/0", "http://[::1]", false),
            ("10.0.0.0/33", "http://10.0.0.1", false),
            ("10.0.0.1:81", "http://10.0.0.1:81", true),
            ("10.0.0.1:81", "http://10.0.0.1", false),
            ("::1", "http://[::1]", true),
            ("[::1]", "http://[::1]:8080", true),
            ("[::1]:81", "http://[::1]:80", false),
            ("fe80::/10", "http://[febf::1]", true),
            ("::/0", "http://[febf::1]", true),
            ("::1", "http://127.0.0.1", false),
            ("::1/128", "http://10.0.0.1", false),
            ("10.0.0.0/8", "http://[::1]", false),
            ("10.0.0.3/31", "http://10.0.0.2", true),
            ("10.0.0.3/32", "http://10.0.0.2", false),
            ("fe80::1/128", "http://[fe80::1]", true),
            ("fe80::1/128", "http://[fe80::2]", false),
            ("0.0.1", "http://10.0.0.1", false),
            ("exa*ple.com", "http://example.com", false),
            ("unrelated", "http+unix://%2Fx", true),
        ];
        for (list, url, direct) in table {
            let destination = url.parse().expect("a destination");
            assert_eq!(NoProxy::parse(list).matches(&destination), direct, "{list:?} for {url}");
        }
    }
}
