//! Which address is tried when: the schedule of RFC 8305, "Happy Eyeballs".
//!
//! Addresses and outcomes go in, attempts come out. The contract: *mutate → drain [`poll_attempt`](HappyEyeballs::poll_attempt) → wait for an
//! outcome, for addresses, or for [`poll_timeout`](HappyEyeballs::poll_timeout)*. When one attempt has connected, drop all the others.

use alloc::collections::VecDeque;
use core::net::SocketAddr;
use core::time::Duration;

use crate::contradiction::{Contradiction, at_most};
use crate::time::Instant;

/// The delays of RFC 8305 §8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HappyEyeballsConfig {
    /// How long one attempt is alone before the next begins beside it. 250 ms, as the RFC recommends; from 10 ms to 2 s.
    pub attempt_delay: Duration,
    /// How long IPv4 addresses that came first wait for IPv6 ones. 50 ms, as the RFC recommends.
    pub resolution_delay: Duration,
    /// How many addresses of the preferred family are tried before the first of the other. 1.
    pub first_family_count: u32,
}

/// The family of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6, preferred.
    V6,
}

/// The race of one destination's addresses.
///
/// ```
/// use persist_core::{HappyEyeballs, HappyEyeballsConfig, Instant};
///
/// let (config, start) = (HappyEyeballsConfig::rfc(), Instant::ZERO);
/// let mut race = HappyEyeballs::new(config);
/// race.handle_resolved(["192.0.2.1:80".parse()?, "[2001:db8::1]:80".parse()?], start);
/// assert_eq!(race.poll_attempt(start), Some("[2001:db8::1]:80".parse()?));
/// assert_eq!(race.poll_attempt(start), None);
/// let later = race.poll_timeout().unwrap();
/// assert_eq!(later, start + config.attempt_delay);
/// assert_eq!(race.poll_attempt(later), Some("192.0.2.1:80".parse()?));
/// # Ok::<(), core::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct HappyEyeballs {
    config: HappyEyeballsConfig,
    v6: Side,
    v4: Side,
    /// IPv6 addresses tried since the last IPv4 one, for taking turns.
    v6_in_row: u32,
    tried_v4: bool,
    under_way: u32,
    failed: u32,
    /// When the next attempt may begin beside those under way.
    next_at: Option<Instant>,
    /// Until when IPv4 waits for IPv6.
    v4_waits_until: Option<Instant>,
}

/// One family's addresses.
#[derive(Clone, Debug, Default)]
struct Side {
    queue: VecDeque<SocketAddr>,
    resolved: bool,
}

impl HappyEyeballsConfig {
    /// What RFC 8305 recommends.
    pub const fn rfc() -> Self {
        Self {
            attempt_delay: Duration::from_millis(250),
            resolution_delay: Duration::from_millis(50),
            first_family_count: 1,
        }
    }

    /// Checks it.
    ///
    /// # Errors
    /// An attempt delay outside of what RFC 8305 §5 allows, 10 ms to 2 s; no first address.
    pub fn check(&self) -> Result<(), Contradiction> {
        let (least, most) = (("the least", Duration::from_millis(10)), ("the most", Duration::from_secs(2)));
        let delay = ("attempt_delay", self.attempt_delay);
        at_most(least, delay, "a shorter delay would try every address at once (RFC 8305 §5)")?;
        at_most(delay, most, "a longer delay is noticed as a fault (RFC 8305 §5)")?;
        at_most(("the least", 1), ("first_family_count", self.first_family_count), "no family would be first")
    }
}

impl Default for HappyEyeballsConfig {
    fn default() -> Self {
        Self::rfc()
    }
}

/// In.
impl HappyEyeballs {
    /// Nothing is resolved yet.
    pub fn new(config: HappyEyeballsConfig) -> Self {
        Self {
            config,
            v6: Side::default(),
            v4: Side::default(),
            v6_in_row: 0,
            tried_v4: false,
            under_way: 0,
            failed: 0,
            next_at: None,
            v4_waits_until: None,
        }
    }

    /// One family was resolved, perhaps to nothing. For resolvers that ask for the two families side by side.
    pub fn handle_family(&mut self, family: Family, addresses: impl IntoIterator<Item = SocketAddr>, now: Instant) {
        let side = match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        };
        side.resolved = true;
        side.queue.extend(addresses);
        // RFC 8305 §3: IPv4 came first; it waits a moment, so that IPv6 is not passed over for a slow answer.
        let waits = family == Family::V4 && !self.v6.resolved;
        self.v4_waits_until = waits.then(|| now + self.config.resolution_delay);
    }

    /// Both families were resolved at once, in the resolver's order of preference within each.
    pub fn handle_resolved(&mut self, addresses: impl IntoIterator<Item = SocketAddr>, now: Instant) {
        for address in addresses {
            let side = if address.is_ipv6() { &mut self.v6 } else { &mut self.v4 };
            side.queue.push_back(address);
        }
        self.handle_family(Family::V6, [], now);
        self.handle_family(Family::V4, [], now);
    }

    /// An attempt failed: the next one need not wait (RFC 8305 §5).
    pub fn handle_failed(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
        self.failed += 1;
        self.next_at = None;
    }
}

/// Out.
impl HappyEyeballs {
    /// The next address to connect to now. Call again until there is none.
    pub fn poll_attempt(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.next_at.is_some_and(|at| now < at) || self.v4_waits_until.is_some_and(|at| now < at) {
            return None;
        }
        self.v4_waits_until = None;
        let address = self.next_address()?;
        self.under_way += 1;
        self.next_at = Some(now + self.config.attempt_delay);
        Some(address)
    }

    /// When [`poll_attempt`](Self::poll_attempt) may have something, if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let more = !self.v6.queue.is_empty() || !self.v4.queue.is_empty();
        self.next_at.max(self.v4_waits_until).filter(|_| more)
    }

    /// Whether all is lost: everything is resolved, nothing is under way, nothing is left to try.
    pub fn is_exhausted(&self) -> bool {
        let left = !self.v6.queue.is_empty() || !self.v4.queue.is_empty();
        self.v6.resolved && self.v4.resolved && self.under_way == 0 && !left
    }

    /// How many attempts failed.
    pub fn failed(&self) -> u32 {
        self.failed
    }
}

impl HappyEyeballs {
    /// RFC 8305 §4: IPv6 first, then the families by turns.
    fn next_address(&mut self) -> Option<SocketAddr> {
        let in_row = if self.tried_v4 { 1 } else { self.config.first_family_count.max(1) };
        let v6_is_next = self.v6_in_row < in_row;
        let (first, second) = if v6_is_next { (&mut self.v6, &mut self.v4) } else { (&mut self.v4, &mut self.v6) };
        let address = first.queue.pop_front().or_else(|| second.queue.pop_front())?;
        if address.is_ipv6() {
            self.v6_in_row += 1;
        } else {
            (self.v6_in_row, self.tried_v4) = (0, true);
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests;
