//! What a client does beside its requests, on one thread: tells the pool the time, and looks after idle connections.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use persist_core::pool::{ConnId, Loss, Use};
use persist_core::{Instant, Method, Request};

use super::shared::Shared;
use crate::client_conn::ClientConn;
use crate::clock;
use crate::exchange::Exchange;

/// Rings until it is heard.
#[derive(Default)]
pub(super) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(super) fn ring(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.heard.notify_one();
    }

    fn wait(&self, at_most: Option<Duration>) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rung = match at_most {
            Some(time) => {
                self.heard.wait_timeout_while(rung, time, |rung| !*rung).unwrap_or_else(PoisonError::into_inner).0
            }
            None => self.heard.wait_while(rung, |rung| !*rung).unwrap_or_else(PoisonError::into_inner),
        };
        *rung = false;
    }
}

/// Runs as long as the client exists and has connections. It never keeps the client alive while it waits.
pub(super) fn run(client: &Weak<Shared>, sooner: &Bell) {
    while let Some(shared) = client.upgrade() {
        let checks = shared.checks();
        if !checks.is_empty() {
            let until = clock::now() + shared.config.upkeep.interval;
            drop(shared);
            check(checks, until);
            continue;
        }
        let Some(due) = shared.next_wake() else { return };
        drop(shared);
        sooner.wait(clock::until(due));
    }
}

/// Looks at each, and asks those for which there is a host. All are asked before the first answer is awaited, so that a round of silent servers takes no
/// longer than one.
fn check(checks: Vec<(Held, Option<String>)>, until: Instant) {
    let mut asked = Vec::new();
    for (held, host) in checks {
        held.conn.look_after();
        match host {
            Some(host) if held.conn.is_reusable() => asked.extend(held.ask(host, until)),
            _ => drop(held),
        }
    }
    asked.into_iter().for_each(|(held, exchange)| held.hear(exchange));
}

/// A connection that the upkeep has in its hands. Goes back to the pool when it is dropped, if it can be used again.
pub(super) struct Held {
    client: Weak<Shared>,
    id: ConnId,
    conn: Arc<ClientConn>,
    how: Use,
}

impl Held {
    pub(super) fn new(shared: &Arc<Shared>, id: ConnId, conn: Arc<ClientConn>) -> Self {
        Self { client: Arc::downgrade(shared), id, conn, how: Use::Unused }
    }

    /// Asks a server whether it still answers. One that does not is no use to anybody.
    fn ask(self, host: String, until: Instant) -> Option<(Self, Exchange)> {
        let request = Request::new(Method::OPTIONS, "*").field("Host", host).ok()?;
        match self.conn.write_until(&request, until) {
            Ok(exchange) => Some((self, exchange)),
            Err(_) => {
                self.conn.abort();
                None
            }
        }
    }

    fn hear(mut self, exchange: Exchange) {
        let answered =
            self.conn.read(exchange).is_ok_and(|mut reply| io::copy(&mut reply.body, &mut io::sink()).is_ok());
        if answered {
            self.how = Use::Probed;
        } else {
            self.conn.abort();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(shared) = self.client.upgrade() else { return };
        if self.conn.is_closing() {
            shared.lost(self.id, Loss::Expected);
        } else {
            shared.released(self.id, self.how);
        }
    }
}
