//! Serving a tower service.

use std::future::poll_fn;
use std::io;

use http::header::UPGRADE;
use http::{Method, StatusCode, Version};
use persist_core::BoxError;
use tower_service::Service;

use super::Upgrade;
use super::upgrade::Claim;
use crate::error::Result;
use crate::hijack::Hijacked;
use crate::http::outgoing_response;
use crate::incoming::Incoming;
use crate::responder::Responder;
use crate::server::{Served, Server};
use crate::server_conn::Received;

impl Server {
    /// [`serve`](Self::serve) with a tower service instead of a handler: an axum `Router`, for one. Each request gets a clone of it, which is asked for readiness first.
    ///
    /// Requests have the extensions of [`Received::into_http`] and [`Upgrade`](crate::tower::Upgrade). A target that the `http` crate cannot hold is answered `400`. A service that
    /// fails answers `500` and ends its connection, as a handler does that gives no answer; frameworks make responses of their errors themselves.
    ///
    /// What a service can prepare once, prepare before: an axum `Router` is best given as `router.with_state(())`, as `axum::serve` does it, or its routes are made
    /// for each request.
    ///
    /// # Errors
    /// As [`serve`](Self::serve).
    #[cfg_attr(not(feature = "http2"), expect(unused_mut, reason = "there are no heads to be spared"))]
    pub async fn serve_service<T, B>(mut self, service: T) -> io::Result<Served>
    where
        T: Service<http::Request<Incoming>, Response = http::Response<B>, Future: Send> + Clone + Send + Sync + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        #[cfg(feature = "http2")]
        self.spare_heads();
        self.serve(move |received| handle(service.clone(), received)).await
    }
}

/// The future is moved about by whoever polls it: it holds each part of the exchange once, as long as that is needed.
fn handle<T, B>(mut service: T, received: Received) -> impl Future<Output = Result<()>>
where
    T: Service<http::Request<Incoming>, Response = http::Response<B>>,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let arrived = received.into_http();
    async move {
        if let Err(unrepresentable) = arrived {
            return unrepresentable.refuse().await;
        }
        let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await else { return Ok(()) };
        let Ok((request, responder)) = arrived else { return Ok(()) };
        let (calling, offer) = call(&mut service, request);
        let Ok(response) = calling.await else { return Ok(()) };
        match offer.accepted(response) {
            (response, None) => responder.send_http(response).await,
            (response, Some(claim)) => {
                claim.settle(switch(responder, response).await.map(Hijacked::into_stream));
                Ok(())
            }
        }
    }
}

/// Calls the service, and offers it the connection if the request asks for another protocol.
fn call<T>(service: &mut T, mut request: http::Request<Incoming>) -> (T::Future, Offer)
where
    T: Service<http::Request<Incoming>>,
{
    let connect = request.method() == Method::CONNECT;
    // A request that asks for nothing is offered nothing: nothing is allocated for it. HTTP/2 knows no `Upgrade`.
    let asks = || request.version() != Version::HTTP_2 && request.headers().contains_key(UPGRADE);
    let upgrade = (connect || asks()).then(Upgrade::new);
    if let Some(upgrade) = &upgrade {
        request.extensions_mut().insert(upgrade.clone());
    }
    (service.call(request), Offer { upgrade, connect })
}

/// What a service may take.
struct Offer {
    upgrade: Option<Upgrade>,
    connect: bool,
}

impl Offer {
    /// The response, and whoever takes the connection over with it. A claim that is not granted is told so as it is dropped.
    fn accepted<B>(self, response: http::Response<B>) -> (http::Response<B>, Option<Claim>) {
        let status = response.status();
        let granted = status == StatusCode::SWITCHING_PROTOCOLS || self.connect && status.is_success();
        let claim = self.upgrade.and_then(|upgrade| upgrade.claim()).filter(|_| granted);
        (response, claim)
    }
}

async fn switch<B>(
    responder: Responder,
    response: http::Response<B>,
) -> Result<Hijacked<Box<dyn crate::link::Transport>>>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (response, _) = outgoing_response(response)?;
    responder.upgrade(response).await
}
