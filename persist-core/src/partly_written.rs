//! What a caller gets back of a burst of requests of which one was refused.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

use crate::exchange_error::ExchangeError;

/// A burst of requests of which one was refused: `ClientConn::write_all` of either adapter, whose exchanges are `X`. Those before it are on their way, those behind it were not
/// looked at.
///
/// As an [`ExchangeError`], into which it turns where only that is wanted, it is the refused one's; the others are dropped, and so cancelled.
///
/// ```
/// use persist_core::{ExchangeError, PartlyWritten, Phase};
///
/// let partly = PartlyWritten::new(vec!["/a", "/b"], ExchangeError::new(Phase::Prepare, "no more"));
/// assert_eq!((partly.written.len(), partly.error.phase()), (2, Phase::Prepare));
/// assert!(partly.to_string().starts_with("the request behind 2 that were written: "));
/// let error = ExchangeError::from(partly);
/// assert_eq!(PartlyWritten::<&str>::new(vec![], error.clone()).to_string(), error.to_string());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct PartlyWritten<X> {
    /// The requests that were written, in their order. The refused one stood behind the last of them.
    pub written: Vec<X>,
    /// Why it was refused, or what became of it: as `ClientConn::write` would tell.
    pub error: ExchangeError,
}

impl<X> PartlyWritten<X> {
    /// For adapters.
    pub fn new(written: Vec<X>, error: ExchangeError) -> Self {
        Self { written, error }
    }
}

impl<X> fmt::Display for PartlyWritten<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.written.len() {
            0 => self.error.fmt(f),
            n => write!(f, "the request behind {n} that were written: {}", self.error),
        }
    }
}

impl<X: fmt::Debug> Error for PartlyWritten<X> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl<X> From<PartlyWritten<X>> for ExchangeError {
    fn from(partly: PartlyWritten<X>) -> Self {
        partly.error
    }
}
