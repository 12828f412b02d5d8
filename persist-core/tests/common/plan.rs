//! What the two ends of a simulated connection mean to do.

use persist_core::{Config, Gate, Method, Overlap, Timeouts};
use proptest::collection::vec;
use proptest::prelude::*;
use std::time::Duration;

/// Content to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    None,
    Length(usize),
    Chunked(usize, Trailers),
    /// Responses only.
    UntilClose(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trailers {
    With,
    Without,
}

impl Content {
    pub fn len(self) -> usize {
        match self {
            Self::None => 0,
            Self::Length(n) | Self::Chunked(n, _) | Self::UntilClose(n) => n,
        }
    }
}

/// One request, and the behaviour of whoever asked for it.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: Method,
    pub content: Content,
    pub expect: bool,
    pub close: bool,
    pub keep_alive: bool,
    pub reserve: bool,
    /// Percent, at every step while it is under way.
    pub cancel: usize,
}

/// One answer, and the behaviour of its handler.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub content: Content,
    pub interims: u8,
    /// Does not wait for the end of the request, whose body it drops.
    pub early: bool,
    pub close: bool,
    pub abandon: bool,
}

/// A whole case.
#[derive(Clone, Debug)]
pub struct Plan {
    pub asks: Vec<Ask>,
    pub answers: Vec<Answer>,
    pub depth: u32,
    pub gate: Gate,
    pub overlap: Overlap,
    /// What the link holds each way.
    pub capacity: usize,
    pub downgrade_requests: bool,
    pub downgrade_responses: bool,
    /// Limits small enough to be met.
    pub tight: bool,
    /// After so many requests a connection is used up: the client's machine and the server's.
    pub requests_max: (Option<u64>, Option<u64>),
    /// Percent, at every step: the client's and the server's owner ask for an orderly end.
    pub retire: (usize, usize),
    pub dice: u64,
}

impl Plan {
    /// Every deadline finite, so that nobody may wait for ever.
    pub fn configs(&self) -> (Config, Config) {
        let all = Timeouts::server();
        let (mut client, mut server) = (Config::client(), Config::server());
        client.timeouts.header = all.header;
        client.timeouts.body_idle = all.body_idle;
        client.timeouts.write_stall = all.write_stall;
        client.timeouts.idle = Some(Duration::from_secs(90));
        client.pipelining.depth = self.depth;
        client.pipelining.behind_non_idempotent = self.gate;
        server.pipelining.overlap = self.overlap;
        (client.requests_max, server.requests_max) = self.requests_max;
        server.announce_keep_alive = self.tight;
        if self.tight {
            for config in [&mut client, &mut server] {
                config.limits.outbox_bytes_max = 300;
                config.limits.parked_bytes_max = 400;
                config.limits.drain_bytes_max = 200;
            }
            server.pipelining.depth = 3;
        }
        (client, server)
    }
}

fn content() -> impl Strategy<Value = Content> {
    let trailers = prop_oneof![Just(Trailers::With), Just(Trailers::Without)];
    prop_oneof![
        3 => Just(Content::None),
        2 => (0..400usize).prop_map(Content::Length),
        2 => (0..400usize, trailers).prop_map(|(n, trailers)| Content::Chunked(n, trailers)),
        1 => (2000..9000usize).prop_map(Content::Length),
    ]
}

fn method() -> impl Strategy<Value = Method> {
    prop_oneof![
        4 => Just(Method::GET), 1 => Just(Method::HEAD), 2 => Just(Method::POST),
        1 => Just(Method::PUT), 1 => Just(Method::DELETE), 1 => Just(Method::OPTIONS),
    ]
}

/// Well-behaved on both sides: everything that is asked is answered, and the connection persists.
fn kind_ask() -> impl Strategy<Value = Ask> {
    (method(), content(), any::<bool>(), any::<bool>()).prop_map(|(method, content, expect, reserve)| Ask {
        method,
        content,
        expect: expect && content.len() > 0,
        close: false,
        keep_alive: false,
        reserve,
        cancel: 0,
    })
}

fn kind_answer() -> impl Strategy<Value = Answer> {
    let status = prop_oneof![3 => Just(200), 1 => Just(204), 1 => Just(304), 1 => Just(404), 1 => Just(299)];
    (status, content(), 0..3u8).prop_map(|(status, content, interims)| Answer {
        status,
        content,
        interims,
        early: false,
        close: false,
        abandon: false,
    })
}

fn wild_ask() -> impl Strategy<Value = Ask> {
    let rarely = || proptest::bool::weighted(0.1);
    (kind_ask(), rarely(), any::<bool>(), prop_oneof![3 => Just(0), 1 => 1..30usize])
        .prop_map(|(ask, close, keep_alive, cancel)| Ask { close, keep_alive, cancel, ..ask })
}

fn wild_answer() -> impl Strategy<Value = Answer> {
    let rarely = || proptest::bool::weighted(0.1);
    let content = prop_oneof![6 => content(), 1 => (0..500usize).prop_map(Content::UntilClose)];
    let status = prop_oneof![6 => Just(None), 1 => Just(Some(413)), 1 => Just(Some(500))];
    (kind_answer(), status, content, proptest::bool::weighted(0.3), rarely(), rarely()).prop_map(
        |(answer, status, content, early, close, abandon)| Answer {
            status: status.unwrap_or(answer.status),
            content,
            early,
            close,
            abandon,
            ..answer
        },
    )
}

fn plan(
    ask: impl Strategy<Value = Ask>,
    answer: impl Strategy<Value = Answer>,
    downgrade: f64,
) -> impl Strategy<Value = Plan> {
    let gate = prop_oneof![Just(Gate::Closed), Just(Gate::Open)];
    let overlap = prop_oneof![1 => Just(Overlap::None), 2 => Just(Overlap::Safe), 2 => Just(Overlap::Any)];
    let capacity = prop_oneof![1 => 1..64usize, 3 => 1000..100_000usize];
    let down = move || proptest::bool::weighted(downgrade);
    (vec(ask, 1..10), vec(answer, 10), 1..8u32, gate, overlap, capacity, (down(), down()), any::<bool>(), any::<u64>())
        .prop_map(|(asks, answers, depth, gate, overlap, capacity, down, tight, dice)| Plan {
            asks,
            answers,
            depth,
            gate,
            overlap,
            capacity,
            downgrade_requests: down.0,
            downgrade_responses: down.1,
            tight,
            requests_max: (None, None),
            retire: (0, 0),
            dice,
        })
}

/// Plans under which every exchange must complete.
pub fn kind() -> impl Strategy<Value = Plan> {
    plan(kind_ask(), kind_answer(), 0.0)
}

/// Plans of callers who cancel, close, answer early, give up, or speak HTTP/1.0.
pub fn wild() -> impl Strategy<Value = Plan> {
    let requests_max = || proptest::option::weighted(0.15, 1..6u64);
    let retire = || prop_oneof![8 => Just(0), 1 => 1..4usize];
    (plan(wild_ask(), wild_answer(), 0.15), (requests_max(), requests_max()), (retire(), retire()))
        .prop_map(|(plan, requests_max, retire)| Plan { requests_max, retire, ..plan })
}
