//! The crates that are published, as cargo tells them, and the order in which they can be.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::shell;

/// The repository that a release is made from, and the cargo that makes it.
#[derive(Debug)]
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
    cargo: OsString,
}

impl Repo {
    /// The repository that this program was built in.
    pub(crate) fn here() -> Self {
        Self { root: shell::root(), cargo: std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()) }
    }

    #[cfg(test)]
    pub(crate) fn at(root: impl Into<PathBuf>, cargo: impl Into<OsString>) -> Self {
        Self { root: root.into(), cargo: cargo.into() }
    }

    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(&self.root);
        command
    }

    /// The cargo, run somewhere else.
    pub(crate) fn cargo_in(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        command.current_dir(folder);
        command
    }

    pub(crate) fn read(&self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(self.root.join(path)).map_err(|error| format!("cannot read {path}: {error}"))
    }

    /// What `cargo metadata` says, with these arguments more.
    pub(crate) fn metadata(&self, arguments: &[&str]) -> Result<Value, String> {
        let text = shell::output(self.cargo().args(["metadata", "--format-version", "1"]).args(arguments))?;
        serde_json::from_str(&text).map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))
    }

    /// The crates that are published, in an order in which each comes after what it needs.
    pub(crate) fn published(&self) -> Result<Vec<Crate>, String> {
        in_order(published(&self.metadata(&["--no-deps"])?))
    }

    /// The names of all crates of the workspace.
    pub(crate) fn members(&self) -> Result<Vec<String>, String> {
        let metadata = self.metadata(&["--no-deps"])?;
        Ok(array(&metadata["packages"]).map(|package| string(&package["name"])).collect())
    }
}

/// One published crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    /// What can be chosen, but `default`.
    pub(crate) features: Vec<String>,
    /// The crates of the workspace that must be published before it, those that its tests need among them.
    needs: BTreeSet<String>,
}

/// The members of the workspace that may be published.
fn published(metadata: &Value) -> Vec<Crate> {
    let packages = || array(&metadata["packages"]).filter(|package| package["publish"].is_null());
    let names: BTreeSet<String> = packages().map(|package| string(&package["name"])).collect();
    let of = |package: &Value| Crate {
        name: string(&package["name"]),
        features: package["features"]
            .as_object()
            .map(|features| features.keys().filter(|name| *name != "default").cloned().collect())
            .unwrap_or_default(),
        needs: array(&package["dependencies"])
            // One that is only for tests and has no version is left out of what is published.
            .filter(|needed| needed["kind"] != "dev" || needed["req"] != "*")
            .map(|needed| string(&needed["name"]))
            .filter(|name| names.contains(name))
            .collect(),
    };
    packages().map(of).collect()
}

/// Each crate after what it needs, and otherwise as they were.
fn in_order(mut crates: Vec<Crate>) -> Result<Vec<Crate>, String> {
    let mut ordered: Vec<Crate> = Vec::with_capacity(crates.len());
    while !crates.is_empty() {
        let is_done = |name: &String| ordered.iter().any(|done| done.name == *name);
        match crates.iter().position(|it| it.needs.iter().all(is_done)) {
            Some(next) => ordered.push(crates.remove(next)),
            None => {
                let names: Vec<&str> = crates.iter().map(|it| it.name.as_str()).collect();
                return Err(format!(
                    "none of {} can be published first: they need each other (a dependency for tests counts, unless it has no version)",
                    names.join(", ")
                ));
            }
        }
    }
    Ok(ordered)
}

pub(crate) fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

pub(crate) fn string(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, needs: &[&str]) -> Crate {
        let needs = needs.iter().map(|name| (*name).to_owned()).collect();
        Crate { name: name.to_owned(), features: Vec::new(), needs }
    }

    fn names(crates: &[Crate]) -> Vec<&str> {
        crates.iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn each_crate_comes_after_what_it_needs() {
        let crates =
            vec![of("cli", &["async", "core"]), of("async", &["core"]), of("core", &[]), of("sync", &["core"])];
        assert_eq!(names(&in_order(crates).expect("there is an order")), ["core", "async", "cli", "sync"]);
    }

    #[test]
    fn crates_that_need_each_other_are_named() {
        let why = in_order(vec![of("a", &["b"]), of("b", &["a"]), of("c", &[])]).expect_err("a circle");
        assert!(why.starts_with("none of a, b can be published first"), "{why}");
    }

    #[test]
    fn what_is_not_published_and_what_only_tests_need_by_path_does_not_count() {
        let metadata = serde_json::json!({"packages": [
            {"name": "a", "publish": null, "features": {"default": [], "tls": []}, "dependencies": [
                {"name": "b", "kind": "dev", "req": "^0.1.0"}, {"name": "c", "kind": "dev", "req": "*"},
                {"name": "x", "kind": null, "req": "^1"}, {"name": "serde", "kind": null, "req": "^1"}]},
            {"name": "b", "publish": null, "features": {}, "dependencies": []},
            {"name": "c", "publish": null, "features": {}, "dependencies": []},
            {"name": "x", "publish": [], "features": {}, "dependencies": []},
        ]});
        let crates = published(&metadata);
        assert_eq!(names(&crates), ["a", "b", "c"]);
        assert_eq!(crates[0].needs.iter().collect::<Vec<_>>(), ["b"]);
        assert_eq!(crates[0].features, ["tls"]);
    }
}
