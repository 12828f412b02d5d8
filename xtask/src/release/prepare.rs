//! `cargo xtask release prepare VERSION`: one version in all manifests and lock files, the changelog rolled over. Everything is checked and
//! worked out before the first file is written.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::crates::Repo;
use super::version::Version;
use super::{changelog, git, manifests};

/// Prepares the release; returns the files that changed.
pub(crate) fn prepare(repo: &Repo, to: &Version, date: &str) -> Result<Vec<String>, String> {
    git::require_clean(&repo.root)?;
    let manifest = repo.read("Cargo.toml")?;
    require_forward(&manifests::workspace_version(&manifest)?, to, &git::released(&repo.root)?)?;

    let mut changes = vec![
        ("CHANGELOG.md".to_owned(), changelog::roll_over(&repo.read("CHANGELOG.md")?, to, date)?),
        ("Cargo.toml".to_owned(), manifests::with_version(&manifest, to)?),
    ];
    let members = repo.members()?;
    for path in git::files(&repo.root, "Cargo.lock")? {
        changes.push((path.clone(), manifests::lock_with_version(&repo.read(&path)?, &members, to)));
    }
    changes.retain(|(path, text)| repo.read(path).is_ok_and(|old| old != *text));
    write_all(&repo.root, &changes)?;
    Ok(changes.into_iter().map(|(path, _)| path).collect())
}

/// Whether a version may follow what is there and what was released. The present one may, if it was never released.
pub(crate) fn require_forward(present: &Version, to: &Version, released: &[Version]) -> Result<(), String> {
    if let Some(last) = released.last()
        && to <= last
    {
        return Err(format!("{to} does not come after {last}, which is released"));
    }
    if to < present {
        return Err(format!("{to} goes backwards: the workspace is at {present}"));
    }
    Ok(())
}

/// Writes each file beside its old text first, so that a full disk changes nothing.
fn write_all(root: &Path, changes: &[(String, String)]) -> Result<(), String> {
    let beside = |path: &str| root.join(format!("{path}.new"));
    let fail = |path: &str, error| format!("cannot write {path}: {error}");
    for (path, text) in changes {
        if let Err(error) = std::fs::write(beside(path), text) {
            for (path, _) in changes {
                let _ = std::fs::remove_file(beside(path));
            }
            return Err(fail(path, error));
        }
    }
    for (path, _) in changes {
        std::fs::rename(beside(path), root.join(path)).map_err(|error| fail(path, error))?;
    }
    Ok(())
}

/// Today, in UTC, as changelogs write it.
pub(crate) fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    date(since.as_secs() / 86_400)
}

/// The date so many days after 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> String {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut left = days;
    let mut year = 1970;
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while left >= lengths[month] {
        left -= lengths[month];
        month += 1;
    }
    format!("{year:04}-{:02}-{:02}", month + 1, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn dates_are_right_around_leap_days_and_new_year() {
        for (days, expected) in [
            (0, "1970-01-01"),
            (364, "1970-12-31"),
            (365, "1971-01-01"),
            (11_015, "2000-02-28"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (20_782, "2026-11-25"),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn a_version_goes_forward_of_all_that_was_released_and_never_below_the_present() {
        let check = |present: &str, to: &str, released: &[&str]| {
            let released: Vec<Version> = released.iter().map(|text| version(text)).collect();
            require_forward(&version(present), &version(to), &released)
        };
        assert_eq!(check("0.1.0", "0.1.0", &[]), Ok(()), "the first release may be what is there");
        assert_eq!(check("0.1.0", "0.2.0", &["0.1.0"]), Ok(()));
        assert_eq!(check("0.2.0", "0.1.9", &[]), Err("0.1.9 goes backwards: the workspace is at 0.2.0".to_owned()));
        assert_eq!(
            check("0.1.0", "0.1.0", &["0.1.0"]),
            Err("0.1.0 does not come after 0.1.0, which is released".to_owned())
        );
    }
}
