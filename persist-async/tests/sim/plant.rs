//! Faults that can be planted, each of which the oracle must find: otherwise it could not be trusted to find others.

/// A fault, in the network or in what stands between the adapter and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    Nothing,
    /// The network delivers a reply on another connection than its own.
    CrossedReplies,
    /// The network loses a byte.
    LostByte,
    /// The network delivers what a server wrote a second time.
    RepeatedReply,
    /// The network does not wake whoever waits for what arrives.
    LostWakeUp,
    /// The dialer opens a second connection, and keeps it.
    LeakedConnection,
    /// Requests that failed are sent again, whatever their method.
    ResentPosts,
    /// A request that was sent is reported as one that was not.
    FalseNotSent,
    /// Replies are made up, without a handler.
    MadeUpReply,
    /// Content is cut, and passed on as whole.
    CutContent,
    /// The handler is called twice for one request.
    HandledTwice,
    /// Requests that were read are forgotten when the server is told to end.
    ForgottenAtShutdown,
    /// An error of the client is kept from its book of failures.
    LostFailure,
}

impl Plant {
    /// All that are faults, with the rules of which one must be broken by them.
    pub(crate) const FAULTS: [(Self, &'static [&'static str]); 12] = [
        (Self::CrossedReplies, &["pairing", "order"]),
        (Self::LostByte, &["content", "answered", "calm"]),
        (Self::RepeatedReply, &["order"]),
        (Self::LostWakeUp, &["hang", "answered", "calm"]),
        (Self::LeakedConnection, &["leak"]),
        (Self::ResentPosts, &["once"]),
        (Self::FalseNotSent, &["not sent"]),
        (Self::MadeUpReply, &["unhandled"]),
        (Self::CutContent, &["content"]),
        (Self::HandledTwice, &["once"]),
        (Self::ForgottenAtShutdown, &["answered"]),
        (Self::LostFailure, &["book"]),
    ];

    /// By its name in the environment.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::FAULTS.into_iter().map(|(plant, _)| plant).find(|plant| format!("{plant:?}") == name)
    }
}
