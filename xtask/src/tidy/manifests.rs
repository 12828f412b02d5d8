//! Checks on manifests: a dependency is there for a reason that is written down.

use std::collections::BTreeSet;

use super::File;

const REASONS: &str = "docs/decisions/dependencies.md";

pub(super) fn dependencies_have_reasons(files: &[File]) -> Vec<String> {
    let Some(reasons) = files.iter().find(|file| file.path == REASONS) else {
        return vec![format!("{REASONS}: the file is missing")];
    };
    let explained: BTreeSet<&str> = reasons.text.lines().filter_map(first_cell).collect();
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    for manifest in files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        for name in dependencies(&manifest.text).filter(|name| !name.starts_with("persist-")) {
            used.insert(name);
            if !explained.contains(name) {
                problems.push(format!("{}: `{name}` has no row in {REASONS}", manifest.path));
            }
        }
    }
    let stale = explained.difference(&used).map(|name| format!("{REASONS}: no manifest names `{name}`"));
    problems.extend(stale);
    problems
}

/// The name in the first cell of a row like ``| `bytes` | core | ...``.
fn first_cell(line: &str) -> Option<&str> {
    line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name)
}

/// The names in all sections of dependencies but the workspace's, which is only a list of versions to choose from.
fn dependencies(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter_map(move |line| {
        if let Some(section) = line.strip_prefix('[') {
            inside = section.trim_end().ends_with("dependencies]") && !section.starts_with("workspace");
            return None;
        }
        let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
        (inside && !name.is_empty() && !name.starts_with('#') && line.contains('=')).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_without_a_reason_and_a_reason_without_a_dependency_are_found() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nbytes.workspace = true\nserde = \"1\"\npersist-core.workspace = true\n[features]\nstd = []\n";
        let files = [
            File::new("x/Cargo.toml", manifest),
            File::new(REASONS, "| crate | why |\n|---|---|\n| `bytes` | core |\n| `gone` | no |\n"),
        ];
        let problems = dependencies_have_reasons(&files);
        assert_eq!(
            problems,
            [
                "x/Cargo.toml: `serde` has no row in docs/decisions/dependencies.md",
                "docs/decisions/dependencies.md: no manifest names `gone`"
            ]
        );
    }

    #[test]
    fn every_kind_of_dependency_counts_and_the_list_of_versions_does_not() {
        let manifest = "[workspace.dependencies]\na = \"1\"\n[dev-dependencies]\nb = \"1\"\n[target.'cfg(unix)'.dependencies]\nc = { version = \"1\" }\n";
        assert_eq!(dependencies(manifest).collect::<Vec<_>>(), ["b", "c"]);
    }
}
