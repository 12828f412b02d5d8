//! Python's own HTTP server and client.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{Running, Said, run};

/// The interpreter: `PERSIST_PYTHON` if that is set, as `.ci/run` does to one that has the modules tests use.
pub fn interpreter() -> Option<PathBuf> {
    std::env::var_os("PERSIST_PYTHON").map(PathBuf::from).or_else(|| super::installed("python3"))
}

/// The interpreter if it has all of these modules.
pub fn with_modules(modules: &[&str]) -> Option<PathBuf> {
    let import = format!("import {}", modules.join(", "));
    let has_them = |python: &PathBuf| run(Command::new(python).args(["-c", &import])).code == Some(0);
    super::or_left_out(Some(interpreter()?).filter(has_them), &format!("Python with {}", modules.join(" and ")))
}

/// Python's `http.server`: HTTP/1.0, so that no connection is kept.
#[derive(Debug)]
pub struct HttpServer {
    _running: Running,
    /// Where it listens.
    pub address: SocketAddr,
}

impl HttpServer {
    /// Serves a folder; `None` if Python is not installed.
    ///
    /// # Panics
    /// If its first line does not end with its URL.
    pub fn start(folder: &Path) -> Option<Self> {
        let mut command = Command::new(interpreter()?);
        let command = command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder);
        let mut running = Running::start(command);
        let line = running.line();
        let address = line.split_once("(http://").and_then(|(_, rest)| rest.split_once('/')?.0.parse().ok());
        match address {
            Some(address) => Some(Self { _running: running, address }),
            None => panic!("http.server began with {line:?}: {}", running.wait().1),
        }
    }

    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Runs a Python program with these arguments; `None` if Python is not installed.
pub fn python(program: &str, arguments: &[&str]) -> Option<Said> {
    Some(run(Command::new(interpreter()?).args(["-c", program]).args(arguments)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::HttpServer;
    use crate::folder::Folder;

    #[test]
    fn pythons_server_keeps_no_connection() {
        let folder = Folder::new();
        folder.write("a", "content");
        let Some(server) = HttpServer::start(folder.path()) else { return };
        let mut stream = TcpStream::connect(server.address).expect("the server listens");
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").expect("the server reads");
        let mut reply = String::new();
        stream.read_to_string(&mut reply).expect("the server closes after its answer");
        assert!(reply.starts_with("HTTP/1.0 200 ") && reply.ends_with("content"), "{reply}");
    }
}
