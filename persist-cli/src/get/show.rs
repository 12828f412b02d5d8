//! `-v`: connections and heads on standard error, as curl shows them. Values that are or may hold credentials are hidden.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use persist_async::Stream;
use persist_async::tls::rustls::ProtocolVersion;
use persist_core::{Field, ResponseHead, Version};

use super::job::Job;

/// Says what happens, if asked to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Show {
    pub(super) verbose: bool,
}

const HIDDEN: [&str; 4] = ["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"];

impl Show {
    pub(super) fn connected(self, number: u64, to: &str, stream: &Stream) {
        self.say(|text| {
            write!(text, "* connection {number} to {to}")?;
            if let Some(address) = stream.peer_addr() {
                write!(text, " ({address})")?;
            }
            match stream.protocol_version() {
                Some(ProtocolVersion::TLSv1_3) => text.write_str(", TLS 1.3")?,
                Some(ProtocolVersion::TLSv1_2) => text.write_str(", TLS 1.2")?,
                Some(other) => write!(text, ", {other:?}")?,
                None => {}
            }
            text.write_char('\n')
        });
    }

    pub(super) fn request(self, connection: u64, job: &Job) {
        self.say(|text| {
            writeln!(text, "* request for {} on connection {connection}", job.url)?;
            writeln!(text, "> {} {} HTTP/1.1", job.method, job.target)?;
            fields(text, '>', job.fields.iter())
        });
    }

    pub(super) fn response(self, connection: Option<u64>, head: &ResponseHead) {
        self.say(|text| {
            writeln!(text, "* response on connection {}", connection.unwrap_or_default())?;
            let version = if head.version() == Version::Http10 { "1.0" } else { "1.1" };
            writeln!(text, "< HTTP/{version} {} {}", head.status(), head.reason().escape_ascii())?;
            fields(text, '<', head.fields())
        });
    }

    pub(super) fn again(self, url: &str, error: &persist_async::Error) {
        self.say(|text| writeln!(text, "* sending the request for {url} again: {error}"));
    }

    /// One write for all of it: lines of different connections do not mix.
    fn say(self, write: impl FnOnce(&mut String) -> std::fmt::Result) {
        if self.verbose {
            let mut text = String::new();
            // Into a String: cannot fail. And nobody is left to tell when standard error is gone.
            let _ = write(&mut text);
            let _ = io::stderr().write_all(text.as_bytes());
        }
    }
}

fn fields<'f>(text: &mut String, mark: char, fields: impl Iterator<Item = Field<'f>>) -> std::fmt::Result {
    for field in fields {
        if HIDDEN.iter().any(|name| field.name.is(name)) {
            writeln!(text, "{mark} {}: (hidden)", field.name)?;
        } else {
            writeln!(text, "{mark} {}: {}", field.name, field.value.as_bytes().escape_ascii())?;
        }
    }
    writeln!(text, "{mark}")
}
