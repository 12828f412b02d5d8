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

impl Phase {
    /// Whether this step exists.
    pub(crate) const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Open => matches!(next, Self::Finishing | Self::Closed),
            Self::Finishing => matches!(next, Self::Shutdown | Self::Closed),
            Self::Shutdown => matches!(next, Self::Lingering | Self::Closed),
            Self::Lingering => matches!(next, Self::Closed),
            Self::Closed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Half, Phase, Step};
    use alloc::format;
    use alloc::string::{String, ToString};
    use alloc::vec::Vec;

    extern crate std;

    const HALVES: [Half; 4] = [Half::Idle, Half::Body, Half::Done, Half::Failed];
    const STEPS: [Step; 5] = [Step::Interim, Step::Head, Step::Data, Step::End, Step::Fail];
    const PHASES: [Phase; 5] = [Phase::Open, Phase::Finishing, Phase::Shutdown, Phase::Lingering, Phase::Closed];

    /// The arrows of a diagram in `docs/protocol.md`, under this heading; `None` where the crate stands alone, without the repository.
    fn diagram(heading: &str) -> Option<Vec<String>> {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
        if !std::path::Path::new(docs).exists() {
            return None;
        }
        let page = std::fs::read_to_string(format!("{docs}/protocol.md")).expect("docs/protocol.md");
        let section = page.split("\n## ").find(|section| section.starts_with(heading)).expect("the section is there");
        let arrows = section.lines().map(str::trim).filter(|line| line.contains(" --> ") && !line.contains("[*]"));
        let mut arrows: Vec<String> = arrows.map(ToString::to_string).collect();
        arrows.sort();
        Some(arrows)
    }

    #[test]
    fn the_diagram_of_a_half_is_the_table() {
        let Some(drawn) = diagram("The two halves of an exchange") else { return };
        let steps = HALVES.iter().flat_map(|half| STEPS.iter().map(move |step| (half, step)));
        let mut table: Vec<String> =
            steps.filter_map(|(half, step)| Some(format!("{half:?} --> {:?}: {step:?}", half.on(*step)?))).collect();
        table.sort();
        assert_eq!(drawn, table);
    }

    #[test]
    fn the_diagram_of_a_connections_life_is_the_table() {
        let Some(drawn) = diagram("The life of a connection") else { return };
        let steps = PHASES.iter().flat_map(|phase| PHASES.iter().map(move |next| (phase, next)));
        let mut table: Vec<String> = steps
            .filter(|(phase, next)| phase.may_become(**next))
            .map(|(phase, next)| format!("{phase:?} --> {next:?}"))
            .collect();
        table.sort();
        let drawn: Vec<&str> = drawn.iter().filter_map(|arrow| arrow.split(':').next()).collect();
        assert_eq!(drawn, table);
    }

    #[test]
    fn a_connections_life_only_moves_on() {
        for (phase, next) in PHASES.iter().flat_map(|phase| PHASES.iter().map(move |next| (*phase, *next))) {
            assert!(!phase.may_become(next) || phase < next, "{phase:?} to {next:?}");
        }
    }

    #[test]
    fn the_matrix_of_a_half_is_exactly_this() {
        let mut matrix = String::new();
        for half in HALVES {
            for step in STEPS {
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
