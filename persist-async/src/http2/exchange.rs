//! A client's exchange: from the request that was begun to the head of its reply.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{PushPromise, PushPromises, PushedResponseFuture, ResponseFuture};
use h2::{RecvStream, SendStream};
use http::response;
use persist_core::{Blame, CloseReason, Deadline, Method, Phase, RequestHead, ResponseHead};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

use super::convert;
use super::failure::{Place, Track};
use super::inbound::{Inbound, Limits, Wire};
use super::tunnel::Tunnel;
use crate::clock;
use crate::error::{Error, Result};
use crate::exchange::Reply;
use crate::incoming::Incoming;

/// An exchange whose request was begun. Dropping it resets the stream.
pub(crate) struct Begun {
    response: ResponseFuture,
    pushes: Option<PushPromises>,
    interim: VecDeque<ResponseHead>,
    /// Taken when the reply goes on without this.
    rest: Option<Rest>,
    head_within: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// What the reply's body needs.
struct Rest {
    track: Track,
    upload: Option<AbortHandle>,
    limits: Limits,
}

impl Begun {
    pub(super) fn new(
        response: ResponseFuture,
        pushes: Option<PushPromises>,
        track: Track,
        upload: Option<AbortHandle>,
        (limits, head_within): (Limits, Option<Duration>),
    ) -> Self {
        let rest = Some(Rest { track, upload, limits });
        Self { response, pushes, interim: VecDeque::new(), rest, head_within, timer: None }
    }

    /// The reply, with its interim responses.
    pub(crate) async fn reply(mut self) -> Result<Reply> {
        let (parts, stream) = poll_fn(|cx| self.poll_response(cx)).await?.into_parts();
        let interim = std::mem::take(&mut self.interim);
        self.take().reply(parts, stream, interim.into())
    }

    /// The next interim response; `None` once the final one is here, or will never be.
    pub(crate) async fn interim(&mut self) -> Option<ResponseHead> {
        match self.interim.pop_front() {
            Some(head) => Some(head),
            None => poll_fn(|cx| self.poll_informational(cx)).await,
        }
    }

    /// A 2xx to CONNECT; anything else is a reply like others.
    pub(super) async fn tunnel(mut self, send: SendStream<Bytes>) -> Result<Result<Tunnel, Reply>> {
        let response = poll_fn(|cx| self.poll_response(cx)).await?;
        let (parts, stream) = response.into_parts();
        if parts.status.is_success() {
            return Ok(Ok(Tunnel::new(send, stream, self.take().track.into_place())));
        }
        self.take().reply(parts, stream, Vec::new()).map(Err)
    }

    /// The next pushed response; `None` once none can come any more.
    pub(crate) async fn pushed(&mut self) -> Result<Option<Pushed>> {
        let Some(pushes) = &mut self.pushes else { return Ok(None) };
        let rest = self.rest.as_ref().expect("there until the reply is taken");
        match poll_fn(|cx| pushes.poll_push_promise(cx)).await {
            None => Ok(None),
            Some(Err(error)) => Err(rest.track.fail(error)),
            Some(Ok(promise)) => Pushed::new(promise, rest).map(Some),
        }
    }

    /// The whole exchange must be complete by then.
    pub(super) fn end_by(&mut self, until: Instant) {
        if let Some(rest) = &mut self.rest {
            rest.limits.total = Some(rest.limits.total.map_or(until, |total| total.min(until)));
        }
    }

    fn take(&mut self) -> Rest {
        self.rest.take().expect("there until the reply is taken")
    }

    fn poll_informational(&mut self, cx: &mut Context<'_>) -> Poll<Option<ResponseHead>> {
        loop {
            match ready!(self.response.poll_informational(cx)) {
                Some(Ok(interim)) => {
                    // One that is too large to be kept is as good as none.
                    if let Ok(head) = convert::response_head(&interim.into_parts().0) {
                        return Poll::Ready(Some(head));
                    }
                }
                // What is wrong comes with the final one.
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    }

    fn poll_response(&mut self, cx: &mut Context<'_>) -> Poll<Result<http::Response<RecvStream>>> {
        const INTERIM_MAX: usize = 64;
        while let Poll::Ready(Some(head)) = self.poll_informational(cx) {
            if self.interim.len() < INTERIM_MAX {
                self.interim.push_back(head);
            }
        }
        let rest = self.rest.as_ref().expect("there until the reply is taken");
        if let Poll::Ready(outcome) = Pin::new(&mut self.response).poll(cx) {
            return Poll::Ready(outcome.map_err(|error| rest.track.fail(error)));
        }
        let sent = rest.track.upload.poll_done(cx).is_ready();
        let head = self.head_within.filter(|_| sent).map(clock::after);
        let (due, deadline) = match (head, rest.limits.total) {
            (None, None) => return Poll::Pending,
            (Some(head), Some(total)) if total < head => (total, Deadline::Total),
            (None, Some(total)) => (total, Deadline::Total),
            (Some(head), _) => (head, Deadline::Header),
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(rest.track.give_up(CloseReason::Timeout(deadline))))
    }
}

impl Rest {
    fn reply(mut self, parts: response::Parts, stream: RecvStream, interim: Vec<ResponseHead>) -> Result<Reply> {
        let head =
            convert::response_head(&parts).map_err(|error| Error::new(Phase::Receive, error).blaming(Blame::Peer))?;
        self.track.begun = true;
        let (connection, reused) = (self.track.line().id, self.track.is_reused());
        let ended = stream.is_end_stream();
        let len = convert::len(&parts.headers, ended);
        let wire = Wire::Response(parts);
        let body = if ended {
            self.track.complete();
            Incoming::of_http2(len, None, wire)
        } else {
            let inbound = Inbound::new(stream, self.track, self.upload.take(), self.limits);
            Incoming::of_http2(len, Some(inbound), wire)
        };
        Ok(Reply { head, interim, body, connection, reused })
    }
}

/// A reply that is not awaited any more: the content of the request is not sent any further.
impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(upload) = self.rest.take().and_then(|rest| rest.upload) {
            upload.abort();
        }
    }
}

/// A response that the server pushes (RFC 9113 §8.4): it answers a request that nobody made. Dropping it resets the stream.
///
/// ```
/// use persist_async::{ClientConn, Request, Result};
/// use tokio::net::TcpStream;
///
/// /// A page, and the lengths of what its server sends along. The connection was made with `Http2Config::accept_pushes`.
/// async fn page(conn: &ClientConn<TcpStream>) -> Result<Vec<(String, usize)>> {
///     let mut exchange = conn.write(Request::get("/").field("Host", "example.org").expect("a field"), ()).await?;
///     let mut found = Vec::new();
///     while let Some(pushed) = conn.pushed(&mut exchange).await? {
///         let target = pushed.request.target().to_owned();
///         found.push((target, pushed.reply().await?.body.bytes(1 << 20).await?.len()));
///     }
///     found.push(("/".into(), conn.read(exchange).await?.body.bytes(1 << 20).await?.len()));
///     Ok(found)
/// }
/// # let _ = page;
/// ```
pub struct Pushed {
    /// The request that it answers.
    pub request: RequestHead,
    response: PushedResponseFuture,
    rest: Rest,
}

impl Pushed {
    fn new(promise: PushPromise, of: &Rest) -> Result<Self> {
        let (request, response) = promise.into_parts();
        let request = convert::request_head(&request.into_parts().0)
            .map_err(|error| Error::new(Phase::Receive, error).blaming(Blame::Peer))?;
        let line = of.track.line();
        let track = Track::new(Place::beside(line), Method::GET, line.meter.written());
        track.upload.done();
        let rest = Rest { track, upload: None, limits: of.limits };
        Ok(Self { request, response, rest })
    }

    /// The response.
    ///
    /// # Errors
    /// As [`ClientConn::read`](crate::ClientConn::read).
    pub async fn reply(self) -> Result<Reply> {
        match self.response.await {
            Ok(response) => {
                let (parts, stream) = response.into_parts();
                self.rest.reply(parts, stream, Vec::new())
            }
            Err(error) => Err(self.rest.track.fail(error)),
        }
    }
}

impl std::fmt::Debug for Pushed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pushed").field("request", &self.request).finish_non_exhaustive()
    }
}
