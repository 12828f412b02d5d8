//! One request in the client's book, from the call that sends it until its reply is read or given up.

use std::sync::Arc;

use persist_core::{Destination, Ledger, Request, Ways};

use super::shared::Shared;
use crate::error::Error;

/// What a client remembers: the places that it sent requests to, and how many of these are unfinished.
pub(super) struct Book {
    pub(super) ledger: Ledger,
    pub(super) ways: Ways,
    /// Requests so far.
    pub(super) requests: u64,
}

/// One unfinished request.
pub(crate) struct Account {
    shared: Arc<Shared>,
    destination: Destination,
    /// To be noted if its reply's content breaks off.
    request: Option<Box<Request>>,
}

/// Whether failures are noted for [`Client::pending_to`](crate::Client::pending_to).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    Noted,
    /// Whoever asks goes on by himself.
    Passed,
}

impl Account {
    pub(super) fn open(shared: &Arc<Shared>, destination: Destination) -> Self {
        let mut book = shared.book();
        book.requests += 1;
        book.ledger.begin(&destination);
        drop(book);
        Self { shared: shared.clone(), destination, request: None }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Its reply's head is here.
    pub(super) fn remember(mut self, request: &Request, failures: Failures) -> Self {
        if failures == Failures::Noted && self.shared.config.failures_max > 0 {
            self.request = Some(Box::new(request.clone()));
        }
        self
    }

    pub(super) fn failed(&self, request: &Request, error: &Error) {
        let now = self.shared.now();
        self.shared.book().ledger.fail(&self.destination, request, error, now);
    }

    /// Its reply's content broke off: the error, with the destination's name.
    pub(super) fn broke_off(&self, error: Error) -> Error {
        let error = error.at(&self.destination);
        if let Some(request) = &self.request {
            self.failed(request, &error);
        }
        error
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.shared.book().ledger.end(&self.destination);
    }
}
