//! What befalls the network and the servers while clients are at work.

use std::sync::Arc;
use std::time::Duration;

use crate::dice::Dice;
use crate::hosts::{PATIENT, Running};
use crate::network::{HostState, Style};
use crate::world::World;

/// Partitions, resets, and other weather, until it is to be quiet.
pub(crate) async fn weather(world: Arc<World>, (clients, servers): (usize, usize), mut dice: Dice) {
    while !world.is_quiet() {
        tokio::time::sleep(dice.millis(20, 2_500)).await;
        match dice.below(4) {
            0 => {
                let (client, server) = (dice.below(clients), dice.below(servers));
                world.trace.say(format_args!("c{client} and s{server} are parted"));
                world.net.cut(client, server);
                tokio::time::sleep(dice.millis(10, 6_000)).await;
                world.trace.say(format_args!("c{client} and s{server} are together again"));
                world.net.heal(client, server);
            }
            1 | 2 => {
                let open = world.net.open_links();
                if !open.is_empty() {
                    let link = dice.pick(&open);
                    world.trace.say(format_args!("#{link} is reset"));
                    world.net.reset(link);
                }
            }
            _ => {
                let style = Style::draw(&mut dice);
                world.trace.say(format_args!("the weather changes: {style:?}"));
                world.net.with(|net| net.style = style);
            }
        }
    }
}

/// Servers end, crash and start again, until it is to be quiet. They run at the end.
pub(crate) async fn fate(world: Arc<World>, mut running: Vec<Running>, mut dice: Dice) -> Vec<Running> {
    while !world.is_quiet() {
        tokio::time::sleep(dice.millis(100, 6_000)).await;
        let one = running.swap_remove(dice.below(running.len()));
        let server = one.server();
        match dice.below(5) {
            0 => one.crash(&world, HostState::Deaf).await,
            1 => one.crash(&world, HostState::Dark).await,
            2 => one.stop(&world, dice.millis(0, 500)).await,
            _ => one.stop(&world, PATIENT).await,
        }
        tokio::time::sleep(if dice.percent(50) { Duration::ZERO } else { dice.millis(1, 4_000) }).await;
        running.push(Running::start(&world, server));
    }
    running
}
