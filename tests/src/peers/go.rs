//! Go's `net/http`, in programs of a test's own.

use std::path::PathBuf;
use std::process::Command;

use crate::folder::Folder;
use crate::process::run;

/// A Go program, compiled.
#[derive(Debug)]
pub struct Program {
    _folder: Folder,
    /// The executable.
    pub path: PathBuf,
}

impl Program {
    /// Compiles a program of one file, which uses the standard library only; `None` if Go is not installed.
    ///
    /// # Panics
    /// If it does not compile.
    pub fn compile(source: &str) -> Option<Self> {
        let go = super::installed("go")?;
        let folder = Folder::new();
        let file = folder.write("main.go", source);
        let path = folder.join("program");
        // Its caches stay in the folder, too: a test leaves nothing behind.
        let mut build = Command::new(go);
        build.env("GOCACHE", folder.join("cache")).env("GOPATH", folder.join("path")).env("GO111MODULE", "off");
        let said = run(build.arg("build").arg("-o").arg(&path).arg(file));
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        Some(Self { _folder: folder, path })
    }
}
