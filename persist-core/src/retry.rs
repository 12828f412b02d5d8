//! Whether a request that failed is sent again. A table (docs/retry.md), as a pure function; a test compares the two.

use core::fmt;
use core::time::Duration;

use crate::backoff::BackoffConfig;
use crate::close::{CloseReason, Deadline};
use crate::contradiction::Contradiction;
use crate::disposition::{Disposition, Failure};
use crate::field::Fields;
use crate::method::Method;
use crate::replay::Replay;

/// When requests are sent again without anybody asking. A retry always goes to a *fresh* connection: a second pooled one may be as stale as the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryPolicy {
    /// Retries of a request that may have been seen by the peer. 1: a failed automatic retry is not retried automatically (RFC 9110 §9.2.2).
    pub retries_max: u32,
    /// Retries of a request that provably was not processed; these do not count against `retries_max`. 5, as in libcurl: each fresh connection that dies unused makes the next one less likely to live.
    pub unprocessed_max: u32,
    /// Whether a connection that had completed no exchange is a reason to stop.
    pub on_fresh: OnFresh,
    /// How long retries after the first wait.
    pub backoff: BackoffConfig,
}

/// What a failure on a connection that never completed an exchange means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnFresh {
    /// The peer fails, rather than a connection that had gone stale: sending again would fail again. The default.
    GiveUp,
    /// Tries again all the same; for callers who ask for retries explicitly.
    Retry,
}

/// Whether sending a request twice does what sending it once does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeatable {
    /// The method is idempotent (RFC 9110 §9.2.2), or the request carries a key by which the peer recognises a second copy.
    Yes,
    /// Neither.
    No,
}

/// How often one request was sent again already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attempts {
    /// Retries after which the peer may have seen it.
    pub counted: u32,
    /// Retries of what provably had not been processed.
    pub unprocessed: u32,
}

/// What to do about a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it again on a fresh connection, made with [`Config::replacement`](crate::Config::replacement): nothing is pipelined behind it until its response has come (RFC 9112 §9.3.2).
    Retry {
        /// Why that is safe.
        why: Why,
        /// What to pass with the next failure.
        attempts: Attempts,
    },
    /// Give the failure to the caller.
    GiveUp(WhyNot),
}

/// Why a request may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// No byte of it left.
    NotSent,
    /// The peer had said `close` before it came to this request.
    Declined,
    /// A reused connection went away before the first byte of a response, and sending the request twice does no harm.
    Repeatable,
}

/// Why a request is not sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhyNot {
    /// The caller ended it, or its deadline for the whole passed.
    CallersOwn,
    /// The response had begun: whoever reads it may have used it. A GET may be resumed.
    ResponseBegun,
    /// Part of its body was read from somewhere that cannot be read again.
    BodySpent,
    /// The peer may have processed it, and a second copy might do it twice.
    NotRepeatable,
    /// A deadline passed while the peer may be working on it: a copy would double its work.
    PeerIsSlow,
    /// The peer broke the protocol; it would again.
    PeerIsWrong,
    /// It failed on a connection that never completed an exchange.
    FreshConnection,
    /// It was sent again as often as the policy allows.
    AttemptsUsed,
}

impl RetryPolicy {
    /// Nothing is ever sent again.
    pub const fn never() -> Self {
        Self { retries_max: 0, unprocessed_max: 0, on_fresh: OnFresh::GiveUp, backoff: BackoffConfig::none() }
    }

    /// What a caller means who asks for up to `n` retries: on any connection, with waits in between.
    pub fn up_to(n: u32) -> Self {
        let default = Self::default();
        Self { retries_max: n, unprocessed_max: n.max(default.unprocessed_max), on_fresh: OnFresh::Retry, ..default }
    }

    /// Decides. Everything that matters is in the arguments.
    ///
    /// ```
    /// use core::time::Duration;
    /// use persist_core::{Attempts, CloseReason, Decision, Disposition, Failure, Fields, Method, Repeatable, Replay, RetryPolicy, WhyNot};
    ///
    /// # fn failure() -> Failure { Failure::new(Disposition::SentNoReply, CloseReason::PeerClosedEarly, &Method::POST).on_reused(Duration::from_secs(9)) }
    /// // A POST whose connection went away after it was sent: nobody knows whether it was processed.
    /// let policy = RetryPolicy::default();
    /// let decision = policy.decide(&failure(), Repeatable::of(&Method::POST, &Fields::new()), Replay::Whole, Attempts::default());
    /// assert_eq!(decision, Decision::GiveUp(WhyNot::NotRepeatable));
    /// // With a key, the peer tells copies apart.
    /// let mut fields = Fields::new();
    /// fields.push("Idempotency-Key", "8e03978e-40d5-43dd-bc93-6894a57f9324")?;
    /// let decision = policy.decide(&failure(), Repeatable::of(&Method::POST, &fields), Replay::Whole, Attempts::default());
    /// assert!(matches!(decision, Decision::Retry { .. }));
    /// # Ok::<(), persist_core::InvalidField>(())
    /// ```
    pub fn decide(&self, failure: &Failure, repeatable: Repeatable, body: Replay, so_far: Attempts) -> Decision {
        match self.why(failure, repeatable, body) {
            Err(why_not) => Decision::GiveUp(why_not),
            Ok(Why::Repeatable) if so_far.counted >= self.retries_max => Decision::GiveUp(WhyNot::AttemptsUsed),
            Ok(Why::Repeatable) => {
                let attempts = Attempts { counted: so_far.counted + 1, ..so_far };
                Decision::Retry { why: Why::Repeatable, attempts }
            }
            Ok(_) if so_far.unprocessed >= self.unprocessed_max => Decision::GiveUp(WhyNot::AttemptsUsed),
            Ok(why) => {
                let attempts = Attempts { unprocessed: so_far.unprocessed + 1, ..so_far };
                Decision::Retry { why, attempts }
            }
        }
    }

    /// The rules, in order; the first that applies decides.
    fn why(&self, failure: &Failure, repeatable: Repeatable, body: Replay) -> Result<Why, WhyNot> {
        if matches!(failure.reason, CloseReason::Aborted | CloseReason::Timeout(Deadline::Total)) {
            return Err(WhyNot::CallersOwn);
        }
        if failure.disposition == Disposition::ReplyPartial {
            return Err(WhyNot::ResponseBegun);
        }
        if body == Replay::Spent {
            return Err(WhyNot::BodySpent);
        }
        match failure.disposition {
            // Proof: any method may be sent again, and as often as the policy bears.
            Disposition::NotSent => return Ok(Why::NotSent),
            Disposition::Declined => return Ok(Why::Declined),
            _ => {}
        }
        // RFC 9110 §9.2.2: a request that may have been processed is sent again only if a second copy does no harm.
        if repeatable == Repeatable::No {
            return Err(WhyNot::NotRepeatable);
        }
        match failure.reason {
            CloseReason::Timeout(_) => Err(WhyNot::PeerIsSlow),
            CloseReason::Protocol(_) | CloseReason::Poisoned | CloseReason::PeerWrong { .. } => {
                Err(WhyNot::PeerIsWrong)
            }
            _ if !failure.reused && self.on_fresh == OnFresh::GiveUp => Err(WhyNot::FreshConnection),
            _ => Ok(Why::Repeatable),
        }
    }

    /// How long to wait before the retry that `attempts` counts: the first goes at once.
    pub fn delay(&self, attempts: Attempts, random: u64) -> Duration {
        self.backoff.delay((attempts.counted + attempts.unprocessed).saturating_sub(1), random)
    }

    /// Checks it.
    ///
    /// # Errors
    /// What [`BackoffConfig::check`] says.
    pub fn check(&self) -> Result<(), Contradiction> {
        self.backoff.check()
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { retries_max: 1, unprocessed_max: 5, on_fresh: OnFresh::GiveUp, backoff: BackoffConfig::default() }
    }
}

impl Repeatable {
    /// By method, `Idempotency-Key` and `X-Idempotency-Key`; the key's presence is enough.
    pub fn of(method: &Method, fields: &Fields) -> Self {
        let keyed = || fields.get("Idempotency-Key").or_else(|| fields.get("X-Idempotency-Key")).is_some();
        if method.is_idempotent() || keyed() { Self::Yes } else { Self::No }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "nothing of it had been sent",
            Self::Declined => "the peer had declined it",
            Self::Repeatable => "sending it twice does no harm",
        })
    }
}

impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallersOwn => "the caller ended it",
            Self::ResponseBegun => "its response had begun",
            Self::BodySpent => "its body cannot be read again",
            Self::NotRepeatable => "it may have been processed, and its method is not idempotent",
            Self::PeerIsSlow => "the peer may still be working on it",
            Self::PeerIsWrong => "the peer broke the protocol",
            Self::FreshConnection => "it failed on a fresh connection",
            Self::AttemptsUsed => "it was sent again as often as allowed",
        })
    }
}

#[cfg(test)]
mod tests;
