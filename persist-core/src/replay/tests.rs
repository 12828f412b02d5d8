//! What can be sent again, and that it is the same bytes.

use alloc::vec::Vec;

use bytes::Bytes;
use proptest::prelude::*;

use super::{Replay, ReplayBody};
use crate::head::BodyLen;

fn drain(body: &mut ReplayBody, max: usize) -> Vec<u8> {
    core::iter::from_fn(|| body.take_kept(max)).flatten().collect()
}

#[test]
fn a_body_in_memory_can_always_be_sent_again() {
    let mut body = ReplayBody::from("hello");
    assert_eq!(body.len(), BodyLen::Length(5));
    for max in [1, 3, 99] {
        assert_eq!(drain(&mut body, max), b"hello");
        assert_eq!(body.replay(), Replay::Whole);
        assert!(body.rewind());
    }
    assert!(ReplayBody::empty().take_kept(9).is_none() && ReplayBody::empty().is_empty());
}

#[test]
fn a_one_shot_body_is_spent_by_its_first_byte() {
    let mut body = ReplayBody::one_shot(Some(5), 0);
    assert_eq!((body.len(), body.replay()), (BodyLen::Length(5), Replay::Untouched));
    body.record(Bytes::new());
    assert!(body.rewind());
    assert_eq!(body.replay(), Replay::Untouched);
    body.record("h");
    assert_eq!(body.replay(), Replay::Spent);
    assert!(!body.rewind());
}

#[test]
fn what_is_kept_is_not_given_out_before_a_rewind() {
    let mut body = ReplayBody::one_shot(None, 10);
    body.record("abc");
    assert!(body.take_kept(9).is_none());
    assert!(body.rewind());
    assert_eq!(drain(&mut body, 2), b"abc");
    body.record("def");
    assert!(body.take_kept(9).is_none());
}

proptest! {
    #![proptest_config(crate::property_tests::config())]

    #[test]
    fn each_attempt_sends_the_same_bytes(
        pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
        stops in proptest::collection::vec(0usize..9, 0..4),
        max in 1usize..9,
        keep_max in 0usize..60,
    ) {
        let whole = pieces.concat();
        let mut body = ReplayBody::one_shot(None, keep_max);
        let mut source = pieces.iter();
        for stop in stops.into_iter().chain([usize::MAX]) {
            let mut sent = drain(&mut body, max);
            for piece in source.by_ref().take(stop) {
                body.record(Bytes::copy_from_slice(piece));
                sent.extend_from_slice(piece);
            }
            prop_assert!(whole.starts_with(&sent));
            if stop == usize::MAX {
                prop_assert_eq!(&sent, &whole);
            }
            if !body.rewind() {
                prop_assert_eq!(body.replay(), Replay::Spent);
                prop_assert!(sent.len() > keep_max);
                return Ok(());
            }
        }
    }
}
