//! What was made, tried as its users would: the package installed, the command run from it, the package removed; the archive unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, shell};

/// What a package must have brought.
const INSTALLED: [&str; 5] = [
    "usr/bin/persist",
    "usr/share/man/man1/persist.1.gz",
    "usr/share/man/man1/persist-get.1.gz",
    "usr/share/bash-completion/completions/persist",
    "usr/share/doc/persist/copyright",
];

pub(super) fn run(folder: &Path, made: &[String]) -> Outcome {
    let sums = ["--check", "--quiet", "SHA256SUMS"];
    if let Some(program) = shell::find("sha256sum") {
        shell::run(Command::new(program).current_dir(folder).args(sums))?;
    }
    let [archive, packages @ ..] = made else { return Err("nothing was made".to_owned()) };
    let unpacked = folder.join("unpacked");
    fresh(&unpacked)?;
    shell::run(Command::new("tar").current_dir(&unpacked).arg("-xzf").arg(folder.join(archive)))?;
    demo(&unpacked.join(archive.trim_end_matches(".tar.gz")).join("persist"))?;
    for package in packages {
        if shell::find("dpkg").is_none() {
            println!("dpkg is not installed, so {package} is not tried");
            continue;
        }
        install(folder, package)?;
    }
    Ok(())
}

/// Installs into a folder that is a system of its own, as far as dpkg knows.
fn install(folder: &Path, package: &str) -> Outcome {
    let root = folder.join("root");
    fresh(&root.join("var/lib/dpkg/updates"))?;
    fresh(&root.join("var/lib/dpkg/info"))?;
    let status = root.join("var/lib/dpkg/status");
    fs::write(&status, "").map_err(|error| format!("cannot write {}: {error}", status.display()))?;
    // The folder has no C library of its own; the command uses this system's.
    let dpkg = |what: &[&str]| {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", root.display())).args(["--force-depends", "--force-not-root", "--log=/dev/null"]);
        dpkg.args(what);
        dpkg
    };
    let package = folder.join(package).display().to_string();
    shell::run(&mut dpkg(&["--install", &package]))?;
    let status = shell::output(&mut dpkg(&["--status", "persist"]))?;
    if !status.contains("\nStatus: install ok installed\n") {
        return Err(format!("dpkg does not call the package installed:\n{status}"));
    }
    if let Some(lacking) = INSTALLED.iter().find(|path| !root.join(path).is_file()) {
        return Err(format!("the package brought no {lacking}"));
    }
    demo(&root.join("usr/bin/persist"))?;
    shell::run(&mut dpkg(&["--remove", "persist"]))?;
    match INSTALLED.iter().find(|path| root.join(path).exists()) {
        Some(left) => Err(format!("removing the package left {left}")),
        None => Ok(()),
    }
}

/// Fetches 1,000 resources from itself, each compared: exit 0 means that all were right.
fn demo(program: &PathBuf) -> Outcome {
    shell::run(Command::new(program).args(["get", "--demo"]))
}

fn fresh(folder: &Path) -> Outcome {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))
}
