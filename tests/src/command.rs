//! The `persist` command, as a test starts it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::process::{Running, Said, run};

/// `persist` with these arguments, and no word about proxies in its environment.
pub fn persist<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(program());
    command.args(arguments);
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
    command
}

/// Runs `persist` with these arguments to its end.
pub fn run_persist<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Said {
    run(&mut persist(arguments))
}

/// A `persist serve` that runs until it is dropped.
#[derive(Debug)]
pub struct Serve {
    running: Running,
    scheme: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Serve {
    /// Starts it on a port that the kernel chose.
    ///
    /// # Panics
    /// If its first line is not what its documentation promises.
    pub fn start<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Self {
        let mut command = persist(["serve", "--listen", "127.0.0.1:0"]);
        let mut running = Running::start(command.args(arguments));
        let line = running.line();
        let address = |scheme: &'static str| {
            let address = line.strip_prefix("listening on ")?.strip_prefix(scheme)?.strip_prefix("://")?;
            Some((scheme, address.parse().ok()?))
        };
        match address("http").or_else(|| address("https")) {
            Some((scheme, address)) => Self { running, scheme, address },
            None => panic!("`persist serve` began with {line:?}: {}", running.wait().1),
        }
    }

    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// Ends it with SIGTERM; returns its exit code and what it said on stderr.
    pub fn terminate(self) -> (Option<i32>, String) {
        let (status, said) = self.running.terminate();
        (status.code(), said)
    }
}

/// Where the command lies. `cargo xtask test` builds it and says so in `PERSIST_BIN`; a test run by hand builds it, for a stale one would lie.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| std::env::var_os("PERSIST_BIN").map_or_else(build, PathBuf::from))
}

fn build() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate lies in the workspace");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let built = run(cargo.current_dir(workspace).args(["build", "--workspace", "--all-features", "--bin", "persist"]));
    assert_eq!(built.code, Some(0), "`persist` does not build:\n{}", built.stderr);
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.join("target"), PathBuf::from);
    target.join("debug").join(format!("persist{}", std::env::consts::EXE_SUFFIX))
}
