//! nginx, serving a folder, and what its access log says about connections.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::Command;

use crate::folder::Folder;
use crate::process::{Running, run, start_on_a_free_port};

/// An nginx that serves `www` in a folder of its own.
#[derive(Debug)]
pub struct Nginx {
    running: Running,
    program: PathBuf,
    folder: Folder,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Nginx {
    /// Starts it with these files; `None` if it is not installed. `extra` goes into the server's block of the configuration.
    pub fn start<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>, extra: &str) -> Option<Self> {
        let program = super::installed("nginx")?;
        let folder = Folder::new();
        fs::create_dir_all(folder.join("www")).expect("the folder can be written to");
        for (name, content) in files {
            folder.write(format!("www/{name}"), content);
        }
        let (running, address) = start_on_a_free_port(|address| {
            let config = folder.write("nginx.conf", config(&folder, address, extra));
            let mut command = Command::new(&program);
            command.arg("-p").arg(folder.path()).arg("-e").arg(folder.join("error.log")).arg("-c").arg(config);
            command
        });
        Some(Self { running, program, folder, address })
    }

    /// The URL of a path on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Ends it in order, so that its log is complete, and returns what it logged.
    ///
    /// # Panics
    /// If nginx does not end, or logs what this file did not ask it to.
    pub fn log(self) -> Log {
        let config = self.folder.join("nginx.conf");
        let mut quit = Command::new(&self.program);
        let quit =
            quit.arg("-p").arg(self.folder.path()).arg("-e").arg(self.folder.join("error.log")).arg("-c").arg(config);
        let said = run(quit.args(["-s", "quit"]));
        assert_eq!(said.code, Some(0), "nginx does not quit: {}", said.stderr);
        self.running.wait();
        let mut log = Log::default();
        for line in fs::read_to_string(self.folder.join("access.log")).expect("nginx wrote its log").lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [connection, count, pipe] = fields[..] else { panic!("{line:?} is not what was asked for") };
            let count: u64 = count.parse().expect("a count");
            let most = log.requests.entry(connection.parse().expect("a connection")).or_default();
            *most = count.max(*most);
            log.pipelined += u64::from(pipe == "p");
        }
        log
    }
}

/// What nginx saw.
#[derive(Debug, Default)]
pub struct Log {
    /// How many requests each connection carried, by the connection's number.
    pub requests: BTreeMap<u64, u64>,
    /// How many requests were there already when nginx had answered the one before.
    pub pipelined: u64,
}

fn config(folder: &Folder, address: SocketAddr, extra: &str) -> String {
    let root = folder.path().display();
    // A worker of root's would run as nobody, who may not read the folder.
    let owner = fs::metadata(folder.path()).expect("the folder is there").uid();
    let user = if owner == 0 { "user root;" } else { "" };
    format!(
        "daemon off; master_process off; {user}
pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format reuse '$connection $connection_requests $pipe';
    access_log {root}/access.log reuse;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    keepalive_requests 100000;
    server {{ listen {address}; root {root}/www; {extra} }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::Nginx;

    #[test]
    fn the_log_tells_a_kept_connection_from_two() {
        let Some(nginx) = Nginx::start([("a", b"content".as_slice())], "") else { return };
        for requests in [2, 1] {
            let mut stream = TcpStream::connect(nginx.address).expect("nginx listens");
            for number in 1..=requests {
                let option = if number == requests { "Connection: close\r\n" } else { "" };
                write!(stream, "GET /a HTTP/1.1\r\nHost: a\r\n{option}\r\n").expect("nginx reads");
            }
            let mut reply = String::new();
            stream.read_to_string(&mut reply).expect("nginx answers and closes");
            assert_eq!(reply.matches("content").count(), requests, "{reply}");
        }
        let log = nginx.log();
        let mut counts: Vec<u64> = log.requests.into_values().collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 2]);
    }
}
