//! How an orderly end went: whether what was sent has arrived.

use crate::close::CloseReason;

/// Whether everything that was handed to the system reached the peer's.
///
/// Acknowledged is not processed: only an answer tells that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The peer's system has acknowledged every byte.
    Acknowledged,
    /// So many bytes were not acknowledged when the wait ended.
    Unacknowledged {
        /// How many.
        bytes: u64,
    },
    /// This system, or this kind of stream, does not tell.
    Unknown,
}

/// How an orderly end went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Closed {
    /// Why the connection ended: graceful in every case.
    pub reason: CloseReason,
    /// Whether everything that was sent had arrived by then.
    pub delivery: Delivery,
}

impl Closed {
    /// An end for this reason, of which so much is known.
    pub fn new(reason: CloseReason, delivery: Delivery) -> Self {
        Self { reason, delivery }
    }
}
