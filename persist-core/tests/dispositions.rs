//! Every byte that the layer below accepts counts for the exchange that it belongs to, and decides, exactly, what became of it.

mod common;

use bytes::{Buf, Bytes};
use common::seeds::check;
use common::seen::{Log, drain};
use persist_core::{
    BodyLen, Client, CloseReason, Config, Conn, Disposition, Field, FieldName, FieldValue, Gate, Instant, Method,
    Parts, Side,
};
use proptest::collection::vec;
use proptest::prelude::*;

const NOW: Instant = Instant::ZERO;

/// How one request's content is handed over.
#[derive(Clone, Debug)]
struct Request {
    chunked: bool,
    shared: bool,
    pieces: Vec<usize>,
}

fn request() -> impl Strategy<Value = Request> {
    let pieces = prop_oneof![2 => Just(Vec::new()), 1 => vec(1..300usize, 1..4), 1 => vec(1..20_000usize, 1..3)];
    (any::<bool>(), any::<bool>(), pieces).prop_map(|(chunked, shared, pieces)| Request { chunked, shared, pieces })
}

/// What ends it all.
#[derive(Clone, Copy, Debug)]
enum Blow {
    ReadFails,
    WriteFails,
    Eof,
    Abort,
}

impl Blow {
    fn strike(self, conn: &mut Conn<Client>) {
        match self {
            Self::ReadFails => conn.handle_io_error(Side::Read, NOW),
            Self::WriteFails => {
                conn.handle_io_error(Side::Write, NOW);
                conn.handle_eof(NOW);
            }
            Self::Eof => conn.handle_eof(NOW),
            Self::Abort => conn.abort(NOW),
        }
    }
}

/// Queues a request whole, and returns its exchange and how many bytes it has.
fn queue(conn: &mut Conn<Client>, request: &Request) -> (persist_core::ExchangeId, u64) {
    let before = conn.unsent_bytes();
    let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
    let length = request.pieces.iter().sum::<usize>() as u64;
    let body = match (length, request.chunked) {
        (0, _) => BodyLen::Empty,
        (_, true) => BodyLen::Chunked,
        (length, false) => BodyLen::Length(length),
    };
    let id = conn.send_request(&Method::PUT, "/", [host], body, NOW).expect("the gates are open");
    for &piece in &request.pieces {
        let content = vec![b'x'; piece];
        if request.shared {
            assert_eq!(conn.send_body_shared(id, &Bytes::from(content), NOW), Ok(true));
        } else {
            assert_eq!(conn.send_body(id, &content, NOW), Ok(piece));
        }
    }
    if length > 0 {
        conn.finish_body(id, None, NOW).expect("all was sent");
    }
    (id, (conn.unsent_bytes() - before) as u64)
}

#[test]
fn what_was_accepted_decides_what_became_of_each_request() {
    let blow = prop_oneof![Just(Blow::ReadFails), Just(Blow::WriteFails), Just(Blow::Eof), Just(Blow::Abort)];
    let case = (vec(request(), 1..6), 0..200usize, 0.0..1.2f64, 1..9000usize, blow);
    check(800, case, |(requests, foreign, share, at_once, blow)| {
        let mut config = Config::client();
        config.pipelining.depth = 8;
        config.pipelining.behind_non_idempotent = Gate::Open;
        config.limits.outbox_bytes_max = 1_000_000;
        // Bytes that another machine left unsent go first, and belong to none of these.
        let mut conn = Conn::<Client>::from_parts(config, Parts::new(Vec::new(), vec![b'f'; foreign]), NOW);
        let queued: Vec<_> = requests.iter().map(|request| queue(&mut conn, request)).collect();
        let target = (conn.unsent_bytes() as f64 * share) as usize;
        let mut advanced = 0;
        while advanced < target && conn.wants_write() {
            let mut transmit = conn.transmit(NOW);
            let n = transmit.chunk().len().min(at_once).min(target - advanced);
            transmit.advance(n);
            advanced += n;
        }
        blow.strike(&mut conn);
        let mut log = Log::default();
        drain(&mut conn, &mut &b""[..], NOW, &mut log, |_, _| {});
        assert!(log.closed().is_some(), "{conn:?}");
        let mut left = advanced.saturating_sub(foreign) as u64;
        for (id, length) in queued {
            let sent = left.min(length);
            left -= sent;
            let ends = log.ends(id.number());
            let failure = ends[0].expect("it failed");
            let expected = match sent {
                0 => Disposition::NotSent,
                _ if sent < length => Disposition::PartlySent { bytes: sent },
                _ => Disposition::SentNoReply,
            };
            assert_eq!((ends.len(), failure.disposition, failure.sent), (1, expected, sent), "of {length}: {failure}");
            assert_eq!((failure.received, failure.reused, failure.idempotent), (0, false, true));
            assert_eq!(failure.reason == CloseReason::Aborted, matches!(blow, Blow::Abort));
        }
    });
}
