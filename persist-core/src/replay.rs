//! A request's body, and whether it can be sent again.

use alloc::vec::Vec;

use bytes::Bytes;

use crate::head::BodyLen;

/// What of a body can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Replay {
    /// All of it, any number of times: there is none, it is in memory, or what was read of it was kept.
    Whole,
    /// It can be read only once, but nothing was read of it yet.
    Untouched,
    /// Part of it was read, and is gone.
    Spent,
}

/// A body that knows what of it can be sent again.
///
/// A body in memory always can. One that is read from somewhere (a file, a socket) can until its first byte is taken; with a
/// buffer to keep what was read, for as long as that fits.
///
/// ```
/// use persist_core::{Replay, ReplayBody};
///
/// let mut upload = ReplayBody::one_shot(None, 8); // of unknown length; up to 8 bytes are kept
/// assert_eq!(upload.replay(), Replay::Whole);
/// upload.record(b"hello".as_slice());
/// assert_eq!(upload.replay(), Replay::Whole);
/// assert!(upload.rewind());
/// assert_eq!(upload.take_kept(64).as_deref(), Some(b"hello".as_slice())); // then the source goes on
/// upload.record(b", world".as_slice());
/// assert_eq!(upload.replay(), Replay::Spent);
/// ```
#[derive(Clone, Debug)]
pub struct ReplayBody {
    len: BodyLen,
    source: Source,
    /// How much of what is in memory was taken since the last rewind.
    taken: usize,
}

#[derive(Clone, Debug)]
enum Source {
    Memory(Bytes),
    OneShot {
        /// What was read so far; `None` once it was too much.
        kept: Option<Vec<Bytes>>,
        kept_bytes: usize,
        keep_max: usize,
        read: u64,
    },
}

impl ReplayBody {
    /// No content.
    pub const fn empty() -> Self {
        Self { len: BodyLen::Empty, source: Source::Memory(Bytes::new()), taken: 0 }
    }

    /// A body that is read from somewhere, once, of which up to `keep_max` bytes are kept for sending again. `len` is `None` if not known: it is sent chunked then.
    pub const fn one_shot(len: Option<u64>, keep_max: usize) -> Self {
        let len = match len {
            Some(len) => BodyLen::Length(len),
            None => BodyLen::Chunked,
        };
        let kept = if keep_max == 0 { None } else { Some(Vec::new()) };
        Self { len, source: Source::OneShot { kept, kept_bytes: 0, keep_max, read: 0 }, taken: 0 }
    }

    /// The next of what is in memory, at most `max` bytes; `None` when there is no more there. A one-shot body goes on at its source.
    pub fn take_kept(&mut self, max: usize) -> Option<Bytes> {
        let piece = match &self.source {
            Source::Memory(all) => all.slice(self.taken..),
            Source::OneShot { kept, .. } => {
                let mut offset = self.taken;
                let mut pieces = kept.iter().flatten();
                pieces.find_map(|piece| match piece.len().checked_sub(offset) {
                    Some(1..) => Some(piece.slice(offset..)),
                    _ => {
                        offset -= piece.len();
                        None
                    }
                })?
            }
        };
        let piece = piece.slice(..piece.len().min(max));
        self.taken += piece.len();
        (!piece.is_empty()).then_some(piece)
    }

    /// These bytes were read from the source of a one-shot body, after [`take_kept`](Self::take_kept) had no more. No-op for a body in memory, and for no bytes.
    pub fn record(&mut self, data: impl Into<Bytes>) {
        let data = data.into();
        let Source::OneShot { kept, kept_bytes, keep_max, read } = &mut self.source else { return };
        *read = read.saturating_add(data.len() as u64);
        let Some(pieces) = kept else { return };
        if data.len() > *keep_max - *kept_bytes {
            // Half of a body is of no use for sending all of it again.
            *kept = None;
            return;
        }
        *kept_bytes += data.len();
        self.taken += data.len();
        if !data.is_empty() {
            pieces.push(data);
        }
    }

    /// Starts over, before the body is sent again. `false` if it is [`Spent`](Replay::Spent), and nothing changes then.
    pub fn rewind(&mut self) -> bool {
        if self.replay() == Replay::Spent {
            return false;
        }
        self.taken = 0;
        true
    }

    /// What of it can be sent again.
    pub fn replay(&self) -> Replay {
        match &self.source {
            Source::Memory(_) | Source::OneShot { kept: Some(_), .. } => Replay::Whole,
            Source::OneShot { kept: None, read: 0, .. } => Replay::Untouched,
            Source::OneShot { kept: None, .. } => Replay::Spent,
        }
    }

    /// How it is framed.
    pub const fn len(&self) -> BodyLen {
        self.len
    }

    /// Whether it is known to have no content.
    pub const fn is_empty(&self) -> bool {
        matches!(self.len, BodyLen::Empty | BodyLen::Length(0))
    }
}

impl<B: Into<Bytes>> From<B> for ReplayBody {
    fn from(bytes: B) -> Self {
        let bytes = bytes.into();
        Self { len: BodyLen::Length(bytes.len() as u64), source: Source::Memory(bytes), taken: 0 }
    }
}

#[cfg(test)]
mod tests;
