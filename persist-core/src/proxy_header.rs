//! The PROXY protocol, versions 1 and 2: what a proxy in front of a server says about the connection it forwards, before the first byte of HTTP.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The longest line of version 1, CRLF included.
const LINE_BYTES_MAX: usize = 107;

/// The longest header of version 2 that is taken: room for all addresses and for what proxies add to them; one could be 64 KiB long.
const BINARY_BYTES_MAX: usize = 4096;

/// Begins every header of version 2; no request of any HTTP begins so.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length: what follows is the connection itself.
    pub bytes: usize,
    /// Where the connection comes from and where it went; `None` if the proxy speaks for itself (a health check), or does not know, or
    /// forwards something that has no such addresses.
    pub addresses: Option<ProxiedAddresses>,
}

/// The two ends of the connection that is forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxiedAddresses {
    /// The client.
    pub source: SocketAddr,
    /// The proxy, as the client saw it.
    pub destination: SocketAddr,
}

/// What was received is no header of the PROXY protocol: close the connection without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// It begins like neither version.
    #[error("the connection does not begin with a PROXY header: does a proxy in front of this server send one?")]
    Missing,
    /// Version 1: the line is malformed.
    #[error("malformed line of the PROXY protocol, version 1")]
    Line,
    /// Version 2: another version, an unknown command or family, or addresses that do not fit into the length given.
    #[error("malformed header of the PROXY protocol, version 2: byte {at}")]
    Binary {
        /// The byte that is wrong.
        at: usize,
    },
    /// Version 2: longer than is taken.
    #[error("PROXY header of {bytes} bytes: at most {BINARY_BYTES_MAX} are taken")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
}

impl ProxyHeader {
    /// The longest header that [`parse`](Self::parse) may ask for.
    pub const BYTES_MAX: usize = BINARY_BYTES_MAX;

    /// Reads a header from the beginning of a connection; `None` while it is not complete: read more and call again, with all of it.
    ///
    /// Trust it only on connections that come from the proxy: anybody can send one.
    ///
    /// ```
    /// use persist_core::ProxyHeader;
    ///
    /// let received = b"PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\nGET / HTTP/1.1\r\n";
    /// let header = ProxyHeader::parse(received)?.expect("complete");
    /// assert_eq!(header.addresses.expect("TCP").source.to_string(), "192.0.2.1:56324");
    /// assert_eq!(&received[header.bytes..], b"GET / HTTP/1.1\r\n");
    /// # Ok::<(), persist_core::ProxyHeaderError>(())
    /// ```
    ///
    /// # Errors
    /// As soon as what is there cannot become a header.
    pub fn parse(received: &[u8]) -> Result<Option<Self>, ProxyHeaderError> {
        let begins = |start: &[u8]| received.iter().zip(start).all(|(byte, expected)| byte == expected);
        if begins(SIGNATURE) {
            binary(received)
        } else if begins(b"PROXY ") {
            line(received)
        } else {
            Err(ProxyHeaderError::Missing)
        }
    }
}

fn line(received: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    let within = &received[..received.len().min(LINE_BYTES_MAX)];
    let Some(end) = within.iter().position(|&byte| byte == b'\n') else {
        return if within.len() == LINE_BYTES_MAX { Err(ProxyHeaderError::Line) } else { Ok(None) };
    };
    let text = within[..end].strip_suffix(b"\r").and_then(|line| core::str::from_utf8(line).ok());
    let mut words = text.ok_or(ProxyHeaderError::Line)?.split(' ').skip(1);
    let addresses = match words.next() {
        // Whatever stands behind it means nothing.
        Some("UNKNOWN") => None,
        Some(family @ ("TCP4" | "TCP6")) => {
            let mut word = || words.next().ok_or(ProxyHeaderError::Line);
            let [source, destination] = [address(family, word()?)?, address(family, word()?)?];
            let [from, to] = [port(word()?)?, port(word()?)?];
            if words.next().is_some() {
                return Err(ProxyHeaderError::Line);
            }
            let [source, destination] = [SocketAddr::new(source, from), SocketAddr::new(destination, to)];
            Some(ProxiedAddresses { source, destination })
        }
        _ => return Err(ProxyHeaderError::Line),
    };
    Ok(Some(ProxyHeader { bytes: end + 1, addresses }))
}

fn address(family: &str, word: &str) -> Result<IpAddr, ProxyHeaderError> {
    match word.parse() {
        Ok(address @ IpAddr::V4(_)) if family == "TCP4" => Ok(address),
        Ok(address @ IpAddr::V6(_)) if family == "TCP6" => Ok(address),
        _ => Err(ProxyHeaderError::Line),
    }
}

/// Digits only, no leading zero: a number that two readers could take for two numbers is none.
fn port(word: &str) -> Result<u16, ProxyHeaderError> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    word.parse().ok().filter(|_| plain).ok_or(ProxyHeaderError::Line)
}

fn binary(received: &[u8]) -> Result<Option<ProxyHeader>, ProxyHeaderError> {
    const FIXED: usize = 16;
    let wrong = |at| Err(ProxyHeaderError::Binary { at });
    let local = match received.get(12) {
        None => return Ok(None),
        Some(0x20) => true,
        Some(0x21) => false,
        Some(_) => return wrong(12),
    };
    // The family and how much room its addresses need. The transport is TCP or none here: a datagram is no connection.
    let (family, needed) = match received.get(13) {
        None => return Ok(None),
        Some(0x00) => (Family::Unknown, 0),
        Some(0x11) => (Family::V4, 12),
        Some(0x21) => (Family::V6, 36),
        Some(0x31) => (Family::Unknown, 216),
        // A proxy that speaks for itself may say anything here, and it means nothing.
        Some(_) if local => (Family::Unknown, 0),
        Some(_) => return wrong(13),
    };
    let Some(length) = received.get(14..FIXED) else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
    if length < needed && !local {
        return wrong(14);
    }
    let bytes = FIXED + length;
    if bytes > BINARY_BYTES_MAX {
        return Err(ProxyHeaderError::TooLong { bytes });
    }
    let Some(block) = received.get(FIXED..bytes) else { return Ok(None) };
    // What stands behind the addresses is extensions, which are not needed to serve HTTP.
    Ok(Some(ProxyHeader { bytes, addresses: if local { None } else { family.read(block) } }))
}

#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
    Unknown,
}

impl Family {
    fn read(self, block: &[u8]) -> Option<ProxiedAddresses> {
        let ports = |at: usize| -> Option<[u16; 2]> {
            let &[a, b, c, d] = block.get(at..at + 4)?.first_chunk()?;
            Some([u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])])
        };
        let (source, destination, [from, to]): (IpAddr, IpAddr, _) = match self {
            Self::V4 => {
                let address = |at: usize| Some(Ipv4Addr::from(*block.get(at..)?.first_chunk::<4>()?));
                (address(0)?.into(), address(4)?.into(), ports(8)?)
            }
            Self::V6 => {
                let address = |at: usize| Some(Ipv6Addr::from(*block.get(at..)?.first_chunk::<16>()?));
                (address(0)?.into(), address(16)?.into(), ports(32)?)
            }
            Self::Unknown => return None,
        };
        let [source, destination] = [SocketAddr::new(source, from), SocketAddr::new(destination, to)];
        Some(ProxiedAddresses { source, destination })
    }
}

#[cfg(test)]
mod tests;
