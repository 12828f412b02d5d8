//! `persist serve`: static files, or an echo.

mod access;
mod conditional;
mod content_type;
mod files;
mod listing;
mod lookup;
mod range;
mod secure;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use persist_async::tls::ServerTls;
use persist_async::{Body, Incoming, Received, Server, ServerConfig};
use persist_core::{BodyLen, Field, FieldName, FieldValue, Method, RequestHead, Response, StatusCode};
use tokio::io::{AsyncReadExt as _, BufReader};

use crate::exit::Exit;
use crate::report::Format;
use access::{Access, Entry};
use files::{Answer, Content, Site, plain};
use secure::TlsOptions;

const AFTER_HELP: &str = "\
The first line on standard output is `listening on http://ADDRESS:PORT`, or https:// with --cert. Ctrl-C and SIGTERM let what is under way
finish, for 30 seconds at most, and exit with 0; the second one ends at once.

Files: GET and HEAD, conditional requests, one range. A directory is its index.html, or a list of names. Symbolic links
are followed within DIR, and not out of it. Nothing outside DIR is ever served.

Exit codes:
  0   ended by a signal, everything finished
  1   ended by a second signal, or not everything had finished in time
  2   the command line does not make sense
  7   the address could not be listened on
  23  standard output could not be written
  26  DIR could not be read
  58  --cert or --key is of no use
  77  the certificates of --client-ca cannot be read";

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(30);

/// How long a client that was told to close is waited for: whoever pressed Ctrl-C is waiting, too.
const LINGER: Duration = Duration::from_secs(1);

/// A file is read so many bytes at once: each read goes to another thread and back.
const READ_AHEAD: usize = 256 * 1024;

/// Options of `persist serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The directory to serve
    #[arg(default_value = ".", conflicts_with = "echo")]
    dir: PathBuf,
    /// Where to listen; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Answer every request with 200 and its own content, as it comes
    #[arg(long)]
    echo: bool,
    #[command(flatten)]
    tls: TlsOptions,
    /// No report on standard error
    #[arg(short = 's', long)]
    silent: bool,
    /// The form of the report on standard error, a line for each exchange
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// What is served.
#[derive(Debug)]
struct Service {
    site: Option<Arc<Site>>,
    access: Access,
}

struct Failed {
    message: String,
    exit: Exit,
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    match serve(args) {
        Ok(exit) => exit.into(),
        Err(failed) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(io::stderr(), "persist serve: {}", failed.message);
            failed.exit.into()
        }
    }
}

fn serve(args: &Args) -> Result<Exit, Failed> {
    let tls = args.tls.build()?;
    let site = if args.echo { None } else { Some(site(args)?) };
    let access = Access { format: args.format, silent: args.silent };
    let service = Arc::new(Service { site, access });
    let runtime = tokio::runtime::Runtime::new()
        .map_err(|error| Failed { message: format!("starting: {error}"), exit: Exit::Failed })?;
    let exit = runtime.block_on(listen(&args.listen, tls, service));
    runtime.shutdown_background();
    exit
}

fn site(args: &Args) -> Result<Arc<Site>, Failed> {
    let unreadable = |error| Failed { message: format!("reading {}: {error}", args.dir.display()), exit: Exit::Read };
    Site::new(&args.dir).map(Arc::new).map_err(unreadable)
}

async fn listen(address: &str, tls: Option<ServerTls>, service: Arc<Service>) -> Result<Exit, Failed> {
    let unusable = |error| Failed { message: format!("listening on {address}: {error}"), exit: Exit::Connect };
    let server = Server::bind(address).await.map_err(unusable)?;
    let mut config = ServerConfig::default()
        .server_name(concat!("persist/", env!("CARGO_PKG_VERSION")))
        .expect("a constant without control characters");
    config.conn.timeouts.linger = Some(LINGER);
    let server = server.with_config(config);
    let (scheme, server) = match tls {
        Some(tls) => ("https", server.with_tls(tls)),
        None => ("http", server),
    };
    // Before anybody can know that we are here, so that no signal is missed.
    let mut signals = Signals::new()
        .map_err(|error| Failed { message: format!("waiting for signals: {error}"), exit: Exit::Failed })?;
    let mut stdout = io::stdout();
    let listening = match server.local_addr() {
        Some(address) => writeln!(stdout, "listening on {scheme}://{address}"),
        None => Ok(()),
    };
    listening
        .and_then(|()| stdout.flush())
        .map_err(|error| Failed { message: format!("writing standard output: {error}"), exit: Exit::Write })?;
    let handle = server.handle();
    let serving = tokio::spawn(server.serve(move |received| {
        let service = Arc::clone(&service);
        async move { service.handle(received).await }
    }));
    signals.next().await;
    handle.shutdown(DRAIN);
    tokio::select! {
        served = serving => Ok(match served {
            Ok(Ok(served)) if served.aborted == 0 => Exit::Success,
            _ => Exit::Failed,
        }),
        () = signals.next() => Ok(Exit::Failed),
    }
}

/// What one request gets, and how it is reported.
struct Given {
    response: Response,
    body: Body,
    /// Content that is handed over whole, in bytes; `None` if the body reports itself.
    whole: Option<u64>,
}

impl Service {
    async fn handle(&self, received: Received) {
        let Received { head, body, responder, connection, reused, peer, .. } = received;
        let mut entry = Entry {
            connection,
            request: responder.id().number() + 1,
            reused,
            peer,
            method: head.method().to_string(),
            target: head.target().to_owned(),
            status: 0,
            bytes: 0,
            complete: false,
        };
        let given = match &self.site {
            Some(site) => self.file(&mut entry, Arc::clone(site), head).await,
            None => self.echo(&mut entry, &head, body),
        };
        let sent = responder.send(given.response, given.body).await;
        if let Some(bytes) = given.whole {
            entry.complete = sent.is_ok();
            entry.bytes = if entry.complete { bytes } else { 0 };
            self.access.write(&entry);
        }
    }

    async fn file(&self, entry: &mut Entry, site: Arc<Site>, head: RequestHead) -> Given {
        // Looking up and opening block; a panic in there is a bug, and answered as one.
        let answer = tokio::task::spawn_blocking(move || site.answer(&head)).await;
        self.give(entry, answer.unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR)))
    }

    fn echo(&self, entry: &mut Entry, head: &RequestHead, body: Incoming) -> Given {
        if *head.method() == Method::CONNECT {
            return self.give(entry, plain(StatusCode::METHOD_NOT_ALLOWED));
        }
        let mut response = Response::ok();
        let value = head.field("Content-Type").unwrap_or(FieldValue::from_static("application/octet-stream"));
        response.fields.push_field(Field { name: FieldName::from_static("Content-Type"), value });
        entry.status = response.status.as_u16();
        let len = match body.len() {
            BodyLen::Empty => Some(0),
            BodyLen::Length(len) => Some(len),
            BodyLen::Chunked | BodyLen::UntilClose => None,
        };
        if len == Some(0) || *head.method() == Method::HEAD {
            return Given { response, body: Body::empty(), whole: Some(0) };
        }
        let body = Body::reader(self.access.count(entry.clone(), body, len), len);
        Given { response, body, whole: None }
    }

    fn give(&self, entry: &mut Entry, Answer { response, content }: Answer) -> Given {
        entry.status = response.status.as_u16();
        let (body, whole) = match content {
            Content::None => (Body::empty(), Some(0)),
            Content::Bytes(bytes) => (bytes.clone().into(), Some(bytes.len() as u64)),
            Content::Unsent { len } => (Body::reader(tokio::io::empty(), Some(len)), Some(0)),
            Content::File { file, len } => {
                let file = BufReader::with_capacity(READ_AHEAD, tokio::fs::File::from_std(file).take(len));
                (Body::reader(self.access.count(entry.clone(), file, Some(len)), Some(len)), None)
            }
        };
        Given { response, body, whole }
    }
}

/// What ends a server: SIGINT, which is Ctrl-C, and SIGTERM.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn next(&mut self) {
        // Without a way to be told, it runs until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending().await
        }
    }
}
