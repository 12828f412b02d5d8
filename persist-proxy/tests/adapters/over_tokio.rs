//! A forwarding HTTP proxy under persist-async's `Client`: what reaches the proxy, and that its connection is shared by all destinations.

use std::sync::Arc;

use crate::scripted::Until::{Bytes, Head};
use persist_async::{Client, ClientConfig, Disposition, Request, Response, Server};
use persist_proxy::with_async::{ProxyClientConn, new_proxy_client_conn};
use persist_proxy::{Network, Plain, Proxies, Proxy, ProxyFailure};

const REPLY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[tokio::test]
async fn requests_arrive_in_absolute_form_over_one_connection() {
    let server = Server::bind("127.0.0.1:0").await.expect("a port");
    let address = server.local_addr().expect("tcp");
    tokio::spawn(server.serve(|received| async move {
        let field = |name| received.head.field(name).and_then(|value| value.to_str()).unwrap_or("-").to_owned();
        let said = format!("{} {} {}", received.head.target(), field("Host"), field("Proxy-Authorization"));
        received.responder.send(Response::ok(), said).await
    }));

    let proxy: Proxy = format!("http://user:secret@{address}").parse().expect("a proxy");
    let mut config = ClientConfig::default();
    config.router = Arc::new(Proxies::all(proxy));
    let client = Client::with_config(config).expect("no contradiction");

    let mut connections = Vec::new();
    for url in ["http://one.example/a?b", "http://two.example:81/"] {
        let mut reply = client.send(Request::get(url), ()).await.expect("a reply");
        connections.push(reply.connection);
        let authority = url.trim_start_matches("http://").split('/').next().expect("an authority");
        let expected = format!("{url} {authority} Basic dXNlcjpzZWNyZXQ=");
        assert_eq!(reply.body.bytes(1000).await.expect("the body"), expected);
    }
    assert_eq!(connections[0], connections[1]);
}

#[tokio::test]
async fn a_tunnel_carries_requests_in_origin_form_without_what_was_the_proxys() {
    let (address, heard) =
        crate::scripted::play(&[(Head, b"HTTP/1.0 200 Connection established\r\n\r\n"), (Head, REPLY), (Head, REPLY)]);
    let proxy: Proxy = format!("http://user:secret@{address}").parse().expect("a proxy");
    let proxy = ProxyClientConn::new(proxy.with_plain(Plain::Tunnelled));
    for path in ["/1", "/2"] {
        let request = Request::get(format!("http://one.example{path}"));
        let request = request.field("Proxy-Authorization", "Basic b3du").expect("a field");
        let mut reply = proxy.send(request, ()).await.expect("a reply");
        assert_eq!(reply.body.bytes(1000).await.expect("the body"), "hi");
    }
    let heads: Vec<_> = heard.iter().take(3).map(|head| String::from_utf8(head).expect("heads are ASCII")).collect();
    let connect = "CONNECT one.example:80 HTTP/1.1\r\nHost: one.example:80\r\nProxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\n\r\n";
    let expected =
        [connect, "GET /1 HTTP/1.1\r\nHost: one.example\r\n\r\n", "GET /2 HTTP/1.1\r\nHost: one.example\r\n\r\n"];
    assert_eq!(heads, expected);
}

#[tokio::test]
async fn a_socks_proxy_is_told_the_name_and_a_chain_the_next_proxy() {
    let (address, heard) = crate::scripted::play(&[
        (Bytes(3), &[5, 0]),
        // The bound address, and the first bytes of the next handshake's answer behind it: none may get lost.
        (Bytes(18), b"\x05\0\0\x01\0\0\0\0\0\0HTTP/1.1 200"),
        (Head, b" x\r\n\r\n"),
        (Head, REPLY),
    ]);
    let near: Proxy = format!("socks5h://{address}").parse().expect("a proxy");
    let far: Proxy = "http://far.example:99".parse().expect("a proxy");
    let proxy = ProxyClientConn::new(far.with_plain(Plain::Tunnelled).via(near));
    let mut reply = proxy.send(Request::get("http://one.example/"), ()).await.expect("a reply");
    assert_eq!(reply.body.bytes(1000).await.expect("the body"), "hi");
    let heard: Vec<_> = heard.iter().take(4).collect();
    assert_eq!(heard[1], b"\x05\x01\0\x03\x0bfar.example\0\x63"[..].to_vec());
    assert!(heard[2].starts_with(b"CONNECT one.example:80 "), "{}", heard[2].escape_ascii());
    assert!(heard[3].starts_with(b"GET / "), "{}", heard[3].escape_ascii());
}

#[tokio::test]
async fn failures_tell_what_went_wrong_on_the_way_and_show_no_credential() {
    type Expected = fn(&ProxyFailure<'_>) -> bool;
    let table: [(&str, crate::scripted::Script, Expected); 5] = [
        (
            "http",
            &[(Head, b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=r\r\nContent-Length: 0\r\n\r\n")],
            |failure| matches!(failure, ProxyFailure::AuthenticationRequired(_)),
        ),
        (
            "http",
            &[(Head, b"HTTP/1.1 403 x\r\nContent-Length: 3\r\n\r\nno!")],
            |failure| matches!(failure, ProxyFailure::Refused(error) if error.refusal().is_some_and(|refusal| refusal.body == b"no!")),
        ),
        ("http", &[(Head, b"SSH-2.0-x\r\n")], |failure| matches!(failure, ProxyFailure::Garbage(_))),
        ("socks5h", &[(Bytes(4), &[5, 0]), (Bytes(18), &[5, 5, 0, 1, 0, 0, 0, 0, 0, 0])], |failure| {
            matches!(failure, ProxyFailure::TargetUnreachable(_))
        }),
        ("socks5h", &[(Bytes(4), &[5, 2]), (Bytes(13), &[1, 1])], |failure| {
            matches!(failure, ProxyFailure::AuthenticationRequired(_))
        }),
    ];
    for (kind, script, expected) in table {
        let (address, _heard) = crate::scripted::play(script);
        let proxy: Proxy = format!("{kind}://user:secret@{address}").parse().expect("a proxy");
        let proxy = ProxyClientConn::new(proxy.with_plain(Plain::Tunnelled));
        let error = proxy.send(Request::get("http://one.example/"), ()).await.expect_err("no tunnel");
        let failure = proxy.failure(&error).unwrap_or_else(|| panic!("{error:?} is about the proxy"));
        assert!(expected(&failure), "{failure:?}");
        assert_eq!(error.disposition(), Some(Disposition::NotSent));
        let shown = format!("{error} {error:?} {failure} {failure:?} {proxy:?}");
        assert!(!shown.contains("secret") && !shown.contains("c2VjcmV0"), "{shown}");
    }
}

#[tokio::test]
async fn a_proxy_that_cannot_be_reached_is_told_from_a_target_that_cannot() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let address = listener.local_addr().expect("a bound socket has an address");
    drop(listener);
    let proxy = new_proxy_client_conn(Network::Tcp, &address.to_string(), None).expect("an address");
    let error = proxy.send(Request::get("http://one.example/"), ()).await.expect_err("nobody listens");
    assert!(matches!(proxy.failure(&error), Some(ProxyFailure::Unreachable)), "{error:?}");
    assert_eq!(error.destination(), Some(proxy.proxy().destination()));
}
