//! `cargo xtask release publish`: each crate after those it needs, then the tag. What is done is asked of the registry and of git, never
//! remembered: so that it can be started again, from any clone, after whatever stopped it.

use std::path::Path;

use super::check;
use super::crates::{Crate, Repo};
use super::version::Version;
use super::{git, manifests};
use crate::{Outcome, shell};

/// Publishes what is not published yet; without `execute` only says what would be done.
pub(crate) fn publish(repo: &Repo, execute: bool) -> Outcome {
    let version = manifests::workspace_version(&repo.read("Cargo.toml")?)?;
    let crates = repo.published()?;
    let tag = format!("v{version}");
    let mut released = git::released(&repo.root)?;
    if released.contains(&version) {
        if git::commit(&repo.root, &tag)? != git::commit(&repo.root, "HEAD")? {
            return Err(format!("{tag} is another commit than this one: to release again, prepare a later version"));
        }
        // Ours, of this very commit: an earlier run came as far as that.
        released.retain(|it| *it != version);
    }
    let is_tagged = git::released(&repo.root)?.contains(&version);
    check::require_prepared(repo, &version, &released)?;

    for it in &crates {
        one(repo, it, &version, execute)?;
    }
    match (is_tagged, execute) {
        (true, _) => println!("{tag}: tagged already"),
        (false, false) => println!("{tag}: would be tagged; nothing was done, for that add --execute"),
        (false, true) => {
            git::tag(&repo.root, &version)?;
            println!("{tag}: tagged; to share it: git push origin {tag}");
        }
    }
    Ok(())
}

fn one(repo: &Repo, it: &Crate, version: &Version, execute: bool) -> Outcome {
    let name = &it.name;
    if is_published(repo, name, version) {
        println!("{name} {version}: published already");
        return Ok(());
    }
    if !execute {
        println!("{name} {version}: would be published");
        return Ok(());
    }
    // Cargo waits until the registry lists it, so that the next one finds it.
    shell::run(repo.cargo().args(["publish", "-p", name])).map_err(|why| {
        format!("{why}\nstopped at {name}: what came before it is published. When that is mended, start again: it goes on from there")
    })?;
    println!("{name} {version}: published");
    Ok(())
}

/// Whether the registry has it. Asked from outside the workspace, where the name could only mean the registry's.
fn is_published(repo: &Repo, name: &str, version: &Version) -> bool {
    let outside = std::env::temp_dir();
    let outside: &Path = if outside.join("Cargo.toml").exists() { Path::new("/") } else { &outside };
    shell::output(repo.cargo_in(outside).args(["info", "--quiet", &format!("{name}@{version}")])).is_ok()
}
