//! The right to use a pooled connection for one exchange.

use std::sync::Arc;

use persist_core::pool::{ConnId, Loss, Use};

use super::account::Account;
use super::shared::Shared;
use crate::client_conn::ClientConn;
use crate::error::Error;
use crate::incoming;

/// A pooled connection, lent for one exchange. Goes back when it is dropped.
pub(super) struct Lease {
    shared: Arc<Shared>,
    id: ConnId,
    conn: Arc<ClientConn>,
    state: Lent,
    /// The request that it is lent for, once its reply is being read.
    account: Option<Account>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lent {
    Out,
    Returned,
}

impl Lease {
    pub(super) fn new(shared: &Arc<Shared>, id: ConnId, conn: Arc<ClientConn>) -> Self {
        Self { shared: shared.clone(), id, conn, state: Lent::Out, account: None }
    }

    pub(super) fn id(&self) -> ConnId {
        self.id
    }

    pub(super) fn conn(&self) -> &ClientConn {
        &self.conn
    }

    pub(super) fn keep(&mut self, account: Account) {
        self.account = Some(account);
    }

    /// Whether the connection takes no further exchange.
    pub(super) fn is_over(&self) -> bool {
        self.conn.is_over()
    }

    /// Somebody else says what becomes of the connection.
    pub(super) fn hand_over(&mut self) {
        self.state = Lent::Returned;
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

    fn release(&mut self, how: Use) {
        if self.state == Lent::Out {
            self.state = Lent::Returned;
            self.shared.released(self.id, how);
        }
    }
}

impl incoming::Lent for Lease {
    fn broke_off(&self, error: Error) -> Error {
        match &self.account {
            Some(account) => account.broke_off(error),
            None => error,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
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
