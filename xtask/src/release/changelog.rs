//! The changelog as text: is there something to release, and what becomes of it.

use super::version::Version;

const UNRELEASED: &str = "## [Unreleased]";

/// The changelog with its Unreleased section turned into the version's, and an empty one put before it.
///
/// # Errors
/// There is no such section, nothing stands in it, or the version has one already.
pub(crate) fn roll_over(text: &str, version: &Version, date: &str) -> Result<String, String> {
    if section(text, &heading(version)).is_some() {
        return Err(format!("CHANGELOG.md has a section for {version} already"));
    }
    require_unreleased(text)?;
    let rolled = format!("{UNRELEASED}\n\n{} - {date}", heading(version));
    Ok(text.replacen(UNRELEASED, &rolled, 1))
}

/// # Errors
/// No Unreleased section, or no entry in it.
pub(crate) fn require_unreleased(text: &str) -> Result<(), String> {
    require(text, UNRELEASED, "what is to be released")
}

/// # Errors
/// No section for the version, or no entry in it.
pub(crate) fn require_version(text: &str, version: &Version) -> Result<(), String> {
    require(text, &heading(version), "what has changed")
}

fn require(text: &str, heading: &str, what: &str) -> Result<(), String> {
    let section = section(text, heading).ok_or_else(|| format!("CHANGELOG.md has no section `{heading}`"))?;
    let has_entry = section.lines().any(|line| line.starts_with("- "));
    if has_entry { Ok(()) } else { Err(format!("CHANGELOG.md says nothing under `{heading}`: write there {what}")) }
}

fn heading(version: &Version) -> String {
    format!("## [{version}]")
}

/// What stands under a heading, up to the next of its rank.
fn section<'t>(text: &'t str, heading: &str) -> Option<&'t str> {
    let is_it = |line: &str| line.strip_prefix(heading).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    let mut at = 0;
    let mut start = None;
    for line in text.split_inclusive('\n') {
        if let Some(start) = start
            && line.starts_with("## ")
        {
            return Some(&text[start..at]);
        }
        at += line.len();
        if start.is_none() && is_it(line.trim_end()) {
            start = Some(at);
        }
    }
    start.map(|start| &text[start..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str =
        "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- a thing\n\n## [0.1.0] - 2026-01-02\n\n- the first\n";

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn the_unreleased_section_becomes_the_versions_and_an_empty_one_follows_it() {
        let rolled = roll_over(LOG, &version("0.2.0"), "2026-11-25").expect("rolls");
        let expected = LOG.replace("## [Unreleased]", "## [Unreleased]\n\n## [0.2.0] - 2026-11-25");
        assert_eq!(rolled, expected);
        assert_eq!(require_version(&rolled, &version("0.2.0")), Ok(()));
        assert_eq!(require_version(&rolled, &version("0.1.0")), Ok(()));
        let again = roll_over(&rolled, &version("0.3.0"), "2026-11-26").expect_err("nothing is unreleased");
        assert_eq!(again, "CHANGELOG.md says nothing under `## [Unreleased]`: write there what is to be released");
    }

    #[test]
    fn a_version_that_has_a_section_and_a_log_without_one_are_refused() {
        assert_eq!(
            roll_over(LOG, &version("0.1.0"), ""),
            Err("CHANGELOG.md has a section for 0.1.0 already".to_owned())
        );
        assert_eq!(
            roll_over("# Changelog\n", &version("0.1.0"), ""),
            Err("CHANGELOG.md has no section `## [Unreleased]`".to_owned())
        );
        // A longer version is not the shorter one's section.
        assert!(require_version("## [0.1.0-rc.1]\n- x\n", &version("0.1.0")).is_err());
    }
}
