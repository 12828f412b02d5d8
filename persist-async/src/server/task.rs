//! The task of one connection of a server: drives it, and polls the handlers of its requests.
//!
//! Handlers answer under the connection's lock and go on; the task sends what they said, together, once no further request can be begun from
//! what was read. Whoever changes something from elsewhere wakes the task, unless it is in its poll already, for it looks at everything once more
//! before it waits.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use persist_core::{BodyLen, Event, Peer, Server};

use super::handlers::{Running, Service};
use crate::driver::Appetite;
use crate::incoming::Incoming;
use crate::link::{Drive, Link, Locked, State, Transport};
use crate::pump::Job;
use crate::scratch;
use crate::server_conn::{self, Received};
use crate::stream::quick;
use crate::trace::tell;

/// Turns before others get theirs, if the peer is always ready.
const TURNS_MAX: u32 = 64;

/// The task. There is one for each connection, idle ones included, and tokio rounds it up: it stays at three words.
pub(super) struct Task<H, F, S: Transport> {
    /// None while nothing is under way.
    running: Option<Box<Running<F>>>,
    service: Arc<Service<H, F>>,
    link: Arc<Link<Server, S>>,
}

/// Why [`State::turn`] stopped.
enum Turn {
    /// A request can be begun.
    Request,
    /// A body's reader is to be polled, without the lock.
    Body(Job),
    /// Nothing moves.
    Parked(Appetite),
    /// Nothing will ever move again.
    Over,
}

/// Where the next request is put, so that it is not handed from function to function.
struct Next<'a, S: Transport> {
    link: &'a Arc<Link<Server, S>>,
    request: &'a mut Option<Received>,
    /// Whether there is room for another handler.
    room: bool,
}

impl<H, F, S> Task<H, F, S>
where
    S: Transport,
{
    /// The connection has joined the service's crowd, and leaves it when the task is gone.
    pub(super) fn new(service: Arc<Service<H, F>>, link: Arc<Link<Server, S>>) -> Self {
        Self { running: None, service, link }
    }
}

impl<H, F, S> Future for Task<H, F, S>
where
    H: Fn(Received) -> F,
    F: Future + 'static,
    S: Transport,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { running, service, link } = self.get_mut();
        let (mut state, mut hungry) = link.lock_as_left();
        if !state.task.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            state.task = Some(cx.waker().clone());
        }
        state.attended = true;
        state.drive = Drive::NotNeeded;
        state.tick();
        scratch::lend(&mut state.conn);
        if state.is_due() || state.ending {
            hungry = false;
            state.end_what_is_idle(cx);
        }
        if let Some(running) = running {
            state.hungry = hungry;
            (state, hungry) = beside(link, state, || running.poll(cx));
        }
        let mut request = None;
        for _ in 0..TURNS_MAX {
            let room = running.as_ref().map_or(0, |running| running.len()) < service.handlers_max;
            match state.turn(cx, &mut Next { link, request: &mut request, room }, std::mem::take(&mut hungry)) {
                Turn::Request => {
                    let running = match &mut *running {
                        Some(running) => running,
                        none => none.insert(Running::take()),
                    };
                    (state, hungry) = beside(link, state, || running.begin(service, &mut request, cx));
                }
                Turn::Body(job) => {
                    let mut done = None;
                    (state, _) = beside(link, state, || done = Some(job.run(cx)));
                    if done.is_some_and(|job| !state.put_back(job)) {
                        // The reader wakes the task. Until then there may be other things to do, but not for this one.
                        state.reader_waits = true;
                    }
                }
                Turn::Parked(appetite) => {
                    state.leave_alone();
                    state.is_left(appetite);
                    drop(state);
                    Running::give_back(running);
                    return Poll::Pending;
                }
                Turn::Over => {
                    // Handlers may have things to do still; their responders and bodies tell them how it ended.
                    state.leave_alone();
                    let is_done = running.as_ref().is_none_or(|running| running.len() == 0);
                    return if is_done { Poll::Ready(()) } else { Poll::Pending };
                }
            }
        }
        state.leave_alone();
        drop(state);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Runs users' code without the lock. Whether that, or whoever had the lock meanwhile, [left it hungry](State::is_left).
fn beside<'l, S: Transport>(
    link: &'l Link<Server, S>,
    state: Locked<'l, persist_core::Server, S>,
    run: impl FnOnce(),
) -> (Locked<'l, persist_core::Server, S>, bool) {
    drop(state);
    run();
    link.lock_as_left()
}

impl<S: Transport> State<Server, S> {
    /// The task is about to wait, or to let others go first.
    fn leave_alone(&mut self) {
        self.attended = false;
        self.reader_waits = false;
        scratch::reclaim(&mut self.conn);
    }

    /// A deadline may have passed, or the server is about to end.
    #[cold]
    fn end_what_is_idle(&mut self, cx: &mut Context<'_>) {
        self.look_first(cx, &mut None);
        let now = self.now();
        if self.is_due() {
            self.conn.handle_timeout(now);
        }
        if std::mem::take(&mut self.ending) {
            self.conn.close(now);
        }
    }

    /// Moves what can be moved until a request can be begun, or nothing moves. `hungry` if the machine is known to want input, and to have nothing to say.
    #[inline(always)]
    fn turn(&mut self, cx: &mut Context<'_>, next: &mut Next<'_, S>, mut hungry: bool) -> Turn {
        if hungry && self.is_parked() {
            return Turn::Parked(Appetite::Hungry);
        }
        loop {
            // Requests that were read already come first: their answers leave together.
            if !self.inbox.is_empty() {
                self.feed_kept(next);
                if next.request.is_some() {
                    return Turn::Request;
                }
            }
            let pumped = !self.entries.is_empty() && self.pump();
            let wrote = self.flush(cx);
            let has_news = std::mem::take(&mut hungry);
            let appetite = if has_news || self.is_at_rest() { Appetite::Hungry } else { self.feed_kept(next) };
            if next.request.is_some() {
                return Turn::Request;
            }
            if self.closed.is_some() || self.stream.is_none() || self.switched {
                return Turn::Over;
            }
            let read = appetite == Appetite::Hungry && (has_news || !self.is_dry(cx)) && self.read_on(cx, next);
            if next.request.is_some() {
                return Turn::Request;
            }
            if pumped || read || wrote && (!self.inbox.is_empty() || self.conn.wants_write()) {
                continue;
            }
            if !self.entries.is_empty()
                && !self.reader_waits
                && let Some(job) = self.take_job()
            {
                return Turn::Body(job);
            }
            if !self.arm(cx) {
                return Turn::Parked(appetite);
            }
        }
    }

    /// Whether a handler that reads a body has just looked at everything, and waits for the stream and the timer with the task's waker.
    fn is_parked(&self) -> bool {
        self.drive == Drive::Parked && self.stream.is_some() && self.first_outgoing().is_none()
    }

    /// Whether nothing is under way, and nothing is to be told: the machine can but want input.
    fn is_at_rest(&self) -> bool {
        self.inbox.is_empty()
            && self.entries.is_empty()
            && self.arrived.is_none()
            && self.conn.is_idle()
            && !self.conn.has_event()
            && !self.conn.is_closing()
    }

    /// Whether the stream is known to have no news, as mostly behind a request: asking that costs less than a read.
    fn is_dry(&self, cx: &mut Context<'_>) -> bool {
        self.stream.as_ref().is_some_and(|stream| quick::is_dry(stream, cx))
    }

    /// Reads once. True if something came.
    fn read_on(&mut self, cx: &mut Context<'_>, next: &mut Next<'_, S>) -> bool {
        if self.receiving.is_none() {
            return self.fill_scratch(cx, |state, input| state.feed_requests(input, next)).is_some();
        }
        let read = self.fill(cx, &mut None).is_some();
        if read {
            self.take_arrived(next);
        }
        read
    }

    /// Feeds what was kept, or nothing, so that the machine's events come out in any case.
    #[inline(always)]
    fn feed_kept(&mut self, next: &mut Next<'_, S>) -> Appetite {
        let mut inbox = std::mem::take(&mut self.inbox);
        let mut input = inbox.rest();
        let appetite = self.feed_requests(&mut input, next);
        let left = input.len();
        if left == 0 || self.stream.is_none() {
            return appetite;
        }
        inbox.keep_last(left);
        self.inbox = inbox;
        Appetite::Sated
    }

    /// Feeds `input` until a request can be begun, or as far as that can be done.
    fn feed_requests(&mut self, input: &mut &[u8], next: &mut Next<'_, S>) -> Appetite {
        let now = self.now();
        while next.room && self.arrived.is_none() && self.entries.is_empty() && self.closed.is_none() {
            match self.conn.next(input, now) {
                // The shortest way, and the most common: complete with its head, and begun at once.
                Ok(persist_core::Next::Event(Event::Head { id, ticket, head, body: BodyLen::Empty }))
                    if self.conn.take_end() =>
                {
                    tell!("received");
                    *next.request = Some(server_conn::received(next.link, id, head, ticket, Incoming::nothing()));
                    return Appetite::Sated;
                }
                Ok(persist_core::Next::Event(event)) => self.on_event(event, input, &mut None),
                Ok(persist_core::Next::NeedRead) => return Appetite::Hungry,
                Ok(persist_core::Next::Paused) => return Appetite::Sated,
                Err(_) => break,
            }
        }
        let appetite = self.feed(input, &mut None);
        self.take_arrived(next);
        appetite
    }

    /// Takes the request that waits for its handler, if there is room for that.
    fn take_arrived(&mut self, next: &mut Next<'_, S>) {
        if next.room && self.arrived.is_some() && self.closed.is_none() && !self.switched {
            *next.request = server_conn::take(next.link, self);
        }
    }
}

/// A task that is dropped before its connection ended takes the connection with it: nobody would drive it.
impl<H, F, S: Transport> Drop for Task<H, F, S> {
    fn drop(&mut self) {
        self.link.desert();
        let link = &self.link;
        self.service.crowd.leave(Some(link.id), link.peer().map(Peer::of), Some(link.stats()));
    }
}

/// For models: a connection with its task.
#[cfg(all(test, persist_model))]
pub(crate) async fn attended<S, F>(link: Arc<Link<Server, S>>, handler: impl Fn(Received) -> F, handlers_max: usize)
where
    S: Transport,
    F: Future + 'static,
{
    Task::new(Service::alone(handler, handlers_max), link).await;
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::Relaxed;
    use std::task::{Wake, Waker};
    use std::time::Duration;

    use persist_core::{Config, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::date::Stamp;
    use crate::link::fresh;

    /// Allocators round, so a little more can cost much: measure an idle server (`tests/peers`, `server-idle`) before these grow.
    #[cfg(all(target_pointer_width = "64", not(feature = "tracing")))]
    #[test]
    fn an_idle_connection_has_a_small_link_and_the_smallest_of_tasks() {
        type Handler = fn(Received) -> std::future::Ready<()>;
        assert_eq!(size_of::<Task<Handler, std::future::Ready<()>, crate::stream::Stream>>(), 24);
        assert_eq!(size_of::<Link<Server, crate::stream::Stream>>(), 680, "and two counters of its Arc");
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_there_when_the_idle_deadline_passes_is_answered() {
        let mut config = Config::server();
        config.timeouts.idle = Some(Duration::from_secs(1));
        let (mut client, server) = tokio::io::duplex(1_000);
        let link = Link::with_task(fresh(Arc::new(config)), server, None, Vec::new(), Arc::new(Stamp::new(None)));
        let answer = |received: Received| received.responder.send(Response::ok(), "answer");
        let mut task = pin!(Task::new(Service::alone(answer, 1), link));
        let mut cx = Context::from_waker(Waker::noop());
        let mut answers = 0;
        for _ in 0..3 {
            assert!(task.as_mut().poll(&mut cx).is_pending());
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("there is room");
            tokio::time::advance(Duration::from_secs(2)).await;
            assert!(task.as_mut().poll(&mut cx).is_pending(), "it is not idle");
            let mut heard = vec![0; 1_000];
            let n = client.read(&mut heard).await.expect("an answer");
            answers += usize::from(heard[..n].ends_with(b"answer"));
        }
        assert_eq!(answers, 3);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(task.as_mut().poll(&mut cx).is_pending(), "it waits for the client's end");
        assert_eq!(client.read(&mut [0]).await.expect("an end"), 0, "and now it was idle");
    }

    #[tokio::test]
    async fn a_request_that_waits_for_room_is_begun_once_a_handler_ends_that_had_nothing_more_to_say() {
        let (mut client, server) = tokio::io::duplex(1_000);
        let link =
            Link::with_task(fresh(Arc::new(Config::server())), server, None, Vec::new(), Arc::new(Stamp::new(None)));
        static MAY_END: AtomicBool = AtomicBool::new(false);
        let answer = async |received: Received| {
            received.responder.send(Response::ok(), "answer").await.expect("taken");
            poll_fn(|_| if MAY_END.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }).await;
        };
        let mut task = pin!(Task::new(Service::alone(answer, 1), link));
        let mut cx = Context::from_waker(Waker::noop());
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("there is room");
        client.write_all(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsome").await.expect("there is room");
        for end in [false, true] {
            MAY_END.store(end, Relaxed);
            assert!(task.as_mut().poll(&mut cx).is_pending());
        }
        let mut heard = vec![0; 1_000];
        let n = client.read(&mut heard).await.expect("answers");
        assert_eq!(String::from_utf8_lossy(&heard[..n]).matches("answer").count(), 2);
    }

    #[tokio::test]
    async fn a_request_that_is_there_when_the_server_is_told_to_end_is_answered() {
        let (mut client, server) = tokio::io::duplex(1_000);
        let config = Arc::new(Config::server());
        let link = Link::with_task(fresh(config), server, None, Vec::new(), Arc::new(Stamp::new(None)));
        let answer = |received: Received| received.responder.send(Response::ok(), "answer");
        let mut task = pin!(Task::new(Service::alone(answer, 1), link.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(task.as_mut().poll(&mut cx).is_pending());
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("there is room");
        link.listener_gone();
        assert!(task.as_mut().poll(&mut cx).is_pending(), "it waits for the client's end");
        let mut heard = String::new();
        client.read_to_string(&mut heard).await.expect("an answer, and the end");
        assert!(heard.contains("Connection: close\r\n") && heard.ends_with("answer"), "{heard}");
    }

    #[tokio::test]
    async fn a_server_that_is_told_to_end_by_a_handler_while_that_is_polled_ends_the_connection() {
        let (mut client, server) = tokio::io::duplex(1_000);
        let config = Arc::new(Config::server());
        let link = Link::with_task(fresh(config), server, None, Vec::new(), Arc::new(Stamp::new(None)));
        let answer = |received: Received| {
            link.listener_gone();
            received.responder.send(Response::ok(), "answer")
        };
        let mut task = pin!(Task::new(Service::alone(answer, 1), link.clone()));
        let woken = Arc::new(Woken(AtomicBool::new(true)));
        let waker = Waker::from(woken.clone());
        let mut cx = Context::from_waker(&waker);
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("there is room");
        while woken.0.swap(false, Relaxed) {
            assert!(task.as_mut().poll(&mut cx).is_pending(), "it waits for the client's end");
        }
        let mut heard = String::new();
        assert!(pin!(client.read_to_string(&mut heard)).poll(&mut cx).is_ready(), "an answer, and the end");
        assert!(heard.ends_with("answer"), "{heard}");
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
}
