//! What a machine tells `tracing`, with the feature of that name; without it, nothing is compiled.
//!
//! Events carry numbers, methods, statuses and reasons. Never a target, a field value or content: those may hold credentials.

/// An event at debug level, target `persist`.
macro_rules! tell {
    ($($event:tt)*) => {
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "persist", $($event)*)
    };
}

pub(super) use tell;
