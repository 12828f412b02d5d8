//! The URLs of one destination that no lane has taken yet, in the order asked.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use super::lane::Task;

/// Shared by the lanes of a destination.
#[derive(Debug)]
pub(super) struct Queue {
    tasks: Mutex<VecDeque<Task>>,
}

impl Queue {
    pub(super) fn new(tasks: VecDeque<Task>) -> Self {
        Self { tasks: Mutex::new(tasks) }
    }

    pub(super) fn take(&self) -> Option<Task> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
