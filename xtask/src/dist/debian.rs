//! A Debian package: an `ar` archive of what dpkg must know, and of the files where Debian's rules want them.

use super::Content;
use super::files::{Entry, ar, gzip, tar};

/// Debian's word for a system, if it is one of Debian's.
pub(super) fn architecture(host: &str) -> Option<&'static str> {
    match host {
        "x86_64-unknown-linux-gnu" => Some("amd64"),
        "aarch64-unknown-linux-gnu" => Some("arm64"),
        "armv7-unknown-linux-gnueabihf" => Some("armhf"),
        "riscv64gc-unknown-linux-gnu" => Some("riscv64"),
        _ => None,
    }
}

pub(super) fn file_name(version: &str, architecture: &str) -> String {
    format!("persist_{}_{architecture}.deb", debian_version(version))
}

/// A pre-release comes before its release, which dpkg writes with a tilde.
fn debian_version(version: &str) -> String {
    version.replacen('-', "~", 1)
}

pub(super) fn package(content: &Content, version: &str, architecture: &str, time: u64) -> Result<Vec<u8>, String> {
    let files = files(content)?;
    let size: usize = files.iter().map(|file| file.len().div_ceil(1024) + 1).sum();
    let control = control(version, architecture, size, &glibc(&content.program));
    let control = gzip(&tar(&[Entry::file("./control", control.into_bytes())], time)?)?;
    let data = gzip(&tar(&files, time)?)?;
    Ok(ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", &control), ("data.tar.gz", &data)], time))
}

/// Everything at its place.
fn files(content: &Content) -> Result<Vec<Entry>, String> {
    let mut files = vec![Entry::program("./usr/bin/persist", content.program.clone())];
    for (name, bytes) in &content.man {
        files.push(Entry::file(&format!("./usr/share/man/man1/{name}.gz"), gzip(bytes)?));
    }
    for (made, place) in [
        ("persist.bash", "bash-completion/completions/persist"),
        ("_persist", "zsh/vendor-completions/_persist"),
        ("persist.fish", "fish/vendor_completions.d/persist.fish"),
    ] {
        let (_, bytes) =
            content.completions.iter().find(|(name, _)| name == made).ok_or_else(|| format!("there is no {made}"))?;
        files.push(Entry::file(&format!("./usr/share/{place}"), bytes.clone()));
    }
    let document =
        |name: &str| content.documents.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice());
    let changes = document("CHANGELOG.md").unwrap_or_default();
    files.push(Entry::file("./usr/share/doc/persist/changelog.gz", gzip(changes)?));
    let licence = document("LICENSE-MIT").unwrap_or_default();
    files.push(Entry::file(
        "./usr/share/doc/persist/copyright",
        copyright(&String::from_utf8_lossy(licence)).into_bytes(),
    ));
    Ok(files)
}

fn control(version: &str, architecture: &str, size: usize, glibc: &str) -> String {
    format!(
        "Package: persist\n\
         Version: {}\n\
         Architecture: {architecture}\n\
         Maintainer: The persist developers <persist@example.invalid>\n\
         Installed-Size: {size}\n\
         Depends: libc6 (>= {glibc}), libgcc-s1\n\
         Section: web\n\
         Priority: optional\n\
         Homepage: {}\n\
         Description: fetch, serve and inspect persistent HTTP/1.1 connections\n \
         Fetches many URLs over few connections, pipelined, and tells of each request\n \
         that failed how much of it was sent; serves files; shows how recorded bytes\n \
         are understood as HTTP/1.1 and why they are rejected.\n",
        debian_version(version),
        env!("CARGO_PKG_REPOSITORY"),
    )
}

/// In the form that Debian's tools read. The Apache licence's text is on every Debian system.
fn copyright(mit: &str) -> String {
    let mit: String =
        mit.lines().map(|line| if line.trim().is_empty() { " .\n".to_owned() } else { format!(" {line}\n") }).collect();
    format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: persist\n\
         Source: {}\n\n\
         Files: *\n\
         Copyright: the persist contributors\n\
         License: Apache-2.0 or Expat\n\n\
         License: Apache-2.0\n \
         On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.\n\n\
         License: Expat\n{mit}",
        env!("CARGO_PKG_REPOSITORY"),
    )
}

/// The newest C library that a program's symbols ask for: they carry it in their names, `GLIBC_2.34`.
fn glibc(program: &[u8]) -> String {
    let mark = b"GLIBC_2.";
    let minor = |at: usize| {
        let digits = program[at + mark.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0_u32, |number, digit| number.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
    };
    let found = program.windows(mark.len()).enumerate().filter(|(_, window)| window == mark).map(|(at, _)| minor(at));
    format!("2.{}", found.max().unwrap_or(17))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pre_release_sorts_before_its_release() {
        assert_eq!(file_name("0.2.0-rc.1", "amd64"), "persist_0.2.0~rc.1_amd64.deb");
        assert!(control("0.2.0-rc.1", "amd64", 1, "2.34").contains("\nVersion: 0.2.0~rc.1\n"));
    }

    #[test]
    fn the_newest_library_that_is_asked_for_is_depended_on() {
        assert_eq!(glibc(b"\0GLIBC_2.4\0GLIBC_2.34\0GLIBC_2.9\0GLIBC_PRIVATE"), "2.34");
        assert_eq!(glibc(b"static"), "2.17");
    }

    #[test]
    fn control_files_have_no_blank_line_and_end_in_one_newline() {
        let control = control("0.2.0", "amd64", 10, "2.34");
        assert!(!control.contains("\n\n") && control.ends_with(".\n"), "{control}");
        assert!(control.lines().all(|line| line.starts_with(' ') || line.contains(": ")), "{control}");
    }
}
