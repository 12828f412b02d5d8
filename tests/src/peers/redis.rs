//! Redis, without its disk.

use std::net::SocketAddr;
use std::process::Command;

use crate::folder::Folder;
use crate::process::{Running, start_on_a_free_port};

/// A Redis server that keeps everything in memory, and ends with the test.
#[derive(Debug)]
pub struct Redis {
    _running: Running,
    _folder: Folder,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Redis {
    /// Starts it; `None` if it is not installed.
    pub fn start() -> Option<Self> {
        let program = super::installed("redis-server")?;
        let folder = Folder::new();
        let (running, address) = start_on_a_free_port(|address| {
            let mut command = Command::new(&program);
            command.args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning"]);
            command.arg("--port").arg(address.port().to_string()).arg("--dir").arg(folder.path());
            command
        });
        Some(Self { _running: running, _folder: folder, address })
    }
}
