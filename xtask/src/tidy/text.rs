//! Checks on the text of single files.

use super::File;

/// Lines in a file of code, its inline tests counted. Longer ones have more than one idea.
const LINES_MAX: usize = 600;

pub(super) fn files_are_short(files: &[File]) -> Vec<String> {
    let long = |file: &&File| file.is_rust() && !file.is_test() && file.text.lines().count() > LINES_MAX;
    let say = |file: &File| {
        format!("{}: {} lines, and {LINES_MAX} are the limit: split it by idea", file.path, file.text.lines().count())
    };
    files.iter().filter(long).map(say).collect()
}

pub(super) fn files_say_what_they_are(files: &[File]) -> Vec<String> {
    let silent = |file: &&File| file.is_rust() && !file.text.starts_with("//! ");
    let say = |file: &File| format!("{}:1: the first line is not `//!` and what the file is for", file.path);
    files.iter().filter(silent).map(say).collect()
}

pub(super) fn nothing_is_left_to_do(files: &[File]) -> Vec<String> {
    // This file names them, to find them.
    let words = ["todo!(", "unimplemented!(", "TODO", "FIXME", "XXX"].map(str::to_owned);
    // What tests feed to parsers may hold anything.
    let others = |file: &&File| file.path != "xtask/src/tidy/text.rs" && !file.path.starts_with("tests/data/");
    files.iter().filter(others).flat_map(|file| find(file, &words, "is left to be done")).collect()
}

pub(super) fn no_registry_is_named(files: &[File]) -> Vec<String> {
    let hosts = [
        ["crates", "io"].join("."),
        ["pypi", "org"].join("."),
        ["pythonhosted", "org"].join("."),
        ["npmjs", "org"].join("."),
        ["npmjs", "com"].join("."),
        ["proxy.golang", "org"].join("."),
        ["deb.debian", "org"].join("."),
        ["archive.ubuntu", "com"].join("."),
    ];
    // Cargo writes its lock file itself.
    let ours = |file: &&File| !file.path.ends_with("Cargo.lock");
    files.iter().filter(ours).flat_map(|file| find(file, &hosts, "names a package registry's host")).collect()
}

fn find(file: &File, words: &[String], what: &str) -> Vec<String> {
    let hit = |(index, line): (usize, &str)| {
        let word = words.iter().find(|word| line.contains(word.as_str()))?;
        Some(format!("{}:{}: `{word}` {what}", file.path, index + 1))
    };
    file.text.lines().enumerate().filter_map(hit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_are_named_and_long_test_files_are_not() {
        let long = "//! x\n".repeat(LINES_MAX + 1);
        let files = [File::new("a/src/b.rs", &long), File::new("a/src/b/tests.rs", &long)];
        assert_eq!(files_are_short(&files).len(), 1);
    }

    #[test]
    fn a_file_that_does_not_say_what_it_is_is_named() {
        let files = [File::new("a.rs", "use b;\n"), File::new("b.rs", "//! Tells.\n")];
        assert_eq!(files_say_what_they_are(&files), ["a.rs:1: the first line is not `//!` and what the file is for"]);
    }

    #[test]
    fn work_left_to_do_is_found_in_code_and_in_documents() {
        let files = [
            File::new("a.rs", "fn f() {\n    todo!()\n}"),
            File::new("a.md", "TODO write"),
            File::new("b.rs", "fn todo() {}"),
        ];
        assert_eq!(nothing_is_left_to_do(&files).len(), 2);
    }

    #[test]
    fn a_registry_is_found_anywhere_but_in_the_lock_file() {
        let host = ["https://crates", "io/x"].join(".");
        let files = [File::new("a.md", &host), File::new("Cargo.lock", &host)];
        assert_eq!(no_registry_is_named(&files).len(), 1);
    }
}
