//! A new version in the files that name it: the workspace's manifest, and lock files. Text in, text out; nothing else in them moves.

use super::version::Version;
use crate::tidy::toml::entries;

/// The workspace's version.
///
/// # Errors
/// The manifest has none, or one that is no version.
pub(crate) fn workspace_version(manifest: &str) -> Result<Version, String> {
    let entries = entries(manifest);
    let entry = entries.iter().find(|entry| entry.section == "workspace.package" && entry.name == "version");
    let entry = entry.ok_or("Cargo.toml has no `version` under [workspace.package]")?;
    entry.value.split('"').nth(1).unwrap_or_default().parse()
}

/// The manifest with `to` as the workspace's version, and as the version by which its crates depend on each other.
///
/// # Errors
/// A crate of the workspace is depended on by a version that is not the workspace's: which of them is right?
pub(crate) fn with_version(manifest: &str, to: &Version) -> Result<String, String> {
    let from = workspace_version(manifest)?;
    let mut section = "";
    let mut text = String::with_capacity(manifest.len());
    for line in manifest.split_inclusive('\n') {
        if line.starts_with('[') {
            section = line.trim_end();
        }
        let is_own = section == "[workspace.package]" && line.starts_with("version ");
        let is_dependency_on_own = section == "[workspace.dependencies]" && line.contains("path = ");
        if is_own || (is_dependency_on_own && line.contains("version = ")) {
            let old = format!("version = \"{from}\"");
            if !line.contains(&old) {
                return Err(format!("Cargo.toml: `{}` is not of version {from}", line.trim_end()));
            }
            text += &line.replace(&old, &format!("version = \"{to}\""));
        } else {
            text += line;
        }
    }
    Ok(text)
}

/// The lock file with `to` as the version of the named crates, where they are ours: those without a source.
pub(crate) fn lock_with_version(lock: &str, names: &[String], to: &Version) -> String {
    let packages = lock.split("[[package]]").map(|package| {
        let is_ours = names.iter().any(|name| package.starts_with(&format!("\nname = \"{name}\"\n")))
            && !package.contains("\nsource = ");
        let version = |line: &str| match line.starts_with("version = ") {
            true if is_ours => format!("version = \"{to}\"\n"),
            _ => line.to_owned(),
        };
        package.split_inclusive('\n').map(version).collect::<String>()
    });
    packages.collect::<Vec<_>>().join("[[package]]")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[workspace]\nmembers = [\"a\"]\n\n[workspace.package]\nversion = \"0.1.0\" # ours\nedition = \"2024\"\n\n[workspace.dependencies]\na = { path = \"a\", version = \"0.1.0\", default-features = false }\nforeign = { version = \"0.1.0\" }\n";

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn the_version_changes_where_it_is_ours_and_nowhere_else() {
        let changed = with_version(MANIFEST, &version("0.2.0")).expect("changes");
        let expected = MANIFEST
            .replace("\"0.1.0\" # ours", "\"0.2.0\" # ours")
            .replace("\"a\", version = \"0.1.0\"", "\"a\", version = \"0.2.0\"");
        assert_eq!(changed, expected);
        assert_eq!(workspace_version(&changed), Ok(version("0.2.0")));
    }

    #[test]
    fn a_crate_that_is_depended_on_by_another_version_is_refused() {
        let manifest = MANIFEST.replace("\"a\", version = \"0.1.0\"", "\"a\", version = \"0.0.9\"");
        let why = with_version(&manifest, &version("0.2.0")).expect_err("which is right?");
        assert!(why.starts_with("Cargo.toml: `a = ") && why.ends_with("is not of version 0.1.0"), "{why}");
        assert!(workspace_version("[package]\nversion = \"1.0.0\"\n").is_err());
    }

    #[test]
    fn a_lock_file_changes_for_our_crates_only() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"b\"\nversion = \"0.1.0\"\n\n[[package]]\nname = \"a\"\nversion = \"0.1.0\"\nsource = \"registry\"\n";
        let changed = lock_with_version(lock, &["a".to_owned()], &version("0.2.0"));
        assert_eq!(changed, lock.replacen("\"0.1.0\"", "\"0.2.0\"", 1));
    }
}
