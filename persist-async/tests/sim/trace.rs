//! What happened, line by line in simulated time: the same for the same seed, to the byte.

use std::fmt::{Display, Write};
use std::sync::Mutex;

use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Trace {
    start: Instant,
    text: Mutex<String>,
}

impl Trace {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), text: Mutex::default() }
    }

    pub(crate) fn say(&self, what: impl Display) {
        let millis = self.start.elapsed().as_millis();
        let mut text = self.text.lock().expect("no panic");
        writeln!(text, "{millis:>7} {what}").expect("a string takes all");
    }

    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.text.lock().expect("no panic"))
    }
}
