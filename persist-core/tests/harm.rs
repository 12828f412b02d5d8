//! A link that stalls, resets, cuts or refuses, at every byte: the machines end in agreement or in a typed close, and never hang.

mod common;

use common::link::{Fault, HARMS};
use common::plan::{Answer, Ask, Content, Plan, Trailers, wild};
use common::seeds::check;
use common::world::World;
use persist_core::{Gate, Method, Overlap};
use proptest::prelude::*;

fn run(plan: Plan, up: Option<Fault>, down: Option<Fault>) -> World {
    let mut world = World::new(plan, up, down);
    world.run();
    assert!(world.client.closed && world.server.closed, "hangs, with {up:?} and {down:?}: {world:?}");
    world.judge();
    world
}

fn ask(method: Method, content: Content, expect: bool) -> Ask {
    Ask { method, content, expect, close: false, keep_alive: false, reserve: false, cancel: 0 }
}

fn answer(status: u16, content: Content, interims: u8) -> Answer {
    Answer { status, content, interims, early: false, close: false, abandon: false }
}

/// Two safe requests that overlap, an upload in chunks that waits for 100 Continue, and one more behind it.
fn small_plan(dice: u64) -> Plan {
    Plan {
        asks: vec![
            ask(Method::GET, Content::None, false),
            ask(Method::HEAD, Content::None, false),
            ask(Method::PUT, Content::Chunked(30, Trailers::With), true),
            ask(Method::GET, Content::Length(5), false),
        ],
        answers: vec![
            answer(200, Content::Length(12), 1),
            answer(200, Content::Length(9), 0),
            answer(404, Content::Chunked(25, Trailers::With), 0),
            answer(200, Content::UntilClose(20), 0),
        ],
        depth: 3,
        gate: Gate::Open,
        overlap: Overlap::Safe,
        capacity: 4096,
        downgrade_requests: false,
        downgrade_responses: false,
        tight: false,
        requests_max: (None, None),
        retire: (0, 0),
        dice,
    }
}

#[test]
fn harm_at_every_byte_of_a_connection_is_told_truly() {
    for dice in [3, 5, 7] {
        let whole = run(small_plan(dice), None, None);
        assert_eq!(whole.client.conn.completed(), 4, "without harm all goes well: {whole:?}");
        for harm in HARMS {
            for at in 0..=whole.up.accepted {
                run(small_plan(dice), Some(Fault { harm, at }), None);
            }
            for at in 0..=whole.down.accepted {
                run(small_plan(dice), None, Some(Fault { harm, at }));
            }
        }
    }
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    let harm = proptest::sample::select(HARMS.to_vec());
    let at = prop_oneof![3 => 0..600u64, 1 => 0..8000u64];
    proptest::option::weighted(0.7, (harm, at).prop_map(|(harm, at)| Fault { harm, at }))
}

#[test]
fn harm_in_both_directions_of_any_connection_is_told_truly() {
    check(1500, (wild(), fault(), fault(), any::<bool>()), |(plan, up, down, impatient)| {
        let mut world = World::new(plan, up, down);
        world.impatient = impatient;
        world.run();
        assert!(world.client.closed && world.server.closed, "hangs, with {up:?} and {down:?}: {world:?}");
        world.judge();
    });
}
