//! The table in docs/retry.md is the code's table; and the rules around it.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::{Attempts, Decision, OnFresh, Repeatable, RetryPolicy, Why, WhyNot};
use crate::close::{CloseReason, Deadline, Side};
use crate::disposition::{Disposition, Failure};
use crate::error::{Cause, ProtocolError};
use crate::field::Fields;
use crate::method::Method;
use crate::replay::Replay;

extern crate std;

/// The rows of the table in `docs/retry.md`, cell by cell; `None` where the crate stands alone, without the repository.
fn rows() -> Option<Vec<Vec<String>>> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    if !std::path::Path::new(docs).exists() {
        return None;
    }
    let page = std::fs::read_to_string(format!("{docs}/retry.md")).expect("docs/retry.md");
    let table = page.lines().skip_while(|line| !line.starts_with("| what became")).skip(2);
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_string()).collect();
    Some(table.take_while(|line| line.starts_with('|')).map(cells).collect())
}

/// Every value of every column, in the table's words.
fn cases() -> Vec<(Failure, Repeatable, Replay, Vec<&'static str>)> {
    let dispositions = [
        (Disposition::NotSent, "not sent"),
        (Disposition::PartlySent { bytes: 7 }, "partly sent"),
        (Disposition::SentNoReply, "sent, no reply"),
        (Disposition::ReplyPartial, "reply partial"),
        (Disposition::Declined, "declined"),
    ];
    let reasons = [
        (CloseReason::Aborted, "the caller"),
        (CloseReason::Timeout(Deadline::Total), "the caller"),
        (CloseReason::Timeout(Deadline::Header), "a deadline"),
        (CloseReason::Timeout(Deadline::WriteStall), "a deadline"),
        (CloseReason::Protocol(ProtocolError::new(Cause::Truncated, 0)), "a protocol error"),
        (CloseReason::Poisoned, "a protocol error"),
        (CloseReason::PeerClosedEarly, "something else"),
        (CloseReason::PeerSaidClose, "something else"),
        (CloseReason::Io(Side::Read), "something else"),
        (CloseReason::Io(Side::Write), "something else"),
        (CloseReason::Idle, "something else"),
    ];
    let mut cases = Vec::new();
    for (disposition, became) in dispositions {
        for (reason, ended) in &reasons {
            for (repeatable, repeats) in [(Repeatable::Yes, "yes"), (Repeatable::No, "no")] {
                for (body, text) in
                    [(Replay::Whole, "whole"), (Replay::Untouched, "untouched"), (Replay::Spent, "spent")]
                {
                    for (reused, connection) in [(true, "reused"), (false, "fresh")] {
                        let mut failure = Failure::new(disposition, reason.clone(), &Method::GET);
                        failure.reused = reused;
                        let words = alloc::vec![became, *ended, repeats, text, connection];
                        cases.push((failure, repeatable, body, words));
                    }
                }
            }
        }
    }
    cases
}

fn in_words(decision: Decision) -> String {
    match decision {
        Decision::Retry { why, .. } => format!("yes: {why:?}"),
        Decision::GiveUp(why_not) => format!("no: {why_not:?}"),
    }
}

#[test]
fn the_table_in_the_docs_is_what_the_code_does() {
    let Some(rows) = rows() else { return };
    let policy = RetryPolicy::default();
    assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [7; 10]);
    let mut used = alloc::vec![0; rows.len()];
    for (failure, repeatable, body, words) in cases() {
        let fits = |row: &Vec<String>| row.iter().zip(&words).all(|(cell, word)| cell == "any" || cell == word);
        let row = rows.iter().position(fits).unwrap_or_else(|| panic!("no row fits {words:?}"));
        used[row] += 1;
        let retried = Attempts { counted: 1, unprocessed: 0 };
        let decide = |so_far| in_words(policy.decide(&failure, repeatable, body, so_far));
        assert_eq!([decide(Attempts::default()), decide(retried)], rows[row][5..], "{words:?}: row {row}");
    }
    assert!(used.iter().all(|&count| count > 0), "a row that nothing reaches: {used:?}");
}

fn lost(disposition: Disposition) -> Failure {
    Failure::new(disposition, CloseReason::PeerClosedEarly, &Method::GET).on_reused(Duration::from_secs(1))
}

/// Fails the same way until the policy stops; returns how often it was sent again.
fn retries(policy: RetryPolicy, failures: impl IntoIterator<Item = Failure>) -> (usize, Option<WhyNot>) {
    let mut so_far = Attempts::default();
    for (count, failure) in failures.into_iter().enumerate() {
        match policy.decide(&failure, Repeatable::Yes, Replay::Whole, so_far) {
            Decision::Retry { attempts, .. } => so_far = attempts,
            Decision::GiveUp(why_not) => return (count, Some(why_not)),
        }
    }
    (usize::MAX, None)
}

#[test]
fn attempts_that_were_not_sent_do_not_count_but_end() {
    let policy = RetryPolicy::default();
    let not_sent = || core::iter::repeat_n(lost(Disposition::NotSent), 3);
    let sent = || core::iter::repeat(lost(Disposition::SentNoReply));
    assert_eq!(retries(policy, sent()), (1, Some(WhyNot::AttemptsUsed)));
    assert_eq!(retries(policy, not_sent().chain(sent())), (4, Some(WhyNot::AttemptsUsed)));
    assert_eq!(retries(policy, core::iter::repeat(lost(Disposition::NotSent))), (5, Some(WhyNot::AttemptsUsed)));
}

#[test]
fn the_users_policy_goes_further_and_never_stops_at_once() {
    let mut fresh = lost(Disposition::SentNoReply);
    fresh.reused = false;
    let forever = || core::iter::repeat(fresh.clone());
    assert_eq!(retries(RetryPolicy::up_to(7), forever()), (7, Some(WhyNot::AttemptsUsed)));
    assert_eq!(retries(RetryPolicy::default(), forever()), (0, Some(WhyNot::FreshConnection)));
    assert_eq!(retries(RetryPolicy::never(), forever()).0, 0);
    assert_eq!(retries(RetryPolicy::never(), [lost(Disposition::NotSent)]), (0, Some(WhyNot::AttemptsUsed)));
    assert_eq!(RetryPolicy::up_to(7).on_fresh, OnFresh::Retry);
}

#[test]
fn a_key_or_an_idempotent_method_makes_a_request_repeatable() {
    for (method, field, repeatable) in [
        (Method::GET, None, Repeatable::Yes),
        (Method::PUT, None, Repeatable::Yes),
        (Method::DELETE, None, Repeatable::Yes),
        (Method::POST, None, Repeatable::No),
        (Method::PATCH, None, Repeatable::No),
        (Method::CONNECT, None, Repeatable::No),
        (Method::new("PROPFIND").unwrap(), None, Repeatable::No),
        (Method::POST, Some("idempotency-key"), Repeatable::Yes),
        (Method::POST, Some("X-Idempotency-Key"), Repeatable::Yes),
        (Method::POST, Some("Idempotency"), Repeatable::No),
    ] {
        let mut fields = Fields::new();
        if let Some(name) = field {
            fields.push(name, "k").unwrap();
        }
        assert_eq!(Repeatable::of(&method, &fields), repeatable, "{method} {field:?}");
    }
}

#[test]
fn the_first_retry_goes_at_once_and_later_ones_wait() {
    let policy = RetryPolicy::default();
    let delay = |counted, unprocessed| policy.delay(Attempts { counted, unprocessed }, 0);
    assert_eq!(delay(1, 0), Duration::ZERO);
    assert_eq!(delay(0, 1), Duration::ZERO);
    assert_eq!(delay(1, 1), Duration::from_millis(100));
    assert_eq!(delay(2, 1), Duration::from_millis(200));
}

#[test]
fn reasons_are_said_in_words() {
    assert_eq!(Why::Declined.to_string(), "the peer had declined it");
    assert_eq!(WhyNot::BodySpent.to_string(), "its body cannot be read again");
}
