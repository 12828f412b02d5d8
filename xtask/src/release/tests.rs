//! Releases of a small workspace in a repository of its own: what is refused changes nothing, and what broke off goes on.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::crates::Repo;
use super::{check, prepare, publish};
use crate::shell;

/// A workspace of two crates, `b` on `a`, committed.
struct Workspace {
    folder: TempDir,
}

impl Workspace {
    fn new() -> Self {
        let it = Self { folder: tempfile::tempdir().expect("a folder") };
        it.write(
            "Cargo.toml",
            "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\"]\n\n[workspace.package]\nversion = \"0.2.0\"\nedition = \"2024\"\nrust-version = \"1.88\"\n\n[workspace.dependencies]\na = { path = \"a\", version = \"0.2.0\" }\n",
        );
        for (name, dependencies) in [("a", ""), ("b", "a.workspace = true\n")] {
            let package = "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true";
            it.write(
                &format!("{name}/Cargo.toml"),
                &format!("[package]\nname = \"{name}\"\n{package}\n\n[dependencies]\n{dependencies}"),
            );
            it.write(&format!("{name}/src/lib.rs"), "//! Nothing.\n");
        }
        it.write(
            "CHANGELOG.md",
            "# Changelog\n\n## [Unreleased]\n\n- a thing\n\n## [0.2.0] - 2026-01-02\n\n- the first\n",
        );
        shell::output(it.repo().cargo().args(["generate-lockfile", "--offline"])).expect("a lock file");
        it.git(&["init", "--quiet"]);
        it.git(&["config", "user.name", "A Tester"]);
        it.git(&["config", "user.email", "tester@example.org"]);
        it.git(&["config", "core.autocrlf", "false"]);
        it.commit();
        it
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn repo(&self) -> Repo {
        Repo::at(self.path(), std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).expect("a file")
    }

    fn git(&self, arguments: &[&str]) -> String {
        shell::output(Command::new("git").current_dir(self.path()).args(arguments)).expect("git")
    }

    fn commit(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "A step"]);
    }

    fn prepare(&self, version: &str) -> Result<Vec<String>, String> {
        prepare::prepare(&self.repo(), &version.parse().expect("a version"), "2026-11-25")
    }

    /// Refused in one line that says this, and nothing is changed.
    fn refuses(&self, version: &str, why: &str) {
        let before = self.git(&["status", "--porcelain"]);
        assert_eq!(self.prepare(version), Err(why.to_owned()));
        assert!(!why.contains('\n'));
        assert_eq!(self.git(&["status", "--porcelain"]), before);
    }
}

#[test]
fn a_release_is_prepared_in_manifest_lock_file_and_changelog_and_nowhere_else() {
    let workspace = Workspace::new();
    let changed = workspace.prepare("0.3.0").expect("prepared");
    assert_eq!(changed, ["CHANGELOG.md", "Cargo.toml", "Cargo.lock"]);
    let status = workspace.git(&["status", "--porcelain"]);
    assert_eq!(status, " M CHANGELOG.md\n M Cargo.lock\n M Cargo.toml\n");
    assert!(workspace.read("CHANGELOG.md").contains("## [Unreleased]\n\n## [0.3.0] - 2026-11-25\n\n- a thing\n"));
    // Cargo agrees: the lock file is what it would have written.
    shell::output(workspace.repo().cargo().args(["metadata", "--format-version", "1", "--locked", "--offline"]))
        .expect("manifests and lock file agree");
    let manifest = workspace.read("Cargo.toml");
    assert_eq!(manifest.matches("0.3.0").count(), 2, "{manifest}");
}

#[test]
fn a_dirty_tree_is_refused() {
    let workspace = Workspace::new();
    workspace.write("a/src/lib.rs", "//! Something.\n");
    workspace.refuses("0.3.0", "not everything is committed: a/src/lib.rs");
    workspace.write("new.txt", "");
    workspace.refuses("0.3.0", "not everything is committed: a/src/lib.rs and 1 more");
}

#[test]
fn a_version_that_goes_backwards_is_refused() {
    let workspace = Workspace::new();
    workspace.refuses("0.1.9", "0.1.9 goes backwards: the workspace is at 0.2.0");
    workspace.git(&["tag", "v0.4.0"]);
    workspace.refuses("0.3.0", "0.3.0 does not come after 0.4.0, which is released");
}

#[test]
fn a_changelog_without_entries_is_refused() {
    let workspace = Workspace::new();
    workspace.write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n### Added\n\n## [0.2.0]\n\n- x\n");
    workspace.commit();
    workspace.refuses("0.3.0", "CHANGELOG.md says nothing under `## [Unreleased]`: write there what is to be released");
    workspace.git(&["rm", "--quiet", "CHANGELOG.md"]);
    workspace.commit();
    let why = workspace.prepare("0.3.0").expect_err("there is none");
    assert!(why.starts_with("cannot read CHANGELOG.md: "), "{why}");
}

#[test]
fn what_was_not_prepared_is_not_published() {
    let workspace = Workspace::new();
    workspace.write("CHANGELOG.md", "# Changelog\n\n## [Unreleased]\n\n- a thing\n");
    workspace.commit();
    let why = publish::publish(&workspace.repo(), false).expect_err("no section");
    assert_eq!(why, "CHANGELOG.md has no section `## [0.2.0]`: run `cargo xtask release prepare 0.2.0` and commit");
    let present = "0.2.0".parse().expect("a version");
    let later = ["0.3.0".parse().expect("a version")];
    assert!(check::require_prepared(&workspace.repo(), &present, &later).is_err());
}

#[cfg(unix)]
mod publishing {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A cargo that publishes into a folder, one file a crate, and refuses the crate that is named in a file of its own.
    const CARGO: &str = r#"#!/bin/sh
registry="REGISTRY"
echo "$*" >> "$registry/log"
case "$1" in
metadata) exec "REAL" "$@" ;;
info) test -f "$registry/$3" ;;
publish)
    if test "$(cat "$registry/refused" 2>/dev/null)" = "$3"; then echo "error: no network" >&2; exit 101; fi
    touch "$registry/$3@0.2.0"
    ;;
*) exit 99 ;;
esac
"#;

    struct Registry {
        folder: TempDir,
    }

    impl Registry {
        fn new() -> Self {
            let it = Self { folder: tempfile::tempdir().expect("a folder") };
            let real = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
            let registry = it.folder.path().display().to_string();
            let script = CARGO.replace("REGISTRY", &registry).replace("REAL", &real);
            let cargo = it.folder.path().join("cargo");
            fs::write(&cargo, script).expect("written");
            fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("executable");
            it
        }

        fn publish(&self, workspace: &Workspace, execute: bool) -> Result<(), String> {
            publish::publish(&Repo::at(workspace.path(), self.folder.path().join("cargo")), execute)
        }

        fn refuse(&self, name: &str) {
            fs::write(self.folder.path().join("refused"), name).expect("written");
        }

        /// What was published, in order, since the last time.
        fn published(&self) -> Vec<String> {
            let log = self.folder.path().join("log");
            let text = fs::read_to_string(&log).unwrap_or_default();
            fs::write(log, "").expect("written");
            text.lines().filter_map(|line| line.strip_prefix("publish -p ")).map(str::to_owned).collect()
        }
    }

    #[test]
    fn without_execute_nothing_is_published_and_nothing_tagged() {
        let (workspace, registry) = (Workspace::new(), Registry::new());
        registry.publish(&workspace, false).expect("a dry run");
        assert_eq!(registry.published(), [""; 0]);
        assert_eq!(workspace.git(&["tag"]), "");
    }

    #[test]
    fn crates_are_published_in_order_and_then_tagged() {
        let (workspace, registry) = (Workspace::new(), Registry::new());
        registry.publish(&workspace, true).expect("published");
        assert_eq!(registry.published(), ["a", "b"]);
        assert_eq!(workspace.git(&["tag"]), "v0.2.0\n");
        registry.publish(&workspace, true).expect("there is nothing left to do");
        assert_eq!(registry.published(), [""; 0]);
    }

    #[test]
    fn when_one_crate_fails_publishing_stops_there_and_goes_on_from_there() {
        let (workspace, registry) = (Workspace::new(), Registry::new());
        registry.refuse("b");
        let why = registry.publish(&workspace, true).expect_err("b is refused");
        assert!(why.contains("stopped at b: what came before it is published"), "{why}");
        assert_eq!(registry.published(), ["a", "b"]);
        assert_eq!(workspace.git(&["tag"]), "", "not a release yet");
        registry.refuse("nobody");
        registry.publish(&workspace, true).expect("goes on");
        assert_eq!(registry.published(), ["b"], "a was published before");
        assert_eq!(workspace.git(&["tag"]), "v0.2.0\n");
    }

    #[test]
    fn a_tag_on_another_commit_and_a_dirty_tree_are_refused() {
        let (workspace, registry) = (Workspace::new(), Registry::new());
        workspace.git(&["tag", "v0.2.0"]);
        workspace.write("a/src/lib.rs", "//! Something.\n");
        assert_eq!(registry.publish(&workspace, true), Err("not everything is committed: a/src/lib.rs".to_owned()));
        workspace.commit();
        let why = registry.publish(&workspace, true).expect_err("tagged elsewhere");
        assert!(why.starts_with("v0.2.0 is another commit than this one"), "{why}");
        assert_eq!(registry.published(), [""; 0]);
    }
}
