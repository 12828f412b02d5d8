//! Bytes that were read before they could be taken.

/// Bytes that were read and could not be taken yet. Most connections have none, and no room for them.
#[derive(Default)]
pub(crate) struct Inbox(Option<Box<Kept>>);

struct Kept {
    bytes: Vec<u8>,
    /// So many of them are taken.
    at: usize,
}

impl Inbox {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// What is not taken yet.
    #[inline]
    pub(crate) fn rest(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |kept| &kept.bytes[kept.at..])
    }

    /// All but the last `len` bytes are taken. The memory is freed with the last of them.
    pub(crate) fn keep_last(&mut self, len: usize) {
        match &mut self.0 {
            Some(kept) if len > 0 => kept.at = kept.bytes.len() - len,
            _ => self.0 = None,
        }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            let kept = self.0.get_or_insert_with(|| Box::new(Kept { bytes: Vec::new(), at: 0 }));
            kept.bytes.extend_from_slice(bytes);
        }
    }
}

impl From<Vec<u8>> for Inbox {
    fn from(bytes: Vec<u8>) -> Self {
        Self((!bytes.is_empty()).then(|| Box::new(Kept { bytes, at: 0 })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_stays_in_order_and_nothing_stays_of_nothing() {
        let mut inbox = Inbox::from(b"abcdef".to_vec());
        inbox.keep_last(4);
        inbox.push(b"gh");
        inbox.push(b"");
        assert_eq!(inbox.rest(), b"cdefgh");
        inbox.keep_last(1);
        assert_eq!((inbox.rest(), inbox.is_empty()), (&b"h"[..], false));
        inbox.keep_last(0);
        assert_eq!((inbox.rest(), inbox.is_empty()), (&b""[..], true));
        assert!(Inbox::from(Vec::new()).is_empty());
        inbox.push(b"");
        inbox.keep_last(0);
        assert!(inbox.is_empty());
    }
}
