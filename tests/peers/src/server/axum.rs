//! One axum application, on hyper as axum serves it, and on ours: both protocols at the same address.

use axum::Router;
use axum::http::header::{CONTENT_TYPE, SERVER};
use axum::response::IntoResponse;
use axum::serve::ListenerExt as _;
use persist_async::Server;
use persist_async::http2::Http2Config;
use tokio::net::TcpListener;

use super::{NAME, listening, runtime};
use crate::Error;
use crate::plan::HELLO;

fn app() -> Router {
    Router::new().fallback(|| async { ([(SERVER, NAME), (CONTENT_TYPE, "text/plain")], HELLO).into_response() })
}

pub fn on_hyper() -> Result<(), Error> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        listening(listener.local_addr().ok())?;
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        Ok(axum::serve(listener, app()).await?)
    })
}

pub fn on_ours() -> Result<(), Error> {
    runtime()?.block_on(async {
        let server = Server::bind("127.0.0.1:0").await?.with_http2(Http2Config::server());
        listening(server.local_addr())?;
        // As `axum::serve` does it itself: routes are prepared once, not for each request.
        server.serve_service(app().with_state(())).await?;
        Ok(())
    })
}
