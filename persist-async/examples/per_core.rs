//! One runtime per core: as many threads as there are cores, each with a runtime and a server of its own, all on one port (`SO_REUSEPORT`). The kernel
//! shares the connections out, and none ever moves: no lock, no cache line and no task is shared between the cores. Linux; other systems have the option but
//! share nothing out.
//!
//! `cargo run --release --example per_core`, then Enter to end it.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::mpsc::channel;
use std::thread::{JoinHandle, available_parallelism};
use std::time::Duration;

use persist_async::{ListenConfig, PortUse, Received, Response, Served, Server, ServerHandle};

/// The server of one core.
#[derive(Debug)]
pub struct Core {
    /// Ends it.
    pub handle: ServerHandle,
    /// What it did, once it has ended.
    pub thread: JoinHandle<io::Result<Served>>,
}

async fn answer(received: Received) {
    let core = std::thread::current().name().unwrap_or_default().to_owned();
    // A client that has gone needs no answer.
    let _ = received.responder.send(Response::ok(), format!("{core}\n")).await;
}

/// Starts so many servers on one address; port 0 is one of the kernel's choice.
///
/// # Errors
/// If the address cannot be bound, or there are no more threads.
pub fn start(mut address: SocketAddr, cores: usize) -> io::Result<(SocketAddr, Vec<Core>)> {
    let mut config = ListenConfig::default();
    config.port = PortUse::Shared;
    let mut started = Vec::new();
    for core in 0..cores {
        let (told, telling) = channel();
        let thread = std::thread::Builder::new().name(format!("core {core}")).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let server = Server::bind_with(address, config).await?;
                let _ = told.send((server.local_addr().unwrap_or(address), server.handle()));
                server.serve(answer).await
            })
        })?;
        match telling.recv() {
            Ok((bound, handle)) => {
                address = bound; // the others listen there, too
                started.push(Core { handle, thread });
            }
            // It ended before it could tell.
            Err(_) => {
                return Err(thread.join().map_or_else(
                    |_| io::Error::other("it panicked"),
                    |ended| ended.err().unwrap_or(io::ErrorKind::Other.into()),
                ));
            }
        }
    }
    Ok((address, started))
}

/// Serves until Enter.
///
/// # Errors
/// If it cannot start.
pub fn main() -> io::Result<()> {
    let cores = available_parallelism().map_or(1, NonZeroUsize::get);
    let (address, started) = start(SocketAddr::from(([127, 0, 0, 1], 0)), cores)?;
    println!("http://{address}/ on {cores} cores, until Enter");
    io::stdin().read_line(&mut String::new())?;
    started.iter().for_each(|core| core.handle.shutdown(Duration::from_secs(10)));
    for core in started {
        let served = core.thread.join().map_err(|_| io::Error::other("it panicked"))??;
        println!("{} connections", served.connections);
    }
    Ok(())
}
