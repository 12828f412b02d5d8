//! Waits for the first of two futures.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// Which came first.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Either<A, B> {
    Left(A),
    Right(B),
}

/// The first of the two to be ready, `left` if both are. The other is dropped.
pub(crate) async fn race<A: Future, B: Future>(left: A, right: B) -> Either<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    poll_fn(|cx| {
        if let Poll::Ready(result) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(result));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}
