//! One request in the client's book, from the call that sends it until its reply is read or given up.

use std::sync::Arc;

use persist_core::{Destination, Request};

use super::shared::Shared;
use crate::error::Error;

/// One unfinished request.
pub(super) struct Account {
    shared: Arc<Shared>,
    destination: Destination,
    /// To be noted if its reply's content breaks off.
    request: Option<Box<Request>>,
    is_open: bool,
}

/// Whether failures are noted for [`Client::pending_to`](crate::Client::pending_to).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Failures {
    Noted,
    /// Whoever asks goes on by himself.
    Passed,
}

impl Account {
    /// Of a request that was [begun](Shared::begin).
    pub(super) fn new(shared: &Arc<Shared>, destination: Destination) -> Self {
        Self { shared: shared.clone(), destination, request: None, is_open: true }
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
        self.shared.note(&self.destination, request, error);
    }

    /// Its reply's content broke off.
    pub(super) fn broke_off(&self, error: Error) -> Error {
        let error = error.at(&self.destination);
        if let Some(request) = &self.request {
            self.failed(request, &error);
        }
        error
    }

    /// Somebody else says that it is over.
    pub(super) fn close(&mut self) {
        self.is_open = false;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.is_open {
            self.shared.end(&self.destination);
        }
    }
}
