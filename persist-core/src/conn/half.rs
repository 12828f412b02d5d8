//! The transitions of one half of an exchange, and of a connection's life, one line each.
//!
//! An exchange has two halves: *sending* (our message) and *receiving* (the peer's). A client sends the request and
//! receives the response; a server the other way round. Both halves run the same table.

/// How far one message of an exchange has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    /// Nothing of the final message yet.
    Idle,
    /// The head is through, content is under way.
    Body,
    /// The message is complete.
    Done,
    /// The message will never be complete.
    Failed,
}

/// What happened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// An interim response.
    Interim,
    /// A head that content follows.
    Head,
    /// Some content.
    Data,
    /// The end of the content, trailers included.
    End,
    /// It was given up.
    Fail,
}

impl Half {
    /// The state after `step`; `None` if it may not happen here.
    pub(crate) const fn on(self, step: Step) -> Option<Self> {
        match (self, step) {
            (Self::Idle, Step::Interim) => Some(Self::Idle),
            (Self::Idle, Step::Head) => Some(Self::Body),
            (Self::Body, Step::Data) => Some(Self::Body),
            (Self::Body, Step::End) => Some(Self::Done),
            (Self::Idle | Self::Body, Step::Fail) => Some(Self::Failed),
            _ => None,
        }
    }

    /// Whether no further byte of this message is to come.
    pub(crate) const fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

/// How far a connection is on its way to being closed. It only ever moves down this list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Exchanges may begin.
    Open,
    /// No exchange may begin; those pending are finished.
    Finishing,
    /// All is written: our side must be shut down for writing.
    Shutdown,
    /// Our side is shut down; what still comes is dropped until the peer closes.
    Lingering,
    /// Nothing is left to do but to close the stream.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::{Half, Step};
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn the_matrix_of_a_half_is_exactly_this() {
        let halves = [Half::Idle, Half::Body, Half::Done, Half::Failed];
        let steps = [Step::Interim, Step::Head, Step::Data, Step::End, Step::Fail];
        let mut matrix = String::new();
        for half in halves {
            for step in steps {
                let after = half.on(step).map_or_else(|| "-".into(), |after| format!("{after:?}"));
                matrix.push_str(&format!("{half:?} + {step:?} = {after}\n"));
            }
        }
        let expected = "\
Idle + Interim = Idle
Idle + Head = Body
Idle + Data = -
Idle + End = -
Idle + Fail = Failed
Body + Interim = -
Body + Head = -
Body + Data = Body
Body + End = Done
Body + Fail = Failed
Done + Interim = -
Done + Head = -
Done + Data = -
Done + End = -
Done + Fail = -
Failed + Interim = -
Failed + Head = -
Failed + Data = -
Failed + End = -
Failed + Fail = -
";
        assert_eq!(matrix, expected);
    }
}
