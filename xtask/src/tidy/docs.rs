//! Checks on documents: links lead to files, and the code map names each source file and no other.

use std::collections::BTreeSet;

use super::File;

const MAP: &str = "docs/architecture.md";

pub(super) fn links_lead_somewhere(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (index, line) in file.text.lines().enumerate() {
            for target in links(line).filter(|target| !exists(files, &resolve(&file.path, target))) {
                problems.push(format!("{}:{}: the link to `{target}` leads nowhere", file.path, index + 1));
            }
        }
    }
    problems
}

pub(super) fn code_map_is_true(files: &[File]) -> Vec<String> {
    let Some(map) = files.iter().find(|file| file.path == MAP) else {
        return vec![format!("{MAP}: the file is missing")];
    };
    let named = mapped_files(&map.text);
    let sources: BTreeSet<String> = files
        .iter()
        .filter(|file| {
            file.is_rust() && !file.is_test() && file.path.contains("/src/") && !file.path.contains("/fuzz/")
        })
        .map(|file| file.path.clone())
        .collect();
    let missing = sources.difference(&named).map(|path| format!("{MAP}: `{path}` has no line in the code map"));
    let gone = named.iter().filter(|path| !exists(files, path)).map(|path| format!("{MAP}: there is no `{path}`"));
    missing.chain(gone).collect()
}

/// The files that the code map names: under a heading like ``### `persist-core/src` ``, lines like ``- `framing.rs`: ...``.
fn mapped_files(map: &str) -> BTreeSet<String> {
    let mut folder = String::new();
    let mut named = BTreeSet::new();
    for line in map.lines() {
        if line.starts_with('#') {
            folder = line
                .strip_prefix("### `")
                .and_then(|rest| rest.split_once('`'))
                .map_or("", |(name, _)| name)
                .to_owned();
        } else if !folder.is_empty()
            && let Some((name, _)) = line.strip_prefix("- `").and_then(|rest| rest.split_once('`'))
        {
            named.insert(format!("{folder}/{name}"));
        }
    }
    named
}

/// The targets of a line's links that are files of ours.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| {
        let target = rest.split_once(')')?.0;
        let target = target.split('#').next().unwrap_or_default();
        (!target.is_empty() && !target.contains("://") && !target.starts_with("mailto:")).then_some(target)
    })
}

/// A link's target as a path from the repository's root.
fn resolve(from: &str, target: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn exists(files: &[File], path: &str) -> bool {
    files.iter().any(|file| file.path == path || file.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nothing_is_found_and_links_to_files_folders_and_sites_are_not() {
        let files = [
            File::new("docs/a.md", "[x](../src/b.rs#L1) [y](gone.md) [z](https://example.org) [w](../src) [v](#here)"),
            File::new("src/b.rs", ""),
        ];
        assert_eq!(links_lead_somewhere(&files), ["docs/a.md:1: the link to `gone.md` leads nowhere"]);
    }

    #[test]
    fn a_source_file_without_a_line_and_a_line_without_a_file_are_found() {
        let map =
            "### `a/src`\n\n- `b.rs`: is there.\n- `c.rs`: is gone.\n\n## Else\n- `d.rs`: is no file of the map.\n";
        let files = [
            File::new(MAP, map),
            File::new("a/src/b.rs", ""),
            File::new("a/src/new.rs", ""),
            File::new("a/src/b/tests.rs", ""),
        ];
        let problems = code_map_is_true(&files);
        assert_eq!(
            problems,
            [
                "docs/architecture.md: `a/src/new.rs` has no line in the code map",
                "docs/architecture.md: there is no `a/src/c.rs`"
            ]
        );
    }
}
