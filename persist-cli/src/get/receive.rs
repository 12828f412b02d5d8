//! One response: its head to the report and, if asked for, in front of the content; its content to where it goes.

use std::io::Write as _;

use bytes::Bytes;
use persist_async::{ClientConn, Exchange, Stream};
use persist_core::{BodyLen, Disposition, ResponseHead, Version};

use super::budget::{Budget, Spent};
use super::failure::{Failed, Progress};
use super::fetcher::Fetcher;
use super::sink::Sink;
use crate::exit::Exit;

/// What has come of a response so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrived {
    /// Which connection of this run, from 1.
    pub(super) connection: Option<u64>,
    /// Whether that had carried an earlier exchange.
    pub(super) reused: bool,
    pub(super) status: Option<u16>,
    len: Option<BodyLen>,
    /// Content.
    pub(super) bytes: u64,
}

/// Why a response was not received, or not as wished.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection could not complete it.
    Lost(persist_async::Error),
    /// It is whole, or was given up: the rest of it is dropped.
    Ours(Failed),
    /// `--max-time` is up.
    TooSlow,
}

impl From<Spent> for Trouble {
    fn from(_: Spent) -> Self {
        Self::TooSlow
    }
}

impl Arrived {
    /// Nothing yet, on this connection.
    pub(super) fn on(connection: u64, reused: bool) -> Self {
        Self { connection: Some(connection), reused, ..Self::default() }
    }

    pub(super) fn progress(&self) -> Option<Progress> {
        self.len.map(|len| Progress { len, bytes: self.bytes })
    }

    /// What a request came to that was given up now.
    pub(super) fn disposition(&self) -> Disposition {
        if self.status.is_some() { Disposition::ReplyPartial } else { Disposition::SentNoReply }
    }
}

/// Receives the response to `exchange`, and keeps `arrived` up to date.
pub(super) async fn receive(
    fetcher: &Fetcher,
    conn: &ClientConn<Stream>,
    sink: &mut Sink,
    exchange: Exchange,
    left: &mut Budget,
    arrived: &mut Arrived,
) -> Result<(), Trouble> {
    let mut reply = left.spend(conn.read(exchange)).await?.map_err(Trouble::Lost)?;
    let options = &fetcher.options;
    for head in reply.interim.iter().chain([&reply.head]) {
        options.show.response(arrived.connection, head);
    }
    let status = reply.head.status();
    arrived.status = Some(status.as_u16());
    arrived.len = Some(reply.body.len());
    if options.fail && status.is_error() {
        let line = format!("the response: status {status} {}", status.reason());
        return Err(Trouble::Ours(Failed::after_reply(line.trim_end().to_owned(), Exit::HttpError)));
    }
    let written = |result: std::io::Result<()>, sink: &Sink| {
        result.map_err(|error| Trouble::Ours(fetcher.write_failed(sink, &error)))
    };
    let began = sink.begin();
    written(began, sink)?;
    if options.include {
        let wrote = sink.write(&fetcher.stdout, head_bytes(&reply.head)).await;
        written(wrote, sink)?;
    }
    while let Some(piece) = left.spend(reply.body.chunk()).await?.map_err(Trouble::Lost)? {
        arrived.bytes += piece.len() as u64;
        let wrote = sink.write(&fetcher.stdout, piece).await;
        written(wrote, sink)?;
    }
    sink.check().map_err(|_| {
        let line = "the response: its content is not what the server was given".to_owned();
        Trouble::Ours(Failed::after_reply(line, Exit::Failed))
    })
}

/// The head as `-i` and `-I` show it: what was received, not what it means.
fn head_bytes(head: &ResponseHead) -> Bytes {
    let mut bytes = Vec::new();
    let version = if head.version() == Version::Http10 { "1.0" } else { "1.1" };
    // Into a Vec: cannot fail.
    let _ = write!(bytes, "HTTP/{version} {} ", head.status());
    bytes.extend_from_slice(head.reason());
    bytes.extend_from_slice(b"\r\n");
    for field in head.fields() {
        bytes.extend_from_slice(field.name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(field.value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.into()
}
