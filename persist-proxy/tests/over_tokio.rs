//! A forwarding HTTP proxy under persist-async's `Client`: what reaches the proxy, and that its connection is shared by all destinations.

use std::sync::Arc;

use persist_async::{Client, ClientConfig, Request, Response, Server};
use persist_proxy::{Proxies, Proxy};

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
