//! The right to use a pooled connection for one exchange.

use std::sync::Arc;

use persist_core::Instant;
use persist_core::pool::{ConnId, Loss, Use};

use super::account::{Account, Kept};
use super::shared::Shared;
use super::state::Handed;
use crate::client_conn::ClientConn;
use crate::error::Error;
use crate::round_trip::Standing;
use crate::stream::Stream;

/// A pooled connection, lent for one exchange. Goes back when it is dropped.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    id: ConnId,
    conn: Arc<ClientConn<Stream>>,
    state: Lent,
    /// Whether many others were under way when it was lent.
    pub(super) is_of_many: bool,
    /// When that was, if it was just now.
    pub(super) lent_at: Option<Instant>,
    /// The request that it is lent for, once its reply is being read.
    account: Option<Box<Kept>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lent {
    Out,
    Returned,
}

impl Lease {
    pub(super) fn new(shared: &Arc<Shared>, (id, conn, is_of_many): Handed, lent_at: Option<Instant>) -> Self {
        Self { shared: shared.clone(), id, conn, state: Lent::Out, is_of_many, lent_at, account: None }
    }

    pub(super) fn conn(&self) -> &ClientConn<Stream> {
        &self.conn
    }

    pub(super) fn keep(&mut self, account: Kept) {
        self.account = Some(Box::new(account));
    }

    /// The reply's head is here. If that is the `whole` of it, its account is settled and the connection is free again at once, or done for; else it stays lent.
    pub(super) fn answered(mut self, standing: Standing, whole: Option<&mut Account<'_>>) -> Option<Self> {
        let is_whole = whole.is_some();
        if is_whole && !standing.is_over {
            self.state = Lent::Returned;
        }
        self.shared.answered(self.id, standing, whole);
        (!is_whole).then_some(self)
    }

    /// The content of the reply broke off: the error, with the destination's name.
    pub(crate) fn failed(&self, error: Error) -> Error {
        match &self.account {
            Some(account) => {
                let error = error.at(&account.destination);
                if let Some(request) = &account.request {
                    self.shared.failed(&account.destination, request, &error);
                }
                error
            }
            None => error,
        }
    }

    /// Whether the connection takes no further exchange.
    pub(super) fn is_over(&self) -> bool {
        self.conn.is_over()
    }

    /// The connection is to be used again.
    pub(super) fn give_back(mut self, how: Use) {
        self.release(how);
    }

    /// The exchange failed. If the connection is done for, it leaves the pool.
    pub(super) fn end(mut self, how: Loss) {
        if self.is_over() {
            self.state = Lent::Returned;
            self.shared.lost(self.id, how);
        } else {
            self.release(Use::Completed);
        }
    }

    /// Whether the connection must read and drop the rest of a reply before its next exchange. One of HTTP/2 resets the stream instead.
    fn leaves_something(&self) -> bool {
        #[cfg(feature = "http2")]
        if self.conn.is_http2() {
            return false;
        }
        self.conn.in_flight() == 1
    }

    fn release(&mut self, how: Use) {
        if self.state == Lent::Returned {
            return;
        }
        self.state = Lent::Returned;
        // What this exchange leaves behind is drained before the next one meets it; others of a pipeline see to it themselves.
        if how == Use::Completed && self.leaves_something() && self.shared.drain(self.id, &self.conn) {
            return;
        }
        self.shared.released(self.id, how);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(account) = self.account.take() {
            self.shared.state().book.ledger.end(&account.destination);
        }
        if self.state == Lent::Returned {
            return;
        }
        if self.is_over() {
            self.state = Lent::Returned;
            let graceful = self.conn.close_reason().is_none_or(|reason| reason.is_graceful());
            self.shared.lost(self.id, if graceful { Loss::Expected } else { Loss::Broken });
        } else {
            self.release(Use::Completed);
        }
    }
}
