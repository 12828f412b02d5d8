//! `persist get --demo`: the main job, with nothing else on the machine.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use bytes::Bytes;
use persist_async::{Body, Received, Server};
use persist_core::{Destination, Fields, Method, PoolKey, Response, Route, Scheme, StatusCode};
use sha2::{Digest as _, Sha256};

use super::args::Args;
use super::fetcher::Options;
use super::job::{Content, Job};
use super::outputs::Target;
use super::plan::{Plan, Unusable};
use super::show::Show;
use super::way::Way;
use super::{carry_out, wanted};
use crate::exit::Exit;
use crate::report::Format;

/// Resources on the server.
const RESOURCES: usize = 1_000;

/// The one that has 8 MiB.
const LARGE: usize = 500;

const CONNECTIONS: usize = 2;
const DEPTH: usize = 16;

/// How a resource is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
}

/// Starts the server, fetches everything from it, and checks each body.
pub(super) fn run(args: &Args) -> Result<Exit, Unusable> {
    let address = start()?;
    let there = Destination::tcp(Scheme::Http, address.ip().into(), address.port());
    let route = Route::direct(&there);
    let jobs = (0..RESOURCES).map(|number| job(&route.pool_key, address, number)).collect();
    let routes = [(route.pool_key.clone(), route)].into();
    let options = Options {
        depth: DEPTH,
        connections: CONNECTIONS,
        way: Way::direct(),
        include: false,
        fail: true,
        create_dirs: false,
        max_time: None,
        show: Show { verbose: args.verbose },
    };
    let (summary, exit) = carry_out(Plan { jobs, bad: Vec::new(), routes }, options, wanted(args))?;
    if args.format == Format::Text && !args.silent && exit == Exit::Success {
        let said = writeln!(io::stdout(), "{} bodies arrived as they were given to the server", summary.exchanges);
        said.map_err(|error| Unusable { message: format!("writing standard output: {error}"), exit: Exit::Write })?;
    }
    Ok(exit)
}

/// Starts a server on a thread of its own, as if it were elsewhere; it ends with the process.
fn start() -> Result<SocketAddr, Unusable> {
    let unusable = |error: io::Error| Unusable { message: format!("starting the server: {error}"), exit: Exit::Failed };
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(unusable)?;
    listener.set_nonblocking(true).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unusable)?;
    thread::spawn(move || {
        runtime.block_on(async {
            let server = Server::new(tokio::net::TcpListener::from_std(listener)?);
            server.serve(|received| async move { answer(received).await }).await
        })
    });
    Ok(address)
}

async fn answer(received: Received) {
    let number = received.head.target().strip_prefix('/').and_then(|number| number.parse().ok());
    let Some(number) = number.filter(|number| *number < RESOURCES) else {
        // What becomes of it is the client's to judge, here and below.
        let _ = received.responder.send(Response::new(StatusCode::NOT_FOUND), ()).await;
        return;
    };
    let body = match resource(number) {
        (Framing::Length, content) => Body::from(content),
        (Framing::Chunked, content) => Body::reader(io::Cursor::new(content), None),
    };
    let _ = received.responder.send(Response::ok(), body).await;
}

fn job(key: &PoolKey, address: SocketAddr, number: usize) -> Job {
    let mut fields = Fields::new();
    fields.push("Host", address.to_string()).expect("an address holds no control characters");
    let (_, content) = resource(number);
    Job {
        part: number,
        url: format!("http://{address}/{number}"),
        key: key.clone(),
        method: Method::GET,
        target: format!("/{number}"),
        fields,
        content: Content::None,
        output: Target::Check(Sha256::digest(&content).into()),
    }
}

/// The framing and the content of a resource: a quarter each empty, small, 64 KiB, and chunked; and one of 8 MiB.
fn resource(number: usize) -> (Framing, Bytes) {
    let (framing, len) = match number {
        LARGE => (Framing::Length, 8 * 1024 * 1024),
        _ => match number % 4 {
            0 => (Framing::Length, 0),
            1 => (Framing::Length, 1 + number),
            2 => (Framing::Length, 64 * 1024),
            _ => (Framing::Chunked, 1 + number * 37 % 40_000),
        },
    };
    (framing, noise(number, len))
}

/// Bytes that differ from resource to resource and from place to place, so that none can stand in for another. (xorshift64*)
fn noise(seed: usize, len: usize) -> Bytes {
    let mut state = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
