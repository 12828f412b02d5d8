//! Checks on what a layer may use: the core nothing but itself, nobody what lies above, `unsafe` almost nowhere.

use super::File;

/// What the core must never use, and why.
const FORBIDDEN_IN_CORE: [(&str, &str); 12] = [
    ("std", "the core is no_std"),
    ("SystemTime", "time is passed in"),
    ("UNIX_EPOCH", "time is passed in"),
    ("TcpStream", "bytes are passed in"),
    ("UdpSocket", "bytes are passed in"),
    ("thread", "the core has no threads"),
    ("Mutex", "the core has no locks"),
    ("RwLock", "the core has no locks"),
    ("spin", "the core has no locks"),
    ("OnceLock", "the core has no locks"),
    ("rand", "randomness is passed in"),
    ("getrandom", "randomness is passed in"),
];

/// Crates by folder, and what each must never name: what lies above it or beside it.
const ABOVE: [(&str, &[&str]); 4] = [
    ("persist-core/", &["persist_sync", "persist_async", "persist_proxy", "tokio", "mio", "socket2", "rustix"]),
    ("persist-sync/", &["persist_async", "persist_proxy", "tokio"]),
    ("persist-async/", &["persist_sync", "persist_proxy"]),
    ("persist-proxy/", &["persist_cli"]),
];

/// The roots of crates in which the compiler itself must forbid `unsafe`.
const SAFE_ROOTS: [&str; 5] = [
    "persist-core/src/lib.rs",
    "persist-proxy/src/lib.rs",
    "persist-cli/src/lib.rs",
    "persist-cli/src/main.rs",
    "xtask/src/main.rs",
];

/// Where a system call may stand that no crate wraps safely.
const UNSAFE_FILES: [&str; 2] = ["persist-sync/src/sys.rs", "persist-async/src/sys.rs"];

pub(super) fn core_is_pure(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in
        files.iter().filter(|file| file.path.starts_with("persist-core/src/") && file.is_rust() && !file.is_test())
    {
        for (number, line) in file.code_lines() {
            // Inline tests stand last, and run where std is.
            if line.trim() == "mod tests {" {
                break;
            }
            for (word, why) in FORBIDDEN_IN_CORE {
                if has_word(&line, word) && !line.trim_start().starts_with("#[cfg") {
                    problems.push(format!("{}:{number}: `{word}` in the core: {why}", file.path));
                }
            }
        }
    }
    require(files, "persist-core/src/lib.rs", "#![no_std]", &mut problems);
    problems
}

pub(super) fn layers_point_down(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some((_, above)) = ABOVE.iter().find(|(folder, _)| file.path.starts_with(folder)) else { continue };
        for (number, line) in file.code_lines() {
            if let Some(word) = above.iter().find(|word| has_word(&line, word)) {
                problems.push(format!("{}:{number}: `{word}` lies above or beside this layer", file.path));
            }
        }
    }
    problems
}

pub(super) fn unsafe_stands_where_it_may(files: &[File]) -> Vec<String> {
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        if UNSAFE_FILES.contains(&file.path.as_str()) || file.path.starts_with("tests/") {
            continue;
        }
        for (number, line) in file.code_lines() {
            if has_word(&line, "unsafe") {
                problems.push(format!(
                    "{}:{number}: `unsafe` stands only in {}",
                    file.path,
                    UNSAFE_FILES.join(" and ")
                ));
            }
        }
    }
    for path in SAFE_ROOTS {
        require(files, path, "#![forbid(unsafe_code)]", &mut problems);
    }
    problems
}

fn require(files: &[File], path: &str, line: &str, problems: &mut Vec<String>) {
    if let Some(file) = files.iter().find(|file| file.path == path)
        && !file.text.lines().any(|it| it == line)
    {
        problems.push(format!("{path}: the line `{line}` is missing"));
    }
}

/// Whether `word` stands in `line` as an identifier of its own.
fn has_word(line: &str, word: &str) -> bool {
    let part_of_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(part_of_word) && !line[at + word.len()..].starts_with(part_of_word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_a_thread_or_std_in_the_core_is_found_but_not_in_its_tests_or_words_like_it() {
        let bad = File::new(
            "persist-core/src/a.rs",
            "use std::time::Instant;\nlet stdin = 1; // std\nfoo::thread::spawn();\n",
        );
        let good = File::new("persist-core/src/b.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n");
        assert_eq!(core_is_pure(&[bad, good]).len(), 2);
    }

    #[test]
    fn a_core_with_std_is_found() {
        let root = File::new("persist-core/src/lib.rs", "//! The core.\n");
        assert_eq!(core_is_pure(&[root]), ["persist-core/src/lib.rs: the line `#![no_std]` is missing"]);
    }

    #[test]
    fn sync_that_knows_async_is_found_and_so_is_the_reverse() {
        let sync = File::new("persist-sync/src/a.rs", "use tokio::net;\n");
        let r#async = File::new("persist-async/src/a.rs", "use persist_sync::Client;\n");
        let proxy = File::new("persist-proxy/src/a.rs", "use persist_sync::Client;\nuse tokio::net;\n");
        assert_eq!(layers_point_down(&[sync, r#async, proxy]).len(), 2);
    }

    #[test]
    fn unsafe_is_found_outside_its_place() {
        let files = [
            File::new("persist-sync/src/sys.rs", "unsafe {}\n"),
            File::new("persist-sync/src/driver.rs", "// not unsafe\n#![deny(unsafe_code)]\nunsafe {}\n"),
            File::new("persist-cli/src/main.rs", "//! No attribute.\n"),
        ];
        assert_eq!(unsafe_stands_where_it_may(&files).len(), 2);
    }
}
