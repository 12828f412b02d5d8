//! The servers, all on one thread but ours for blocking code: each answers small requests with 13 bytes and four fields, and bodies as
//! [`plan::content`](crate::plan::content) says.

mod axum;
mod epoll;
pub mod hyper;
pub mod ours;
mod tokio_floor;

use std::io::BufRead as _;
use std::net::SocketAddr;

use crate::{Error, actor};

/// What servers call themselves; all say it in as many bytes.
const NAME: &str = "peer";

pub fn run(kind: &str) -> Result<(), Error> {
    match kind {
        "epoll-floor" => epoll::run(),
        "tokio-floor" => tokio_floor::run(),
        "hyper" => hyper::run(false),
        "hyper-pipeline-flush" => hyper::run(true),
        "axum-hyper" => axum::on_hyper(),
        "axum-persist" => axum::on_ours(),
        "persist-async" => ours::run_async(),
        "persist-sync" => ours::run_sync(),
        _ => Err(format!("there is no server `{kind}`").into()),
    }
}

/// Says where it listens, and sees to it that it ends with its input: with whoever started it, if need be.
fn listening(address: Option<SocketAddr>) -> Result<(), Error> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().lock().read_line(&mut String::new());
        std::process::exit(0);
    });
    actor::say(&format!("listening {}", address.ok_or("no address")?))
}

/// A runtime on this thread.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A response of the same size as everyone's, for loops that only write constant bytes.
const CONSTANT: &[u8] = b"HTTP/1.1 200 OK\r\nServer: peer\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

/// Reads a request's head; returns its length, what it asks for, and the length of its content.
fn head(bytes: &[u8]) -> Result<Option<(usize, &str, u64)>, Error> {
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; 64];
    let mut head = httparse::Request::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_request_with_uninit_headers(&mut head, bytes, &mut fields)? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(len) => {
            let length = match head.method {
                Some("GET") => 0,
                _ => {
                    let field = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
                    std::str::from_utf8(field.ok_or("content without a length")?.value)?.parse()?
                }
            };
            Ok(Some((len, head.path.unwrap_or_default(), length)))
        }
    }
}
