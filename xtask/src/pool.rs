//! `cargo xtask bench-pool`: what one decision of the pool costs, by number of destinations and connections.

use crate::{Outcome, shell};

pub(crate) fn run(options: &[String]) -> Outcome {
    let [] = shell::flags(options, [])?;
    shell::run(shell::cargo().args(["run", "--release", "--quiet", "-p", "persist-bench", "--bin", "pool"]))
}
