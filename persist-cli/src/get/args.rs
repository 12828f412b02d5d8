//! The options of `persist get`. Where curl has an option, ours has its name and meaning.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use persist_core::Method;

use super::elsewhere::PlaceOptions;
use super::outputs::Outputs;
use super::payload::Payload;
use super::proxy::ProxyOptions;
use super::secure::TlsOptions;
use crate::report::Format;

const AFTER_HELP: &str = "\
Exit codes, with curl's numbers; of several failures, that of the first failed URL in the order asked:
  0   every exchange completed (an HTTP error status is a completed exchange, unless --fail)
  1   the scheme is not supported, or a body of the demo was wrong
  2   the command line does not make sense
  3   a URL is malformed
  5   the proxy's name did not resolve
  6   the host's name did not resolve
  7   the connection was not established
  8   the peer sent something that is not HTTP/1.x as it should be
  18  the reply was cut off
  22  --fail, and a status of 400 or above
  23  the output could not be written
  26  the input could not be read
  28  --max-time or --connect-timeout passed
  35  the TLS handshake failed
  52  the peer closed without a reply
  55  sending failed
  56  receiving failed, or an HTTP proxy made no tunnel
  58  --cert or --key is of no use
  60  the server's certificate was not accepted
  77  the root certificates cannot be read
  97  a SOCKS proxy made no tunnel

Files: -O, --remote-name-all and --output-dir name a file by the last segment of the URL's path, just as it is written
there; a URL whose path ends in / gives `index.html`. When two URLs of one run give the same name, the later one gets
`.1`, `.2` and so on. No file is ever written outside --output-dir. Files that existed before are replaced.";

/// Options of `persist get`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// What to fetch, http:// or https://; http:// may be left out
    #[arg(value_name = "URL", required_unless_present_any = ["input", "demo"])]
    pub(super) urls: Vec<String>,
    /// Fetch these too, one URL a line, # begins a comment line; - is standard input
    #[arg(long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// Requests under way at once on one connection
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) pipeline: NonZeroUsize,
    /// Connections to one destination at most
    #[arg(long, value_name = "N", default_value = "1")]
    pub(super) connections: NonZeroUsize,
    /// The request method [default: GET; POST with -d, PUT with -T, HEAD with -I]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(super) request: Option<Method>,
    /// Add a field (`Name: value`), leave a default one out (`Name:`), send one without a value (`Name;`); @FILE reads them, one a line
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    pub(super) headers: Vec<String>,
    /// The User-Agent field
    #[arg(short = 'A', long, value_name = "NAME")]
    pub(super) user_agent: Option<String>,
    /// Basic authentication
    #[arg(short = 'u', long, value_name = "USER:PASSWORD")]
    pub(super) user: Option<String>,
    #[command(flatten)]
    pub(super) payload: Payload,
    /// Upload this file with PUT (its name is appended to a URL that ends in /); again for each further URL; - is standard input
    #[arg(short = 'T', long, value_name = "FILE", conflicts_with = "head")]
    pub(super) upload_file: Vec<PathBuf>,
    /// Fetch heads only, with HEAD, and show them
    #[arg(short = 'I', long)]
    pub(super) head: bool,
    /// Show each response's head in front of its content
    #[arg(short = 'i', long)]
    pub(super) include: bool,
    #[command(flatten)]
    pub(super) outputs: Outputs,
    #[command(flatten)]
    pub(super) proxy: ProxyOptions,
    #[command(flatten)]
    pub(super) tls: TlsOptions,
    #[command(flatten)]
    pub(super) place: PlaceOptions,
    /// Connect to this Unix socket, whatever the URL's host, and through no proxy
    #[arg(long, value_name = "PATH", conflicts_with_all = ["proxy", "socks4a", "socks5", "socks5_hostname", "preproxy", "connect_to"])]
    pub(super) unix_socket: Option<PathBuf>,
    /// Treat a status of 400 or above as a failure, and drop its content
    #[arg(short = 'f', long)]
    pub(super) fail: bool,
    /// Give up on a URL after so many seconds, fractions allowed
    #[arg(short = 'm', long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) max_time: Option<Duration>,
    /// Give up on connecting after so many seconds, fractions allowed
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub(super) connect_timeout: Option<Duration>,
    /// No errors and no summary on standard error (a JSON report that was asked for is still written)
    #[arg(short = 's', long)]
    pub(super) silent: bool,
    /// With -s: show errors all the same
    #[arg(short = 'S', long)]
    pub(super) show_error: bool,
    /// Show connections and heads on standard error; credentials are hidden
    #[arg(short = 'v', long)]
    pub(super) verbose: bool,
    /// The form of the report on standard error
    #[arg(long, value_enum, default_value_t)]
    pub(super) format: Format,
    /// Fetch 1,000 resources from a server of our own on this machine over two pipelined connections, and check each
    #[arg(long, conflicts_with_all = ["urls", "input", "proxy", "unix_socket", "request", "upload_file", "head", "include", "fail", "pipeline", "connections"])]
    pub(super) demo: bool,
}

/// Seconds with a fraction, as curl takes them.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    // 0 means no limit in curl: so does a time that nobody lives to see.
    Ok(if duration.is_zero() { Duration::from_secs(u64::from(u32::MAX)) } else { duration })
}
