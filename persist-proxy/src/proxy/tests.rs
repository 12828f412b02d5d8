//! Routes through one proxy and through chains of them, and the handshakes that their hops get.

use super::*;

fn proxy(text: &str) -> Proxy {
    text.parse().expect("a proxy")
}

fn to(text: &str) -> Destination {
    text.parse().expect("a destination")
}

fn route(proxy: &Proxy, text: &str) -> Route {
    proxy.route(&to(text)).expect("a proxy has a route to everything")
}

fn steps(route: &Route) -> Vec<(Means, String)> {
    route.hops.iter().map(|hop| (hop.means, hop.to.to_string())).collect()
}

#[test]
fn plain_destinations_share_the_proxys_connections_and_get_the_absolute_form() {
    let proxy = proxy("http://me:pw@p:3128");
    let (one, two) = (route(&proxy, "http://a"), route(&proxy, "http://b"));
    assert_eq!(one.pool_key, two.pool_key);
    assert_eq!(one.target_form, TargetForm::Absolute);
    assert_eq!(one.hops, [Hop::socket(to("http://p:3128"))]);
    let authorization = one.fields.get("proxy-authorization").and_then(|value| value.to_str());
    assert_eq!(authorization, Some("Basic bWU6cHc="));
    // Not with the proxy itself as an origin, nor with another user.
    assert_ne!(one.pool_key, PoolKey::from(&to("http://p:3128")));
    assert_ne!(one.pool_key, route(&self::proxy("http://you:pw@p:3128"), "http://a").pool_key);
    assert_ne!(one.pool_key, route(&self::proxy("http://m:epw@p:3128"), "http://a").pool_key);
    assert_eq!(one.pool_key.label(), "http through http://p:3128");
}

#[test]
fn secured_destinations_get_a_tunnel_each_and_no_proxy_field() {
    let proxy = proxy("http://me:pw@p:3128");
    let one = route(&proxy, "https://a");
    assert_ne!(one.pool_key, route(&proxy, "https://b").pool_key);
    assert_eq!((one.target_form, one.fields.is_empty()), (TargetForm::Origin, true));
    assert_eq!(steps(&one)[1], (Means::HttpConnect, "https://a".to_owned()));
    assert!(one.hops[1].credentials.is_some());
}

#[test]
fn plain_destinations_are_tunnelled_on_request() {
    let proxy = proxy("http://p:3128").with_plain(Plain::Tunnelled);
    let one = route(&proxy, "http://a");
    assert_eq!(one.target_form, TargetForm::Origin);
    assert_eq!(steps(&one)[1], (Means::HttpConnect, "http://a".to_owned()));
}

#[test]
fn chains_follow_one_another_from_the_nearest_on() {
    let chain = proxy("https://far").via(proxy("http://middle:3128")).via(proxy("socks5h://me:pw@near"));
    let socks = Means::Socks5 { resolve: Resolve::There };
    let way = [(Means::Socket, "http://near:1080"), (socks, "http://middle:3128"), (Means::HttpConnect, "https://far")];
    let way: Vec<_> = way.map(|(means, to)| (means, to.to_owned())).into();

    let secured = route(&chain, "https://a");
    assert_eq!(steps(&secured), [&way[..], &[(Means::HttpConnect, "https://a".to_owned())]].concat());
    assert_eq!(
        secured.pool_key.label(),
        "https://a through https://far:443 through http://middle:3128 through socks5h://near:1080"
    );
    // A plain one is forwarded by the last proxy only: those before it tunnel.
    let plain = route(&chain, "http://a");
    assert_eq!((steps(&plain), plain.target_form), (way, TargetForm::Absolute));
    assert!(plain.fields.is_empty(), "the nearest proxy's credentials are no business of the last one's");
    assert_eq!(plain.hops.iter().filter(|hop| hop.credentials.is_some()).count(), 1);
    // What the nearest knows us by keeps connections apart, too.
    let other = proxy("https://far").via(proxy("http://middle:3128").via(proxy("socks5h://you:pw@near")));
    assert_ne!(route(&other, "http://a").pool_key, plain.pool_key);
}

#[test]
fn each_hop_gets_its_own_handshake_with_its_own_credentials_and_fields() {
    let mut fields = Fields::new();
    fields.push("X-Token", "t").expect("a field");
    let far = proxy("http://far:3128").with_connect_fields(fields).expect("fields for CONNECT");
    let chain = far.via(proxy("socks5h://me:pw@near"));
    let route = route(&chain, "https://a");
    assert!(chain.tunnel(&route.hops[0]).is_err(), "a socket needs no handshake");
    assert_eq!(chain.tunnel(&route.hops[1]).expect("SOCKS 5").transmit(), [5, 2, 0, 2]);
    let connect = chain.tunnel(&route.hops[2]).expect("CONNECT");
    let head = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nX-Token: t\r\n\r\n";
    assert_eq!(connect.transmit(), head.as_bytes());
    let other = proxy("http://far:3128").via(proxy("socks5h://me:pw@near"));
    assert_ne!(self::route(&other, "https://a").pool_key, route.pool_key, "another token, another user");
}

#[test]
fn fields_that_are_the_handshakes_own_are_refused() {
    for (kind, name, value) in [
        ("http", "Host", "x"),
        ("http", "Content-Length", "1"),
        ("http", "Transfer-Encoding", "x"),
        ("socks5", "X", "1"),
    ] {
        let mut fields = Fields::new();
        fields.push(name, value).expect("a field");
        let refused = proxy(&format!("{kind}://p")).with_connect_fields(fields);
        assert!(matches!(refused, Err(InvalidProxy::Credentials(_))), "{kind} {name}");
    }
}

#[test]
fn unix_sockets_are_reached_directly() {
    let there = to("http+unix://%2Frun%2Fapp.sock");
    assert_eq!(proxy("http://p").route(&there).expect("a route"), Route::direct(&there));
}

#[test]
fn a_proxy_may_listen_on_a_unix_socket() {
    let route = route(&Proxy::unix(ProxyKind::Socks5h, "/run/s"), "http://a");
    assert_eq!(route.hops[0].to.unix_path(), Some("/run/s"));
    assert_eq!(route.pool_key.label(), "http://a through socks5h+unix://%2Frun%2Fs");
}

#[test]
fn nothing_that_is_shown_holds_a_credential() {
    let mut fields = Fields::new();
    fields.push("X-Token", "secret").expect("a field");
    let far = proxy("http://me:secret@far").with_connect_fields(fields).expect("fields for CONNECT");
    let chain = far.via(proxy("socks5://me:secret@near"));
    let (plain, secured) = (route(&chain, "http://a"), route(&chain, "https://a"));
    let tunnels: Vec<_> = secured.hops[1..].iter().map(|hop| chain.tunnel(hop)).collect();
    let shown = format!("{chain} {chain:?} {plain:?} {secured:?} {tunnels:?} {}", secured.pool_key);
    for secret in ["secret", "bWU6c2VjcmV0", "115, 101, 99, 114"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
