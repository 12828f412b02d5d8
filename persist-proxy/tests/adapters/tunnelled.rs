//! What comes right behind a tunnel, and how long connections to old proxies last.

use persist_proxy::Proxy;
use persist_proxy::persist_core::ClientConfig;

use crate::both::{BOTH, Roots, get, talk};
use crate::scripted::Until::{Bytes, Head, Line};
use crate::scripted::{Script, play};

#[test]
fn an_origin_that_speaks_first_is_heard_from_its_first_byte_on() {
    // In one segment with the last byte of the proxy's reply, as it comes when proxy and origin are fast.
    let table: [(&str, Script); 4] = [
        ("http", &[(Head, b"HTTP/1.1 200 Connection established\r\n\r\n220 ready\r\n"), (Line, b"221 bye\r\n")]),
        ("http", &[(Head, b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n220 ready\r\n"), (Line, b"221 bye\r\n")]),
        ("socks4a", &[(Bytes(22), b"\0\x5a\0\0\0\0\0\x00220 ready\r\n"), (Line, b"221 bye\r\n")]),
        (
            "socks5h",
            &[(Bytes(3), &[5, 0]), (Bytes(19), b"\x05\0\0\x01\0\0\0\0\0\x00220 ready\r\n"), (Line, b"221 bye\r\n")],
        ),
    ];
    for (scheme, script) in table {
        for adapter in BOTH {
            let (address, heard) = play(script);
            let proxy: Proxy = format!("{scheme}://{address}").parse().expect("a proxy");
            let proxy = proxy.with_plain(persist_proxy::Plain::Tunnelled);
            let (greeting, rest) = talk(adapter, &proxy, "http://mail.example:25", 11, b"QUIT\r\n");
            assert_eq!(greeting, b"220 ready\r\n", "{scheme} {adapter:?}");
            assert_eq!(rest, b"221 bye\r\n", "{scheme} {adapter:?}");
            let heard: Vec<_> = heard.iter().take(script.len()).collect();
            assert_eq!(heard.last().map(Vec::as_slice), Some(&b"QUIT\r\n"[..]), "{scheme} {adapter:?}");
        }
    }
}

#[test]
fn connections_to_a_proxy_last_as_its_version_and_fields_say() {
    // RFC 9112 §9.3. `Proxy-Connection` means nothing (appendix C.2.2), and is never sent.
    let table: [(&[u8], bool); 5] = [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", true),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nProxy-Connection: keep-alive\r\n\r\nhi", false),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nhi", true),
    ];
    for (reply, lasts) in table {
        for adapter in BOTH {
            let script: Script = Box::leak(Box::new([(Head, reply), (Head, reply)]));
            let (address, heard) = play(script);
            let proxy: Proxy = format!("http://{address}").parse().expect("a proxy");
            let urls = ["http://one.example/", "http://two.example/"];
            for (n, got) in
                get(adapter, &proxy, ClientConfig::default(), Roots::default(), &urls).into_iter().enumerate()
            {
                let got = got.expect("a reply");
                assert_eq!(got.body, "hi");
                assert_eq!(got.reused, lasts && n > 0, "{adapter:?} {}", reply.escape_ascii());
            }
            for head in heard.try_iter() {
                assert!(!head.to_ascii_lowercase().windows(16).any(|part| part == b"proxy-connection"));
            }
        }
    }
}
