//! From the command line to the jobs: which URLs, with which requests, to which outputs.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use persist_core::{Credentials, Destination, Fields, Method, Scheme, TargetForm};
use url::Url;

use super::args::Args;
use super::headers::Headers;
use super::job::{BadUrl, Content, Job, Place, basic, user_info};
use super::outputs::Namer;
use super::payload::CONTENT_TYPE;
use crate::exit::Exit;

/// All that is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) jobs: Vec<Job>,
    /// URLs that cannot be fetched, with their places in the order asked.
    pub(super) bad: Vec<(usize, String, BadUrl)>,
}

/// Why nothing can be done at all.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) message: String,
    pub(super) exit: Exit,
}

/// Where every connection goes first, if not to the URL's host.
#[derive(Clone, Debug)]
pub(super) struct Via {
    pub(super) destination: Destination,
    pub(super) form: TargetForm,
    pub(super) authorization: Option<String>,
}

impl Unusable {
    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage }
    }

    fn read(name: &str, error: &io::Error) -> Self {
        let name = if name == "-" { "standard input" } else { name };
        Self { message: format!("reading {name}: {error}"), exit: Exit::Read }
    }
}

/// Makes the plan; reads the list of URLs and the content to be sent.
pub(super) fn plan(args: &Args, via: Option<&Via>) -> Result<Plan, Unusable> {
    check_standard_input(args)?;
    let urls = urls(args)?;
    let headers = Headers::parse(&args.headers).map_err(Unusable::usage)?;
    let payload = args.payload.load().map_err(|(name, error)| Unusable::read(&name, &error))?;
    if args.request.as_ref() == Some(&Method::CONNECT) {
        return Err(Unusable::usage("-X CONNECT would turn the connection into a tunnel"));
    }
    let maker = Maker { args, headers, payload, via };
    let mut namer = args.outputs.namer();
    let mut plan = Plan::default();
    for (part, url) in urls.into_iter().enumerate() {
        match maker.job(part, &url, &mut namer) {
            Ok(job) => plan.jobs.push(job),
            Err(bad) => plan.bad.push((part, url, bad)),
        }
    }
    Ok(plan)
}

/// `-x` or `--unix-socket`.
pub(super) fn via(args: &Args) -> Result<Option<Via>, Unusable> {
    if let Some(path) = &args.unix_socket {
        let path = path.to_str().ok_or_else(|| Unusable::usage("--unix-socket: the path is not UTF-8"))?;
        let destination = Destination::unix(Scheme::Http, path);
        return Ok(Some(Via { destination, form: TargetForm::Origin, authorization: None }));
    }
    let Some(proxy) = &args.proxy else { return Ok(None) };
    let bad = |message: String| Unusable::usage(format!("-x {proxy}: {message}"));
    let text = if proxy.contains("://") { proxy.clone() } else { format!("http://{proxy}") };
    let url = Url::parse(&text).map_err(|error| bad(error.to_string()))?;
    if url.scheme() != "http" {
        return Err(bad(format!("proxies of scheme {} are not supported, only http ones are", url.scheme())));
    }
    let host = url.host_str().unwrap_or_default().parse().map_err(|error| bad(format!("{error}")))?;
    // `Url` forgets a port that is the scheme's own, which 80 is; curl's default for proxies is 1080.
    let port = url.port().unwrap_or(if names_port_80(&text) { 80 } else { 1080 });
    let credentials = user_info(&url).map(|(user, password)| Credentials { user, password });
    Ok(Some(Via {
        destination: Destination::tcp(Scheme::Http, host, port),
        form: TargetForm::Absolute,
        authorization: credentials.map(|credentials| basic(&credentials.user, &credentials.password)),
    }))
}

fn names_port_80(url: &str) -> bool {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest);
    authority.split(['/', '?', '#']).next().is_some_and(|authority| authority.ends_with(":80"))
}

/// Makes jobs.
struct Maker<'a> {
    args: &'a Args,
    headers: Headers,
    payload: Option<Bytes>,
    via: Option<&'a Via>,
}

impl Maker<'_> {
    fn job(&self, part: usize, url: &str, namer: &mut Namer<'_>) -> Result<Job, BadUrl> {
        let upload = self.args.upload_file.get(part);
        let place = Place::parse(url).map(|mut place| {
            if let Some(file) = upload.filter(|file| file.as_os_str() != "-") {
                place.append_name(file);
            }
            place
        });
        // A bad URL uses up its -o as well: the others keep theirs.
        let output = namer.target(place.as_ref().map_or("", |place| &place.path));
        let place = place?;
        let content = self.content(upload);
        let method = self.method(upload);
        let destination = self.via.map_or_else(|| place.destination.clone(), |via| via.destination.clone());
        let form = self.via.map_or(TargetForm::Origin, |via| via.form);
        Ok(Job {
            part,
            url: url.trim().to_owned(),
            target: form.target(&method, &place.destination, &place.target()),
            fields: self.fields(&place)?,
            destination,
            method,
            content,
            output,
        })
    }

    fn method(&self, upload: Option<&PathBuf>) -> Method {
        match &self.args.request {
            Some(method) => method.clone(),
            None if self.args.head => Method::HEAD,
            None if upload.is_some() => Method::PUT,
            None if self.payload.is_some() => Method::POST,
            None => Method::GET,
        }
    }

    fn content(&self, upload: Option<&PathBuf>) -> Content {
        let chunked = self.headers.chunked;
        match (upload, &self.payload) {
            (Some(file), _) if file.as_os_str() == "-" => Content::Stdin,
            (Some(file), _) => Content::File { path: file.clone(), chunked },
            (None, Some(bytes)) => Content::Bytes { bytes: bytes.clone(), chunked },
            (None, None) => Content::None,
        }
    }

    fn fields(&self, place: &Place) -> Result<Fields, BadUrl> {
        let agent = self.args.user_agent.as_deref().unwrap_or(concat!("persist/", env!("CARGO_PKG_VERSION")));
        let user = self.args.user.as_deref().map(|user| {
            let (user, password) = user.split_once(':').unwrap_or((user, ""));
            basic(user, password)
        });
        let mut defaults = vec![("Host", place.host.as_str())];
        if let Some(value) = self.via.and_then(|via| via.authorization.as_deref()) {
            defaults.push(("Proxy-Authorization", value));
        }
        if let Some(value) = user.as_deref().or(place.authorization.as_deref()) {
            defaults.push(("Authorization", value));
        }
        if !agent.is_empty() {
            defaults.push(("User-Agent", agent));
        }
        defaults.push(("Accept", "*/*"));
        if self.payload.is_some() && self.args.upload_file.is_empty() {
            defaults.push(("Content-Type", CONTENT_TYPE));
        }
        let unusable = |error| BadUrl { message: format!("preparing the request: {error}"), exit: Exit::Usage };
        self.headers.fields(&defaults).map_err(unusable)
    }
}

/// The arguments, then the lines of `--input`. Blank lines and lines that begin with `#` are left out.
fn urls(args: &Args) -> Result<Vec<String>, Unusable> {
    let mut urls = args.urls.clone();
    let Some(input) = &args.input else { return Ok(urls) };
    let name = input.to_string_lossy();
    let reader: Box<dyn BufRead> = match &*name {
        "-" => Box::new(io::stdin().lock()),
        _ => Box::new(BufReader::new(File::open(input).map_err(|error| Unusable::read(&name, &error))?)),
    };
    for line in reader.lines() {
        let line = line.map_err(|error| Unusable::read(&name, &error))?;
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            urls.push(line.to_owned());
        }
    }
    Ok(urls)
}

/// Standard input can be read once.
fn check_standard_input(args: &Args) -> Result<(), Unusable> {
    let dash = |path: &&PathBuf| path.as_path() == Path::new("-");
    let uses = args.upload_file.iter().filter(dash).count() + args.input.iter().filter(dash).count();
    match uses {
        0 | 1 => Ok(()),
        _ => Err(Unusable::usage("standard input (-) can only be read once")),
    }
}
