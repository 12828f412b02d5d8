//! nginx and HAProxy in front of a server of ours, with connections to it that they keep and use again.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::folder::Folder;
use crate::process::{Running, start_on_a_free_port};

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nginx: retries a request on another connection if it is idempotent.
    Nginx,
    /// HAProxy: retries none that may have been sent.
    Haproxy,
}

/// A running reverse proxy.
#[derive(Debug)]
pub struct ReverseProxy {
    _running: Running,
    _folder: Folder,
    /// Where it listens.
    pub address: SocketAddr,
}

impl ReverseProxy {
    /// Puts one in front of `origin`; `None` if it is not installed. It closes connections to the origin that were idle for `keeps`, and never those of its
    /// clients.
    pub fn start(kind: Kind, origin: SocketAddr, keeps: Duration) -> Option<Self> {
        let program = super::installed(match kind {
            Kind::Nginx => "nginx",
            Kind::Haproxy => "haproxy",
        })?;
        let folder = Folder::new();
        let (running, address) = start_on_a_free_port(|address| {
            let mut command = Command::new(&program);
            match kind {
                Kind::Nginx => {
                    let config = folder.write("nginx.conf", nginx(folder.path(), address, origin, keeps));
                    command.arg("-p").arg(folder.path()).arg("-e").arg(folder.join("error.log")).arg("-c").arg(config)
                }
                Kind::Haproxy => {
                    let config = folder.write("haproxy.cfg", haproxy(address, origin, keeps));
                    command.arg("-db").arg("-f").arg(config)
                }
            };
            command
        });
        Some(Self { _running: running, _folder: folder, address })
    }
}

fn nginx(folder: &Path, address: SocketAddr, origin: SocketAddr, keeps: Duration) -> String {
    let (root, keeps) = (folder.display(), keeps.as_millis());
    // A worker of root's would run as nobody, who may not write to the folder.
    let owner = fs::metadata(folder).expect("the folder is there").uid();
    let user = if owner == 0 { "user root;" } else { "" };
    format!(
        "daemon off; master_process off; {user}
pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3; uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
    keepalive_timeout 1h; keepalive_requests 1000000;
    upstream origin {{ server {origin}; keepalive 256; keepalive_timeout {keeps}ms; }}
    server {{
        listen {address};
        client_max_body_size 0;
        location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ''; }}
    }}
}}
"
    )
}

fn haproxy(address: SocketAddr, origin: SocketAddr, keeps: Duration) -> String {
    let keeps = keeps.as_millis();
    format!(
        "global
    maxconn 1024
    nbthread 1
defaults
    mode http
    http-reuse always
    timeout connect 10s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
frontend front
    bind {address}
    default_backend back
backend back
    server origin {origin} pool-purge-delay {keeps}ms
"
    )
}
