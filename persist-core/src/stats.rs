//! What connections, clients and servers have done so far: plain counts, taken as a snapshot.
//!
//! What is counted costs an addition where it happens; everything else is put together when somebody asks.

use core::ops::AddAssign;
use core::time::Duration;

use crate::disposition::Disposition;
use crate::pool::Counts;

/// How many exchanges did not complete, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dispositions {
    /// [`Disposition::NotSent`].
    pub not_sent: u64,
    /// [`Disposition::PartlySent`].
    pub partly_sent: u64,
    /// [`Disposition::SentNoReply`].
    pub sent_no_reply: u64,
    /// [`Disposition::ReplyPartial`].
    pub reply_partial: u64,
    /// [`Disposition::Declined`].
    pub declined: u64,
}

/// One connection, from its beginning until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnStats {
    /// How old it is.
    pub age: Duration,
    /// Exchanges that are not complete.
    pub pending: usize,
    /// Exchanges that completed. All but the first reused the connection.
    pub completed: u64,
    /// Exchanges that did not.
    pub failed: Dispositions,
    /// Bytes that the layer below took: heads, content, framing. Before TLS.
    pub sent: u64,
    /// Bytes that came from it and were understood. After TLS.
    pub received: u64,
}

/// All connections together that there have been.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// How many connections.
    pub connections: u64,
    /// Exchanges that completed.
    pub completed: u64,
    /// Of these, how many were not the first on their connection.
    pub reused: u64,
    /// Exchanges that did not complete.
    pub failed: Dispositions,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes received.
    pub received: u64,
}

/// A pooled client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientStats {
    /// What the pool holds now.
    pub pool: Counts,
    /// The age of the oldest open connection.
    pub oldest: Duration,
    /// Requests that were asked for, retries not counted.
    pub requests: u64,
    /// Requests that failed: their callers were told.
    pub failed: u64,
    /// How often a request was sent again.
    pub retries: u64,
    /// Dials that were begun.
    pub dials: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Idle connections that a look found ended or spoilt, before a request met them.
    pub stale: u64,
    /// What all connections carried, those that are gone included.
    pub traffic: Traffic,
}

/// A server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that are open.
    pub open: usize,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were refused, because their peer had its share.
    pub refused: u64,
    /// What all connections that came to be served carried, those that are gone included.
    pub traffic: Traffic,
}

impl Dispositions {
    /// One more.
    pub fn count(&mut self, disposition: Disposition) {
        *match disposition {
            Disposition::NotSent => &mut self.not_sent,
            Disposition::PartlySent { .. } => &mut self.partly_sent,
            Disposition::SentNoReply => &mut self.sent_no_reply,
            Disposition::ReplyPartial => &mut self.reply_partial,
            Disposition::Declined => &mut self.declined,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.not_sent + self.partly_sent + self.sent_no_reply + self.reply_partial + self.declined
    }
}

impl ConnStats {
    /// Exchanges that completed on it after another one.
    pub fn reused(&self) -> u64 {
        self.completed.saturating_sub(1)
    }
}

impl AddAssign for Dispositions {
    fn add_assign(&mut self, other: Self) {
        self.not_sent += other.not_sent;
        self.partly_sent += other.partly_sent;
        self.sent_no_reply += other.sent_no_reply;
        self.reply_partial += other.reply_partial;
        self.declined += other.declined;
    }
}

/// One more connection.
///
/// ```
/// use persist_core::stats::{ConnStats, Traffic};
///
/// let mut conn = ConnStats::default();
/// (conn.completed, conn.sent) = (3, 100);
/// let mut all = Traffic::default();
/// all += conn;
/// all += conn;
/// assert_eq!((all.connections, all.completed, all.reused, all.sent), (2, 6, 4, 200));
/// ```
impl AddAssign<ConnStats> for Traffic {
    fn add_assign(&mut self, conn: ConnStats) {
        self.connections += 1;
        self.completed += conn.completed;
        self.reused += conn.reused();
        self.failed += conn.failed;
        self.sent += conn.sent;
        self.received += conn.received;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_disposition_is_counted_by_itself() {
        let mut counts = Dispositions::default();
        for disposition in [
            Disposition::NotSent,
            Disposition::PartlySent { bytes: 7 },
            Disposition::SentNoReply,
            Disposition::ReplyPartial,
            Disposition::Declined,
            Disposition::Declined,
        ] {
            counts.count(disposition);
        }
        let mut twice = counts;
        twice += counts;
        assert_eq!((counts.not_sent, counts.partly_sent, counts.declined, counts.total()), (1, 1, 2, 6));
        assert_eq!((twice.sent_no_reply, twice.reply_partial, twice.total()), (2, 2, 12));
    }
}
