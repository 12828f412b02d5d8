//! One URL to fetch: where its connection goes, and what is asked for there.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use persist_core::{Destination, Fields, Method, PoolKey, Scheme};
use url::Url;

use super::outputs::Target;
use crate::exit::Exit;

/// One URL to fetch.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// Its place in the order asked, from 0.
    pub(super) part: usize,
    /// As the user wrote it.
    pub(super) url: String,
    /// Of the route to its destination.
    pub(super) key: PoolKey,
    pub(super) method: Method,
    /// In the route's form.
    pub(super) target: String,
    pub(super) fields: Fields,
    pub(super) content: Content,
    pub(super) output: Target,
}

/// The content of a request.
#[derive(Clone, Debug)]
pub(super) enum Content {
    None,
    /// Held in memory, so it can be sent again.
    Bytes {
        bytes: Bytes,
        chunked: bool,
    },
    /// Read while it is sent.
    File {
        path: std::path::PathBuf,
        chunked: bool,
    },
    /// Read while it is sent, once.
    Stdin,
}

/// A URL taken apart.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) destination: Destination,
    /// The path as it will be asked for: what a file may be named by.
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// `Host`, as the URL gives it.
    pub(super) host: String,
    /// From the URL's user information.
    pub(super) authorization: Option<String>,
}

/// Why a URL cannot be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadUrl {
    pub(super) message: String,
    pub(super) exit: Exit,
}

impl Place {
    /// Takes apart what the user wrote; `http://` may be missing, as in curl.
    pub(super) fn parse(text: &str) -> Result<Self, BadUrl> {
        let bad = |message: String| BadUrl { message: format!("reading the URL: {message}"), exit: Exit::Malformed };
        let text = text.trim();
        let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = Url::parse(&with_scheme).map_err(|error| bad(error.to_string()))?;
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => {
                let message = format!("reading the URL: the scheme {other} is not supported, only http and https are");
                return Err(BadUrl { message, exit: Exit::Failed });
            }
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| bad("it has no host".to_owned()))?;
        let port = url.port_or_known_default().unwrap_or_else(|| scheme.default_port());
        let name = host.parse().map_err(|error| bad(format!("{error}")))?;
        Ok(Self {
            destination: Destination::tcp(scheme, name, port),
            path: url.path().to_owned(),
            query: url.query().map(str::to_owned),
            host: url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            authorization: user_info(&url).map(|(user, password)| basic(&user, &password)),
        })
    }

    /// As curl does with `-T`: a URL that ends in `/` gets the file's name.
    pub(super) fn append_name(&mut self, file: &Path) {
        if self.path.ends_with('/') && self.query.is_none() {
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            self.path.extend(percent_encoding::utf8_percent_encode(&name, SEGMENT));
        }
    }

    /// The origin-form target.
    pub(super) fn target(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }
}

/// What may not stand in a path segment as it is (RFC 3986 §3.3 `pchar`).
const SEGMENT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// The user name and password of a URL, decoded.
fn user_info(url: &Url) -> Option<(String, String)> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decode(url.username()), decode(url.password().unwrap_or_default())))
}

/// RFC 7617: the value of `Authorization`.
pub(super) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

impl Content {
    /// Whether it can be sent a second time.
    pub(super) fn is_replayable(&self) -> bool {
        !matches!(self, Self::Stdin)
    }

    /// Whether it is read while it is sent.
    pub(super) fn is_streamed(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Stdin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (String, String, String) {
        let place = Place::parse(url).unwrap();
        (place.destination.to_string(), place.target(), place.host)
    }

    #[test]
    fn a_url_gives_destination_target_and_host() {
        let expect = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(parts("http://Example.com"), expect("http://example.com", "/", "example.com"));
        assert_eq!(parts("example.com:8080/a?b#c"), expect("http://example.com:8080", "/a?b", "example.com:8080"));
        assert_eq!(parts("http://[::1]:81/a/../b"), expect("http://[::1]:81", "/b", "[::1]:81"));
        assert_eq!(parts("https://h:443/"), expect("https://h", "/", "h"));
        assert_eq!(parts("https://h:444/"), expect("https://h:444", "/", "h:444"));
        assert_eq!(parts("http://h/a b"), expect("http://h", "/a%20b", "h"));
    }

    #[test]
    fn user_information_becomes_authorization_and_never_part_of_the_destination() {
        let place = Place::parse("http://us%3Aer:pass@h/").unwrap();
        assert_eq!(place.authorization.as_deref(), Some("Basic dXM6ZXI6cGFzcw=="));
        assert_eq!((place.destination.to_string().as_str(), place.host.as_str()), ("http://h", "h"));
    }

    #[test]
    fn what_cannot_be_fetched_says_why() {
        assert_eq!(Place::parse("ftp://h/").unwrap_err().exit, Exit::Failed);
        assert_eq!(Place::parse("http://").unwrap_err().exit, Exit::Malformed);
        assert_eq!(Place::parse("http://h:99999/").unwrap_err().exit, Exit::Malformed);
        assert_eq!(Place::parse("").unwrap_err().exit, Exit::Malformed);
    }

    #[test]
    fn an_upload_to_a_directory_gets_the_name_of_its_file() {
        let mut place = Place::parse("http://h/d/").unwrap();
        place.append_name(Path::new("/tmp/a b#c.txt"));
        assert_eq!(place.target(), "/d/a%20b%23c.txt");
        let mut place = Place::parse("http://h/d").unwrap();
        place.append_name(Path::new("x"));
        assert_eq!(place.target(), "/d");
    }
}
