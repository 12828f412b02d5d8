//! Content that comes from a reader or an iterator, in pieces that are lent to the connection: none is copied on its way to the socket.

use std::io::{self, Read};
use std::mem;

use bytes::Bytes;

use crate::body::{Feed, Reader};

/// One read from a reader: at first, and at most, if the reader fills what it is given.
const READ_BYTES: (usize, usize) = (64 * 1024, 256 * 1024);

/// Pieces of an iterator that are gathered for one write: so many bytes, and so many pieces, give or take the last.
const GATHERED: (usize, usize) = (512 * 1024, 32);

/// What is still to come, and what came and nobody has taken.
pub(crate) struct Supply {
    feed: Feed,
    /// How much of the declared length is still to come; `None` where none was declared.
    left: Option<u64>,
    at_hand: Vec<Bytes>,
    /// The last piece that was read, to be read into again once the connection is done with it.
    spent: Bytes,
    read_bytes: usize,
}

impl Supply {
    pub(crate) fn new(feed: Feed, len: Option<u64>) -> Self {
        Self { feed, left: len, at_hand: Vec::new(), spent: Bytes::new(), read_bytes: READ_BYTES.0 }
    }

    /// Fetches more, if all that came was taken; says whether there is any. Runs the user's code: never under a lock.
    pub(crate) fn refill(&mut self) -> io::Result<bool> {
        if !self.at_hand.is_empty() {
            return Ok(true);
        }
        // What follows the declared length is not ours to ask for: waiting for it could take for ever.
        if self.left == Some(0) {
            return Ok(false);
        }
        match &mut self.feed {
            Feed::Reader(reader) => {
                let most = limited(self.read_bytes, self.left);
                let piece = read(reader, mem::take(&mut self.spent), most)?;
                if piece.len() == self.read_bytes {
                    self.read_bytes = (2 * self.read_bytes).min(READ_BYTES.1);
                }
                self.spent = piece.clone();
                self.left = self.left.map(|left| left - piece.len() as u64);
                self.at_hand.extend(Some(piece).filter(|piece| !piece.is_empty()));
            }
            Feed::Pieces(pieces) => {
                let mut gathered = 0;
                while gathered < GATHERED.0 && self.at_hand.len() < GATHERED.1 && self.left != Some(0) {
                    let Some(mut piece) = pieces.next().transpose()? else { break };
                    piece.truncate(limited(piece.len(), self.left));
                    self.left = self.left.map(|left| left - piece.len() as u64);
                    gathered += piece.len();
                    self.at_hand.extend(Some(piece).filter(|piece| !piece.is_empty()));
                }
                // The first comes last, where it is cheap to take.
                self.at_hand.reverse();
            }
        }
        Ok(!self.at_hand.is_empty())
    }

    /// What comes next, if it is at hand.
    pub(crate) fn next_mut(&mut self) -> Option<&mut Bytes> {
        self.at_hand.last_mut()
    }

    /// That was taken.
    pub(crate) fn taken(&mut self) {
        self.at_hand.pop();
    }
}

fn limited(bytes: usize, left: Option<u64>) -> usize {
    left.map_or(bytes, |left| bytes.min(usize::try_from(left).unwrap_or(usize::MAX)))
}

/// Reads once, into the buffer of an earlier piece if that is free.
fn read(reader: &mut Reader, spent: Bytes, most: usize) -> io::Result<Bytes> {
    let mut buffer = if spent.is_unique() { Vec::from(spent) } else { Vec::new() };
    buffer.resize(most, 0);
    let n = loop {
        match reader.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => break other?,
        }
    };
    buffer.truncate(n);
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(supply: &mut Supply) -> (Vec<u8>, usize) {
        let (mut all, mut rounds) = (Vec::new(), 0);
        while supply.refill().expect("it does not fail") {
            rounds += 1;
            while let Some(piece) = supply.next_mut() {
                all.extend_from_slice(piece);
                supply.taken();
            }
        }
        (all, rounds)
    }

    #[test]
    fn pieces_come_in_their_order_many_at_once_and_no_more_than_was_declared() {
        let content: Vec<u8> = (0..=255).cycle().take(3_000_000).collect();
        for (len, expected) in [(None, 3_000_000), (Some(2_500_001), 2_500_001), (Some(9_000_000), 3_000_000)] {
            let pieces: Vec<_> = content.chunks(60_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
            let mut supply = Supply::new(Feed::Pieces(Box::new(pieces.into_iter())), len);
            let (found, rounds) = all(&mut supply);
            assert!(found == content[..expected] && rounds <= 6, "{rounds} rounds");

            let mut supply = Supply::new(Feed::Reader(Box::new(io::Cursor::new(content.clone()))), len);
            let (found, rounds) = all(&mut supply);
            assert!(
                found == content[..expected] && rounds <= 14,
                "{rounds} rounds: a reader that fills its buffer gets more"
            );
        }
    }

    #[test]
    fn nothing_is_asked_for_beyond_the_declared_length() {
        let mut asked = 0;
        let pieces = std::iter::repeat_with(move || {
            asked += 1;
            assert!(asked <= 2, "asked once more");
            Ok(Bytes::from_static(b"abc"))
        });
        assert_eq!(all(&mut Supply::new(Feed::Pieces(Box::new(pieces)), Some(4))).0, b"abca");
    }

    #[test]
    fn a_buffer_that_is_free_is_read_into_again() {
        let mut supply = Supply::new(Feed::Reader(Box::new(io::repeat(1))), None);
        supply.refill().expect("it gives");
        let held = supply.next_mut().expect("some").clone();
        supply.taken();
        supply.refill().expect("it gives");
        let second = supply.next_mut().expect("some").as_ptr();
        assert_ne!(second, held.as_ptr(), "it is still in use");
        supply.read_bytes = READ_BYTES.0;
        supply.taken();
        supply.refill().expect("it gives");
        assert_eq!(supply.next_mut().expect("some").as_ptr(), second);
        drop(held);
    }
}
