//! `cargo xtask dist`: what people download: the stripped command with its man pages and completions, as an archive and as a Debian package,
//! and their checksums. The same commit gives the same bytes: every file carries the commit's time.

mod debian;
mod files;
mod trial;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest as _, Sha256};

use crate::release::manifests;
use crate::{Outcome, shell};
use files::{Entry, gzip, tar};

pub(crate) const OPTIONS: &str = "[--try]";

pub(crate) fn run(options: &[String]) -> Outcome {
    let [try_it] = shell::flags(options, ["--try"])?;
    let manifest = read(&shell::root().join("Cargo.toml")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())?;
    let version = manifests::workspace_version(&manifest)?;
    let host = host()?;
    let folder = shell::target_dir().join("dist");
    let _ = fs::remove_dir_all(&folder);
    make(&folder)?;

    let content = content(&folder)?;
    let time = commit_time()?;
    let name = format!("persist-{version}-{host}");
    let mut made = vec![format!("{name}.tar.gz")];
    write(&folder.join(&made[0]), &gzip(&tar(&content.archive(&name), time)?)?)?;
    match debian::architecture(&host) {
        Some(architecture) => {
            let package = debian::package(&content, &version.to_string(), architecture, time)?;
            made.push(debian::file_name(&version.to_string(), architecture));
            write(&folder.join(&made[1]), &package)?;
        }
        None => println!("no Debian package: {host} is no system of Debian's"),
    }
    let sums = checksums(&folder, &made)?;
    write(&folder.join("SHA256SUMS"), sums.as_bytes())?;
    print!("in {}:\n{sums}", folder.display());
    if try_it { trial::run(&folder, &made) } else { Ok(()) }
}

/// Everything that is shipped, by what it is.
#[derive(Debug)]
struct Content {
    program: Vec<u8>,
    /// By file name, like the others.
    man: Vec<(String, Vec<u8>)>,
    completions: Vec<(String, Vec<u8>)>,
    documents: Vec<(String, Vec<u8>)>,
}

impl Content {
    /// As a folder to unpack anywhere.
    fn archive(&self, name: &str) -> Vec<Entry> {
        let mut entries = vec![Entry::program(&format!("{name}/persist"), self.program.clone())];
        for (folder, files) in [("man/", &self.man), ("completions/", &self.completions), ("", &self.documents)] {
            entries.extend(
                files.iter().map(|(file, bytes)| Entry::file(&format!("{name}/{folder}{file}"), bytes.clone())),
            );
        }
        entries
    }
}

/// Builds the command and has it write its pages.
fn content(folder: &Path) -> Result<Content, String> {
    shell::run(shell::cargo().args(["build", "--profile", "dist", "-p", "persist-cli", "--bin", "persist"]))?;
    let pages = folder.join("pages");
    shell::run(shell::cargo().args(["run", "--quiet", "-p", "persist-cli", "--example", "pages", "--"]).arg(&pages))?;
    let documents = ["README.md", "CHANGELOG.md", "LICENSE-APACHE", "LICENSE-MIT"];
    let program = format!("dist/persist{}", std::env::consts::EXE_SUFFIX);
    Ok(Content {
        program: read(&shell::target_dir().join(program))?,
        man: all(&pages.join("man"))?,
        completions: all(&pages.join("completions"))?,
        documents: documents
            .iter()
            .map(|name| Ok(((*name).to_owned(), read(&shell::root().join(name))?)))
            .collect::<Result<_, String>>()?,
    })
}

/// The files of a folder, by name.
fn all(folder: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let fail = |error| format!("cannot read {}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        files.push((entry.file_name().to_string_lossy().into_owned(), read(&entry.path())?));
    }
    files.sort();
    Ok(files)
}

/// In the form that `sha256sum --check` reads.
fn checksums(folder: &Path, names: &[String]) -> Result<String, String> {
    let mut text = String::new();
    for name in names {
        let digest = Sha256::digest(read(&folder.join(name))?);
        for byte in digest {
            let _ = write!(text, "{byte:02x}");
        }
        let _ = writeln!(text, "  {name}");
    }
    Ok(text)
}

/// The system that this compiler builds for.
fn host() -> Result<String, String> {
    let said = shell::output(Command::new("rustc").args(["--version", "--verbose"]))?;
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| "`rustc --version --verbose` names no host".to_owned())
}

/// When the commit was made, in seconds since 1970.
fn commit_time() -> Result<u64, String> {
    let time = shell::output(Command::new("git").current_dir(shell::root()).args(["log", "-1", "--format=%ct"]))?;
    time.trim().parse().map_err(|_| format!("`git log` gave no time: {time}"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> Outcome {
    fs::write(path, bytes).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn make(folder: &PathBuf) -> Outcome {
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_sha256sum() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a"), "abc").expect("written");
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n";
        assert_eq!(checksums(folder.path(), &["a".to_owned()]), Ok(expected.to_owned()));
    }
}
