//! `cargo xtask standalone`: for each crate a program outside the workspace that uses it and nothing else of ours, built and run as its
//! users would; and what must not come with it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Outcome, shell};

/// Each published crate, and what must not come with it.
const CRATES: [(&str, &[&str]); 5] = [
    ("persist-core", &["tokio", "mio", "rustix", "socket2", "libc", "tracing"]),
    ("persist-sync", &["tokio", "persist-async"]),
    ("persist-async", &["persist-sync", "rustls", "h2", "hyper"]),
    ("persist-proxy", &["tokio", "mio", "persist-async", "persist-sync"]),
    ("persist-cli", &["hyper", "reqwest"]),
];

pub(crate) fn run(options: &[String]) -> Outcome {
    let [] = shell::flags(options, [])?;
    for (name, _) in CRATES {
        run_on(name, &shell::root().join(name), &shell::target_dir().join("standalone"), &shell::target_dir())?;
    }
    println!("{} crates, a program on each", CRATES.len());
    Ok(())
}

/// Copies the program of a crate to a folder of its own, lets it use the crate that lies in `source`, and runs it.
pub(crate) fn run_on(name: &str, source: &Path, place: &Path, target_dir: &Path) -> Outcome {
    let (_, unwanted) = CRATES
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("{name} has no program in tests/standalone"))?;
    let program = shell::root().join("tests/standalone").join(name);
    let copy = place.join(format!("uses-{name}"));
    let fail = |what: PathBuf| move |error| format!("cannot copy {}: {error}", what.display());
    fs::create_dir_all(copy.join("src")).map_err(fail(copy.clone()))?;
    let manifest = program.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).map_err(fail(manifest))?;
    fs::write(copy.join("Cargo.toml"), with_source(&text, name, source)?).map_err(fail(copy.clone()))?;
    fs::copy(program.join("src/main.rs"), copy.join("src/main.rs")).map_err(fail(program))?;
    // The versions that everything else is tested with, so that a release of somebody else's cannot fail us.
    let lock = shell::root().join("Cargo.lock");
    fs::copy(&lock, copy.join("Cargo.lock")).map_err(fail(lock))?;

    let cargo = || {
        let mut cargo = shell::cargo();
        cargo.current_dir(&copy).env("CARGO_TARGET_DIR", target_dir);
        cargo
    };
    shell::run(cargo().args(["run", "--quiet"])).map_err(|why| format!("the program on {name} alone: {why}"))?;
    let tree = shell::output(cargo().args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}"]))?;
    require_absent(name, &tree, unwanted)
}

/// The program's manifest, with its path to the crate turned to where that lies.
fn with_source(manifest: &str, name: &str, source: &Path) -> Result<String, String> {
    let path = format!("path = \"../../../{name}\"");
    match manifest.matches(&path).count() {
        1 => Ok(manifest.replace(&path, &format!("path = {:?}", source.display().to_string()))),
        n => Err(format!("tests/standalone/{name}/Cargo.toml says `{path}` {n} times, not once")),
    }
}

fn require_absent(name: &str, tree: &str, unwanted: &[&str]) -> Outcome {
    let brought = |unwanted: &&&str| tree.lines().any(|line| line.split(' ').next() == Some(**unwanted));
    match unwanted.iter().find(brought) {
        None => Ok(()),
        Some(found) => {
            Err(format!("{name} pulls in {found}, and must not: `cargo tree -p {name} -i {found}` shows by which way"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_not_come_along_is_found_and_names_that_only_begin_so_are_not() {
        let tree = "uses 0.0.0\npersist-sync v0.1.0 (/x)\nmio v1.0.0\ntokio-util v0.7.0\n";
        assert_eq!(require_absent("persist-sync", tree, &["tokio", "hyper"]), Ok(()));
        let why = require_absent("persist-sync", tree, &["tokio", "mio"]).expect_err("mio");
        assert!(why.starts_with("persist-sync pulls in mio"), "{why}");
    }

    #[test]
    fn a_program_uses_the_crate_that_it_is_given() {
        let manifest = "[dependencies]\npersist-core = { path = \"../../../persist-core\" }\n";
        let changed = with_source(manifest, "persist-core", Path::new("/tmp/p-0.1.0")).expect("once");
        assert_eq!(changed, "[dependencies]\npersist-core = { path = \"/tmp/p-0.1.0\" }\n");
        assert!(with_source("[dependencies]\n", "persist-core", Path::new("/")).is_err());
    }
}
