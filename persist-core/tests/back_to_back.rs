//! Two machines over a link that cuts, joins and delays: every exchange completes, and the connection persists.

mod common;

use common::plan::{kind, wild};
use common::seeds::check;
use common::world::World;
use persist_core::CloseReason;
use proptest::prelude::*;

#[test]
fn every_exchange_completes_and_the_connection_persists() {
    check(300, kind(), |plan| {
        let n = plan.asks.len();
        let mut world = World::new(plan, None, None);
        world.run_until_rest();
        assert!(world.is_at_rest(), "not at rest: {world:?}");
        assert_eq!((world.client.conn.completed(), world.server.conn.completed()), (n as u64, n as u64));
        assert!(!world.client.conn.is_closing() && !world.server.conn.is_closing(), "it did not persist: {world:?}");
        world.judge();
        world.close();
        world.run();
        assert!(world.client.closed && world.server.closed, "hangs: {world:?}");
        assert_eq!(world.client.log.closed(), Some(&CloseReason::OurClose));
        assert_eq!(world.server.log.closed(), Some(&CloseReason::PeerClosed));
    });
}

#[test]
fn whatever_the_callers_do_the_ends_agree_or_close() {
    check(600, (wild(), any::<bool>()), |(plan, impatient)| {
        let mut world = World::new(plan, None, None);
        world.impatient = impatient;
        world.run();
        assert!(world.client.closed && world.server.closed, "hangs: {world:?}");
        world.judge();
    });
}
