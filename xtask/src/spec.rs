//! `cargo xtask spec`: the table of RFC 9112's requirements names places and tests that exist, and leaves nothing open.

use std::path::Path;

use crate::{Outcome, shell};

const TABLE: &str = "docs/spec/rfc9112.md";

/// How many of each keyword RFC 9112 has.
const MUST: usize = 65;
const MUST_NOT: usize = 22;

pub(crate) fn run(options: &[String]) -> Outcome {
    shell::flags::<0>(options, [])?;
    let root = shell::root();
    let text = std::fs::read_to_string(root.join(TABLE)).map_err(|error| format!("{TABLE}: {error}"))?;
    let mut faults = Vec::new();
    let rows = rows(&text, &mut faults);
    for (keyword, expected) in [("MUST", MUST), ("MUST NOT", MUST_NOT)] {
        let found = rows.iter().filter(|row| row.keyword == keyword).count();
        if found != expected {
            faults.push(format!("{found} rows of {keyword}; RFC 9112 has {expected}"));
        }
    }
    for row in &rows {
        check(row, &root, &mut faults);
    }
    for fault in &faults {
        println!("{TABLE}: {fault}");
    }
    let excused = rows.iter().filter(|row| row.excuse().is_some()).count();
    println!(
        "spec: {} requirements of RFC 9112, {} carried out and tested, {excused} that need not be, {} faults",
        rows.len(),
        rows.len() - excused,
        faults.len()
    );
    if faults.is_empty() { Ok(()) } else { Err(format!("{} faults", faults.len())) }
}

/// One row of the table.
struct Row<'t> {
    section: &'t str,
    keyword: &'t str,
    who: &'t str,
    what: &'t str,
    place: &'t str,
    test: &'t str,
}

impl<'t> Row<'t> {
    /// Why nothing carries it out, where nothing does.
    fn excuse(&self) -> Option<&'t str> {
        (self.place == "–").then_some(self.test)
    }
}

fn rows<'t>(text: &'t str, faults: &mut Vec<String>) -> Vec<Row<'t>> {
    let (mut rows, mut section) = (Vec::new(), "");
    for line in text.lines() {
        if let Some(heading) = line.strip_prefix("## §") {
            section = heading;
        }
        let Some(cells) = line.strip_prefix("| MUST").and(line.strip_prefix("| ")) else { continue };
        let cells: Vec<&str> = cells.trim_end_matches(" |").split(" | ").collect();
        match cells[..] {
            [keyword, who, what, place, test] => rows.push(Row { section, keyword, who, what, place, test }),
            _ => faults.push(format!("{} cells instead of 5: {line}", cells.len())),
        }
    }
    rows
}

fn check(row: &Row<'_>, root: &Path, faults: &mut Vec<String>) {
    let mut fault = |what: String| faults.push(format!("§{}: {} ({})", row.section, what, row.what));
    if row.section.is_empty() || row.who.is_empty() || row.what.is_empty() {
        fault("a cell is empty".into());
    }
    if let Some(excuse) = row.excuse() {
        if excuse.len() < 20 || excuse.contains('`') && excuse.contains('#') {
            fault("no place, and no reason why none is needed".into());
        }
        return;
    }
    for (cell, is_test) in [(row.place, false), (row.test, true)] {
        for name in cell.split("<br>") {
            if let Err(why) = exists(name, root, is_test) {
                fault(why);
            }
        }
    }
}

/// Whether `` `file#name` `` is there; a test must be a function below `#[test]` or the like.
fn exists(reference: &str, root: &Path, is_test: bool) -> Result<(), String> {
    let plain = reference.strip_prefix('`').and_then(|plain| plain.strip_suffix('`'));
    let Some((file, name)) = plain.and_then(|plain| plain.split_once('#')) else {
        return Err(format!("{reference} is not `file#name`"));
    };
    let text = std::fs::read_to_string(root.join(file)).map_err(|error| format!("{file}: {error}"))?;
    let found = if is_test { has_test(&text, name) } else { has_word(&text, name) };
    if found { Ok(()) } else { Err(format!("{file} has no {} {name}", if is_test { "test" } else { "name" })) }
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].bytes().next_back().is_some_and(is_part);
        let after = text[at + word.len()..].bytes().next().is_some_and(is_part);
        !before && !after
    })
}

fn has_test(text: &str, name: &str) -> bool {
    let Some(at) = text.find(&format!("fn {name}(")) else { return false };
    let line = text[..at].rfind('\n').map_or(0, |end| end + 1);
    text[..line].lines().rev().take_while(|line| line.trim().starts_with("#[")).any(|line| line.contains("test"))
}

#[cfg(test)]
mod tests {
    use super::{has_test, has_word, rows};

    #[test]
    fn rows_have_a_section_and_five_cells() {
        let mut faults = Vec::new();
        let text = "## §2.2\n\n| | who | what | carried out by | tested by |\n|---|---|---|---|---|\n\
                    | MUST NOT | sender | No bare CR. | `a.rs#b` | `c.rs#d`<br>`e.rs#f` |\n| MUST | all | x |\n";
        let rows = rows(text, &mut faults);
        assert_eq!((rows.len(), faults.len()), (1, 1));
        assert_eq!((rows[0].section, rows[0].keyword, rows[0].test), ("2.2", "MUST NOT", "`c.rs#d`<br>`e.rs#f`"));
    }

    #[test]
    fn names_are_whole_words_and_tests_are_marked() {
        assert!(has_word("fn judge() {}", "judge") && !has_word("fn judges() {}", "judge"));
        assert!(has_test("    #[test]\n    fn it_works() {}", "it_works"));
        assert!(has_test("#[tokio::test]\nasync fn it_works() {}", "it_works"));
        assert!(!has_test("fn it_works() {}", "it_works"));
    }
}
