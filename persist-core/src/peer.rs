//! Who counts as one peer, where a server limits what each may have.

use core::net::{IpAddr, SocketAddr};

/// Whoever stands behind an address, as far as addresses tell: an IPv4 address, or an IPv6 network of 64 bits, which is what one host commonly has
/// to itself.
///
/// ```
/// use persist_core::Peer;
///
/// let peer = |address: &str| Peer::of(address.parse().expect("an address"));
/// assert_eq!(peer("192.0.2.1:1"), peer("[::ffff:192.0.2.1]:2"));
/// assert_eq!(peer("[2001:db8::1]:1"), peer("[2001:db8::ffff:1]:1"));
/// assert_ne!(peer("[2001:db8::1]:1"), peer("[2001:db8:0:1::1]:1"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Peer(Network);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4([u8; 4]),
    V6([u8; 8]),
}

impl Peer {
    /// Who stands behind this address. An IPv4 address that is written as an IPv6 one is the same peer.
    pub fn of(address: SocketAddr) -> Self {
        Self(match address.ip().to_canonical() {
            IpAddr::V4(address) => Network::V4(address.octets()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Network::V6([a, b, c, d, e, f, g, h])
            }
        })
    }
}
