//! Proxies that refuse before they were asked, that never come to an end, and that are asked for what they cannot do.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::thread;
use std::time::Duration;

use persist_proxy::persist_core::{Blame, ClientConfig, DialTimeout, Disposition, Phase};
use persist_proxy::{Plain, Proxy, ProxyFailure};

use crate::both::{BOTH, Roots, get};

fn proxy(scheme: &str, address: std::net::SocketAddr) -> Proxy {
    let proxy: Proxy = format!("{scheme}://{address}").parse().expect("a proxy");
    proxy.with_plain(Plain::Tunnelled)
}

#[test]
fn a_proxy_that_refuses_unasked_and_closes_is_heard() {
    for adapter in BOTH {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        let proxy = proxy("http", listener.local_addr().expect("a bound socket has an address"));
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let _ = stream.write_all(b"HTTP/1.1 403 Not you\r\nContent-Length: 3\r\n\r\nno!");
            }
        });
        let error = get(adapter, &proxy, ClientConfig::default(), Roots::default(), &["http://one.example/"]).remove(0);
        let error = error.expect_err("refused");
        let Some(ProxyFailure::Refused(refused)) = proxy.failure(&error) else { panic!("{adapter:?}: {error:?}") };
        let refusal = refused.refusal().expect("it was HTTP");
        assert_eq!((refusal.status.as_u16(), &refusal.body[..]), (403, &b"no!"[..]), "{adapter:?}");
        assert_eq!((error.phase(), error.disposition()), (Phase::Tunnel, Some(Disposition::NotSent)));
    }
}

#[test]
fn a_proxy_that_goes_on_and_on_slowly_is_given_up_at_the_deadline() {
    for adapter in BOTH {
        for (scheme, first, drip) in
            [("http", &b"HTTP/1.1 200 "[..], &b"x"[..]), ("http", b"HTTP/1.1 200 x\r\n", b"A: b\r\n")]
        {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
            let proxy = proxy(scheme, listener.local_addr().expect("a bound socket has an address"));
            thread::spawn(move || {
                for mut stream in listener.incoming().flatten() {
                    let mut sent = stream.write_all(first);
                    while sent.is_ok() {
                        thread::sleep(Duration::from_millis(20));
                        sent = stream.write_all(drip);
                    }
                }
            });
            let mut config = ClientConfig::default();
            config.dial.handshake = Some(Duration::from_millis(150));
            let error = get(adapter, &proxy, config, Roots::default(), &["http://one.example/"]).remove(0);
            let error = error.expect_err("too slow");
            assert!(matches!(proxy.failure(&error), Some(ProxyFailure::Silent)), "{adapter:?}: {error:?}");
            let timed_out = std::error::Error::source(&error).is_some_and(|cause| cause.is::<DialTimeout>());
            assert!(timed_out && error.phase() == Phase::Tunnel, "{adapter:?}: {error:?}");
        }
    }
}

#[test]
fn what_a_proxy_cannot_be_asked_is_the_callers_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
    let proxy = proxy("socks4a", listener.local_addr().expect("a bound socket has an address"));
    for adapter in BOTH {
        let error = get(adapter, &proxy, ClientConfig::default(), Roots::default(), &["http://[::1]/"]).remove(0);
        let error = error.expect_err("SOCKS 4 knows no IPv6");
        assert_eq!((error.phase(), error.blame()), (Phase::Route, Blame::Caller), "{adapter:?}: {error:?}");
        assert!(error.to_string().contains("SOCKS 4 cannot reach an IPv6 address"), "{error}");
        assert!(proxy.failure(&error).is_none(), "{adapter:?}: {error:?}");
    }
}
