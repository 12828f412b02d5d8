//! An option of `persist get` has curl's name exactly where the documentation says that it has curl's meaning.

use std::process::Command;

use persist_tests::peers::installed;
use persist_tests::process::run;

const DOCS: &str = include_str!("../../docs/cli.md");

#[test]
fn our_own_options_have_names_that_curl_does_not_use() {
    let Some(curl) = installed("curl") else { return };
    let help = run(Command::new(curl).args(["--help", "all"]));
    let help = String::from_utf8(help.stdout).expect("curl's help is UTF-8");
    let curls: Vec<&str> = help.split([' ', ',', '\n']).filter(|word| word.starts_with("--")).collect();
    assert!(curls.len() > 100, "curl's help has another form: {help}");

    let (_, section) = DOCS.split_once("\n## `persist get`\n").expect("there is a section on get");
    let (_, table) = section.split_once("| in curl |\n").expect("its table compares with curl");
    let rows: Vec<Vec<&str>> = table
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches(['|', ' ']).split(" | ").collect())
        .filter(|row: &Vec<&str>| row[0].contains("`--") || row[0].contains("`-"))
        .collect();
    assert!(rows.len() > 20, "{rows:?}");
    for row in rows {
        let name = row[0].split(['`', ' ']).find(|word| word.starts_with("--")).expect("each has a long name");
        let same = row.last().is_some_and(|in_curl| in_curl.starts_with("same"));
        assert_eq!(curls.contains(&name), same, "{row:?}");
    }
}
