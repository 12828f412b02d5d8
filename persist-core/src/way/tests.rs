//! What is written by the short way is what `Route::request` writes.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::lines::Write;
use crate::route::PoolKey;

fn way(url: &str) -> Option<Way> {
    let (destination, _) = Destination::split_url(url).ok()?;
    let route = Route::direct(&destination);
    Some(Way::new(destination, route))
}

fn lines(fields: impl Write) -> String {
    let mut out = Vec::new();
    fields.write(&mut out);
    String::from_utf8(out).unwrap()
}

/// Both ways of writing a request, which must agree wherever the short one says anything.
fn written(request: &Request) -> Option<(String, String)> {
    let way = way(&request.target)?;
    let (destination, target) = Destination::split_url(&request.target).unwrap();
    let long = way.route().request(request, &destination, &target).unwrap();
    let Outline { method, target, fields } = way.outline(request)?;
    let short = (String::from(target), lines(fields));
    assert_eq!((&short.0, &short.1, method), (&long.target, &lines(&long.fields), &long.method));
    Some(short)
}

#[test]
fn both_ways_write_the_same() {
    let schemes = ["http://h", "HTTPS://Host.example:8443", "http://[::1]:80", "http+unix://%2Frun%2Fa.sock"];
    let paths = ["", "/", "/a", "/a/b?c=d&e", "/a:b//c@d", "?q", "/#f", "#f", "/a#f?g"];
    let (mut short, mut long) = (0, 0);
    for url in schemes.iter().flat_map(|scheme| paths.iter().map(move |path| format!("{scheme}{path}"))) {
        let request = Request::get(url).field("X", "1").unwrap();
        *if written(&request).is_some() { &mut short } else { &mut long } += 1;
        assert_eq!(written(&request.clone().field("hOST", "other").unwrap()).is_some(), written(&request).is_some());
    }
    assert_eq!((short, long), (20, 16), "those with a query alone, or a fragment, are not cut out");
}

#[test]
fn a_host_of_the_requests_own_stands_alone() {
    let request = Request::get("http://h/").field("host", "other").unwrap();
    assert_eq!(written(&request).unwrap().1, "host: other\r\n");
    assert_eq!(written(&Request::get("http://h/")).unwrap().1, "Host: h\r\n");
}

#[test]
fn what_is_special_goes_the_long_way() {
    for name in ["proxy-authorization", "Proxy-Connection"] {
        assert!(written(&Request::get("http://h/").field(name, "x").unwrap()).is_none(), "{name} is not passed on");
    }
    assert!(written(&Request::new(Method::CONNECT, "http://h/")).is_none());
    let request = Request::get("http://h/a");
    let (destination, _) = Destination::split_url(&request.target).unwrap();
    let plain = Route::direct(&destination);
    let absolute = Route { target_form: TargetForm::Absolute, pool_key: PoolKey::new("p"), ..plain.clone() };
    assert!(Way::new(destination.clone(), absolute).outline(&request).is_none());
    let mut with_fields = plain;
    with_fields.fields.push("X", "1").unwrap();
    assert!(Way::new(destination, with_fields).outline(&request).is_none());
    // Never cut out, though nothing of it would be found again by its own scheme and authority.
    let other = way("http://h").unwrap();
    for url in ["http://h/a b", "http://h/\u{e9}", "http://h/\r\nX: 1", "/a", "h", ""] {
        assert!(other.outline(&Request::get(url)).is_none(), "{url:?}");
    }
}

#[test]
fn ways_are_kept_as_they_are_written_and_no_more_than_so_many() {
    let mut ways = Ways::default();
    let mut keep = |url: &str| ways.keep(url, Arc::new(way(url).unwrap()));
    keep("http://h/a");
    keep("http://h:80/");
    assert!(ways.find("http://h").is_some() && ways.find("http://h?q").is_some() && ways.find("http://h#f").is_some());
    assert!(ways.find("http://H/").is_none() && ways.find("http://h2/").is_none() && ways.find("https://h/").is_none());
    for url in ["", ":", "http:", "http:/h", "http//h", "x://"] {
        assert!(ways.find(url).is_none(), "{url:?}");
    }
    for number in 0..2 * KEPT_MAX {
        let url = format!("http://h{number}/");
        ways.keep(&url, Arc::new(way(&url).unwrap()));
        assert!(ways.find(&url).is_some() && ways.kept.len() <= KEPT_MAX);
    }
}

#[test]
fn the_way_that_was_found_last_is_taken_for_no_other() {
    let urls =
        ["http://h/a", "http://h:81/", "http://hh/", "https://h/", "HTTP://H/", "http://[::1]/", "http+unix://%2Fa/x"];
    let mut ways = Ways::default();
    for url in urls {
        ways.keep(url, Arc::new(way(url).unwrap()));
    }
    for first in urls {
        for url in urls {
            assert!(ways.find(first).is_some());
            let found = ways.find(url).expect("it is kept").destination().clone();
            assert_eq!(
                Some(found),
                Destination::split_url(url).ok().map(|(destination, _)| destination),
                "{url} after {first}"
            );
        }
        // Their beginnings look like one of those.
        for url in
            ["http://h@evil/", "http://h.evil/", "http://h:8181/", "http://", "http:", "h", "", "http://h\\evil/"]
        {
            assert!(ways.find(first).is_some());
            assert!(ways.find(url).is_none(), "{url:?} after {first}");
        }
    }
}
