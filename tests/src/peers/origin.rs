//! nginx as an origin behind proxies, with and without TLS: answers each request with its target, and logs what reached it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use crate::folder::Folder;
use crate::process::{Running, run, start_on_a_free_port};

/// An nginx that answers with each request's target.
#[derive(Debug)]
pub struct Origin {
    running: Running,
    program: PathBuf,
    folder: Folder,
    plain: SocketAddr,
    secured: SocketAddr,
}

/// One request, as the origin saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The number of its connection.
    pub connection: u64,
    /// Its target.
    pub target: String,
    /// Its `Host`.
    pub host: String,
    /// What came of fields that are between a client and its proxy: `Proxy-Authorization` and `Proxy-Connection`, if any.
    pub proxy_fields: String,
}

impl Origin {
    /// Starts it with a certificate and its key, both in PEM; `None` if it is not installed.
    pub fn start(certificate: &str, key: &str) -> Option<Self> {
        let program = super::installed("nginx")?;
        let folder = Folder::new();
        folder.write("certificate.pem", certificate);
        folder.write("key.pem", key);
        let mut secured = None;
        let (running, plain) = start_on_a_free_port(|plain| {
            // If another takes this one first, nginx ends, and all is tried again.
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
            let address = free.local_addr().expect("a bound socket has an address");
            secured = Some(address);
            drop(free);
            let config = folder.write("nginx.conf", config(&folder, plain, address));
            let mut command = Command::new(&program);
            command.arg("-p").arg(folder.path()).arg("-e").arg(folder.join("error.log")).arg("-c").arg(config);
            command
        });
        let secured = secured.expect("a port was chosen when it started");
        Some(Self { running, program, folder, plain, secured })
    }

    /// The URL of a path on it: the scheme is `http` or `https`, the host a name for this machine.
    pub fn url(&self, scheme: &str, host: &str, path: &str) -> String {
        let port = if scheme == "https" { self.secured.port() } else { self.plain.port() };
        format!("{scheme}://{host}:{port}{path}")
    }

    /// Ends it in order, so that its log is complete, and returns what it logged.
    ///
    /// # Panics
    /// If nginx does not end, or logs what this file did not ask it to.
    pub fn log(self) -> Vec<Seen> {
        let mut quit = Command::new(&self.program);
        let quit = quit.arg("-p").arg(self.folder.path()).arg("-e").arg(self.folder.join("error.log"));
        let said = run(quit.arg("-c").arg(self.folder.join("nginx.conf")).args(["-s", "quit"]));
        assert_eq!(said.code, Some(0), "nginx does not quit: {}", said.stderr);
        self.running.wait();
        let log = std::fs::read_to_string(self.folder.join("access.log")).expect("nginx wrote its log");
        let seen = |line: &str| {
            let fields: Vec<&str> = line.split('\t').collect();
            let [connection, target, host, authorization, option] = fields[..] else {
                panic!("{line:?} is not what was asked for")
            };
            let proxy_fields = [authorization, option].into_iter().filter(|field| *field != "-").collect();
            let connection = connection.parse().expect("a connection's number");
            Seen { connection, target: target.into(), host: host.into(), proxy_fields }
        };
        log.lines().map(seen).collect()
    }
}

fn config(folder: &Folder, plain: SocketAddr, secured: SocketAddr) -> String {
    let root = folder.path().display();
    format!(
        "daemon off; master_process off;
pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format seen escape=none '$connection\\t$request_uri\\t$http_host\\t$log_authorization\\t$log_option';
    map $http_proxy_authorization $log_authorization {{ '' -; default $http_proxy_authorization; }}
    map $http_proxy_connection $log_option {{ '' -; default $http_proxy_connection; }}
    access_log {root}/access.log seen;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    server {{
        listen {plain}; listen {secured} ssl;
        ssl_certificate {root}/certificate.pem; ssl_certificate_key {root}/key.pem;
        location / {{ return 200 $request_uri; }}
    }}
}}
"
    )
}
