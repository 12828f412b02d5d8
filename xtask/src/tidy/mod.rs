//! `cargo xtask tidy`: what the compiler does not check. Each check is a pure function over the files' text.

mod code;
mod docs;
mod layers;
mod manifests;
mod readmes;
mod text;
pub(crate) mod toml;

use std::fs;
use std::path::Path;

use crate::{Outcome, shell};

/// One file: its path from the repository's root, with `/`, and its text.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// A check: one line for each thing that is wrong, naming the file first.
type Check = fn(&[File]) -> Vec<String>;

const CHECKS: &[Check] = &[
    text::files_are_short,
    text::files_say_what_they_are,
    text::nothing_is_left_to_do,
    text::no_registry_is_named,
    layers::core_is_pure,
    layers::layers_point_down,
    layers::unsafe_stands_where_it_may,
    manifests::dependencies_have_reasons,
    readmes::readmes_agree_with_manifests,
    readmes::manifests_say_what_registries_show,
    docs::links_lead_somewhere,
    docs::code_map_is_true,
];

pub(crate) fn run(options: &[String]) -> Outcome {
    let [] = shell::flags(options, [])?;
    let mut files = Vec::new();
    collect(&shell::root(), "", &mut files).map_err(|error| format!("cannot read the repository: {error}"))?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let problems: Vec<String> = CHECKS.iter().flat_map(|check| check(&files)).collect();
    for problem in &problems {
        eprintln!("{problem}");
    }
    match problems.len() {
        0 => {
            println!("tidy: {} files, {} checks, nothing to say", files.len(), CHECKS.len());
            Ok(())
        }
        n => Err(format!("{n} problem{}", if n == 1 { "" } else { "s" })),
    }
}

/// Every text file of the repository but what builds and version control leave there; committed or not.
fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            // Fuzzing leaves thousands of binary inputs behind.
            if !matches!(name.as_str(), ".git" | "target" | "corpus" | "artifacts" | "__pycache__") {
                collect(&entry.path(), &format!("{path}/"), files)?;
            }
        } else if kind.is_file()
            && let Ok(text) = String::from_utf8(fs::read(entry.path())?)
        {
            files.push(File { path, text });
        }
    }
    Ok(())
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether the file holds nothing but tests.
    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        matches!(name, "tests.rs" | "testing.rs") || name.ends_with("_tests.rs") || self.path.contains("/tests/")
    }

    /// The lines of code, without comments and the insides of strings, numbered from 1.
    fn code_lines(&self) -> Vec<(usize, String)> {
        code::strip(&self.text).lines().enumerate().map(|(index, line)| (index + 1, line.to_owned())).collect()
    }
}

#[cfg(test)]
impl File {
    fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned() }
    }
}
