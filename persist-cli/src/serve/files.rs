//! Static files: what a request gets, all of it decided before the first byte is sent. Blocking: it runs beside the connections.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use persist_core::{Method, RequestHead, Response, StatusCode};

use super::conditional::{Condition, Conditions as _, Validators};
use super::lookup::{Found, list, look_up, split_target};
use super::range::{Asked, parse};
use super::{content_type, listing};

/// Content up to this size is read at once; more is read while it is sent.
const READ_AT_ONCE: u64 = 64 * 1024;

const ALLOW: &str = "GET, HEAD, OPTIONS";

/// A directory that is served.
#[derive(Clone, Debug)]
pub(super) struct Site {
    root: PathBuf,
}

/// What a request gets.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    None,
    Bytes(Bytes),
    /// So many bytes from where the file stands.
    File {
        file: File,
        len: u64,
    },
    /// HEAD: only its length is told.
    Unsent {
        len: u64,
    },
}

impl Site {
    /// # Errors
    /// The directory does not exist, or is none.
    pub(super) fn new(directory: &Path) -> io::Result<Self> {
        let root = directory.canonicalize()?;
        if !root.is_dir() {
            return Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"));
        }
        Ok(Self { root })
    }

    /// What the request gets.
    pub(super) fn answer(&self, head: &RequestHead) -> Answer {
        let method = head.method();
        if *method == Method::OPTIONS {
            return plain(StatusCode::NO_CONTENT).with("Allow", ALLOW).without_content();
        }
        if !matches!(*method, Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED).with("Allow", ALLOW);
        }
        let (path, query) = split_target(head.target());
        let answer = match look_up(&self.root, path) {
            Found::File { path, metadata } => file(head, &path, &metadata),
            Found::Directory { path: directory } => self.directory(head, path, &directory),
            Found::SlashMissing => {
                // One slash in front: two would name another host.
                let mut location = format!("/{}/", path.trim_start_matches('/'));
                location.extend(query.iter().flat_map(|query| ["?", query]));
                Ok(plain(StatusCode::MOVED_PERMANENTLY).with("Location", location))
            }
            Found::Nothing => Ok(plain(StatusCode::NOT_FOUND)),
        };
        // What cannot be read is not told from what is not there.
        let answer = answer.unwrap_or_else(|_| plain(StatusCode::NOT_FOUND));
        if *method == Method::HEAD { answer.for_head() } else { answer }
    }

    /// `index.html` if there is one, else a list of names.
    fn directory(&self, head: &RequestHead, path: &str, directory: &Path) -> io::Result<Answer> {
        if let Found::File { path, metadata } = look_up(&self.root, &format!("{path}index.html")) {
            return file(head, &path, &metadata);
        }
        let (names, more) = list(&self.root, directory, listing::NAMES_MAX)?;
        let page = listing::page(path, &names, more);
        Ok(Answer { response: Response::ok(), content: Content::Bytes(page.into()) }
            .with("Content-Type", "text/html; charset=utf-8"))
    }
}

/// RFC 9110 §13.2, §14.2: conditions first, then the range.
fn file(head: &RequestHead, path: &Path, metadata: &Metadata) -> io::Result<Answer> {
    let len = metadata.len();
    let validators = Validators::new(len, metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH));
    let known_by = |answer: Answer| {
        answer
            .with("ETag", &validators.etag)
            .with("Last-Modified", validators.last_modified())
            .with("Accept-Ranges", "bytes")
    };
    match validators.evaluate(head.method(), head) {
        Condition::NotModified => return Ok(known_by(plain(StatusCode::NOT_MODIFIED)).without_content()),
        Condition::Failed => return Ok(plain(StatusCode::PRECONDITION_FAILED)),
        Condition::Holds => {}
    }
    // RFC 9110 §14.2: a range is for GET only.
    let range = match head.values("Range")[..] {
        [value] if *head.method() == Method::GET && validators.range_allowed(head) => {
            value.to_str().map_or(Asked::Whole, |value| parse(value, len))
        }
        _ => Asked::Whole,
    };
    let (status, first, len_sent) = match range {
        Asked::Whole => (StatusCode::OK, 0, len),
        Asked::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Asked::Unsatisfiable => {
            return Ok(plain(StatusCode::RANGE_NOT_SATISFIABLE).with("Content-Range", format!("bytes */{len}")));
        }
    };
    let content = match head.method() {
        &Method::HEAD => Content::Unsent { len },
        _ => open(path, first, len_sent)?,
    };
    let mut answer = known_by(Answer { response: Response::new(status), content });
    if let Asked::Part { first, last } = range {
        answer = answer.with("Content-Range", format!("bytes {first}-{last}/{len}"));
    }
    Ok(answer.with("Content-Type", content_type::of(path)))
}

fn open(path: &Path, first: u64, len: u64) -> io::Result<Content> {
    let mut file = File::open(path)?;
    if first > 0 {
        file.seek(SeekFrom::Start(first))?;
    }
    if len > READ_AT_ONCE {
        return Ok(Content::File { file, len });
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.take(len).read_to_end(&mut bytes)?;
    // A file that shrank since its length was told is sent as what it has become.
    Ok(Content::Bytes(bytes.into()))
}

/// A response that says no more than its status.
pub(super) fn plain(status: StatusCode) -> Answer {
    let text = format!("{status} {}\n", status.reason());
    Answer { response: Response::new(status), content: Content::Bytes(text.into()) }
        .with("Content-Type", "text/plain; charset=utf-8")
}

impl Answer {
    pub(super) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        // A name in the file system may hold what no field may: then the field is left out.
        let _ = self.response.fields.push(name, value);
        self
    }

    fn without_content(self) -> Self {
        let mut fields = persist_core::Fields::new();
        for field in self.response.fields.iter().filter(|field| !field.name.is("Content-Type")) {
            fields.push_field(field);
        }
        Self { response: Response { fields, ..self.response }, content: Content::None }
    }

    fn for_head(mut self) -> Self {
        self.content = match self.content {
            Content::Bytes(bytes) => Content::Unsent { len: bytes.len() as u64 },
            Content::File { len, .. } => Content::Unsent { len },
            other => other,
        };
        self
    }
}
