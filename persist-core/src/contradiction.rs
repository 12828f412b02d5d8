//! Configurations that contradict themselves are refused when something is built from them.

use alloc::string::{String, ToString};
use core::fmt::{self, Display};
use core::time::Duration;

/// Two settings that cannot both hold, with their values.
///
/// ```text
/// idle_per_destination_max 10 contradicts per_destination_max 4: no more connections can be idle than can be open
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name} {value} contradicts {other} {other_value}: {why}")]
#[non_exhaustive]
pub struct Contradiction {
    /// The setting to change, most likely.
    pub name: &'static str,
    /// Its value.
    pub value: String,
    /// The setting (or the rule) that it cannot stand beside.
    pub other: &'static str,
    /// Its value.
    pub other_value: String,
    /// Why not.
    pub why: &'static str,
}

/// One setting: its name and its value.
pub(crate) type Setting<T> = (&'static str, T);

/// Refuses a `small` above `large`.
pub(crate) fn at_most<T: PartialOrd + Show>(
    small: Setting<T>,
    large: Setting<T>,
    why: &'static str,
) -> Result<(), Contradiction> {
    if small.1 <= large.1 {
        return Ok(());
    }
    let (value, other_value) = (small.1.show().to_string(), large.1.show().to_string());
    Err(Contradiction { name: small.0, value, other: large.0, other_value, why })
}

/// A value as it stands in a message.
pub(crate) trait Show {
    fn show(&self) -> impl Display;
}

impl Show for u32 {
    fn show(&self) -> impl Display {
        self
    }
}

impl Show for usize {
    fn show(&self) -> impl Display {
        self
    }
}

impl Show for u64 {
    fn show(&self) -> impl Display {
        self
    }
}

impl Show for Duration {
    fn show(&self) -> impl Display {
        Debugged(self)
    }
}

/// Durations have no `Display`; their `Debug` text is what people write: `1.5s`.
struct Debugged<'a>(&'a Duration);

impl Display for Debugged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0, f)
    }
}
