//! From a request target to a file, and never to one outside the directory.
//!
//! Two walls: the target's segments are checked by name, and what they lead to must still lie in the directory once every symbolic link is
//! followed. So links within the directory work, and links out of it do not.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

use percent_encoding::percent_decode_str;

/// What a target names.
#[derive(Debug)]
pub(super) enum Found {
    File {
        path: PathBuf,
        metadata: Metadata,
    },
    Directory {
        path: PathBuf,
    },
    /// A directory whose target lacks the slash at the end: relative links in it would lead astray.
    SlashMissing,
    /// Nothing that we show: absent, outside, not readable, or neither file nor directory (opening a pipe would wait for ever).
    Nothing,
}

/// The path and the query of a target in origin or absolute form (RFC 9112 §3.2).
pub(super) fn split_target(target: &str) -> (&str, Option<&str>) {
    let path = match target.split_once("://") {
        Some((scheme, rest)) if !scheme.contains(['/', '?']) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
        _ => target,
    };
    match path.split_once('?') {
        Some(("", query)) => ("/", Some(query)),
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    }
}

/// What the path of a target names below `root`, which must be canonical.
pub(super) fn look_up(root: &Path, path: &str) -> Found {
    let Some(relative) = relative(path) else { return Found::Nothing };
    // The metadata of a canonical path: the file itself, not a link to it.
    let Ok(found) = root.join(relative).canonicalize() else { return Found::Nothing };
    if !found.starts_with(root) {
        return Found::Nothing;
    }
    match found.metadata() {
        Ok(metadata) if metadata.is_dir() && !path.ends_with('/') => Found::SlashMissing,
        Ok(metadata) if metadata.is_dir() => Found::Directory { path: found },
        // `file.txt/` names no file.
        Ok(metadata) if metadata.is_file() && !path.ends_with('/') => Found::File { path: found, metadata },
        _ => Found::Nothing,
    }
}

/// The path as one below the directory; `None` if a segment could mean anything else than a name.
fn relative(path: &str) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for segment in path.strip_prefix('/')?.split('/') {
        let name = percent_decode_str(segment).decode_utf8().ok()?;
        match &*name {
            // `a//b` and `a/./b` name what `a/b` does, as everywhere else.
            "" | "." => {}
            ".." => return None,
            name if name.contains(['/', '\\', '\0']) || (cfg!(windows) && name.contains(':')) => return None,
            name => relative.push(name),
        }
    }
    Some(relative)
}

/// The names in a directory, sorted, directories with a slash; those that are not text or lead nowhere are left out.
pub(super) fn list(root: &Path, directory: &Path, most: usize) -> io::Result<(Vec<String>, bool)> {
    let mut names = Vec::new();
    let mut more = false;
    for entry in directory.read_dir()? {
        let Ok(name) = entry?.file_name().into_string() else { continue };
        let Ok(found) = directory.join(&name).canonicalize() else { continue };
        if !found.starts_with(root) {
            continue;
        }
        if names.len() == most {
            more = true;
            break;
        }
        names.push(if found.is_dir() { name + "/" } else { name });
    }
    names.sort();
    Ok((names, more))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn root() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir_all(root.join("sub")).unwrap();
        fs::write(root.join("a b.txt"), "a").unwrap();
        fs::write(root.join("sub/c"), "c").unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        let root = root.canonicalize().unwrap();
        (dir, root)
    }

    #[test]
    fn targets_lead_to_files_and_directories() {
        let (_dir, root) = root();
        assert!(matches!(look_up(&root, "/a%20b.txt"), Found::File { .. }));
        assert!(matches!(look_up(&root, "/sub/./c"), Found::File { .. }));
        assert!(matches!(look_up(&root, "/sub/"), Found::Directory { .. }));
        assert!(matches!(look_up(&root, "/"), Found::Directory { .. }));
        assert!(matches!(look_up(&root, "/sub"), Found::SlashMissing));
        assert!(matches!(look_up(&root, "/sub/c/"), Found::Nothing));
        assert!(matches!(look_up(&root, "/none"), Found::Nothing));
    }

    #[test]
    fn no_spelling_leaves_the_directory() {
        let (_dir, root) = root();
        for path in [
            "/../secret",
            "/sub/../../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/%2e%2e%2fsecret",
            "/..\\secret",
            "/..%5csecret",
            "/sub/%00",
            "//../secret",
            "../secret",
            "secret",
            "",
            "/%ff",
        ] {
            assert!(matches!(look_up(&root, path), Found::Nothing), "{path}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_inside_the_directory_and_not_out_of_it() {
        let (dir, root) = root();
        std::os::unix::fs::symlink("sub/c", root.join("inside")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("outside")).unwrap();
        std::os::unix::fs::symlink("..", root.join("up")).unwrap();
        assert!(matches!(look_up(&root, "/inside"), Found::File { .. }));
        assert!(matches!(look_up(&root, "/outside"), Found::Nothing));
        assert!(matches!(look_up(&root, "/up/secret"), Found::Nothing));
        let (names, more) = list(&root, &root, 100).unwrap();
        assert_eq!((names, more), (vec!["a b.txt".to_owned(), "inside".to_owned(), "sub/".to_owned()], false));
    }

    #[test]
    fn a_target_gives_its_path_and_query() {
        assert_eq!(split_target("/a?b?c"), ("/a", Some("b?c")));
        assert_eq!(split_target("http://h:80/a/b"), ("/a/b", None));
        assert_eq!(split_target("http://h"), ("/", None));
        assert_eq!(split_target("http://h?q"), ("/", Some("q")));
        assert_eq!(split_target("/a?u=http://x/"), ("/a", Some("u=http://x/")));
        assert_eq!(split_target("/http://x"), ("/http://x", None));
    }
}
