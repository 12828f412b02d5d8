//! `persist get` through proxies that do what a test tells them: as the options say, or the environment.
#![allow(clippy::unwrap_used, reason = "a test, and what helps it, may fail where it stands")]

mod common;

use common::{Log, Peer, persist, persist_with, server, stderr, stdout, target};

/// The requests that came, one a line: `METHOD TARGET` and the proxy's fields.
fn note(log: &Log, request: &str) {
    let line = request.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1");
    let of_proxy = request.lines().filter(|line| line.starts_with("Proxy-") || line.starts_with("X-Token"));
    log.add([line].into_iter().chain(of_proxy).collect::<Vec<_>>().join(" | "));
}

/// An HTTP proxy and all origins behind it, in one.
fn http_proxy(log: &Log) -> std::net::SocketAddr {
    let log = log.clone();
    server(move |_, mut peer| {
        while let Some(request) = peer.request() {
            note(&log, &request);
            match request.starts_with("CONNECT ") {
                true => peer.say("HTTP/1.1 200 OK\r\n\r\n"),
                false => peer.ok(target(&request)),
            }
        }
    })
}

/// Takes a SOCKS 5 greeting and request as they come, and makes the tunnel; gives the name that was asked for.
fn take_socks5(peer: &mut Peer) -> String {
    let greeting = peer.bytes(3);
    assert_eq!(greeting, [5, 1, 0]);
    peer.say([5, 0]);
    let request = peer.bytes(5);
    assert_eq!(request[..4], [5, 1, 0, 3], "by name");
    let name = peer.bytes(usize::from(request[4]));
    let port = peer.bytes(2);
    peer.say([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    format!("{}:{}", String::from_utf8(name).unwrap(), u16::from_be_bytes([port[0], port[1]]))
}

#[test]
fn the_environment_names_the_proxy_and_what_it_is_not_for() {
    let log = Log::default();
    let proxy = http_proxy(&log);
    let near = server(|_, mut peer| peer.echo_targets());
    let near = format!("http://localhost:{}/near", near.port());
    let proxy = format!("http://me:secret@{proxy}");
    let variables = [("http_proxy", proxy.as_str()), ("no_proxy", "localhost")];
    let output = persist_with(&variables, &["get", "-s", "http://far.example/a", "http://other.example/b", &near], b"");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "http://far.example/ahttp://other.example/b/near");
    let authorization = "Proxy-Authorization: Basic bWU6c2VjcmV0";
    let expected = ["http://far.example/a", "http://other.example/b"].map(|url| format!("GET {url} | {authorization}"));
    assert_eq!(log.all(), expected);

    // The command line comes first.
    let output = persist_with(&[("http_proxy", "http://127.0.0.1:9")], &["get", "-s", "-x", "", &near], b"");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "/near"), "{}", stderr(&output));
    let output = persist_with(&variables, &["get", "-s", "--noproxy", "", &near], b"");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), near.as_str()), "{}", stderr(&output));
}

#[test]
fn origins_share_the_proxys_connection_and_its_pipeline() {
    let log = Log::default();
    let proxy = http_proxy(&log).to_string();
    let urls: Vec<String> = (0..6).map(|n| format!("http://host{n}.example/")).collect();
    let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
    let output = persist(&[&["get", "-x", &proxy, "--pipeline", "4"], &urls[..]].concat(), b"");
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), urls.concat()), "{}", stderr(&output));
    assert!(stderr(&output).contains("6 exchanges over 1 connection, 5 reused"), "{}", stderr(&output));
}

#[test]
fn tunnels_are_made_on_request_one_for_each_origin_with_fields_of_their_own() {
    let log = Log::default();
    let proxy = http_proxy(&log).to_string();
    let options = ["get", "-s", "-p", "-x", &proxy, "-U", "me:secret", "--proxy-header", "X-Token: t"];
    let urls = ["http://a.example/1", "http://a.example/2", "http://b.example/3"];
    let output = persist(&[&options[..], &urls].concat(), b"");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "/1/2/3"), "{}", stderr(&output));
    let mut lines = log.all();
    lines.sort();
    let with = "Proxy-Authorization: Basic bWU6c2VjcmV0 | X-Token: t";
    let connect = ["a", "b"].map(|host| format!("CONNECT {host}.example:80 | {with}"));
    assert_eq!(lines, [&connect[..], &["GET /1", "GET /2", "GET /3"].map(str::to_owned)].concat());
}

#[test]
fn a_socks_proxy_is_asked_by_name_and_may_lead_to_another_proxy() {
    let log = Log::default();
    let seen = log.clone();
    let socks = server(move |_, mut peer| {
        seen.add(take_socks5(&mut peer));
        while let Some(request) = peer.request() {
            note(&seen, &request);
            peer.ok(target(&request));
        }
    });
    let socks = socks.to_string();
    let output = persist(&["get", "-s", "--socks5-hostname", &socks, "http://a.example:81/x"], b"");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "/x"), "{}", stderr(&output));
    let preproxy = format!("socks5h://{socks}");
    let output = persist(&["get", "-s", "-x", "far.example", "--preproxy", &preproxy, "http://a.example/y"], b"");
    assert_eq!(
        (output.status.code(), stdout(&output).as_str()),
        (Some(0), "http://a.example/y"),
        "{}",
        stderr(&output)
    );
    assert_eq!(log.all(), ["a.example:81", "GET /x", "far.example:1080", "GET http://a.example/y"]);
}

#[test]
fn each_failure_on_the_way_has_its_code_and_its_words_and_no_credential() {
    let refusing = |reply: &'static str| {
        let proxy = server(move |_, mut peer| {
            peer.request();
            peer.say(reply);
            peer.end();
        });
        format!("http://me:secret@{proxy}")
    };
    let socks = server(|_, mut peer| {
        peer.bytes(4);
        peer.say([5, 2]);
        peer.bytes(11);
        peer.say([1, 1]);
        peer.end();
    });
    let wants_other = "HTTP/1.1 407 No\r\nProxy-Authenticate: Digest realm=x\r\nContent-Length: 0\r\n\r\n";
    let nobody = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let table = [
        (format!("http://me:secret@{nobody}"), 7, format!("connecting to the proxy {nobody}: ")),
        ("http://me:secret@nowhere.invalid".to_owned(), 5, "resolving the proxy nowhere.invalid: ".to_owned()),
        (
            refusing("HTTP/1.1 403 Filtered\r\nContent-Length: 0\r\n\r\n"),
            56,
            "going through the proxy to a.example:80: the proxy refused the tunnel: 403 Filtered".to_owned(),
        ),
        (refusing(wants_other), 56, "the proxy wants authentication (Digest)".to_owned()),
        (refusing("SSH-2.0-x\r\n"), 56, "the proxy does not speak HTTP: ".to_owned()),
        (format!("socks5h://me:secret@{socks}"), 97, "the proxy rejected the user or the password".to_owned()),
    ];
    for (proxy, code, message) in table {
        let output = persist(&["get", "-v", "-p", "-x", &proxy, "http://a.example/"], b"");
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(&message), "{message} is not in {said}");
        assert!(!said.contains("secret") && !said.contains("bWU6"), "{said}");
    }
}
