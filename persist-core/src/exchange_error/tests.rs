//! Errors are one line, say what became of the request, and keep their cause.

use alloc::boxed::Box;
use alloc::string::ToString;
use core::error::Error as _;
use core::time::Duration;

use super::{ExchangeError, Phase};
use crate::close::{CloseReason, Deadline, Side};
use crate::destination::Destination;
use crate::disposition::{Disposition, Failure};
use crate::error::Blame;

fn failure(disposition: Disposition, reason: CloseReason, idempotent: bool) -> Box<Failure> {
    let age = Duration::from_secs(3);
    Box::new(Failure { disposition, reason, sent: 120, received: 0, idempotent, reused: true, age, served: false })
}

fn there() -> Destination {
    "http://h:81".parse().unwrap()
}

#[test]
fn one_line_says_what_where_why_and_what_next() {
    for (error, text) in [
        (
            ExchangeError::new(Phase::Resolve, "no such host").at(&there()),
            "cannot resolve the name of http://h:81: no such host; is the name spelled right, and the network up?",
        ),
        (
            ExchangeError::from(failure(Disposition::SentNoReply, CloseReason::PeerClosedEarly, false)).at(&there()),
            "got no response from http://h:81: sent, no reply: the peer closed before the message was complete \
             (120 bytes sent, 0 received, on a reused connection); it may have been processed; find out before sending it again",
        ),
        (
            ExchangeError::from(failure(Disposition::NotSent, CloseReason::Io(Side::Write), false))
                .because("broken pipe"),
            "cannot send the request: not sent: writing failed (120 bytes sent, 0 received, on a reused connection): \
             broken pipe; it was not processed and may be sent again",
        ),
        (
            ExchangeError::new(Phase::Prepare, "no url").hinting("give one"),
            "cannot send this request: no url; give one",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn before_a_connection_took_it_a_request_is_not_sent() {
    for phase in
        [Phase::Prepare, Phase::Route, Phase::Wait, Phase::Resolve, Phase::Connect, Phase::Tunnel, Phase::Handshake]
    {
        assert_eq!(ExchangeError::new(phase, "x").disposition(), Some(Disposition::NotSent), "{phase:?}");
    }
    for phase in [Phase::Send, Phase::Receive, Phase::Body, Phase::Close] {
        assert_eq!(ExchangeError::new(phase, "x").disposition(), None, "{phase:?}");
    }
}

#[test]
fn a_failure_decides_phase_and_blame() {
    for (disposition, reason, phase, blame) in [
        (Disposition::PartlySent { bytes: 9 }, CloseReason::Io(Side::Write), Phase::Send, Blame::Network),
        (Disposition::SentNoReply, CloseReason::Timeout(Deadline::Header), Phase::Receive, Blame::Network),
        (Disposition::Declined, CloseReason::PeerSaidClose, Phase::Receive, Blame::Peer),
        (Disposition::ReplyPartial, CloseReason::PeerClosedEarly, Phase::Body, Blame::Peer),
        (Disposition::NotSent, CloseReason::Aborted, Phase::Send, Blame::Caller),
    ] {
        let error = ExchangeError::from(failure(disposition, reason, true));
        assert_eq!((error.phase(), error.blame(), error.disposition()), (phase, blame, Some(disposition)));
        assert!(error.source().is_some_and(|source| source.is::<Failure>()));
    }
}

#[test]
fn the_layer_below_is_the_source_when_it_gave_one() {
    let error = ExchangeError::from(failure(Disposition::NotSent, CloseReason::Io(Side::Read), true)).because("reset");
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("reset"));
    assert!(error.failure().is_some());
}

#[test]
fn a_clone_has_the_same_cause_as_a_value() {
    let original = ExchangeError::new(Phase::Handshake, crate::Ended { reason: None });
    let copy = original.clone();
    assert_eq!(copy.to_string(), original.to_string());
    assert!(copy.source().is_some_and(|source| source.is::<crate::Ended>()));
}

#[test]
fn a_retry_that_fails_earlier_takes_nothing_back() {
    let reset = || ExchangeError::from(failure(Disposition::SentNoReply, CloseReason::Io(Side::Read), true));
    let refused = || ExchangeError::new(Phase::Connect, "connection refused");
    let error = refused().after(Some(reset()));
    assert_eq!((error.phase(), error.disposition()), (Phase::Connect, Some(Disposition::SentNoReply)));
    assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("connection refused"));
    assert_eq!(
        error.to_string(),
        "cannot connect: connection refused; an earlier attempt: sent, no reply: reading failed (120 bytes sent, 0 received, on a reused \
         connection); it may have been processed; its method is idempotent, so it may be sent again",
    );
    // Whichever had most of it, in whatever order; and no cause is lost.
    let declined = ExchangeError::from(failure(Disposition::Declined, CloseReason::PeerSaidClose, true));
    let error =
        ExchangeError::from(failure(Disposition::NotSent, CloseReason::Io(Side::Write), true)).after(Some(declined));
    assert_eq!(error.disposition(), Some(Disposition::Declined));
    let cause = error.source().and_then(|source| source.downcast_ref::<Failure>()).expect("the last one's");
    assert_eq!(cause.disposition, Disposition::NotSent);
    assert_eq!(reset().after(Some(refused())).to_string(), reset().to_string());
    assert_eq!(refused().after(None).to_string(), refused().to_string());
}

#[test]
fn errors_are_small_and_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    crosses::<ExchangeError>();
    assert_eq!(size_of::<ExchangeError>(), size_of::<usize>());
}
