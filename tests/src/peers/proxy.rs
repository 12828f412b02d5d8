//! Proxies that others wrote: each started with a folder, a port and a log of its own.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::folder::Folder;
use crate::process::{Running, start_on_a_free_port};

/// Which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// HTTP. Answers in HTTP/1.0, so it keeps no connection.
    Tinyproxy,
    /// SOCKS 5.
    Microsocks,
    /// HTTP, with Basic authentication if there is a login.
    Squid,
    /// HTTP.
    Privoxy,
    /// HTTP, inside TLS if there is an identity; forwards to addresses, and refuses tunnels.
    Haproxy,
    /// HTTP: mod_proxy; inside TLS if there is an identity.
    Apache,
    /// SOCKS 4 (not 4a: it takes the address that stands in for a name for an address) and 5.
    Dante,
    /// HTTP, the worst case: one request a connection, and whatever comes to its mind.
    Ncat,
    /// HTTP, in Python.
    ProxyPy,
}

/// A proxy that runs until this is dropped.
#[derive(Debug)]
pub struct Proxy {
    kind: Kind,
    running: Option<Running>,
    folder: Folder,
    /// Where it listens.
    pub address: SocketAddr,
}

/// A user and a password.
pub type Login = (&'static str, &'static str);

/// A certificate and its key, both in PEM.
pub type Identity<'p> = (&'p str, &'p str);

impl Kind {
    /// The program's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tinyproxy => "tinyproxy",
            Self::Microsocks => "microsocks",
            Self::Squid => "squid",
            Self::Privoxy => "privoxy",
            Self::Haproxy => "haproxy",
            Self::Apache => "apache2",
            Self::Dante => "danted",
            Self::Ncat => "ncat",
            Self::ProxyPy => "proxy.py",
        }
    }

    fn program(self) -> Option<PathBuf> {
        match self {
            Self::ProxyPy => super::python::with_modules(&["proxy"]),
            _ => super::installed(self.name()),
        }
    }
}

impl Proxy {
    /// Starts one; `None` if it is not installed. Of these, squid, tinyproxy, microsocks, ncat and proxy.py take a login, haproxy and apache
    /// an identity.
    ///
    /// # Panics
    /// If it is given what it does not take.
    pub fn start(kind: Kind, login: Option<Login>, identity: Option<Identity<'_>>) -> Option<Self> {
        let program = kind.program()?;
        let folder = Folder::new();
        open_to_all(&folder);
        if let Some((certificate, key)) = identity {
            assert!(matches!(kind, Kind::Haproxy | Kind::Apache), "{kind:?} takes no identity");
            folder.write("identity.pem", format!("{certificate}{key}"));
        }
        let is_secured = identity.is_some();
        let (running, address) =
            start_on_a_free_port(|address| command(kind, &program, &folder, address, login, is_secured));
        Some(Self { kind, running: Some(running), folder, address })
    }

    /// Ends it, and counts what it logged: how many requests each connection from a client carried. `None` if it does not log that.
    ///
    /// # Panics
    /// If its log is not what it was asked for.
    pub fn requests_by_connection(mut self) -> Option<Vec<usize>> {
        // haproxy's log lacks what it was in the middle of, if it is ended otherwise.
        let signal = if self.kind == Kind::Haproxy { "USR1" } else { "TERM" };
        let said = self.running.take().expect("it runs until it is dropped").end_by(signal).1;
        let log = |name: &str| fs::read_to_string(self.folder.join(name)).expect("it wrote its log");
        let by_port = |log: &str| {
            let mut counts = BTreeMap::new();
            // Each line begins with the client's port.
            let lines = log.lines().filter(|line| !line.contains("error:transaction-end-before-headers"));
            for port in lines.filter_map(|line| line.split(' ').next()?.parse::<u16>().ok()) {
                *counts.entry(port).or_insert(0) += 1;
            }
            counts.into_values().collect()
        };
        match self.kind {
            // One connection, one request.
            Kind::Tinyproxy => Some(vec![1; log("log").matches("Request (file descriptor").count()]),
            Kind::Squid | Kind::Apache => Some(by_port(&log("access.log"))),
            Kind::Haproxy => Some(by_port(&said)),
            Kind::Privoxy => {
                let counts =
                    said.lines().filter_map(|line| line.split_once("Requests received: ")?.1.strip_suffix('.'));
                let mut counts: Vec<usize> = counts.filter_map(|count| count.parse().ok()).collect();
                // It counts the look whether it listens as a request, and tells of it whenever it comes to that.
                if let Some(look) = counts.iter().position(|count| *count == 1) {
                    counts.remove(look);
                }
                Some(counts)
            }
            Kind::Microsocks | Kind::Dante | Kind::Ncat | Kind::ProxyPy => None,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // In order, since some have children that are theirs to end.
        if let Some(running) = self.running.take() {
            drop(running.terminate());
        }
        if self.kind == Kind::Squid {
            remove_shared_memory(&squid_service(self.address));
        }
    }
}

fn command(
    kind: Kind,
    program: &PathBuf,
    folder: &Folder,
    address: SocketAddr,
    login: Option<Login>,
    is_secured: bool,
) -> Command {
    let takes_a_login = matches!(kind, Kind::Tinyproxy | Kind::Microsocks | Kind::Squid | Kind::Ncat | Kind::ProxyPy);
    assert!(login.is_none() || takes_a_login, "{kind:?} takes no login");
    let (ip, port, root) = (address.ip().to_string(), address.port().to_string(), folder.path().display());
    let config = |text: String| folder.write("config", text);
    let mut command = Command::new(program);
    match kind {
        Kind::Tinyproxy => {
            let login = login.map_or_else(String::new, |(user, password)| format!("BasicAuth {user} {password}\n"));
            let text = format!(
                "Listen {ip}\nPort {port}\nTimeout 60\nMaxClients 50\nLogFile \"{root}/log\"\nLogLevel Connect\n{login}"
            );
            command.arg("-d").arg("-c").arg(config(text));
        }
        Kind::Microsocks => {
            command.args(["-i", &ip, "-p", &port]);
            if let Some((user, password)) = login {
                command.args(["-u", user, "-P", password]);
            }
        }
        Kind::Squid => {
            // The helper that checks logins: a line in, a line out.
            let auth = login.map_or_else(String::new, |(user, password)| {
                let check = format!(
                    "while read -r line; do [ \"$line\" = '{user} {password}' ] && echo OK || echo ERR; done\n"
                );
                let script = folder.write("auth.sh", check);
                format!(
                    "auth_param basic program /bin/sh {}\nacl known proxy_auth REQUIRED\nhttp_access deny !known\n",
                    script.display()
                )
            });
            let text = format!(
                "http_port {address}\n{auth}http_access allow all\nlogformat x %>p %rm %ru %>Hs\n\
                 access_log stdio:{root}/access.log x\ncache_log {root}/cache.log\npid_filename {root}/pid\ncoredump_dir {root}\n\
                 cache deny all\npinger_enable off\nshutdown_lifetime 0 seconds\n"
            );
            command.args(["-N", "-n", &squid_service(address), "-f"]).arg(config(text));
        }
        Kind::Privoxy => {
            let text = format!(
                "listen-address {address}\nconfdir {root}\nlogdir {root}\ndebug 2\ntoggle 0\nkeep-alive-timeout 60\n\
                 tolerate-pipelining 1\nsocket-timeout 60\n"
            );
            command.arg("--no-daemon").arg(config(text));
        }
        Kind::Haproxy => {
            let tls = if is_secured { format!(" ssl crt {root}/identity.pem alpn http/1.1") } else { String::new() };
            let text = format!(
                "global\n  log stderr format raw local0\n\
                 defaults\n  mode http\n  log global\n  option dontlognull\n  log-format \"%cp %HM %HU %ST\"\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
                 frontend proxy\n  bind {address}{tls}\n  http-request deny deny_status 405 if METH_CONNECT\n  http-request set-dst url_ip\n\
                 \x20 http-request set-dst-port url_port\n  http-request del-header Proxy-Authorization\n  http-request set-uri %[path]\n\
                 \x20 default_backend anywhere\n\
                 backend anywhere\n  server target 0.0.0.0:0\n"
            );
            command.arg("-db").arg("-f").arg(config(text));
        }
        Kind::Apache => {
            let modules = ["mpm_event", "authz_core", "authz_host", "proxy", "proxy_http", "proxy_connect"];
            let tls = if is_secured {
                format!(
                    "SSLEngine on\nSSLCertificateFile {root}/identity.pem\nSSLCertificateKeyFile {root}/identity.pem\n"
                )
            } else {
                String::new()
            };
            let load = |name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n");
            let modules: String = modules.into_iter().chain(is_secured.then_some("ssl")).map(load).collect();
            let text = format!(
                "Listen {address}\nServerName localhost\nServerRoot {root}\nPidFile {root}/pid\nErrorLog {root}/error.log\n{modules}{tls}\
                 User nobody\nGroup nogroup\nLogFormat \"%{{remote}}p %r %>s\" x\nCustomLog {root}/access.log x\n\
                 ProxyRequests On\nAllowCONNECT 1-65535\n<Proxy *>\nRequire all granted\n</Proxy>\n"
            );
            command.arg("-DFOREGROUND").arg("-f").arg(config(text));
        }
        Kind::Dante => {
            let text = format!(
                "logoutput: {root}/log\ninternal: {ip} port = {port}\nexternal: lo\nclientmethod: none\nsocksmethod: none\n\
                 client pass {{\n  from: 127.0.0.0/8 to: 0.0.0.0/0\n}}\n\
                 socks pass {{\n  from: 127.0.0.0/8 to: 0.0.0.0/0\n  command: connect\n  protocol: tcp\n}}\n"
            );
            command.arg("-p").arg(folder.join("pid")).arg("-f").arg(config(text));
        }
        Kind::Ncat => {
            command.args(["-k", "-l", &ip, &port, "--proxy-type", "http"]);
            if let Some((user, password)) = login {
                command.arg("--proxy-auth").arg(format!("{user}:{password}"));
            }
        }
        Kind::ProxyPy => {
            command.args([
                "-m",
                "proxy",
                "--hostname",
                &ip,
                "--port",
                &port,
                "--num-acceptors",
                "1",
                "--num-workers",
                "1",
            ]);
            if let Some((user, password)) = login {
                command.arg("--basic-auth").arg(format!("{user}:{password}"));
            }
        }
    }
    command
}

/// Some give up root's rights before they open their logs.
#[cfg(unix)]
fn open_to_all(folder: &Folder) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).expect("the folder is ours");
}

#[cfg(not(unix))]
fn open_to_all(_: &Folder) {}

/// Squid names its shared memory by this; two of the same name do not start.
fn squid_service(address: SocketAddr) -> String {
    format!("persist{}x{}", std::process::id(), address.port())
}

/// What squid leaves behind.
fn remove_shared_memory(service: &str) {
    let Ok(entries) = fs::read_dir("/dev/shm") else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&format!("{service}-")) {
            match fs::remove_file(entry.path()) {
                Err(error) if error.kind() != ErrorKind::NotFound => eprintln!("{}: {error}", entry.path().display()),
                _ => {}
            }
        }
    }
}
