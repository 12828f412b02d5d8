//! From the command line to the jobs: which URLs, with which requests, to which outputs.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use persist_core::{Fields, Method, PoolKey, Request, Route};

use super::args::Args;
use super::headers::Headers;
use super::job::{BadUrl, Content, Job, Place, basic};
use super::outputs::Namer;
use super::payload::CONTENT_TYPE;
use super::way::Way;
use crate::exit::Exit;

/// All that is to be done.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) jobs: Vec<Job>,
    /// URLs that cannot be fetched, with their places in the order asked.
    pub(super) bad: Vec<(usize, String, BadUrl)>,
    /// The routes of the jobs.
    pub(super) routes: BTreeMap<PoolKey, Route>,
}

/// Why nothing can be done at all.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) message: String,
    pub(super) exit: Exit,
}

impl Unusable {
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit: Exit::Usage }
    }

    fn read(name: &str, error: &io::Error) -> Self {
        let name = if name == "-" { "standard input" } else { name };
        Self { message: format!("reading {name}: {error}"), exit: Exit::Read }
    }
}

/// Makes the plan; reads the list of URLs and the content to be sent.
pub(super) fn plan(args: &Args, way: &Way) -> Result<Plan, Unusable> {
    check_standard_input(args)?;
    let urls = urls(args)?;
    let headers = Headers::parse(&args.headers).map_err(Unusable::usage)?;
    let payload = args.payload.load().map_err(|(name, error)| Unusable::read(&name, &error))?;
    if args.request.as_ref() == Some(&Method::CONNECT) {
        return Err(Unusable::usage("-X CONNECT would turn the connection into a tunnel"));
    }
    let maker = Maker { args, headers, payload, way };
    let mut namer = args.outputs.namer();
    let mut plan = Plan::default();
    for (part, url) in urls.into_iter().enumerate() {
        match maker.job(part, &url, &mut namer) {
            Ok((job, route)) => {
                plan.routes.entry(job.key.clone()).or_insert(route);
                plan.jobs.push(job);
            }
            Err(bad) => plan.bad.push((part, url, bad)),
        }
    }
    Ok(plan)
}

/// Makes jobs.
struct Maker<'a> {
    args: &'a Args,
    headers: Headers,
    payload: Option<Bytes>,
    way: &'a Way,
}

impl Maker<'_> {
    fn job(&self, part: usize, url: &str, namer: &mut Namer<'_>) -> Result<(Job, Route), BadUrl> {
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
        let bad = |message: String| BadUrl { message: format!("preparing the request: {message}"), exit: Exit::Usage };
        let route = self.way.route(&place.destination).map_err(|error| bad(error.to_string()))?;
        let request = Request { method, target: place.target(), fields: self.fields(&place)? };
        let request = route
            .request(&request, &place.destination, &request.target)
            .map_err(|error| bad(error.source().map_or_else(|| error.to_string(), ToString::to_string)))?;
        let Request { method, target, fields } = request;
        let key = route.pool_key.clone();
        Ok((Job { part, url: url.trim().to_owned(), target, fields, key, method, content, output }, route))
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
