//! Locks, atomics and tasks for what tasks share: the standard library's and tokio's; or those of a model checker, which tries interleavings that no
//! machine would come to (`models/mod.rs`).

#[cfg(all(test, persist_model))]
pub(crate) use shuttle::sync::{Mutex, MutexGuard, atomic};
#[cfg(not(all(test, persist_model)))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic};

/// Where tasks can be spawned from here, if they can.
#[cfg(not(all(test, persist_model)))]
pub(crate) fn runtime() -> Option<tokio::runtime::Handle> {
    tokio::runtime::Handle::try_current().ok()
}

/// The model checker's.
#[cfg(all(test, persist_model))]
pub(crate) fn runtime() -> Option<crate::models::Runtime> {
    Some(crate::models::Runtime)
}
