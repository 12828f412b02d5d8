//! `cargo xtask release check`: everything that must hold before a release. Quick checks first, all of them; packages only if those hold.

use std::process::Command;

use super::crates::{Crate, Repo};
use super::version::Version;
use super::{changelog, git, licences, manifests, packages, prepare};
use crate::{Outcome, shell};

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It holds: what was seen.
    Holds(String),
    /// It does not: one line.
    Fails(String),
    /// It could not be looked at here, and why. Neither good nor bad: it is said again at the end.
    LeftOut(String),
}

impl From<Result<String, String>> for Checked {
    fn from(result: Result<String, String>) -> Self {
        result.map_or_else(Self::Fails, Self::Holds)
    }
}

pub(crate) fn check(repo: &Repo, require_msrv: bool) -> Outcome {
    let manifest = repo.read("Cargo.toml")?;
    let version = manifests::workspace_version(&manifest)?;
    let crates = repo.published()?;
    let mut report = Report::default();
    quick(repo, &version, &crates, require_msrv, &mut report);
    if report.failed == 0 {
        report.add("packages", packages::verify(repo, &crates, &version).into());
    }
    if report.failed == 0 {
        report.add("each crate alone", packages::test_alone(repo, &crates, &version).into());
    }
    report.end(&version)
}

/// The checks that build nothing, and that with the oldest Rust.
fn quick(repo: &Repo, version: &Version, crates: &[Crate], require_msrv: bool, report: &mut Report) {
    report.add("working tree", git::require_clean(&repo.root).map(|()| "everything is committed".to_owned()).into());
    report.add("changelog", changelog_is_ready(repo, version).into());
    let released = git::released(&repo.root);
    report.add(
        "semver",
        released.map_or_else(Checked::Fails, |released| semver(repo, version, &released, has_semver_checks())),
    );

    let names: Vec<String> = crates.iter().map(|it| it.name.clone()).collect();
    let rust = oldest_rust(repo);
    match repo.metadata(&["--all-features"]) {
        Ok(metadata) => {
            let foreign = licences::foreign(&metadata, &names);
            report.add("licences", licences::require_allowed(&foreign).into());
            report.add("duplicate versions", licences::require_single(&foreign).into());
            report.add("Rust version of others", licences::require_rust(&foreign, &rust).into());
        }
        Err(why) => report.add("licences", Checked::Fails(why)),
    }
    report.add("oldest Rust", with_oldest_rust(repo, &rust, &names, require_msrv));
}

/// Before `prepare` the entries are unreleased; after it they have the version's section.
fn changelog_is_ready(repo: &Repo, version: &Version) -> Result<String, String> {
    let text = repo.read("CHANGELOG.md")?;
    match changelog::require_version(&text, version) {
        Ok(()) => Ok(format!("it has a section for {version}")),
        Err(_) => changelog::require_unreleased(&text)
            .map(|()| format!("unreleased entries; `release prepare {version}` would give them a section")),
    }
}

/// Whether the public interface keeps to what the version promises, compared with the release before it.
fn semver(repo: &Repo, version: &Version, released: &[Version], has_tool: bool) -> Checked {
    if let Some(later) = released.iter().find(|it| *it > version) {
        return Checked::Fails(format!("the workspace is at {version}, and {later} is released already"));
    }
    let Some(before) = released.iter().rfind(|it| *it < version) else {
        return Checked::Holds("no release before this one to compare with".to_owned());
    };
    if !has_tool {
        return Checked::Fails(format!(
            "v{before} is released and cargo-semver-checks is not installed to compare with it: cargo install cargo-semver-checks"
        ));
    }
    let mut compare = repo.cargo();
    compare.args(["semver-checks", "check-release", "--workspace", "--baseline-rev", &format!("v{before}")]);
    shell::run(&mut compare).map(|()| format!("compatible with v{before}, or as new as it must be")).into()
}

fn has_semver_checks() -> bool {
    shell::find("cargo-semver-checks").is_some()
        || std::env::home_dir().is_some_and(|home| home.join(".cargo/bin/cargo-semver-checks").is_file())
}

/// The `rust-version` of the manifests.
fn oldest_rust(repo: &Repo) -> String {
    let text = repo.read("Cargo.toml").unwrap_or_default();
    let entries = crate::tidy::toml::entries(&text);
    let entry = entries.iter().find(|entry| entry.section == "workspace.package" && entry.name == "rust-version");
    entry.map(|entry| entry.value.trim_matches('"').to_owned()).unwrap_or_default()
}

/// Builds what is published with the Rust that its manifests promise.
fn with_oldest_rust(repo: &Repo, rust: &str, names: &[String], required: bool) -> Checked {
    let installed = shell::output(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    if let Err(why) = require_toolchain(&installed, rust) {
        return if required { Checked::Fails(why) } else { Checked::LeftOut(why) };
    }
    let mut check = Command::new("rustup");
    check.current_dir(&repo.root).env_remove("CARGO").env("CARGO_TARGET_DIR", shell::target_dir().join("oldest"));
    check.args(["run", rust, "cargo", "check", "--quiet", "--all-features"]);
    for name in names {
        check.args(["-p", name]);
    }
    shell::run(&mut check).map(|()| format!("everything builds with Rust {rust}")).into()
}

/// Whether a list of rustup's has a toolchain of that version.
fn require_toolchain(list: &str, rust: &str) -> Result<(), String> {
    let is_it =
        |line: &str| line.strip_prefix(rust).is_some_and(|rest| rest.starts_with(['-', '.', ' ']) || rest.is_empty());
    let is_installed = list.lines().any(is_it);
    if is_installed { Ok(()) } else { Err(format!("Rust {rust} is not installed: rustup toolchain install {rust}")) }
}

/// What was found, printed as it is found.
#[derive(Debug, Default)]
struct Report {
    failed: usize,
    not_checked: Vec<&'static str>,
}

impl Report {
    fn add(&mut self, name: &'static str, checked: Checked) {
        match checked {
            Checked::Holds(what) => println!("{name}: {what}"),
            Checked::LeftOut(why) => {
                println!("{name}: NOT CHECKED: {why}");
                self.not_checked.push(name);
            }
            Checked::Fails(why) => {
                println!("{name}: FAILED: {why}");
                self.failed += 1;
            }
        }
    }

    fn end(&self, version: &Version) -> Outcome {
        match (self.failed, self.not_checked.as_slice()) {
            (0, []) => println!("{version} can be released"),
            (0, left) => println!("{version}: all that was checked holds; NOT CHECKED: {}", left.join(", ")),
            (1, _) => return Err("one check failed: see above".to_owned()),
            (n, _) => return Err(format!("{n} checks failed: see above")),
        }
        Ok(())
    }
}

/// What publishing asks for beyond a check: the version has its section, comes after all that was released, and everything is committed.
pub(crate) fn require_prepared(repo: &Repo, version: &Version, released: &[Version]) -> Result<(), String> {
    git::require_clean(&repo.root)?;
    prepare::require_forward(version, version, released)?;
    changelog::require_version(&repo.read("CHANGELOG.md")?, version)
        .map_err(|why| format!("{why}: run `cargo xtask release prepare {version}` and commit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn versions(list: &[&str]) -> Vec<Version> {
        list.iter().map(|text| text.parse().expect("a version")).collect()
    }

    #[test]
    fn without_a_release_there_is_nothing_to_compare_and_with_one_the_tool_is_needed() {
        let repo = Repo::at(".", "cargo");
        let [version] = &versions(&["0.2.0"])[..] else { unreachable!() };
        assert!(matches!(semver(&repo, version, &[], false), Checked::Holds(_)));
        assert!(matches!(semver(&repo, version, &versions(&["0.2.0"]), false), Checked::Holds(_)), "itself");
        let Checked::Fails(why) = semver(&repo, version, &versions(&["0.1.0", "0.1.1"]), false) else {
            panic!("the tool is lacking")
        };
        assert!(why.starts_with("v0.1.1 is released") && why.ends_with("cargo install cargo-semver-checks"), "{why}");
        let Checked::Fails(why) = semver(&repo, version, &versions(&["0.3.0"]), true) else { panic!("goes backwards") };
        assert_eq!(why, "the workspace is at 0.2.0, and 0.3.0 is released already");
    }

    #[test]
    fn a_toolchain_is_found_by_its_version_and_not_by_a_longer_one() {
        let list = "stable-x86_64-unknown-linux-gnu (default)\n1.88-x86_64-unknown-linux-gnu\n";
        assert_eq!(require_toolchain(list, "1.88"), Ok(()));
        assert_eq!(require_toolchain("1.88.0-x86_64\n", "1.88"), Ok(()));
        let why = require_toolchain("1.880-x86_64\nstable\n", "1.88").expect_err("another");
        assert_eq!(why, "Rust 1.88 is not installed: rustup toolchain install 1.88");
    }
}
