//! Checks on what each published crate shows: its README, compared with its manifest, and the metadata that registries print.

use std::collections::{BTreeMap, BTreeSet};

use super::File;
use super::toml::{Entry, entries};

/// How the sections of every crate's README begin, in this order.
const SECTIONS: [&str; 5] = ["When to take", "First example", "Features", "Dependencies", "Minimum Rust version"];

/// What a manifest must say for registries to show the crate well.
const METADATA: [&str; 9] =
    ["name", "description", "readme", "version", "rust-version", "license", "repository", "keywords", "categories"];

/// A crate that is published: its folder, its manifest's entries, and its README.
struct Published<'f> {
    folder: &'f str,
    manifest: Vec<Entry<'f>>,
    readme: Option<&'f str>,
}

pub(super) fn readmes_agree_with_manifests(files: &[File]) -> Vec<String> {
    let rust = workspace_rust(files);
    let mut problems = Vec::new();
    for it in published(files) {
        let Some(readme) = it.readme else {
            problems.push(format!("{}/README.md: the file is missing, and registries show it", it.folder));
            continue;
        };
        sections_are_there(&it, readme, &mut problems);
        features_are_listed(&it, readme, &mut problems);
        dependencies_are_listed(&it, readme, &mut problems);
        if let Some(rust) = &rust
            && !section(readme, "Minimum Rust version").contains(&format!("Rust {rust}."))
        {
            let folder = it.folder;
            problems.push(format!(
                "{folder}/README.md: `Minimum Rust version` must say `Rust {rust}.`, as Cargo.toml does"
            ));
        }
    }
    problems
}

pub(super) fn manifests_say_what_registries_show(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for it in published(files) {
        let keys: BTreeSet<&str> =
            it.manifest.iter().filter(|entry| entry.section == "package").map(|entry| entry.name).collect();
        for key in METADATA.iter().filter(|key| !keys.contains(*key)) {
            problems.push(format!("{}/Cargo.toml: `{key}` is missing from [package]", it.folder));
        }
        let root = format!("{}/src/lib.rs", it.folder);
        let has_rust_example = it.readme.is_some_and(|readme| readme.contains("```rust"));
        let runs_it = |file: &File| file.path == root && file.text.contains("include_str!(\"../README.md\")");
        if has_rust_example && !files.iter().any(runs_it) {
            problems.push(format!(
                "{root}: the README's examples are not run: end the file with `#[cfg(doctest)] #[doc = include_str!(\"../README.md\")] struct Readme;`"
            ));
        }
    }
    problems
}

fn published(files: &[File]) -> impl Iterator<Item = Published<'_>> {
    files.iter().filter_map(|file| {
        let folder = file.path.strip_suffix("/Cargo.toml").filter(|folder| folder.starts_with("persist-"))?;
        let readme = format!("{folder}/README.md");
        let readme = files.iter().find(|file| file.path == readme).map(|file| file.text.as_str());
        Some(Published { folder, manifest: entries(&file.text), readme })
    })
}

/// The workspace's `rust-version`.
fn workspace_rust(files: &[File]) -> Option<String> {
    let root = files.iter().find(|file| file.path == "Cargo.toml")?;
    let entries = entries(&root.text);
    let entry = entries.iter().find(|entry| entry.section == "workspace.package" && entry.name == "rust-version")?;
    Some(entry.value.trim_matches('"').to_owned())
}

fn sections_are_there(it: &Published<'_>, readme: &str, problems: &mut Vec<String>) {
    let mut headings = readme.lines().filter_map(|line| line.strip_prefix("## "));
    for wanted in SECTIONS {
        if !headings.any(|heading| heading.starts_with(wanted)) {
            let order = SECTIONS.join(", ");
            problems.push(format!("{}/README.md: no section `## {wanted}...` in its place: {order}", it.folder));
            return;
        }
    }
}

fn features_are_listed(it: &Published<'_>, readme: &str, problems: &mut Vec<String>) {
    let features = it.manifest.iter().filter(|entry| entry.section == "features");
    let default: Vec<&str> = features
        .clone()
        .filter(|entry| entry.name == "default")
        .flat_map(|entry| entry.value.split('"').skip(1).step_by(2))
        .collect();
    let wanted: BTreeMap<&str, &str> = features
        .filter(|entry| entry.name != "default")
        .map(|entry| (entry.name, if default.contains(&entry.name) { "yes" } else { "no" }))
        .collect();
    let shown: BTreeMap<&str, &str> = rows(section(readme, "Features")).collect();
    let path = format!("{}/README.md", it.folder);
    for (name, default) in &wanted {
        match shown.get(name) {
            None => problems.push(format!(
                "{path}: feature `{name}` of the manifest is not listed: add `| `{name}` | {default} | what it gives |` to the table under `## Features`"
            )),
            Some(said) if said != default => problems.push(format!(
                "{path}: feature `{name}`: the column `default` says {said}, and the manifest {default}"
            )),
            Some(_) => {}
        }
    }
    for name in shown.keys().filter(|name| !wanted.contains_key(*name)) {
        problems
            .push(format!("{path}: there is no feature `{name}` in the manifest: take its row out of `## Features`"));
    }
}

fn dependencies_are_listed(it: &Published<'_>, readme: &str, problems: &mut Vec<String>) {
    // Users do not get what is only there for tests or build scripts.
    let is_for_users = |section: &str| section == "dependencies" || section.ends_with("'.dependencies");
    let wanted: BTreeSet<&str> =
        it.manifest.iter().filter(|entry| is_for_users(entry.section)).map(|entry| entry.name).collect();
    let shown: BTreeSet<&str> = rows(section(readme, "Dependencies")).map(|(name, _)| name).collect();
    let path = format!("{}/README.md", it.folder);
    for name in wanted.difference(&shown) {
        problems.push(format!(
            "{path}: dependency `{name}` of the manifest is not listed: add `| `{name}` | what for |` to the table under `## Dependencies` (and say with which feature it comes, if it is optional)"
        ));
    }
    for name in shown.difference(&wanted) {
        problems
            .push(format!("{path}: the manifest has no dependency `{name}`: take its row out of `## Dependencies`"));
    }
}

/// The text under a heading, up to the next.
fn section<'t>(text: &'t str, heading: &str) -> &'t str {
    let start = format!("\n## {heading}\n");
    let Some((_, rest)) = text.split_once(&start) else { return "" };
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

/// Rows like ``| `name` | cell | ...``: the name, and the cell behind it.
fn rows(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` |")?;
        Some((name, rest.split('|').next().unwrap_or_default().trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "[workspace.package]\nrust-version = \"1.88\"\n";
    const MANIFEST: &str = "[package]\nname = \"persist-x\"\n[features]\ndefault = [\"std\"]\nstd = []\ntls = [\n    \"dep:rustls\",\n]\n[dependencies]\nbytes.workspace = true\nrustls = { version = \"1\", optional = true }\n[target.'cfg(unix)'.dependencies]\nrustix = \"1\"\n[dev-dependencies]\nproptest = \"1\"\n";
    const README: &str = "# persist-x\n## When to take another layer\n\n## First example\n\n## Features\n\n| feature | default | gives |\n|---|---|---|\n| `std` | yes | a |\n| `tls` | no | b |\n\n## Dependencies\n\n| `bytes` | c |\n| `rustls` | d |\n| `rustix` | e |\n\n## Minimum Rust version\n\nRust 1.88. So.\n";

    fn check(manifest: &str, readme: &str) -> Vec<String> {
        let files = [
            File::new("Cargo.toml", ROOT),
            File::new("persist-x/Cargo.toml", manifest),
            File::new("persist-x/README.md", readme),
        ];
        readmes_agree_with_manifests(&files)
    }

    #[test]
    fn a_readme_that_says_what_the_manifest_says_is_left_alone() {
        assert_eq!(check(MANIFEST, README), [""; 0]);
    }

    #[test]
    fn features_that_came_went_or_changed_sides_are_found() {
        let manifest = MANIFEST.replace("[\"std\"]", "[]").replace("tls = [", "http2 = [");
        let problems = check(&manifest, README);
        assert_eq!(problems.len(), 3, "{problems:#?}");
        assert!(problems[0].contains("add `| `http2` | no | what it gives |`"), "{problems:#?}");
        assert!(problems[1].ends_with("the column `default` says yes, and the manifest no"), "{problems:#?}");
        assert!(problems[2].contains("no feature `tls`"), "{problems:#?}");
    }

    #[test]
    fn dependencies_that_came_or_went_are_found_and_those_of_tests_do_not_count() {
        let problems = check(&MANIFEST.replace("bytes", "memchr"), README);
        assert_eq!(problems.len(), 2, "{problems:#?}");
        assert!(problems[0].contains("dependency `memchr`") && problems[1].contains("no dependency `bytes`"));
    }

    #[test]
    fn a_lacking_section_readme_or_version_is_found() {
        assert!(check(MANIFEST, &README.replace("## First", "## Last"))[0].contains("`## First example...`"));
        assert!(check(MANIFEST, &README.replace("1.88.", "1.89."))[0].contains("must say `Rust 1.88.`"));
        let files = [File::new("persist-x/Cargo.toml", MANIFEST)];
        assert_eq!(readmes_agree_with_manifests(&files).len(), 1);
    }

    #[test]
    fn lacking_metadata_and_examples_that_are_not_run_are_found() {
        let files = [
            File::new("persist-x/Cargo.toml", MANIFEST),
            File::new("persist-x/README.md", "```rust\n```\n"),
            File::new("persist-x/src/lib.rs", "//! x\n"),
        ];
        let problems = manifests_say_what_registries_show(&files);
        assert_eq!(problems.len(), METADATA.len(), "all but the name, and the examples: {problems:#?}");
    }
}
