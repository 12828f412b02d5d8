//! `cargo xtask release`: from a version number to published crates, so that a release depends on nobody's memory.

mod changelog;
mod check;
pub(crate) mod crates;
mod git;
mod licences;
pub(crate) mod manifests;
mod packages;
mod prepare;
mod publish;
#[cfg(test)]
mod tests;
pub(crate) mod version;

use crate::{Outcome, shell};
use crates::Repo;
pub(crate) use prepare::today;

pub(crate) const OPTIONS: &str = "prepare VERSION | check [--require-msrv] | publish [--execute]";

pub(crate) fn run(options: &[String]) -> Outcome {
    let repo = Repo::here();
    match options.split_first().map(|(step, rest)| (step.as_str(), rest)) {
        Some(("prepare", [version])) => {
            let version = version.parse()?;
            let changed = prepare::prepare(&repo, &version, &today())?;
            println!("prepared {version}: changed {}", changed.join(", "));
            println!("look at the difference, commit it, and run `cargo xtask release check`");
            Ok(())
        }
        Some(("check", rest)) => {
            let [require_msrv] = shell::flags(rest, ["--require-msrv"])?;
            check::check(&repo, require_msrv)
        }
        Some(("publish", rest)) => {
            let [execute] = shell::flags(rest, ["--execute"])?;
            if execute {
                check::check(&repo, true)?;
            }
            publish::publish(&repo, execute)
        }
        _ => Err(format!("say what to do: {OPTIONS}")),
    }
}
