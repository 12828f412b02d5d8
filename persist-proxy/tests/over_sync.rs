//! A forwarding HTTP proxy under persist-sync's `Client`: what reaches the proxy, and that its connection is shared by all destinations.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use persist_proxy::{Proxies, Proxy};
use persist_sync::{Client, ClientConfig, Received, Request, Response, Server};

#[test]
fn requests_arrive_in_absolute_form_over_one_connection() {
    let server = Server::bind("127.0.0.1:0").expect("a port");
    let (address, handle) = (server.local_addr().expect("tcp"), server.handle());
    let serving = thread::spawn(move || {
        server.serve(|received: Received| {
            let field = |name| received.head.field(name).and_then(|value| value.to_str()).unwrap_or("-").to_owned();
            let said = format!("{} {} {}", received.head.target(), field("Host"), field("Proxy-Authorization"));
            received.responder.send(Response::ok(), said)
        })
    });

    let proxy: Proxy = format!("http://user:secret@{address}").parse().expect("a proxy");
    let mut config = ClientConfig::default();
    config.router = Arc::new(Proxies::all(proxy));
    let client = Client::with_config(config).expect("no contradiction");

    let mut connections = Vec::new();
    for url in ["http://one.example/a?b", "http://two.example:81/"] {
        let reply = client.send(Request::get(url), ()).expect("a reply");
        connections.push(reply.connection);
        let authority = url.trim_start_matches("http://").split('/').next().expect("an authority");
        let expected = format!("{url} {authority} Basic dXNlcjpzZWNyZXQ=");
        assert_eq!(reply.body.bytes(1000).expect("the body"), expected);
    }
    assert_eq!(connections[0], connections[1]);
    drop(client);
    handle.shutdown(Duration::from_secs(10));
    let served = serving.join().expect("no panic").expect("served");
    assert_eq!((served.connections, served.aborted), (1, 0));
}
