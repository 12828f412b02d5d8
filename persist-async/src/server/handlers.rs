//! The handlers of a server's requests: called, polled, and dropped, in places whose memory is used again and again.

use std::any::Any;
use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::crowd::Crowd;
use crate::server_conn::Received;

/// Sets of places that a thread keeps for the next requests, all connections and servers together.
const SPARE_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

/// A place for a handler's future: its memory is used again and again.
type Place<F> = Pin<Box<Option<F>>>;

/// What all connections of a server have in common.
pub(super) struct Service<H, F> {
    handler: H,
    /// Handlers of one connection that run at the same time.
    pub(super) handlers_max: usize,
    pub(super) crowd: Arc<Crowd>,
    handled: PhantomData<fn() -> F>,
}

/// The handlers of one connection that wait for something.
pub(super) struct Running<F> {
    /// Most connections run one at a time, and pay for no list.
    first: Option<Place<F>>,
    others: Vec<Place<F>>,
    /// A free place.
    spare: Option<Place<F>>,
}

impl<F> Default for Running<F> {
    fn default() -> Self {
        Self { first: None, others: Vec::new(), spare: None }
    }
}

impl<H, F> Service<H, F>
where
    H: Fn(Received) -> F,
    F: Future,
{
    /// The connections are some of `crowd`.
    pub(super) fn new(handler: H, handlers_max: usize, crowd: Arc<Crowd>) -> Self {
        Self { handler, handlers_max: handlers_max.max(1), crowd, handled: PhantomData }
    }

    /// Of one connection, which has joined its crowd.
    #[cfg(test)]
    pub(super) fn alone(handler: H, handlers_max: usize) -> Arc<Self> {
        let crowd = Crowd::new();
        crowd.join(None).stays();
        Arc::new(Self::new(handler, handlers_max, crowd))
    }

    /// Calls the handler in `place` and polls it once. True if it is done. The request is taken as late as can be: each move of it costs.
    fn begin(&self, place: &mut Place<F>, request: &mut Option<Received>, cx: &mut Context<'_>) -> bool {
        run(place, |place| {
            let Some(received) = request.take() else { return Poll::Ready(()) };
            place.set(Some((self.handler)(received)));
            poll_in(place, cx)
        })
    }
}

/// Polls a handler, and drops it once it is done. A panic ends it, too: with its future goes a responder that it did not use, which answers `500` and closes.
/// True if it is done.
fn run<F>(place: &mut Place<F>, poll: impl FnOnce(&mut Place<F>) -> Poll<()>) -> bool {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let done = poll(place).is_ready();
        if done {
            place.set(None);
        }
        done
    }));
    match outcome {
        Ok(done) => done,
        Err(_) => {
            // What is left of it may panic again, as it is dropped.
            let _ = catch_unwind(AssertUnwindSafe(|| place.set(None)));
            true
        }
    }
}

fn poll_in<F: Future>(place: &mut Place<F>, cx: &mut Context<'_>) -> Poll<()> {
    match place.as_mut().as_pin_mut() {
        Some(handling) => handling.poll(cx).map(drop),
        None => Poll::Ready(()),
    }
}

impl<F: 'static> Running<F> {
    /// Places that some connection of this thread had before, or new ones.
    pub(super) fn take() -> Box<Self> {
        let kept = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            // Mostly those that were put there last are of the right type, and the only ones.
            match spare.pop()?.downcast() {
                Ok(places) => Some(places),
                Err(others) => {
                    spare.push(others);
                    Self::find(&mut spare)
                }
            }
        });
        kept.ok().flatten().unwrap_or_default()
    }

    #[cold]
    fn find(spare: &mut Vec<Box<dyn Any>>) -> Option<Box<Self>> {
        let at = spare.iter().rposition(|places| places.is::<Self>())?;
        spare.swap_remove(at).downcast().ok()
    }

    /// The task is about to wait: if it has nothing under way, others can use its places meanwhile.
    pub(super) fn give_back(running: &mut Option<Box<Self>>) {
        let Some(places) = running.take_if(|running| running.len() == 0) else { return };
        // A thread that is ending keeps none.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(places);
            }
        });
    }
}

#[cfg(feature = "http2")]
impl<F: 'static> Running<F> {
    fn over(running: &mut Option<Box<Self>>) -> Poll<()> {
        Self::give_back(running);
        if running.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl<F> Running<F> {
    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }
}

impl<F: Future> Running<F> {
    pub(super) fn begin<H: Fn(Received) -> F>(
        &mut self,
        service: &Service<H, F>,
        request: &mut Option<Received>,
        cx: &mut Context<'_>,
    ) {
        let place = self.spare.get_or_insert_with(|| Box::pin(None));
        if service.begin(place, request, cx) {
            return; // and its place is free again
        }
        let taken = self.spare.take();
        if self.first.is_none() {
            self.first = taken;
        } else {
            self.others.extend(taken);
        }
    }

    /// Polls all of them: any may have been woken, since all share the task's waker.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        let mut is_done = |place: &mut Place<F>| run(place, |place| poll_in(place, cx));
        if self.first.as_mut().is_some_and(&mut is_done) {
            self.spare = self.first.take();
        }
        self.others.retain_mut(|place| !is_done(place));
        if self.others.is_empty() {
            self.others = Vec::new();
        }
    }
}

/// Where each request has a task of its own.
#[cfg(feature = "http2")]
impl<H, F> crate::http2::Handlers for Service<H, F>
where
    H: Fn(Received) -> F + Send + Sync + 'static,
    F: Future + Send + 'static,
{
    type Running = Option<Box<Running<F>>>;

    fn begin(&self, request: &mut Option<Received>, running: &mut Self::Running, cx: &mut Context<'_>) -> Poll<()> {
        if request.is_some() {
            running.get_or_insert_with(Running::take).begin(self, request, cx);
        }
        Running::over(running)
    }

    fn poll(&self, running: &mut Self::Running, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(places) = running {
            places.poll(cx);
        }
        Running::over(running)
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Ready, pending};

    use super::*;

    type Pending = std::future::Pending<()>;

    fn kept() -> usize {
        SPARE.with_borrow(Vec::len)
    }

    #[test]
    fn places_are_used_again_by_handlers_of_their_own_type() {
        let first = Running::<Ready<()>>::take();
        let at = &raw const *first;
        Running::give_back(&mut Some(first));
        Running::give_back(&mut Some(Running::<Pending>::take()));
        assert_eq!(kept(), 2);
        let again = Running::<Ready<()>>::take();
        assert_eq!((&raw const *again, kept()), (at, 1));
        assert_eq!((Running::<Ready<()>>::take().len(), kept()), (0, 1), "of this type there is none left: a new one");
    }

    #[test]
    fn few_are_kept_and_none_that_is_in_use() {
        let many: Vec<_> = (0..SPARE_MAX + 3).map(|_| Running::<Ready<()>>::take()).collect();
        many.into_iter().for_each(|places| Running::give_back(&mut Some(places)));
        assert_eq!(kept(), SPARE_MAX);
        let mut running = Some(Running::<Pending>::take());
        if let Some(places) = &mut running {
            places.first = Some(Box::pin(Some(pending())));
        }
        Running::give_back(&mut running);
        assert!(running.is_some_and(|places| places.len() == 1), "it stays where it is");
    }

    #[test]
    fn a_thread_that_ends_takes_its_places_with_it() {
        /// Asks for places after they are gone.
        struct Late;

        impl Drop for Late {
            fn drop(&mut self) {
                Running::give_back(&mut Some(Running::<Pending>::take()));
            }
        }

        thread_local! {
            static LATE: Late = const { Late };
        }

        let ended = std::thread::spawn(|| {
            // Thread-locals are dropped in some order: whichever it is, nothing may panic.
            LATE.with(|_| ());
            Running::give_back(&mut Some(Running::<Pending>::take()));
        });
        ended.join().expect("no panic");
    }
}
