//! `cargo xtask features`: each library alone, without features and with each of them by itself.

use std::fs;

use crate::{Outcome, shell};

const LIBRARIES: [&str; 4] = ["persist-core", "persist-sync", "persist-async", "persist-proxy"];

pub(crate) fn run(options: &[String]) -> Outcome {
    let [] = shell::flags(options, [])?;
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
    use super::features;

    #[test]
    fn every_feature_but_the_default_is_found() {
        let manifest = "[package]\nname = \"x\"\n[features]\ndefault = [\"std\"]\n# a = b\nstd = []\ntls = [\"std\"]\n[dependencies]\nbytes = \"1\"\n";
        assert_eq!(features(manifest).collect::<Vec<_>>(), ["std", "tls"]);
    }
}
