//! Destinations: what parses, what it means, and what is refused with which words.

use alloc::string::ToString;

use proptest::prelude::*;

use super::{Destination, Scheme};
use crate::host::InvalidHost;
use crate::url::{UrlError, UrlParts};

#[test]
fn urls_are_split_into_destination_and_origin_form() {
    for (url, destination, authority, target) in [
        ("http://example.com", "http://example.com", "example.com", "/"),
        ("http://example.com:80/", "http://example.com", "example.com", "/"),
        ("https://example.com:80/", "https://example.com:80", "example.com:80", "/"),
        ("HTTPS://EXAMPLE.com:443?q", "https://example.com", "example.com", "/?q"),
        ("http://h:8080/a/b?c=d#e", "http://h:8080", "h:8080", "/a/b?c=d"),
        ("http://h#frag/ment", "http://h", "h", "/"),
        ("http://h:/x", "http://h", "h", "/x"),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:1", "127.0.0.1:1", "/x"),
        ("http://203.0.113.255:65535/x", "http://203.0.113.255:65535", "203.0.113.255:65535", "/x"),
        ("http://[::1]/x", "http://[::1]", "[::1]", "/x"),
        ("http://[2001:DB8:0::1]:81/x", "http://[2001:db8::1]:81", "[2001:db8::1]:81", "/x"),
        ("http://a_b.c-d./x", "http://a_b.c-d.", "a_b.c-d.", "/x"),
        ("http://h/p?u=http://other@host:1/", "http://h", "h", "/p?u=http://other@host:1/"),
        ("http+unix://%2Frun%2Fa.sock/v1?x", "http+unix://%2Frun%2Fa.sock", "localhost", "/v1?x"),
        ("https+unix://%2frun%2fa", "https+unix://%2Frun%2Fa", "localhost", "/"),
    ] {
        let (found, found_target) = Destination::split_url(url).unwrap();
        assert_eq!((found.to_string().as_str(), found_target.as_str()), (destination, target), "{url}");
        assert_eq!(found.authority(), authority, "{url}");
        assert_eq!(found.label(), found.to_string(), "{url}");
    }
}

#[test]
fn a_connect_target_always_has_its_port() {
    for (url, target) in [("https://h", "h:443"), ("http://[::1]:8", "[::1]:8"), ("http+unix://%2Fs", "localhost:80")] {
        assert_eq!(url.parse::<Destination>().unwrap().authority_with_port(), target);
    }
}

#[test]
fn refusals_name_what_is_wrong() {
    let split = |url: &str| Destination::split_url(url).unwrap_err();
    for url in ["example.com", "/path", "://h/", "1a://h/", "", "mailto:a@b"] {
        assert_eq!(split(url), UrlError::NoScheme, "{url}");
    }
    for url in ["http://u:p@h/", "http://@h/", "http://good.com:80@evil.com/"] {
        assert_eq!(split(url), UrlError::UserInfo, "{url}");
    }
    for url in ["http:///x", "http://", "http://:80/", "http://?q"] {
        assert_eq!(split(url), UrlError::Host(InvalidHost::Empty), "{url}");
    }
    for (url, port) in
        [("http://h:0/", "0"), ("http://h:65536/", "65536"), ("http://h:+8/", "+8"), ("http://h:a/", "a")]
    {
        assert_eq!(split(url), UrlError::Port(port.to_string()), "{url}");
    }
    for (url, at) in [("http://h/a b", 10), ("http://h/\r\nX: y", 9), ("http://hé/", 8), ("http://h/#é", 10)] {
        assert_eq!(split(url), UrlError::Byte { at }, "{url}");
    }
    for host in ["1.2.3", "127.1", "0x7f000001", "2130706433", "a.0x1", "1.2.3.4.5", "256.1.1.1"] {
        let error = split(&alloc::format!("http://{host}/"));
        assert_eq!(error, UrlError::Host(InvalidHost::AmbiguousV4(host.to_string())));
    }
    for url in ["http://[::1/", "http://[1.2.3.4]/", "http://[fe80::1%25eth0]/", "http://[]/"] {
        assert!(matches!(split(url), UrlError::Host(InvalidHost::V6(_))), "{url}");
    }
    for url in ["http://a..b/", "http://.a/", "http://../"] {
        assert!(matches!(split(url), UrlError::Host(InvalidHost::Label(_))), "{url}");
    }
    for (url, byte) in [("http://a\\b/", '\\'), ("http://a%41/", '%'), ("http://a:b:1/", ':'), ("http://[::1]x/", '[')]
    {
        let error = split(url);
        let host_is_refused = matches!(&error, UrlError::Host(InvalidHost::Byte { byte: found, .. }) if *found == byte)
            || matches!(&error, UrlError::Host(InvalidHost::V6(_)) if byte == '[');
        assert!(host_is_refused, "{url}: {error}");
    }
    for url in ["http+unix:///run/x", "http+unix://%2/", "http+unix://%00/", "http+unix://%ff/", "http+unix://%2Fa:80/"]
    {
        let error = split(url);
        let refused = matches!(error, UrlError::UnixPath | UrlError::Host(InvalidHost::Empty));
        assert!(refused, "{url}: {error}");
    }
    assert_eq!(split("ftp://h/"), UrlError::UnsupportedScheme("ftp".to_string()));
    assert_eq!("http://h/x".parse::<Destination>(), Err(UrlError::UnexpectedPath("/x".to_string())));
}

#[test]
fn a_name_that_is_too_long_for_dns_is_refused() {
    let label = "a".repeat(63);
    let name = [&*label, &label, &label, &label[..61]].join(".");
    assert_eq!(name.len(), 253);
    assert!(Destination::split_url(&alloc::format!("http://{name}./")).is_ok());
    let error = Destination::split_url(&alloc::format!("http://{name}a/")).unwrap_err();
    assert_eq!(error, UrlError::Host(InvalidHost::TooLong { len: 254 }));
}

#[test]
fn no_message_and_no_debug_text_shows_a_password() {
    for url in ["http://me:secret@h/", "http://me:secret@/", "http://me:secret@h:x/", "ftp://me:secret@h/"] {
        let error = Destination::split_url(url).unwrap_err();
        assert!(!alloc::format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    let parts = UrlParts::parse("http://me:secret@h/").unwrap();
    assert!(!alloc::format!("{parts:?}").contains("secret"));
    assert_eq!(parts.user_info, Some("me:secret"));
}

#[test]
fn default_ports_make_equal_destinations() {
    let parse = |url: &str| url.parse::<Destination>().unwrap();
    assert_eq!(parse("http://h"), parse("http://H:80/"));
    assert_ne!(parse("http://h:443"), parse("https://h"));
    assert_eq!(parse("https://h").scheme(), Scheme::Https);
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    #[test]
    fn what_is_displayed_parses_back(
        secure: bool,
        host in "[a-z][a-z0-9_-]{0,20}(\\.[a-z][a-z0-9-]{0,10}){0,3}|\\[::[1-9a-f]{1,4}\\]|[1-9]\\.0\\.25[0-5]\\.9",
        port in 1u16..,
    ) {
        let scheme = if secure { Scheme::Https } else { Scheme::Http };
        let destination = Destination::tcp(scheme, host.parse().unwrap(), port);
        prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
    }

    #[test]
    fn a_unix_path_parses_back(path in "[^\0]{1,60}") {
        let destination = Destination::unix(Scheme::Http, &path);
        prop_assert_eq!(destination.to_string().parse::<Destination>().unwrap(), destination);
    }

    #[test]
    fn any_text_is_taken_or_refused_and_a_target_never_holds_a_space(url in "(https?://)?[ -~é\r\n]{0,40}") {
        if let Ok((_, target)) = Destination::split_url(&url) {
            prop_assert!(target.starts_with('/') && target.bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
