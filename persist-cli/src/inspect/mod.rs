//! `persist inspect`: what the core's machine makes of recorded bytes.

pub mod batch;
mod capture;
mod explain;
pub mod replay;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use persist_core::Method;

use crate::exit::Exit;
use crate::report::Format;
use batch::Batch;
use replay::{Recording, Role, Strictness};

const AFTER_HELP: &str = "\
Exit codes:
  0   accepted: complete messages, no error, nothing half-read; a batch: every line was a case
  1   rejected; a batch: some line was no case
  2   the command line does not make sense
  3   incomplete: no error, but the input ends inside a message or holds none
  23  the output could not be written
  26  the input could not be read

In the role of a server (--role request), every complete request is answered with 200 and no content, so that
pipelined requests are read. In the role of a client, one GET is outstanding, or the requests given by --method.";

/// Options of `persist inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// The recorded bytes; - is standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// What the bytes are: what a server reads, or what a client reads
    #[arg(long, value_enum, required_unless_present = "batch")]
    role: Option<Role>,
    /// Responses: the method of the request they answer; again for each further request [default: GET]
    #[arg(long, value_name = "METHOD")]
    method: Vec<Method>,
    /// The peer closed after these bytes
    #[arg(long)]
    eof: bool,
    /// Feed so many bytes at a time
    #[arg(long, value_name = "N")]
    split: Option<NonZeroUsize>,
    /// How strictly heads are read: `client` tolerates, in responses, what cannot change framing
    #[arg(long, value_enum, default_value_t = Strictness::Strict)]
    leniency: Strictness,
    /// Read cases instead, one JSON object a line, and answer one line each (see docs/cli.md)
    #[arg(long, conflicts_with_all = ["role", "method", "eof", "split", "leniency"])]
    batch: bool,
    /// The form of the report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let done = if args.batch { run_batch(args) } else { run_capture(args) };
    match done {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Nobody is left to tell when standard error is gone, too.
            let _ = writeln!(io::stderr(), "persist inspect: {}", failure.message);
            failure.exit.into()
        }
    }
}

struct Failed {
    message: String,
    exit: Exit,
}

impl Failed {
    fn reading(args: &Args, error: &io::Error) -> Self {
        let name = if args.file.as_os_str() == "-" { "standard input".into() } else { args.file.to_string_lossy() };
        Self { message: format!("reading {name}: {error}"), exit: Exit::Read }
    }

    fn writing(error: &io::Error) -> Self {
        Self { message: format!("writing standard output: {error}"), exit: Exit::Write }
    }
}

fn open(args: &Args) -> Result<Box<dyn io::Read>, Failed> {
    if args.file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    match File::open(&args.file) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => Err(Failed::reading(args, &error)),
    }
}

fn run_batch(args: &Args) -> Result<Exit, Failed> {
    let mut input = BufReader::with_capacity(256 * 1024, open(args)?);
    let mut out = Written { inner: BufWriter::with_capacity(256 * 1024, io::stdout().lock()), failed: false };
    let tally = Batch::default().run(&mut input, &mut out).and_then(|tally| out.flush().map(|()| tally));
    match tally {
        Ok(tally) if tally.invalid == 0 => Ok(Exit::Success),
        Ok(_) => Ok(Exit::Failed),
        Err(error) if out.failed => Err(Failed::writing(&error)),
        Err(error) => Err(Failed::reading(args, &error)),
    }
}

fn run_capture(args: &Args) -> Result<Exit, Failed> {
    let mut input = Vec::new();
    open(args)?.read_to_end(&mut input).map_err(|error| Failed::reading(args, &error))?;
    let recording = Recording {
        role: args.role.expect("clap requires it without --batch"),
        input: &input,
        eof: args.eof,
        split: args.split,
        methods: if args.method.is_empty() { vec![Method::GET] } else { args.method.clone() },
    };
    let mut out = BufWriter::new(io::stdout().lock());
    capture::show(&recording, args.leniency, args.format, &mut out).map_err(|error| Failed::writing(&error))
}

/// Remembers whether it was the writer that failed, so that the message names the right end.
struct Written<W> {
    inner: W,
    failed: bool,
}

impl<W: io::Write> io::Write for Written<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.inner.write(data).inspect_err(|_| self.failed = true)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().inspect_err(|_| self.failed = true)
    }
}
