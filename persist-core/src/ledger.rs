//! A client's book of requests, by destination: how many are unfinished, and those that failed, until somebody takes them.

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::destination::Destination;
use crate::exchange_error::ExchangeError;
use crate::message::Request;
use crate::time::Instant;

/// What a client owes to one destination, and what it failed to bring there.
#[derive(Debug)]
#[non_exhaustive]
pub struct Pending {
    /// Requests that are not complete: waiting for a connection, on their way, or with replies whose content is unread.
    pub unfinished: usize,
    /// Requests that failed since this was last asked, oldest first.
    pub failed: Vec<FailedRequest>,
    /// How many failures since then had to be dropped, for want of room ([`ClientConfig::failures_max`](crate::ClientConfig::failures_max)).
    pub forgotten: u64,
}

/// A request that failed, for whoever wants to send it again. Its body, if it had one, is the caller's to keep.
#[non_exhaustive]
pub struct FailedRequest {
    /// As the client was given it.
    pub request: Request,
    /// What the caller was told: [`disposition`](ExchangeError::disposition) says what became of the request.
    pub error: ExchangeError,
    /// How long ago that was.
    pub ago: Duration,
}

/// The book. Pure: whoever keeps it says what happens, and when.
///
/// ```
/// use persist_core::{Destination, ExchangeError, Instant, Ledger, Phase, Request};
///
/// let there: Destination = "http://example.com".parse()?;
/// let mut ledger = Ledger::new(100);
/// ledger.begin(&there);
/// ledger.fail(&there, &Request::get("http://example.com/a"), &ExchangeError::new(Phase::Connect, "refused"), Instant::ZERO);
/// ledger.end(&there);
/// let pending = ledger.take(&there, Instant::ZERO);
/// assert_eq!((pending.unfinished, pending.failed.len()), (0, 1));
/// assert!(ledger.take(&there, Instant::ZERO).failed.is_empty());
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Ledger {
    /// In the order of their destinations.
    accounts: Vec<(Destination, Account)>,
    /// Where the account stood that was asked for last: mostly it is wanted again.
    last: usize,
    failed: VecDeque<(Destination, FailedRequest, Instant)>,
    failures_max: usize,
}

#[derive(Debug, Default)]
struct Account {
    unfinished: usize,
    forgotten: u64,
}

/// So many destinations are kept in mind although nothing is going on there: asking the same ones again and again costs no allocation.
const ACCOUNTS_KEPT: usize = 64;

impl Ledger {
    /// An empty book, with room for so many failures.
    pub fn new(failures_max: usize) -> Self {
        Self { accounts: Vec::new(), last: 0, failed: VecDeque::new(), failures_max }
    }

    /// A request begins. Followed by exactly one [`end`](Self::end).
    pub fn begin(&mut self, destination: &Destination) {
        if let Some(account) = self.account(destination) {
            account.unfinished += 1;
            return;
        }
        if self.accounts.len() >= ACCOUNTS_KEPT {
            self.accounts.retain(|(_, account)| account.unfinished > 0 || account.forgotten > 0);
        }
        self.open(destination.clone()).unfinished += 1;
    }

    fn account(&mut self, destination: &Destination) -> Option<&mut Account> {
        if self.accounts.get(self.last).is_none_or(|(whose, _)| whose != destination) {
            self.last = self.accounts.binary_search_by(|(whose, _)| whose.cmp(destination)).ok()?;
        }
        self.accounts.get_mut(self.last).map(|(_, account)| account)
    }

    /// The account of a destination that may have had none.
    fn open(&mut self, destination: Destination) -> &mut Account {
        let found = self.accounts.binary_search_by(|(whose, _)| whose.cmp(&destination));
        let at = found.unwrap_or_else(|at| {
            self.accounts.insert(at, (destination, Account::default()));
            at
        });
        &mut self.accounts[at].1
    }

    /// A request is over, well or not.
    pub fn end(&mut self, destination: &Destination) {
        if let Some(account) = self.account(destination) {
            account.unfinished = account.unfinished.saturating_sub(1);
        }
    }

    /// A request failed. If there is no room, the oldest failure is dropped, and counted.
    pub fn fail(&mut self, destination: &Destination, request: &Request, error: &ExchangeError, now: Instant) {
        let oldest = if self.failed.len() < self.failures_max { None } else { self.failed.pop_front() };
        if let Some((whose, ..)) = oldest {
            self.forget(whose);
        }
        if self.failures_max == 0 {
            return;
        }
        let failed = FailedRequest { request: request.clone(), error: error.clone(), ago: Duration::ZERO };
        self.failed.push_back((destination.clone(), failed, now));
    }

    /// Whether failures are kept at all.
    pub fn keeps_failures(&self) -> bool {
        self.failures_max > 0
    }

    /// What there is of a destination. Its failures are the caller's from here on.
    pub fn take(&mut self, destination: &Destination, now: Instant) -> Pending {
        let (mine, others) = self.failed.drain(..).partition(|(whose, ..)| whose == destination);
        self.failed = others;
        let mine: VecDeque<_> = mine;
        let failed = mine.into_iter().map(|(_, failed, at)| FailedRequest { ago: now.saturating_since(at), ..failed });
        let failed = failed.collect();
        let account = self.account(destination);
        let (unfinished, forgotten) =
            account.map_or((0, 0), |account| (account.unfinished, core::mem::take(&mut account.forgotten)));
        Pending { unfinished, failed, forgotten }
    }

    /// Counts a failure that was dropped, as long as that many destinations can be kept in mind.
    fn forget(&mut self, destination: Destination) {
        if self.accounts.len() < ACCOUNTS_KEPT || self.account(&destination).is_some() {
            self.open(destination).forgotten += 1;
        }
    }
}

/// Without the values of the request's fields, which may be secrets, and without its query.
impl fmt::Debug for FailedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FailedRequest")
            .field("method", &self.request.method)
            .field("error", &self.error)
            .field("ago", &self.ago)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::{String, ToString};

    use super::*;
    use crate::exchange_error::Phase;

    fn at(number: usize) -> Destination {
        format!("http://h{number}").parse().unwrap()
    }

    fn fail(ledger: &mut Ledger, number: usize, target: &str, seconds: u64) {
        let now = Instant::from_duration(Duration::from_secs(seconds));
        ledger.fail(&at(number), &Request::get(target), &ExchangeError::new(Phase::Wait, "x"), now);
    }

    fn targets(pending: &Pending) -> Vec<String> {
        pending.failed.iter().map(|failed| format!("{} {:?}", failed.request.target, failed.ago)).collect()
    }

    #[test]
    fn failures_are_kept_in_order_until_they_are_taken_by_their_destination() {
        let mut ledger = Ledger::new(10);
        for (number, target, seconds) in [(1, "/a", 1), (2, "/b", 2), (1, "/c", 3)] {
            fail(&mut ledger, number, target, seconds);
        }
        let now = Instant::from_duration(Duration::from_secs(4));
        assert_eq!(targets(&ledger.take(&at(1), now)), ["/a 3s", "/c 1s"]);
        assert!(targets(&ledger.take(&at(1), now)).is_empty());
        assert_eq!(targets(&ledger.take(&at(2), now)), ["/b 2s"]);
    }

    #[test]
    fn the_oldest_failure_makes_room_and_is_counted_where_it_belongs() {
        let mut ledger = Ledger::new(2);
        for target in ["/a", "/b", "/c"] {
            fail(&mut ledger, 1, target, 0);
        }
        fail(&mut ledger, 2, "/d", 0);
        let first = ledger.take(&at(1), Instant::ZERO);
        assert_eq!((targets(&first).len(), first.forgotten), (1, 2));
        assert_eq!(ledger.take(&at(1), Instant::ZERO).forgotten, 0);
        assert_eq!(ledger.take(&at(2), Instant::ZERO).forgotten, 0);
    }

    #[test]
    fn without_room_nothing_is_kept() {
        let mut ledger = Ledger::new(0);
        assert!(!ledger.keeps_failures());
        fail(&mut ledger, 1, "/", 0);
        assert!(ledger.take(&at(1), Instant::ZERO).failed.is_empty());
    }

    #[test]
    fn destinations_where_nothing_goes_on_are_forgotten_when_there_are_many() {
        let mut ledger = Ledger::new(10);
        ledger.begin(&at(0));
        for number in 1..1_000 {
            ledger.begin(&at(number));
            ledger.end(&at(number));
        }
        assert!(ledger.accounts.len() <= ACCOUNTS_KEPT);
        assert_eq!(ledger.take(&at(0), Instant::ZERO).unfinished, 1);
    }

    #[test]
    fn accounts_are_kept_apart_whatever_was_asked_for_last() {
        let (mut ledger, mut unfinished) = (Ledger::new(0), [0u32; 150]);
        for step in 0..20_000usize {
            // Neighbours and strangers, more of them than are kept where nothing goes on.
            let number = (step * step / 7 + step / 3) % unfinished.len();
            if unfinished[number] > 0 && step % 5 < 2 {
                ledger.end(&at(number));
                unfinished[number] -= 1;
            } else {
                ledger.begin(&at(number));
                unfinished[number] += 1;
            }
            if step % 97 == 0 {
                while unfinished[number] > 0 {
                    ledger.end(&at(number));
                    unfinished[number] -= 1;
                }
            }
        }
        for (number, &unfinished) in unfinished.iter().enumerate() {
            assert_eq!(ledger.take(&at(number), Instant::ZERO).unfinished as u64, u64::from(unfinished), "{number}");
        }
    }

    #[test]
    fn a_failed_request_shows_no_secret() {
        let mut ledger = Ledger::new(1);
        let request = Request::get("http://h1/?key=secret").field("Authorization", "Bearer secret").unwrap();
        ledger.fail(&at(1), &request, &ExchangeError::new(Phase::Wait, "late"), Instant::ZERO);
        let shown = format!("{:?}", ledger.take(&at(1), Instant::ZERO));
        assert!(!shown.contains("secret") && shown.contains(&"late".to_string()), "{shown}");
    }
}
