//! The content of one GET, across as many connections as it takes.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use persist_core::{
    Attempts, Blame, CloseReason, Content, Destination, NotResumable, Phase, Request, ResponseHead, Resume, ResumeError,
};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use crate::client::{Client, random};
use crate::error::{Error, Result, into_io};
use crate::exchange::Reply;
use crate::incoming::Incoming;

/// The content of one GET, read as [`AsyncRead`]: where it breaks off, the rest is asked for over another connection, and goes on seamlessly.
///
/// Only what is provably the same content is continued: the rest is asked for with `Range` and `If-Range` on a strong validator (RFC 9110 §13.1.5), and
/// each answer must confirm it. Where that is impossible (no strong validator, changed content, another status), the read fails and says why;
/// what was read until then is a true beginning. Three requests in a row that bring not a byte are the last, with the waits of the client's
/// [`RetryPolicy`](persist_core::RetryPolicy) between them.
///
/// ```no_run
/// use persist_async::{Client, Request};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new();
/// let mut body = client.download(Request::get("http://127.0.0.1:8080/large")).await?;
/// let mut file = tokio::io::sink();
/// tokio::io::copy(&mut body, &mut file).await?;
/// println!("{} bytes, with {} resumptions", body.received(), body.resumptions());
/// # Ok(())
/// # }
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
    Resuming(Pin<Box<dyn Future<Output = Resumed> + Send>>),
    Complete,
    Failed(Error),
}

/// What became of a request for the rest.
struct Resumed {
    resume: Resume,
    requests: u32,
    outcome: Result<Option<Incoming>>,
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

    /// The content broke off by `error`: asks for the rest, if that makes sense.
    fn go_on(&mut self, error: Error) {
        let hopeless = error.blame() == Blame::Caller
            || error.failure().is_some_and(|failure| matches!(failure.reason, CloseReason::Protocol(_)));
        self.state = match &self.resume {
            Err(why) => State::Failed(error.hinting(format!("it cannot be resumed: {why}"))),
            Ok(_) if hopeless => State::Failed(error),
            Ok(resume) => {
                let rest = rest(self.client.clone(), self.request.clone(), resume.clone(), error);
                State::Resuming(Box::pin(rest))
            }
        };
    }

    fn take(&mut self, resumed: Resumed) {
        self.resume = Ok(resumed.resume);
        self.resumptions += resumed.requests;
        self.state = match resumed.outcome {
            Ok(Some(body)) => State::Reading(body),
            Ok(None) => State::Complete,
            Err(error) => State::Failed(error),
        };
    }

    fn poll_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        loop {
            match &mut self.state {
                State::Complete => return Poll::Ready(Ok(())),
                State::Failed(error) => return Poll::Ready(Err(into_io(error.clone()))),
                State::Resuming(rest) => {
                    let resumed = ready!(rest.as_mut().poll(cx));
                    self.take(resumed);
                }
                State::Reading(body) => match ready!(Pin::new(body).poll_read(cx, buf)) {
                    Ok(()) if buf.filled().len() > before => {
                        let n = (buf.filled().len() - before) as u64;
                        self.received += n;
                        if let Ok(resume) = &mut self.resume {
                            resume.handle_content(n);
                        }
                        return Poll::Ready(Ok(()));
                    }
                    // A part may be shorter than what was asked for.
                    Ok(()) if self.total().is_some_and(|total| total > self.received) => self.go_on(short()),
                    Ok(()) => self.state = State::Complete,
                    Err(error) => self.go_on(unpack(error)),
                },
            }
        }
    }
}

/// Asks for the rest until some of it comes, or that is hopeless. `broken` is what broke the content off.
async fn rest(client: Client, request: Request, mut resume: Resume, mut broken: Error) -> Resumed {
    let mut requests = 0;
    let outcome = loop {
        let fields = match resume.request_fields() {
            Ok(fields) => fields,
            Err(ResumeError::Complete) => break Ok(None),
            // What broke it off says more than how often.
            Err(error @ ResumeError::Fruitless(_)) => break Err(broken.hinting(error.to_string())),
            Err(error) => break Err(refused(&request, error)),
        };
        client.pause(Attempts { counted: requests + 1, ..Attempts::default() }, random()).await;
        requests += 1;
        let mut again = request.clone();
        for field in fields.iter() {
            again.fields.push_field(field);
        }
        match ask(&client, &again, &mut resume).await {
            Ok(body) => break Ok(body),
            Err(Refusal::Broken(error)) => broken = error,
            Err(Refusal::Answer(error)) => break Err(refused(&request, error)),
        }
    };
    Resumed { resume, requests, outcome }
}

enum Refusal {
    /// No answer, or one that broke off: another try may do better.
    Broken(Error),
    Answer(ResumeError),
}

/// Asks once; the content that comes begins right behind what was received.
async fn ask(client: &Client, request: &Request, resume: &mut Resume) -> Result<Option<Incoming>, Refusal> {
    let mut reply = client.ask(request).await.map_err(Refusal::Broken)?;
    let content = resume.judge(reply.head.status(), |name| reply.head.field(name)).map_err(Refusal::Answer)?;
    match content {
        Content::Complete => Ok(None),
        Content::StartsOver { skip } => {
            let mut known = (&mut reply.body).take(skip);
            let skipped = tokio::io::copy(&mut known, &mut tokio::io::sink()).await;
            match skipped {
                Ok(n) if n == skip => Ok(Some(reply.body)),
                Ok(_) => Err(Refusal::Broken(short())),
                Err(error) => Err(Refusal::Broken(unpack(error))),
            }
        }
        Content::Continues => Ok(Some(reply.body)),
    }
}

fn refused(request: &Request, error: ResumeError) -> Error {
    let error = Error::new(Phase::Body, error);
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

impl AsyncRead for ResumableBody {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        self.poll_some(cx, buf)
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
