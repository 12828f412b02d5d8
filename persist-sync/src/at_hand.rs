//! Content that is here already: a little of it in place, more of it where it can be shared.

use bytes::{Buf, Bytes};

/// So much needs no allocation: what fits where shared content would be told of.
const FEW: usize = 22;

/// Content that is here already, and not yet taken.
pub(crate) enum AtHand {
    Few { bytes: [u8; FEW], from: u8, to: u8 },
    Many(Bytes),
}

impl AtHand {
    pub(crate) const NONE: Self = Self::Few { bytes: [0; FEW], from: 0, to: 0 };

    #[inline(always)]
    pub(crate) fn copy_of(content: &[u8]) -> Self {
        let mut bytes = [0; FEW];
        match bytes.get_mut(..content.len()) {
            Some(place) => {
                place.copy_from_slice(content);
                Self::Few { bytes, from: 0, to: content.len() as u8 }
            }
            None => Self::Many(Bytes::copy_from_slice(content)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest().is_empty()
    }

    /// Moves as much into `buf` as there is, and room for; says how much that was.
    pub(crate) fn take(&mut self, buf: &mut [u8]) -> usize {
        let rest = self.rest();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        self.advance(n);
        n
    }

    /// At most `most` bytes of it.
    pub(crate) fn take_bytes(&mut self, most: usize) -> Bytes {
        let n = self.rest().len().min(most);
        if let Self::Many(bytes) = self {
            return bytes.split_to(n);
        }
        let taken = Bytes::copy_from_slice(&self.rest()[..n]);
        self.advance(n);
        taken
    }

    fn rest(&self) -> &[u8] {
        match self {
            Self::Few { bytes, from, to } => &bytes[usize::from(*from)..usize::from(*to)],
            Self::Many(bytes) => bytes,
        }
    }

    fn advance(&mut self, n: usize) {
        match self {
            Self::Few { from, .. } => *from += n as u8,
            Self::Many(bytes) => bytes.advance(n),
        }
    }
}

impl From<Vec<u8>> for AtHand {
    fn from(content: Vec<u8>) -> Self {
        if content.is_empty() { Self::NONE } else { Self::Many(content.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_content_takes_no_more_room_than_word_of_much() {
        assert_eq!(size_of::<AtHand>(), size_of::<Bytes>());
    }

    #[test]
    fn content_of_any_length_is_taken_once_and_in_its_order_in_either_way() {
        let content: Vec<u8> = (0..80).collect();
        for len in 0..content.len() {
            let content = &content[..len];
            for mut here in [AtHand::copy_of(content), AtHand::from(content.to_vec())] {
                let mut taken = Vec::new();
                while !here.is_empty() {
                    let mut buf = [0; 7];
                    let n = here.take(&mut buf);
                    taken.extend_from_slice(&buf[..n]);
                    taken.extend_from_slice(&here.take_bytes(5));
                }
                assert_eq!(taken, content);
                assert_eq!((here.take(&mut [0; 7]), here.take_bytes(7).len()), (0, 0));
            }
        }
    }
}
