//! What users get with our crates from others: under which licences, and whether anything twice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::crates::{array, string};

/// Licences that ask for no more than to be named, so that a program under any licence may contain them.
const ALLOWED: [&str; 12] = [
    "MIT",
    "MIT-0",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "BSL-1.0",
    // Data, not code: the roots that browsers trust.
    "CDLA-Permissive-2.0",
];

/// Crates that may be there in several versions, and why they are.
const DUPLICATES: [(&str, &str); 3] = [
    ("windows-sys", "bindings only, on Windows; each of their users moves on at its own time"),
    ("windows-targets", "comes with windows-sys"),
    ("getrandom", "rustls' provider and the hash maps' seeds follow different versions; a few system calls"),
];

/// One crate of others.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Foreign {
    name: String,
    version: String,
    licence: String,
    rust_version: Option<String>,
}

/// The crates of others that come with the named ones of ours, with all features, on all platforms; not what only tests need.
pub(crate) fn foreign(metadata: &Value, ours: &[String]) -> Vec<Foreign> {
    let nodes: BTreeMap<&str, &Value> =
        array(&metadata["resolve"]["nodes"]).filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let packages: BTreeMap<&str, &Value> =
        array(&metadata["packages"]).filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let is_ours =
        |package: &Value| ours.iter().any(|name| package["name"] == name.as_str()) && package["source"].is_null();
    let mut left: Vec<&str> = packages.iter().filter(|(_, package)| is_ours(package)).map(|(id, _)| *id).collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = left.pop() {
        if !seen.insert(id) {
            continue;
        }
        let needed = nodes.get(id).map(|node| array(&node["deps"])).into_iter().flatten();
        left.extend(
            needed
                .filter(|needed| array(&needed["dep_kinds"]).any(|kind| kind["kind"] != "dev"))
                .filter_map(|needed| needed["pkg"].as_str()),
        );
    }
    let foreign = seen.into_iter().filter_map(|id| packages.get(id)).filter(|package| !package["source"].is_null());
    let mut foreign: Vec<Foreign> = foreign
        .map(|package| Foreign {
            name: string(&package["name"]),
            version: string(&package["version"]),
            licence: string(&package["license"]),
            rust_version: package["rust_version"].as_str().map(str::to_owned),
        })
        .collect();
    foreign.sort();
    foreign
}

/// # Errors
/// The crates whose licences ask for more than ours may ask for.
pub(crate) fn require_allowed(foreign: &[Foreign]) -> Result<String, String> {
    let refused: Vec<String> = foreign
        .iter()
        .filter(|it| !is_allowed(&it.licence))
        .map(|it| format!("{} {} ({})", it.name, it.version, if it.licence.is_empty() { "none" } else { &it.licence }))
        .collect();
    match refused.is_empty() {
        true => Ok(format!("{} crates of others, each under a licence of the list", foreign.len())),
        false => {
            Err(format!("not under a licence of the list in xtask/src/release/licences.rs: {}", refused.join(", ")))
        }
    }
}

/// # Errors
/// The crates that are there in several versions, and have no reason to.
pub(crate) fn require_single(foreign: &[Foreign]) -> Result<String, String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for it in foreign {
        versions.entry(&it.name).or_default().push(&it.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let show = |(name, versions): (&str, &Vec<&str>)| format!("{name} {}", versions.join(" and "));
    let reason = |name: &str| DUPLICATES.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason);
    let unexplained: Vec<String> = versions
        .iter()
        .filter(|(name, _)| reason(name).is_none())
        .map(|(name, versions)| show((name, versions)))
        .collect();
    if !unexplained.is_empty() {
        return Err(format!(
            "twice, and without a reason in xtask/src/release/licences.rs: {}",
            unexplained.join(", ")
        ));
    }
    let explained: Vec<String> = versions
        .iter()
        .map(|(name, versions)| format!("{}: {}", show((name, versions)), reason(name).unwrap_or_default()))
        .collect();
    Ok(if explained.is_empty() { "nothing twice".to_owned() } else { explained.join("; ") })
}

/// # Errors
/// The crates that ask for a newer Rust than ours promise.
pub(crate) fn require_rust(foreign: &[Foreign], rust: &str) -> Result<String, String> {
    let parts = |version: &str| -> Vec<u64> { version.split('.').filter_map(|part| part.parse().ok()).collect() };
    let newer: Vec<String> = foreign
        .iter()
        .filter_map(|it| Some((it, it.rust_version.as_deref()?)))
        .filter(|(_, theirs)| parts(theirs) > parts(&format!("{rust}.{}", u64::MAX)))
        .map(|(it, theirs)| format!("{} {} ({theirs})", it.name, it.version))
        .collect();
    match newer.is_empty() {
        true => Ok(format!("no crate of others asks for more than Rust {rust}")),
        false => Err(format!("asks for more than Rust {rust}: {}", newer.join(", "))),
    }
}

/// Whether an expression of licences (SPDX, or the older form with `/`) can be satisfied from the list.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    any(&mut rest) == Some(true) && rest.is_empty()
}

/// `a OR b`; `None` is no expression at all.
fn any(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = all(words)?;
    while words.first() == Some(&"OR") {
        *words = &words[1..];
        allowed |= all(words)?;
    }
    Some(allowed)
}

/// `a AND b`, which binds more tightly.
fn all(words: &mut &[&str]) -> Option<bool> {
    let mut allowed = one(words)?;
    while words.first() == Some(&"AND") {
        *words = &words[1..];
        allowed &= one(words)?;
    }
    Some(allowed)
}

/// One licence, perhaps with an exception; or an expression in parentheses.
fn one(words: &mut &[&str]) -> Option<bool> {
    let (&first, rest) = words.split_first()?;
    *words = rest;
    if first == "(" {
        let allowed = any(words)?;
        let (&")", rest) = words.split_first()? else { return None };
        *words = rest;
        return Some(allowed);
    }
    if matches!(first, "OR" | "AND" | "WITH" | ")") {
        return None;
    }
    if let ["WITH", exception, rest @ ..] = *words {
        *words = rest;
        return Some(ALLOWED.contains(&format!("{first} WITH {exception}").as_str()));
    }
    Some(ALLOWED.contains(&first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, version: &str, licence: &str) -> Foreign {
        Foreign {
            name: name.into(),
            version: version.into(),
            licence: licence.into(),
            rust_version: Some("1.70".into()),
        }
    }

    #[test]
    fn expressions_are_read_as_spdx_reads_them() {
        for allowed in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "GPL-3.0 AND GPL-2.0 OR MIT",
        ] {
            assert!(is_allowed(allowed), "{allowed}");
        }
        for refused in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT AND (GPL-3.0 OR MPL-2.0)",
            "GPL-2.0 WITH Classpath-exception-2.0",
            "MIT OR",
            "(MIT",
            "MIT Apache-2.0",
            "MIT)",
        ] {
            assert!(!is_allowed(refused), "{refused}");
        }
    }

    #[test]
    fn a_refused_licence_and_an_unexplained_duplicate_are_named() {
        let list =
            [of("a", "1.0.0", "MIT"), of("b", "1.0.0", "AGPL-3.0"), of("b", "2.0.0", "MIT"), of("c", "1.0.0", "")];
        let why = require_allowed(&list).expect_err("b and c");
        assert!(why.ends_with(": b 1.0.0 (AGPL-3.0), c 1.0.0 (none)"), "{why}");
        let why = require_single(&list).expect_err("b");
        assert!(why.ends_with(": b 1.0.0 and 2.0.0"), "{why}");
        let explained = [of("windows-sys", "0.59.0", "MIT"), of("windows-sys", "0.61.0", "MIT")];
        assert!(require_single(&explained).is_ok_and(|said| said.contains("0.59.0 and 0.61.0: bindings only")));
    }

    #[test]
    fn a_crate_that_needs_a_newer_rust_is_named() {
        let mut list = [of("a", "1.0.0", "MIT"), of("b", "2.0.0", "MIT")];
        list[1].rust_version = Some("1.88.1".into());
        assert!(require_rust(&list, "1.88").is_ok(), "any patch release is the same version");
        list[1].rust_version = Some("1.89".into());
        assert_eq!(require_rust(&list, "1.88"), Err("asks for more than Rust 1.88: b 2.0.0 (1.89)".to_owned()));
    }

    #[test]
    fn what_only_tests_need_is_not_looked_at_and_what_it_brings_neither() {
        let package = |id: &str, source: Option<&str>| serde_json::json!({"id": id, "name": id, "version": "1.0.0", "license": "MIT", "source": source, "rust_version": null});
        let needs = |id: &str, kind: Option<&str>| serde_json::json!({"pkg": id, "dep_kinds": [{"kind": kind}]});
        let metadata = serde_json::json!({
            "packages": [package("ours", None), package("xtask", None), package("a", Some("r")), package("b", Some("r")), package("t", Some("r")), package("u", Some("r"))],
            "resolve": {"nodes": [
                {"id": "ours", "deps": [needs("a", None), needs("t", Some("dev"))]},
                {"id": "xtask", "deps": [needs("u", None)]},
                {"id": "a", "deps": [needs("b", Some("build"))]},
                {"id": "b", "deps": []}, {"id": "t", "deps": [needs("u", None)]}, {"id": "u", "deps": []},
            ]},
        });
        let names: Vec<String> = foreign(&metadata, &["ours".to_owned()]).into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["a", "b"]);
    }
}
