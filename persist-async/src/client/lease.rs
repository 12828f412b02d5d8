//! The right to use a pooled connection for one exchange.

use std::sync::Arc;

use persist_core::pool::{ConnId, Loss, Use};

use super::account::Account;
use super::shared::Shared;
use crate::client_conn::ClientConn;
use crate::error::Error;
use crate::stream::Stream;

/// A pooled connection, lent for one exchange. Goes back when it is dropped.
pub(crate) struct Lease {
    shared: Arc<Shared>,
    id: ConnId,
    conn: Arc<ClientConn<Stream>>,
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
    pub(super) fn new(shared: &Arc<Shared>, id: ConnId, conn: Arc<ClientConn<Stream>>) -> Self {
        Self { shared: shared.clone(), id, conn, state: Lent::Out, account: None }
    }

    pub(super) fn conn(&self) -> &ClientConn<Stream> {
        &self.conn
    }

    pub(super) fn keep(&mut self, account: Account) {
        self.account = Some(account);
    }

    /// The reply's head is here. If it `is_whole`, the connection is free again at once.
    pub(super) fn answered(&mut self, is_whole: bool) {
        let (announced, is_over) = self.conn.standing();
        let is_free = is_whole && !is_over;
        if is_free {
            self.state = Lent::Returned;
        }
        self.shared.answered(self.id, announced, is_free);
    }

    /// The content of the reply broke off: the error, with the destination's name.
    pub(crate) fn failed(&self, error: Error) -> Error {
        match &self.account {
            Some(account) => account.broke_off(error),
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
