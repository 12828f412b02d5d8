//! Tests of the PROXY header: the examples of its text, every malformation, every cut.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

fn source(received: &[u8]) -> Option<String> {
    let header = ProxyHeader::parse(received).expect("a header").expect("complete");
    header.addresses.map(|addresses| addresses.source.to_string())
}

fn version_2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([0x20 | command, family]);
    header.extend((block.len() as u16).to_be_bytes());
    header.extend_from_slice(block);
    header
}

#[test]
fn lines_of_version_1_are_read() {
    assert_eq!(
        source(b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n").as_deref(),
        Some("255.255.255.255:65535")
    );
    let longest = b"PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
    assert!(ProxyHeader::parse(longest).is_err(), "the abbreviation of the protocol's text is no address");
    assert_eq!(source(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n").as_deref(), Some("[2001:db8::1]:1"));
    assert_eq!(source(b"PROXY UNKNOWN\r\n"), None);
    assert_eq!(source(b"PROXY UNKNOWN whatever it says\r\nGET"), None);
}

#[test]
fn malformed_lines_are_refused() {
    for line in [
        "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        "PROXY TCP4 ::1 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        "PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n",
        "PROXY UDP4 1.2.3.4 5.6.7.8 1 2\r\n",
        "PROXY \r\n",
    ] {
        assert_eq!(ProxyHeader::parse(line.as_bytes()), Err(ProxyHeaderError::Line), "{line:?}");
    }
    assert_eq!(ProxyHeader::parse(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 93]].concat()), Err(ProxyHeaderError::Line));
    assert_eq!(ProxyHeader::parse(b"GET / HTTP/1.1\r\n"), Err(ProxyHeaderError::Missing));
    assert_eq!(ProxyHeader::parse(b"PROXZ"), Err(ProxyHeaderError::Missing));
}

#[test]
fn headers_of_version_2_are_read() {
    let v4 = version_2(1, 0x11, &[192, 0, 2, 1, 198, 51, 100, 7, 0xdc, 4, 1, 0xbb]);
    let header = ProxyHeader::parse(&v4).expect("a header").expect("complete");
    let addresses = header.addresses.expect("TCP over IPv4");
    assert_eq!(
        (addresses.source, addresses.destination),
        (([192, 0, 2, 1], 56324).into(), ([198, 51, 100, 7], 443).into())
    );
    let mut block = [0; 36];
    (block[15], block[31], block[33], block[35]) = (1, 2, 80, 90);
    assert_eq!(source(&version_2(1, 0x21, &block)).as_deref(), Some("[::1]:80"));
    // A health check, a Unix socket, something unspecified: no addresses. Extensions are passed over.
    assert_eq!(source(&version_2(0, 0x11, &[9; 12])), None);
    assert_eq!(source(&version_2(0, 0x77, &[])), None);
    assert_eq!(source(&version_2(1, 0x31, &[0; 216])), None);
    assert_eq!(source(&version_2(1, 0, b"extensions")), None);
    assert_eq!(source(&version_2(1, 0x11, &[7; 500])).as_deref(), Some("7.7.7.7:1799"));
}

#[test]
fn malformed_headers_of_version_2_are_refused() {
    let at = |header: Vec<u8>, at| assert_eq!(ProxyHeader::parse(&header), Err(ProxyHeaderError::Binary { at }));
    at([SIGNATURE.as_slice(), &[0x11]].concat(), 12);
    at([SIGNATURE.as_slice(), &[0x22]].concat(), 12);
    at(version_2(1, 0x12, &[0; 12]), 13);
    at(version_2(1, 0x41, &[0; 12]), 13);
    at(version_2(1, 0x11, &[0; 11]), 14);
    at(version_2(1, 0x21, &[0; 12]), 14);
    let long = version_2(1, 0x11, &[0; 5000]);
    assert_eq!(ProxyHeader::parse(&long[..16]), Err(ProxyHeaderError::TooLong { bytes: 5016 }), "before it is read");
}

fn address() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    #[test]
    fn any_bytes_are_read_or_refused_and_a_header_is_never_longer_than_what_there_is(
        start in prop_oneof![Just(b"PROXY ".as_slice()), Just(SIGNATURE.as_slice()), Just(b"".as_slice())],
        rest in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        let received = [start, &rest].concat();
        if let Ok(Some(header)) = ProxyHeader::parse(&received) {
            prop_assert!(header.bytes <= received.len() && header.bytes <= ProxyHeader::BYTES_MAX);
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_cut_of_it_waits_for_more(source in address(), mut destination in address(), tail in 0usize..40) {
        destination.set_ip(match source { SocketAddr::V4(_) => IpAddr::from([10, 0, 0, 1]), SocketAddr::V6(_) => IpAddr::from([1; 16]) });
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port());
        let mut block = Vec::new();
        for end in [source, destination] {
            match end.ip() {
                IpAddr::V4(ip) => block.extend(ip.octets()),
                IpAddr::V6(ip) => block.extend(ip.octets()),
            }
        }
        block.extend(source.port().to_be_bytes());
        block.extend(destination.port().to_be_bytes());
        block.resize(block.len() + tail, b'x');
        let binary = version_2(1, if source.is_ipv4() { 0x11 } else { 0x21 }, &block);
        for header in [line.into_bytes(), binary] {
            for cut in 0..header.len() {
                prop_assert_eq!(ProxyHeader::parse(&header[..cut]), Ok(None));
            }
            let whole = [&header[..], b"GET /"].concat();
            let expected = ProxyHeader { bytes: header.len(), addresses: Some(ProxiedAddresses { source, destination }) };
            prop_assert_eq!(ProxyHeader::parse(&whole), Ok(Some(expected)));
        }
    }
}
