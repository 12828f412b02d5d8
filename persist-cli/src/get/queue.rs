//! The URLs of one destination that no lane has taken yet, in the order asked.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use persist_core::Destination;

use super::lane::Task;

/// Shared by the lanes of a destination.
#[derive(Debug)]
pub(super) struct Queue {
    destination: Destination,
    tasks: Mutex<VecDeque<Task>>,
}

impl Queue {
    pub(super) fn new(destination: Destination, tasks: VecDeque<Task>) -> Self {
        Self { destination, tasks: Mutex::new(tasks) }
    }

    pub(super) fn destination(&self) -> &Destination {
        &self.destination
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
