//! `cargo xtask features`: the libraries without features, or each with each of them by itself; and how little `persist-async` pulls in by default.

use std::collections::BTreeSet;
use std::fs;

use crate::{Outcome, shell};

/// What the default build of `persist-async` may pull in at most, itself included.
const TREE_MAX: usize = 25;
const TREE_DOC: &str = "docs/decisions/dependencies.md";
const TREE_HEADING: &str = "\n## What persist-async pulls in\n";

const LIBRARIES: [&str; 4] = ["persist-core", "persist-sync", "persist-async", "persist-proxy"];

pub(crate) const OPTIONS: &str = "[--each]";

pub(crate) fn run(options: &[String]) -> Outcome {
    let [each] = shell::flags(options, ["--each"])?;
    if each {
        return each_alone();
    }
    // Each set of features has the dependencies built anew, so that the gate looks at the barest only.
    let mut bare = shell::cargo();
    bare.args(["clippy", "--quiet", "--no-default-features"]);
    bare.args(LIBRARIES.iter().flat_map(|library| ["-p", library]));
    shell::run(bare.args(["--", "-D", "warnings"]))?;
    small_tree()
}

/// Each library without features, and with each of them by itself.
pub(crate) fn each_alone() -> Outcome {
    for library in LIBRARIES {
        let manifest = fs::read_to_string(shell::root().join(library).join("Cargo.toml"))
            .map_err(|error| format!("cannot read the manifest of {library}: {error}"))?;
        check(library, "")?;
        for feature in features(&manifest) {
            check(library, feature)?;
        }
    }
    Ok(())
}

/// The crates that a user of `persist-async` gets without asking for features, ours included: no more than promised, and no other than its documentation lists.
fn small_tree() -> Outcome {
    let output = shell::cargo()
        .args(["tree", "--locked", "-p", "persist-async", "--edges", "normal", "--prefix", "none", "--no-dedupe"])
        .output()
        .map_err(|error| format!("cannot start cargo tree: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree failed:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let tree = String::from_utf8_lossy(&output.stdout);
    let tree: BTreeSet<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    let documented =
        fs::read_to_string(shell::root().join(TREE_DOC)).map_err(|error| format!("cannot read {TREE_DOC}: {error}"))?;
    judge(&tree, &listed(&documented))?;
    println!("persist-async pulls in {} crates by default, itself included, of {TREE_MAX} at most", tree.len());
    Ok(())
}

fn judge(tree: &BTreeSet<&str>, listed: &BTreeSet<&str>) -> Outcome {
    if tree.len() > TREE_MAX {
        return Err(format!(
            "persist-async pulls in {} crates by default; {TREE_MAX} are promised at most",
            tree.len()
        ));
    }
    let (new, gone): (Vec<_>, Vec<_>) = (tree.difference(listed).collect(), listed.difference(tree).collect());
    if new.is_empty() && gone.is_empty() {
        return Ok(());
    }
    Err(format!(
        "{TREE_DOC} lists other crates than persist-async pulls in: it lacks {new:?}, and has {gone:?} too much"
    ))
}

/// What stands in backticks in the documentation's list.
fn listed(text: &str) -> BTreeSet<&str> {
    let section = text.split_once(TREE_HEADING).map_or("", |(_, behind)| behind);
    let section = section.split("\n## ").next().unwrap_or_default();
    let items = section.lines().filter(|line| line.starts_with("- "));
    items.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

fn check(library: &str, features: &str) -> Outcome {
    let what =
        ["clippy", "--quiet", "-p", library, "--no-default-features", "--features", features, "--", "-D", "warnings"];
    shell::run(shell::cargo().args(what))
}

/// The names in a manifest's section of features, but `default`, which is a choice of others.
fn features(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        if line.starts_with('[') {
            inside = line.trim_end() == "[features]";
        }
        let name = line.split_once('=')?.0.trim();
        (inside && name != "default" && !name.starts_with('#')).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{features, judge, listed};

    #[test]
    fn a_tree_that_grew_is_refused() {
        let text = "# D\n\n## What persist-async pulls in\n\nText on `nothing`.\n\n- ours: `a`, `b`\n- `c`\n\n## More\n\n- `d`\n";
        let list = listed(text);
        assert_eq!(list, BTreeSet::from(["a", "b", "c"]));
        assert_eq!(judge(&BTreeSet::from(["a", "b", "c"]), &list), Ok(()));
        let grown = judge(&BTreeSet::from(["a", "b", "c", "d"]), &list).expect_err("d is new");
        assert!(grown.contains("lacks [\"d\"]"), "{grown}");
        let numbers: Vec<String> = (0..26).map(|n| n.to_string()).collect();
        let many: BTreeSet<&str> = numbers.iter().map(String::as_str).collect();
        assert!(judge(&many, &many).is_err(), "listed or not");
    }

    #[test]
    fn every_feature_but_the_default_is_found() {
        let manifest = "[package]\nname = \"x\"\n[features]\ndefault = [\"std\"]\n# a = b\nstd = []\ntls = [\"std\"]\n[dependencies]\nbytes = \"1\"\n";
        assert_eq!(features(manifest).collect::<Vec<_>>(), ["std", "tls"]);
    }
}
