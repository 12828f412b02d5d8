//! Serving a tower service.

use std::future::poll_fn;
use std::io;

use http::{Method, StatusCode};
use persist_core::BoxError;
use tower_service::Service;

use super::Upgrade;
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
    pub async fn serve_service<T, B>(self, service: T) -> io::Result<Served>
    where
        T: Service<http::Request<Incoming>, Response = http::Response<B>, Future: Send> + Clone + Send + Sync + 'static,
        B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        self.serve(move |received| handle(service.clone(), received)).await
    }
}

async fn handle<T, B>(mut service: T, received: Received) -> Result<()>
where
    T: Service<http::Request<Incoming>, Response = http::Response<B>>,
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (mut request, responder) = match received.into_http() {
        Ok(parts) => parts,
        Err(unrepresentable) => return unrepresentable.refuse().await,
    };
    // A request that asks for no other protocol is offered none: nothing is allocated for it.
    let connect = request.method() == Method::CONNECT;
    let upgrade = (connect || request.headers().contains_key(http::header::UPGRADE)).then(Upgrade::new);
    if let Some(upgrade) = &upgrade {
        request.extensions_mut().insert(upgrade.clone());
    }
    let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await else { return Ok(()) };
    let Ok(response) = service.call(request).await else { return Ok(()) };
    let granted = |status: StatusCode| status == StatusCode::SWITCHING_PROTOCOLS || connect && status.is_success();
    match upgrade.and_then(|upgrade| upgrade.claim()) {
        Some(claim) if granted(response.status()) => {
            let outcome = switch(responder, response).await;
            claim.settle(outcome.map(Hijacked::into_stream));
            Ok(())
        }
        // A claim that is not granted is told so as it is dropped.
        _ => responder.send_http(response).await,
    }
}

async fn switch<B>(
    responder: Responder,
    response: http::Response<B>,
) -> Result<Hijacked<Box<dyn crate::link::Transport>>>
where
    B: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let (parts, body) = response.into_parts();
    let (response, _) = outgoing_response(&parts, body).await?;
    responder.upgrade(response).await
}
