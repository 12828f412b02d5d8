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

impl Book {
    /// A request begins.
    pub(super) fn begin(&mut self, destination: &Destination) {
        self.requests += 1;
        self.ledger.begin(destination);
    }
}

/// One unfinished request, whose future has not ended.
pub(super) struct Account<'a> {
    shared: &'a Arc<Shared>,
    destination: &'a Destination,
    state: Stands,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    Open,
    /// Its end is noted, or somebody else's to note.
    Settled,
}

/// One unfinished request whose reply is being read.
pub(crate) struct Kept {
    pub(super) destination: Destination,
    /// To be noted if its reply's content breaks off.
    pub(super) request: Option<Request>,
}

/// Whether failures are noted for [`Client::pending_to`](crate::Client::pending_to).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    Noted,
    /// Whoever asks goes on by himself.
    Passed,
}

impl<'a> Account<'a> {
    pub(super) fn open(shared: &'a Arc<Shared>, destination: &'a Destination) -> Self {
        shared.state().book.begin(destination);
        Self::opened(shared, destination)
    }

    /// Of a request that the book knows already.
    pub(super) fn opened(shared: &'a Arc<Shared>, destination: &'a Destination) -> Self {
        Self { shared, destination, state: Stands::Open }
    }

    pub(super) fn destination(&self) -> &'a Destination {
        self.destination
    }

    /// Its whole reply is here.
    pub(super) fn settle(&mut self, book: &mut Book) {
        self.state = Stands::Settled;
        book.ledger.end(self.destination);
    }

    /// Its reply's head is here.
    pub(super) fn keep(mut self, request: &Request, failures: Failures) -> Kept {
        self.state = Stands::Settled;
        let noted = failures == Failures::Noted && self.shared.config.failures_max > 0;
        Kept { destination: self.destination.clone(), request: noted.then(|| request.clone()) }
    }

    pub(super) fn failed(&self, request: &Request, error: &Error) {
        self.shared.failed(self.destination, request, error);
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        if self.state == Stands::Open {
            self.shared.state().book.ledger.end(self.destination);
        }
    }
}
