//! The packages as a registry would get them: complete, built from what is in them, and tested where nothing of the repository is near.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::crates::{Crate, Repo};
use super::git;
use super::version::Version;
use crate::{shell, standalone};

/// What each package must hold.
const REQUIRED: [&str; 5] = ["Cargo.toml", "README.md", "LICENSE-APACHE", "LICENSE-MIT", "src/lib.rs"];

/// Files that must be the repository's own: a link that was packed as a link's text is not.
const SAME_AS_ROOT: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];

/// Packs all crates and builds each from its package.
pub(crate) fn verify(repo: &Repo, crates: &[Crate], version: &Version) -> Result<String, String> {
    for it in crates {
        let sources = shell::output(&mut git::git(&repo.root.join(&it.name), &["ls-files", "src"]))?;
        let packed = shell::output(repo.cargo().args(["package", "--list", "-p", &it.name]))?;
        require_sources(&it.name, &sources, &packed)?;
    }
    let place = package_dir(repo)?;
    let mut package = repo.cargo();
    package.arg("package");
    for it in crates {
        package.args(["-p", &it.name]);
    }
    shell::run(package.env("CARGO_TARGET_DIR", &place))?;
    for it in crates {
        let files = contents(&archive(&place, &it.name, version))?;
        require_complete(&it.name, &files, &|path| fs::read(repo.root.join(path)).ok())?;
    }
    Ok(format!("{} packages, each complete and built from what is in it", crates.len()))
}

/// Where `cargo package` works: a folder for each commit. Cargo takes what it has once unpacked from a folder for what that holds for ever, by
/// name and version alone, and would build our crates on one another's earlier contents.
fn package_dir(repo: &Repo) -> Result<PathBuf, String> {
    let all = shell::target_dir().join("release-package");
    let commit = git::commit(&repo.root, "HEAD")?;
    for earlier in fs::read_dir(&all).into_iter().flatten().flatten().filter(|it| *it.file_name() != *commit) {
        // Only room is lost if it stays.
        let _ = fs::remove_dir_all(earlier.path());
    }
    Ok(all.join(commit))
}

/// Where `cargo package` puts one.
fn archive(place: &Path, name: &str, version: &Version) -> PathBuf {
    place.join("package").join(format!("{name}-{version}.crate"))
}

/// One file of a package: its path in it, and its bytes.
type Packed = (String, Vec<u8>);

fn contents(archive: &Path) -> Result<Vec<Packed>, String> {
    let fail = |error| format!("cannot read {}: {error}", archive.display());
    let file = fs::File::open(archive).map_err(fail)?;
    let mut files = Vec::new();
    for entry in tar::Archive::new(flate2::read::GzDecoder::new(file)).entries().map_err(fail)? {
        let mut entry = entry.map_err(fail)?;
        let path = entry.path().map_err(fail)?.to_string_lossy().into_owned();
        // All of it lies in one folder, named after the package.
        let path = path.split_once('/').map(|(_, path)| path.to_owned()).unwrap_or(path);
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(fail)?;
        files.push((path, bytes));
    }
    Ok(files)
}

/// # Errors
/// A source file of the crate is not among those that its package would hold. Said before anything is built, and by name: the compiler would only say
/// that some module is missing.
fn require_sources(name: &str, sources: &str, packed: &str) -> Result<(), String> {
    let lacking = sources.lines().find(|source| !packed.lines().any(|path| path == *source));
    lacking.map_or(Ok(()), |source| Err(format!("the package of {name} lacks {source}")))
}

/// # Errors
/// The package lacks a file that it must have, or holds another in its place.
fn require_complete(
    name: &str,
    files: &[Packed],
    in_repository: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<(), String> {
    for required in REQUIRED {
        let Some((_, bytes)) = files.iter().find(|(path, _)| path == required) else {
            return Err(format!("the package of {name} lacks {required}"));
        };
        if SAME_AS_ROOT.contains(&required) && in_repository(required).as_ref() != Some(bytes) {
            return Err(format!("the package of {name} has a {required} that is not the repository's"));
        }
    }
    Ok(())
}

/// Unpacks everything outside the repository, and builds and tests each crate there: as its users get it, with each of its features; then the
/// program that uses it and nothing else of ours.
pub(crate) fn test_alone(repo: &Repo, crates: &[Crate], version: &Version) -> Result<String, String> {
    let packages = package_dir(repo)?;
    let place = Place::new()?;
    let folder = |name: &str| place.0.join(format!("{name}-{version}"));
    let mut patch = String::from("[patch.crates-io]\n");
    for it in crates {
        let archive = archive(&packages, &it.name, version);
        for (path, bytes) in contents(&archive)? {
            write(&folder(&it.name).join(path), &bytes)?;
        }
        patch += &format!("{0} = {{ path = \"{0}-{version}\" }}\n", it.name);
    }
    // None of them is published: where one needs another, it gets the unpacked one.
    write(&place.0.join(".cargo/config.toml"), patch.as_bytes())?;

    let mut runs = 0;
    for it in crates {
        for choice in choices(&it.features) {
            let mut test = repo.cargo_in(&folder(&it.name));
            test.args(["test", "--quiet"]).args(&choice).env("CARGO_TARGET_DIR", target_dir());
            shell::run(&mut test).map_err(|why| format!("{} alone, {}: {why}", it.name, choice.join(" ")))?;
            runs += 1;
        }
        standalone::run_on(&it.name, &folder(&it.name), &place.0.join("standalone"), &target_dir())?;
    }
    Ok(format!("{} crates outside the repository, {runs} choices of features, and a program on each", crates.len()))
}

/// Built apart from the workspace, and kept for the next time.
fn target_dir() -> PathBuf {
    shell::target_dir().join("release-check")
}

/// The default; everything; nothing; and each feature by itself.
fn choices(features: &[String]) -> Vec<Vec<String>> {
    let choice = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut choices = vec![choice(&["--all-features"])];
    if !features.is_empty() {
        choices.push(Vec::new());
        choices.push(choice(&["--no-default-features"]));
        choices.extend(features.iter().map(|name| choice(&["--no-default-features", "--features", name])));
    }
    choices
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let fail = |error| format!("cannot write {}: {error}", path.display());
    fs::create_dir_all(path.parent().unwrap_or(path)).map_err(fail)?;
    fs::write(path, bytes).map_err(fail)
}

/// A folder outside the repository, gone afterwards.
struct Place(PathBuf);

impl Place {
    fn new() -> Result<Self, String> {
        let path = std::env::temp_dir().join(format!("persist-release-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(|error| format!("cannot make {}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete() -> Vec<Packed> {
        REQUIRED.iter().map(|path| ((*path).to_owned(), b"text".to_vec())).collect()
    }

    #[test]
    fn a_package_that_lacks_a_file_is_refused_by_name() {
        let root = |_: &str| Some(b"text".to_vec());
        assert_eq!(require_complete("persist-x", &complete(), &root), Ok(()));
        for (index, lacking) in REQUIRED.iter().enumerate() {
            let mut files = complete();
            files.remove(index);
            let why = require_complete("persist-x", &files, &root).expect_err(lacking);
            assert_eq!(why, format!("the package of persist-x lacks {lacking}"));
        }
    }

    #[test]
    fn a_package_that_lacks_a_source_file_is_refused_by_name() {
        let sources = "src/conn/mod.rs\nsrc/lib.rs\n";
        assert_eq!(require_sources("persist-x", sources, "Cargo.toml\nsrc/conn/mod.rs\nsrc/lib.rs\n"), Ok(()));
        let why = require_sources("persist-x", sources, "Cargo.toml\nsrc/lib.rs\nconn/mod.rs\n")
            .expect_err("one is left out");
        assert_eq!(why, "the package of persist-x lacks src/conn/mod.rs");
    }

    #[test]
    fn a_licence_that_is_only_the_name_of_one_is_refused() {
        let root = |_: &str| Some(b"../LICENSE-MIT".to_vec());
        let why = require_complete("persist-x", &complete(), &root).expect_err("another text");
        assert_eq!(why, "the package of persist-x has a LICENSE-APACHE that is not the repository's");
    }

    #[test]
    fn every_feature_is_tried_alone_and_none_and_all() {
        assert_eq!(choices(&[]), [["--all-features"]]);
        let words: Vec<String> = choices(&["std".into(), "tls".into()]).iter().map(|choice| choice.join(" ")).collect();
        assert_eq!(
            words,
            [
                "--all-features",
                "",
                "--no-default-features",
                "--no-default-features --features std",
                "--no-default-features --features tls"
            ]
        );
    }
}
