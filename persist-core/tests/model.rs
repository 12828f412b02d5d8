//! The client's machine beside a model of it: a queue, walked through random histories of requests, replies and changes of mind.

mod common;

use std::collections::VecDeque;

use common::seen::{Log, Seen, drain, flush};
use persist_core::{
    BodyLen, Client, Config, Conn, Disposition, ExchangeId, Field, FieldName, FieldValue, Gate, Instant, Method,
    SendError, Slot,
};
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};

const NOW: Instant = Instant::ZERO;

/// Something that a caller or a peer does.
#[derive(Clone, Debug)]
enum Move {
    /// With content of so many bytes, or none.
    Send {
        idempotent: bool,
        content: Option<usize>,
    },
    /// One byte of the newest request's content.
    SendByte,
    /// The newest request's content is complete.
    Finish,
    /// The layer below takes all there is.
    Flush,
    /// The peer answers the oldest request.
    Answer {
        close: bool,
    },
    /// Whoever asked this one gives up.
    Cancel {
        number: usize,
    },
    Reserve,
    Release,
    Close,
}

/// A request in the model's queue.
#[derive(Clone, Debug)]
struct Asked {
    number: usize,
    idempotent: bool,
    /// Bytes of content that are still to be sent; `None` once it is complete.
    left: Option<usize>,
    /// Some of it was flushed; all of what was given was flushed.
    sent: bool,
    flushed: bool,
    cancelled: bool,
    /// The caller was told of its end.
    told: bool,
}

/// How an exchange ended.
#[derive(Clone, Debug, PartialEq)]
enum Said {
    Answered(usize),
    NotSent(usize),
    PartlySent(usize),
    SentNoReply(usize),
    Declined(usize),
}

#[derive(Clone, Debug)]
struct Model {
    depth: usize,
    gate: Gate,
    queue: VecDeque<Asked>,
    reserved: usize,
    asked: usize,
    completed: u64,
    /// No request may follow.
    closing: bool,
    /// The newest request is cut off.
    cut: bool,
    said: Vec<Said>,
}

impl Model {
    fn in_flight(&self) -> usize {
        self.queue.len() + self.reserved
    }

    fn can_send_byte(&self) -> bool {
        !self.cut && self.queue.back().is_some_and(|newest| newest.left.is_some_and(|left| left > 0))
    }

    fn can_finish(&self) -> bool {
        !self.cut && self.queue.back().is_some_and(|newest| newest.left == Some(0))
    }

    /// Early and partial answers are the matter of other tests.
    fn can_be_answered(&self) -> bool {
        self.queue.front().is_some_and(|front| front.flushed && front.left.is_none())
    }

    fn may_send(&self) -> Result<(), SendError> {
        if self.closing || self.cut {
            return Err(SendError::Closed);
        }
        if let Some(newest) = self.queue.back() {
            if newest.left.is_some() {
                return Err(SendError::BodyUnfinished);
            }
            if self.gate == Gate::Closed && !newest.idempotent {
                return Err(SendError::AnswerFirst);
            }
        }
        if self.in_flight() >= self.depth { Err(SendError::Full { in_flight: self.in_flight() }) } else { Ok(()) }
    }

    fn cancel(&mut self, number: usize) {
        let Some(index) = self.queue.iter().position(|asked| asked.number == number) else { return };
        let asked = &mut self.queue[index];
        if asked.cancelled {
            return;
        }
        if asked.left == Some(0) {
            asked.left = None;
        }
        asked.cancelled = true;
        if !asked.sent {
            self.said.push(Said::NotSent(number));
            self.queue.remove(index);
        } else if asked.left.is_some() {
            asked.told = true;
            self.said.push(Said::PartlySent(number));
            self.cut = true;
            self.drop_what_was_cut();
        } else if asked.flushed {
            asked.told = true;
            self.said.push(Said::SentNoReply(number));
        }
    }

    fn flush(&mut self) {
        for asked in &mut self.queue {
            asked.sent = true;
            asked.flushed = true;
            if asked.cancelled && !asked.told {
                asked.told = true;
                self.said.push(Said::SentNoReply(asked.number));
            }
        }
    }

    fn answer(&mut self, close: bool) {
        let Some(front) = self.queue.pop_front() else { return };
        if close {
            self.closing = true;
            for behind in self.queue.drain(..).filter(|behind| !behind.told) {
                self.said.push(if behind.sent { Said::Declined(behind.number) } else { Said::NotSent(behind.number) });
            }
        }
        if !front.cancelled {
            self.said.push(Said::Answered(front.number));
            self.completed += 1;
        }
        self.drop_what_was_cut();
    }

    /// A request that was cut off is waited for only by those before it.
    fn drop_what_was_cut(&mut self) {
        if self.cut && self.queue.len() == 1 {
            self.queue.clear();
            self.closing = true;
        }
    }
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Move;

    fn init_state() -> BoxedStrategy<Self> {
        (1..6usize, prop_oneof![Just(Gate::Closed), Just(Gate::Open)])
            .prop_map(|(depth, gate)| Self {
                depth,
                gate,
                queue: VecDeque::new(),
                reserved: 0,
                asked: 0,
                completed: 0,
                closing: false,
                cut: false,
                said: Vec::new(),
            })
            .boxed()
    }

    fn transitions(state: &Self) -> BoxedStrategy<Move> {
        let content = prop_oneof![2 => Just(None), 1 => (1..4usize).prop_map(Some)];
        // Those that are over may be given up too, to no effect.
        let cancel = 0..state.asked.max(1);
        let close = proptest::bool::weighted(0.05);
        // Offered only where it may be made, so that few are thrown away: weight, move.
        let moves = [
            (6, (any::<bool>(), content).prop_map(|(idempotent, content)| Move::Send { idempotent, content }).boxed()),
            (4 * u32::from(state.can_send_byte()), Just(Move::SendByte).boxed()),
            (3 * u32::from(state.can_finish()), Just(Move::Finish).boxed()),
            (5, Just(Move::Flush).boxed()),
            (6 * u32::from(state.can_be_answered()), close.prop_map(|close| Move::Answer { close }).boxed()),
            (2 * u32::from(state.asked > 0), cancel.prop_map(|number| Move::Cancel { number }).boxed()),
            (2, Just(Move::Reserve).boxed()),
            (2 * u32::from(state.reserved > 0), Just(Move::Release).boxed()),
            (1, proptest::bool::weighted(0.1).prop_map(|close| if close { Move::Close } else { Move::Flush }).boxed()),
        ];
        Union::new_weighted(moves.into_iter().filter(|(weight, _)| *weight > 0).collect()).boxed()
    }

    fn preconditions(state: &Self, transition: &Move) -> bool {
        match transition {
            Move::SendByte => state.can_send_byte(),
            Move::Finish => state.can_finish(),
            Move::Answer { .. } => state.can_be_answered(),
            Move::Cancel { number } => *number < state.asked,
            Move::Release => state.reserved > 0,
            _ => true,
        }
    }

    fn apply(mut state: Self, transition: &Move) -> Self {
        match transition {
            Move::Send { idempotent, content } => {
                if state.may_send().is_ok() {
                    state.queue.push_back(Asked {
                        number: state.asked,
                        idempotent: *idempotent,
                        left: *content,
                        sent: false,
                        flushed: false,
                        cancelled: false,
                        told: false,
                    });
                    state.asked += 1;
                }
            }
            Move::SendByte => {
                if let Some(newest) = state.queue.back_mut() {
                    newest.left = newest.left.map(|left| left - 1);
                    newest.flushed = false;
                }
            }
            Move::Finish => {
                if let Some(newest) = state.queue.back_mut() {
                    newest.left = None;
                }
            }
            Move::Flush => state.flush(),
            Move::Answer { close } => state.answer(*close),
            Move::Cancel { number } => state.cancel(*number),
            Move::Reserve => {
                if !state.closing && !state.cut && state.in_flight() < state.depth {
                    state.reserved += 1;
                }
            }
            Move::Release => state.reserved -= 1,
            Move::Close => state.closing = true,
        }
        state
    }
}

/// The machine, and what the model's numbers stand for.
struct Machine {
    conn: Conn<Client>,
    log: Log,
    ids: Vec<ExchangeId>,
    slots: Vec<Slot>,
}

impl Machine {
    fn said(&self) -> Vec<Said> {
        let number =
            |id: u64| self.ids.iter().position(|known| known.number() == id).expect("an exchange that was begun");
        let said = self.log.0.iter().filter_map(|seen| match seen {
            Seen::End(id, _) => Some(Said::Answered(number(*id))),
            Seen::Ended(id, failure) => Some(match failure.disposition {
                Disposition::NotSent => Said::NotSent(number(*id)),
                Disposition::PartlySent { .. } => Said::PartlySent(number(*id)),
                Disposition::SentNoReply => Said::SentNoReply(number(*id)),
                Disposition::Declined => Said::Declined(number(*id)),
                other => panic!("the model knows no {other}"),
            }),
            _ => None,
        });
        said.collect()
    }
}

/// Runs both.
struct SideBySide;

impl StateMachineTest for SideBySide {
    type SystemUnderTest = Machine;
    type Reference = Model;

    fn init_test(model: &Model) -> Machine {
        let mut config = Config::client();
        config.pipelining.depth = model.depth as u32;
        config.pipelining.behind_non_idempotent = model.gate;
        Machine { conn: Conn::new(config, NOW), log: Log::default(), ids: Vec::new(), slots: Vec::new() }
    }

    fn apply(mut machine: Machine, _: &Model, transition: Move) -> Machine {
        let conn = &mut machine.conn;
        match transition {
            Move::Send { idempotent, content } => {
                let expected = conn.may_send();
                let host = Field { name: FieldName::from_static("Host"), value: FieldValue::from_static("h") };
                let method = if idempotent { Method::PUT } else { Method::POST };
                let body = content.map_or(BodyLen::Empty, |length| BodyLen::Length(length as u64));
                let sent = conn.send_request(&method, "/", [host], body, NOW);
                assert_eq!(sent.as_ref().err(), expected.as_ref().err());
                machine.ids.extend(sent);
            }
            Move::SendByte => {
                let id = *machine.ids.last().expect("a request");
                assert_eq!(conn.send_body(id, b"x", NOW), Ok(1));
            }
            Move::Finish => {
                let id = *machine.ids.last().expect("a request");
                assert_eq!(conn.finish_body(id, None, NOW), Ok(()));
            }
            Move::Flush => drop(flush(conn, NOW)),
            Move::Answer { close } => {
                let field = if close { "Connection: close\r\n" } else { "" };
                let answer = format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 1\r\n\r\nx");
                drain(conn, &mut answer.as_bytes(), NOW, &mut machine.log, |_, _| {});
            }
            Move::Cancel { number } => conn.cancel(machine.ids[number], NOW),
            Move::Reserve => machine.slots.extend(conn.reserve()),
            Move::Release => conn.release(machine.slots.pop().expect("a slot")),
            Move::Close => conn.close(NOW),
        }
        drain(&mut machine.conn, &mut &b""[..], NOW, &mut machine.log, |_, _| {});
        machine
    }

    fn check_invariants(machine: &Machine, model: &Model) {
        let conn = &machine.conn;
        assert_eq!(machine.said(), model.said, "{conn:?}");
        assert_eq!(conn.pending(), model.queue.len(), "pending");
        assert_eq!(conn.in_flight(), model.in_flight(), "in flight");
        assert_eq!(conn.completed(), model.completed, "completed");
        assert_eq!(conn.may_send(), model.may_send(), "the gates");
        let available = if model.closing || model.cut { 0 } else { model.depth - model.in_flight() };
        assert_eq!(conn.available(), available, "available");
    }
}

#[test]
fn the_machine_and_the_model_agree_after_every_move() {
    let moves = <Model as ReferenceStateMachine>::sequential_strategy(1..60);
    common::seeds::check(600, moves, |(model, moves, seen)| {
        SideBySide::test_sequential(ProptestConfig::default(), model, moves, seen);
    });
}
