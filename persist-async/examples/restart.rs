//! A restart that refuses nobody: the listening socket goes to the new process, which says that it is ready before the old one stops accepting. Connections
//! that wait in the socket's queue meanwhile are the new process's; those of the old one finish what is pending, and say `Connection: close`.
//!
//! `cargo run --example restart`, then `curl -X POST` to its `/restart`, or to its `/end`.

/// What it is on systems whose processes hand sockets on.
#[cfg(unix)]
mod unix {
    use std::io::{self, BufRead, BufReader};
    use std::os::fd::{AsFd, OwnedFd};
    use std::process::{Command, Stdio};
    use std::sync::Arc;
    use std::time::Duration;

    use persist_async::{Listener, Method, Received, Response, Server, ServerHandle, StatusCode};

    /// Set for a process whose standard input is the listening socket.
    const INHERITS: &str = "RESTART_INHERITS";

    /// How long requests may take that are pending when the process is replaced.
    const PATIENCE: Duration = Duration::from_secs(30);

    pub(super) async fn serve() -> io::Result<()> {
        let socket: OwnedFd = match std::env::var_os(INHERITS) {
            Some(_) => io::stdin().as_fd().try_clone_to_owned()?,
            None => std::net::TcpListener::bind("127.0.0.1:0")?.into(),
        };
        let server = Server::new(Listener::try_from(socket.try_clone()?)?);
        if let Some(address) = server.local_addr() {
            println!("ready on {address}");
        }
        let (handle, socket) = (server.handle(), Arc::new(socket));
        server.serve(move |received| answer(received, handle.clone(), socket.clone())).await.map(drop)
    }

    async fn answer(received: Received, handle: ServerHandle, socket: Arc<OwnedFd>) {
        let is_post = *received.head.method() == Method::POST;
        let (response, text) = match received.head.target() {
            "/restart" if is_post => match tokio::task::spawn_blocking(move || start_successor(&socket)).await {
                Ok(Ok(id)) => {
                    handle.shutdown(PATIENCE);
                    (Response::ok(), format!("{id} goes on\n"))
                }
                // Nothing is lost: this process goes on itself.
                failed => (Response::new(StatusCode::INTERNAL_SERVER_ERROR), format!("{failed:?}\n")),
            },
            "/end" if is_post => {
                handle.shutdown(PATIENCE);
                (Response::ok(), "it ends\n".to_owned())
            }
            _ => (Response::ok(), format!("{}\n", std::process::id())),
        };
        // A client that has gone needs no answer.
        let _ = received.responder.send(response, text).await;
    }

    /// Starts the program again, with the socket as its input, and waits until it is ready.
    fn start_successor(socket: &OwnedFd) -> io::Result<u32> {
        let mut successor = Command::new(std::env::current_exe()?)
            .args(std::env::args_os().skip(1))
            .env(INHERITS, "1")
            .stdin(Stdio::from(socket.try_clone()?))
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = successor.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines());
        for line in lines.map_while(Result::ok) {
            if line.contains("ready on ") {
                return Ok(successor.id());
            }
        }
        Err(io::Error::other(format!("the new process ended: {}", successor.wait()?)))
    }
}

/// Serves until it is replaced or told to end.
///
/// # Errors
/// If it cannot listen.
#[cfg(unix)]
#[tokio::main(flavor = "current_thread")]
pub async fn main() -> std::io::Result<()> {
    unix::serve().await
}

/// Listening sockets are handed on in another way elsewhere.
#[cfg(not(unix))]
pub fn main() {}
