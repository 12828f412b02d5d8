//! Routes: the direct one, target forms, and keys that keep users apart without showing them.

use alloc::format;

use super::{Credentials, Direct, Hop, Means, PoolKey, Route, RouteError, Router, TargetForm};
use crate::destination::Destination;
use crate::method::Method;

fn to(url: &str) -> Destination {
    url.parse().unwrap()
}

#[test]
fn the_direct_router_dials_the_destination_itself() {
    let there = to("https://example.com:8443");
    let route = Direct.route(&there).unwrap();
    assert_eq!(route, Route::direct(&there));
    assert_eq!(route.hops, [Hop::socket(there)]);
    assert_eq!(route.target_form, TargetForm::Origin);
    assert_eq!(route.pool_key.label(), "https://example.com:8443");
    assert!(route.fields.is_empty());
}

#[test]
fn targets_are_written_for_whoever_reads_them() {
    let (plain, port) = (to("http://h"), to("http://[::1]:8080"));
    for (form, method, destination, origin, target) in [
        (TargetForm::Origin, Method::GET, &plain, "/a?b", "/a?b"),
        (TargetForm::Origin, Method::OPTIONS, &plain, "*", "*"),
        (TargetForm::Origin, Method::CONNECT, &plain, "/", "h:80"),
        (TargetForm::Absolute, Method::GET, &plain, "/a?b", "http://h/a?b"),
        (TargetForm::Absolute, Method::GET, &port, "/", "http://[::1]:8080/"),
        (TargetForm::Absolute, Method::OPTIONS, &port, "*", "http://[::1]:8080"),
        (TargetForm::Absolute, Method::CONNECT, &port, "/", "[::1]:8080"),
    ] {
        assert_eq!(form.target(&method, destination, origin), target);
    }
}

#[test]
fn keys_differ_by_user_and_show_none() {
    let key = PoolKey::from(&to("http://proxy:3128"));
    let (one, two) = (key.clone().with_identity("one:secret"), key.clone().with_identity("two:secret"));
    assert!(key != one && one != two);
    assert!(!format!("{one} {one:?}").contains("secret"));
    let credentials = Credentials { user: "one".into(), password: "secret".into() };
    let hop = Hop::through(Means::HttpConnect, to("https://h"), Some(credentials));
    assert!(!format!("{hop:?}").contains("secret"));
}

#[test]
fn a_route_error_keeps_its_cause() {
    let error = RouteError::new("the proxy's scheme is not known");
    assert_eq!(format!("{error}"), "no route: the proxy's scheme is not known");
    assert!(core::error::Error::source(&error).is_some());
}
