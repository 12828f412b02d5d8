//! What git knows of a release: is everything committed, what was released before.

use std::path::Path;
use std::process::Command;

use super::version::Version;
use crate::shell;

pub(super) fn git(root: &Path, arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.current_dir(root).args(arguments);
    git
}

/// # Errors
/// Something is not committed: the first such file is named.
pub(crate) fn require_clean(root: &Path) -> Result<(), String> {
    let status = shell::output(&mut git(root, &["status", "--porcelain"]))?;
    match (status.lines().next(), status.lines().count()) {
        (None, _) => Ok(()),
        (Some(first), count) => {
            let others = if count > 1 { format!(" and {} more", count - 1) } else { String::new() };
            Err(format!("not everything is committed: {}{others}", first.get(3..).unwrap_or(first)))
        }
    }
}

/// The versions that were released: those of tags like `v1.2.3`. Other tags are none of ours.
pub(crate) fn released(root: &Path) -> Result<Vec<Version>, String> {
    let tags = shell::output(&mut git(root, &["tag", "--list", "v*"]))?;
    let mut versions: Vec<Version> = tags.lines().filter_map(|tag| tag.strip_prefix('v')?.parse().ok()).collect();
    versions.sort();
    Ok(versions)
}

/// The commit that a tag, branch or `HEAD` stands for.
pub(crate) fn commit(root: &Path, name: &str) -> Result<String, String> {
    let commit = shell::output(&mut git(root, &["rev-parse", "--verify", &format!("{name}^{{commit}}")]))?;
    Ok(commit.trim().to_owned())
}

/// Names this commit for good.
pub(crate) fn tag(root: &Path, version: &Version) -> Result<(), String> {
    let (name, message) = (format!("v{version}"), format!("Release {version}"));
    shell::output(&mut git(root, &["tag", "--annotate", "--message", &message, &name])).map(drop)
}

/// The committed files whose names end so.
pub(crate) fn files(root: &Path, ending: &str) -> Result<Vec<String>, String> {
    let files = shell::output(&mut git(root, &["ls-files"]))?;
    Ok(files.lines().filter(|path| path.ends_with(ending)).map(str::to_owned).collect())
}
