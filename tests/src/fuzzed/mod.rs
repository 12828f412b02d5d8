//! What fuzz targets do with one input, so that tests do the same with their seeds. Each function panics when something is wrong.

mod cases;
mod chunks;
mod cuts;
mod keep_alive;
mod pair;

pub use cases::batch;
pub use chunks::chunked;
pub use cuts::{request, response};
pub use keep_alive::keep_alive;
pub use pair::pair;

/// One target: its name, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: [Target; 6] = [
    ("request", request),
    ("response", response),
    ("chunked", chunked),
    ("pair", pair),
    ("batch", batch),
    ("keep_alive", keep_alive),
];

/// Reads choices off the front of an input; zeros once it is used up.
#[derive(Clone, Debug)]
pub(crate) struct Choices<'d>(pub(crate) &'d [u8]);

impl Choices<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
