//! The content of one GET, across as many connections as it takes.

use std::fmt;
use std::io::{self, Read};

use persist_core::{
    Attempts, Blame, CloseReason, Content, Destination, NotResumable, Phase, Request, ResponseHead, Resume, ResumeError,
};

use crate::client::{Client, random};
use crate::error::{Error, Result, into_io};
use crate::exchange::Reply;
use crate::incoming::Incoming;

/// The content of one GET, read as [`Read`]: where it breaks off, the rest is asked for over another connection, and goes on seamlessly.
///
/// Only what is provably the same content is continued: the rest is asked for with `Range` and `If-Range` on a strong validator (RFC 9110 §13.1.5), and
/// each answer must confirm it. Where that is impossible (no strong validator, changed content, another status), the read fails and says why;
/// what was read until then is a true beginning. Three requests in a row that bring not a byte are the last, with the waits of the client's
/// [`RetryPolicy`](persist_core::RetryPolicy) between them. Each request has the client's deadlines to itself.
///
/// ```no_run
/// use persist_sync::{Client, Request};
///
/// let client = Client::new();
/// let mut body = client.download(Request::get("http://127.0.0.1:8080/large"))?;
/// std::io::copy(&mut body, &mut std::io::sink())?;
/// println!("{} bytes, with {} resumptions", body.received(), body.resumptions());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// Each [`io::Error`] holds an [`Error`], whose cause is a [`ResumeError`] if the answer to a request for the rest was at fault, else what broke the content off.
/// Reading again gives the same error again.
pub struct ResumableBody {
    client: Client,
    request: Request,
    head: ResponseHead,
    resume: Result<Resume, NotResumable>,
    received: u64,
    resumptions: u32,
    state: State,
}

enum State {
    Reading(Incoming),
    Complete,
    Failed(Error),
}

impl ResumableBody {
    pub(crate) fn new(client: Client, request: Request, reply: Reply) -> Self {
        let Reply { head, body, .. } = reply;
        let resume = Resume::begin(&request.method, &request.fields, head.status(), |name| head.field(name));
        Self { client, request, head, resume, received: 0, resumptions: 0, state: State::Reading(body) }
    }

    /// The head of the first reply. Its status is the caller's to judge, as anywhere.
    pub fn head(&self) -> &ResponseHead {
        &self.head
    }

    /// Bytes that were read.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Bytes of the whole content, if known.
    pub fn total(&self) -> Option<u64> {
        self.resume.as_ref().ok()?.total()
    }

    /// Why it could not go on if it broke off; `None` if it could.
    pub fn not_resumable(&self) -> Option<NotResumable> {
        self.resume.as_ref().err().copied()
    }

    /// How often the rest was asked for.
    pub fn resumptions(&self) -> u32 {
        self.resumptions
    }

    fn read_some(&mut self, buf: &mut [u8]) -> Result<usize> {
        loop {
            let body = match &mut self.state {
                State::Reading(body) => body,
                State::Complete => return Ok(0),
                State::Failed(error) => return Err(error.clone()),
            };
            match body.fill(buf) {
                Ok(n) if n > 0 => {
                    self.received += n as u64;
                    if let Ok(resume) = &mut self.resume {
                        resume.handle_content(n as u64);
                    }
                    return Ok(n);
                }
                // A part may be shorter than what was asked for.
                Ok(_) if self.total().is_some_and(|total| total > self.received) => {
                    let error = at(&self.request, short());
                    self.go_on(error);
                }
                Ok(_) => self.state = State::Complete,
                Err(error) => self.go_on(error),
            }
        }
    }

    /// The content broke off by `error`: asks for the rest, if that makes sense.
    fn go_on(&mut self, error: Error) {
        let hopeless = error.blame() == Blame::Caller
            || error.failure().is_some_and(|failure| matches!(failure.reason, CloseReason::Protocol(_)));
        self.state = match &mut self.resume {
            Err(why) => State::Failed(error.hinting(format!("it cannot be resumed: {why}"))),
            Ok(_) if hopeless => State::Failed(error),
            Ok(resume) => match rest(&self.client, &self.request, resume, &mut self.resumptions, error) {
                Ok(Some(body)) => State::Reading(body),
                Ok(None) => State::Complete,
                Err(error) => State::Failed(error),
            },
        };
    }
}

/// Asks for the rest until some of it comes, or that is hopeless. `broken` is what broke the content off.
fn rest(
    client: &Client,
    request: &Request,
    resume: &mut Resume,
    resumptions: &mut u32,
    mut broken: Error,
) -> Result<Option<Incoming>> {
    for counted in 1.. {
        let fields = match resume.request_fields() {
            Ok(fields) => fields,
            Err(ResumeError::Complete) => break,
            // What broke it off says more than how often.
            Err(error @ ResumeError::Fruitless(_)) => return Err(broken.hinting(error.to_string())),
            Err(error) => return Err(refused(request, error)),
        };
        client.pause(Attempts { counted, ..Attempts::default() }, random());
        *resumptions += 1;
        let mut again = request.clone();
        for field in fields.iter() {
            again.fields.push_field(field);
        }
        match ask(client, &again, resume) {
            Ok(body) => return Ok(body),
            Err(Refusal::Broken(error)) => broken = error,
            Err(Refusal::Answer(error)) => return Err(refused(request, error)),
        }
    }
    Ok(None)
}

enum Refusal {
    /// No answer, or one that broke off: another try may do better.
    Broken(Error),
    Answer(ResumeError),
}

/// Asks once; the content that comes begins right behind what was received.
fn ask(client: &Client, request: &Request, resume: &mut Resume) -> Result<Option<Incoming>, Refusal> {
    let mut reply = client.ask(request).map_err(Refusal::Broken)?;
    let content = resume.judge(reply.head.status(), |name| reply.head.field(name)).map_err(Refusal::Answer)?;
    match content {
        Content::Complete => Ok(None),
        Content::StartsOver { skip } => {
            let skipped = io::copy(&mut (&mut reply.body).take(skip), &mut io::sink());
            match skipped {
                Ok(n) if n == skip => Ok(Some(reply.body)),
                Ok(_) => Err(Refusal::Broken(at(request, short()))),
                Err(error) => Err(Refusal::Broken(unpack(error))),
            }
        }
        Content::Continues => Ok(Some(reply.body)),
    }
}

fn refused(request: &Request, error: ResumeError) -> Error {
    at(request, Error::new(Phase::Body, error))
}

fn at(request: &Request, error: Error) -> Error {
    match Destination::split_url(&request.target) {
        Ok((destination, _)) => error.at(&destination),
        Err(_) => error,
    }
}

fn short() -> Error {
    Error::new(Phase::Body, io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// What [`into_io`] packed.
fn unpack(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::new(Phase::Body, error),
    }
}

impl Read for ResumableBody {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() { Ok(0) } else { self.read_some(buf).map_err(into_io) }
    }
}

impl fmt::Debug for ResumableBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResumableBody")
            .field("received", &self.received)
            .field("total", &self.total())
            .field("resumptions", &self.resumptions)
            .finish_non_exhaustive()
    }
}
