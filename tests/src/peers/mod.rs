//! Programs written by others that tests meet, where they are installed.

pub mod go;
pub mod nginx;
pub mod origin;
pub mod proxy;
pub mod python;
pub mod redis;
pub mod reverse_proxy;

use std::path::PathBuf;

/// Where a peer's program lies. `None` if it is not installed: the test says so and is left out, unless peers are required
/// (`cargo xtask test --require-peers`).
///
/// # Panics
/// If the peer is required and not installed.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let found =
        std::env::split_paths(&path).chain(usual).map(|folder| folder.join(program)).find(|file| file.is_file());
    or_left_out(found, program)
}

/// The peer if it is there; else says that the test is left out, or fails it where peers are required.
fn or_left_out<T>(peer: Option<T>, name: &str) -> Option<T> {
    if peer.is_none() {
        assert!(std::env::var_os("PERSIST_REQUIRE_PEERS").is_none(), "{name} is required and not installed");
        eprintln!("left out: {name} is not installed");
    }
    peer
}
