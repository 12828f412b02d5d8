//! Responses that were given before their turn, and wait for it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::event::ExchangeId;
use crate::error::SendError;
use crate::limits::Limits;

/// The bytes of each exchange that has some; nothing is held while there are none.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    waiting: Option<Box<Waiting>>,
}

/// Boxed for the sake of those connections that never have any.
#[derive(Debug, Default)]
struct Waiting {
    of: BTreeMap<ExchangeId, Vec<u8>>,
    bytes: usize,
}

impl Parked {
    /// How many bytes there are, of all exchanges together.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.bytes)
    }

    /// Whether more may be parked.
    pub(crate) fn room(&self, limits: &Limits) -> Result<(), SendError> {
        let limit = u64::from(limits.parked_bytes_max);
        if self.bytes() as u64 >= limit { Err(SendError::ParkedFull { limit }) } else { Ok(()) }
    }

    /// The buffer of this exchange to append to, if more may be parked. Say what was appended with [`grew`](Self::grew), or, if nothing was,
    /// [tidy up](Self::tidy).
    pub(crate) fn end(&mut self, id: ExchangeId, limits: &Limits) -> Result<&mut Vec<u8>, SendError> {
        self.room(limits)?;
        Ok(self.entry(id))
    }

    fn entry(&mut self, id: ExchangeId) -> &mut Vec<u8> {
        self.waiting.get_or_insert_default().of.entry(id).or_default()
    }

    #[inline]
    pub(crate) fn grew(&mut self, added: usize) {
        if let Some(waiting) = &mut self.waiting {
            waiting.bytes += added;
        }
    }

    /// Nothing was appended to the buffer of this exchange after all.
    #[cold]
    pub(crate) fn tidy(&mut self, id: ExchangeId) {
        let waiting = self.waiting.as_ref().and_then(|waiting| waiting.of.get(&id));
        if waiting.is_some_and(Vec::is_empty) {
            self.take(id);
        }
    }

    /// Appends what `put` writes to what is parked of this exchange, whatever the limit; nothing, if it fails.
    #[inline(never)]
    pub(crate) fn append<E>(
        &mut self,
        id: ExchangeId,
        put: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let added = super::outbox::append(self.entry(id), put);
        self.grew(*added.as_ref().unwrap_or(&0));
        self.tidy(id);
        added.map(|_| ())
    }

    /// What is parked of this exchange, which is then parked no longer.
    #[inline]
    pub(crate) fn take(&mut self, id: ExchangeId) -> Vec<u8> {
        if self.waiting.is_none() { Vec::new() } else { self.take_waiting(id) }
    }

    fn take_waiting(&mut self, id: ExchangeId) -> Vec<u8> {
        let Some(waiting) = &mut self.waiting else { return Vec::new() };
        let bytes = waiting.of.remove(&id).unwrap_or_default();
        waiting.bytes -= bytes.len();
        if waiting.of.is_empty() {
            self.waiting = None;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_parked_is_counted_until_it_is_taken_and_a_failure_leaves_nothing() {
        let mut parked = Parked::default();
        let [first, second] = [1, 2].map(ExchangeId::from_number);
        let mut put = |id, bytes: &[u8], fine: bool| {
            let done = parked.append(id, |out| {
                out.extend_from_slice(bytes);
                if fine { Ok(()) } else { Err(()) }
            });
            (done.is_ok(), parked.bytes())
        };
        assert_eq!(put(second, b"two", false), (false, 0));
        assert_eq!(put(second, b"two", true), (true, 3));
        assert_eq!(put(second, b" more", false), (false, 3));
        assert_eq!(put(first, b"one", true), (true, 6));
        assert_eq!(put(second, b" and", true), (true, 10));
        assert_eq!(parked.take(second), b"two and");
        assert_eq!((parked.take(second), parked.take(first), parked.bytes()), (Vec::new(), b"one".to_vec(), 0));
        assert!(parked.waiting.is_none());
    }
}
