//! The URLs of one destination that no lane has taken yet, in the order asked.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use persist_core::Route;

use super::lane::Task;

/// Shared by the lanes of a destination.
#[derive(Debug)]
pub(super) struct Queue {
    route: Route,
    tasks: Mutex<VecDeque<Task>>,
}

impl Queue {
    pub(super) fn new(route: Route, tasks: VecDeque<Task>) -> Self {
        Self { route, tasks: Mutex::new(tasks) }
    }

    pub(super) fn route(&self) -> &Route {
        &self.route
    }

    pub(super) fn take(&self) -> Option<Task> {
        self.lock().pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
