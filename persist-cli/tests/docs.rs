//! `docs/cli.md` says all that the command can do, and nothing that it cannot.

use std::collections::BTreeSet;

use clap::CommandFactory as _;

/// The document; `None` where the crate stands alone, without the repository.
fn page() -> Option<String> {
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");
    let is_in_repository = std::path::Path::new(docs).exists();
    is_in_repository.then(|| std::fs::read_to_string(format!("{docs}/cli.md")).expect("docs/cli.md"))
}

/// The part of the document about one subcommand.
fn section<'p>(page: &'p str, command: &str) -> &'p str {
    let start = page.find(&format!("\n## `persist {command}`\n")).unwrap_or_else(|| panic!("no section on {command}"));
    let rest = &page[start + 1..];
    rest[3..].find("\n## ").map_or(rest, |end| &rest[..end + 3])
}

/// The long options that the first column of the section's tables names.
fn documented(section: &str) -> BTreeSet<String> {
    let cells = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let words = cells.flat_map(|cell| cell.split(['`', ' ', ',']));
    words.filter_map(|word| word.strip_prefix("--")).map(str::to_owned).collect()
}

#[test]
fn every_option_is_documented_and_every_documented_option_exists() {
    let Some(page) = page() else { return };
    for command in persist_cli::Cli::command().get_subcommands() {
        let known = command.get_arguments().filter_map(|argument| argument.get_long());
        let known: BTreeSet<String> = known.filter(|long| *long != "help").map(str::to_owned).collect();
        assert_eq!(documented(section(&page, command.get_name())), known, "{}", command.get_name());
    }
}

#[test]
fn every_exit_code_of_the_help_is_documented() {
    let Some(page) = page() else { return };
    for command in persist_cli::Cli::command().get_subcommands() {
        let help = command.get_after_help().expect("each command explains its exit codes").to_string();
        let section = section(&page, command.get_name());
        let (_, codes) = help.split_once("Exit codes").expect("they have a heading");
        let lines = codes.lines().skip(1).take_while(|line| line.starts_with("  "));
        let codes: Vec<&str> = lines.filter_map(|line| line.trim().split(' ').next()).collect();
        assert!(codes.len() > 3, "{help}");
        for code in codes {
            let words = section.split(|character: char| !character.is_ascii_digit());
            assert!(words.clone().any(|word| word == code), "{}: {code}", command.get_name());
        }
    }
}
