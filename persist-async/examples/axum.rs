//! An axum application on this crate's server, unchanged: extractors, state, streaming bodies, Server-Sent Events, multipart, layers of tower-http, and WebSocket.
//!
//! `cargo run --features http2,tower --example axum` prints where it listens. Then, for one:
//!
//! ```text
//! curl URL/hello?name=you               query extractor
//! curl URL/count                        shared state
//! curl URL/json -H 'content-type: application/json' -d '{"numbers":[1,2,3]}'
//! curl URL/echo --data-binary @FILE     a body that streams both ways
//! curl URL/upload -F file=@FILE         multipart
//! curl URL/long --compressed            compression, negotiated
//! curl URL/slow                         the timeout layer: 408
//! curl -N URL/events                    Server-Sent Events
//! ```
//!
//! and a WebSocket that echoes at `/ws`; `/` is a page that tries the last two in a browser.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Json, Multipart, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use futures_util::{SinkExt, Stream, StreamExt};
use persist_async::Server;
use persist_async::http2::Http2Config;
use persist_async::tower::Upgrade;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;
use tower_http::compression::CompressionLayer;
use tower_http::timeout::TimeoutLayer;

const PAGE: &str = include_str!("axum.html");

/// The application: nothing in it knows which server it runs on, but for the WebSocket.
pub fn app() -> Router {
    let long = "persistent connections ".repeat(1000);
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/hello", get(hello))
        .route("/count", get(count))
        .route("/json", post(sum))
        .route("/echo", post(|body: Body| async { body }))
        .route("/upload", post(upload))
        .route("/long", get(|| async { long }))
        .route("/slow", get(std::future::pending::<()>))
        .route("/events", get(|| async { Sse::new(Numbers::default()) }))
        .layer(CompressionLayer::new())
        .layer(TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_millis(500)))
        .route("/ws", get(websocket))
        .with_state(Arc::default())
}

#[derive(serde::Deserialize)]
struct Who {
    name: Option<String>,
}

async fn hello(Query(who): Query<Who>) -> String {
    format!("hello {}\n", who.name.as_deref().unwrap_or("world"))
}

async fn count(State(counter): State<Arc<AtomicU64>>) -> String {
    format!("{}\n", counter.fetch_add(1, Ordering::Relaxed) + 1)
}

async fn sum(Json(value): Json<Value>) -> Json<Value> {
    let numbers = value["numbers"].as_array().into_iter().flatten();
    Json(json!({ "sum": numbers.filter_map(Value::as_i64).sum::<i64>() }))
}

async fn upload(mut parts: Multipart) -> Result<String, StatusCode> {
    let mut told = String::new();
    while let Some(part) = parts.next_field().await.map_err(|_| StatusCode::BAD_REQUEST)? {
        let name = part.file_name().or(part.name()).unwrap_or_default().to_owned();
        let bytes = part.bytes().await.map_err(|_| StatusCode::BAD_REQUEST)?;
        told += &format!("{name}: {} bytes\n", bytes.len());
    }
    Ok(told)
}

/// Three events, one after another, then the end.
#[derive(Default)]
struct Numbers(u32, Option<Pin<Box<tokio::time::Sleep>>>);

impl Stream for Numbers {
    type Item = Result<Event, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.0 == 3 {
            return Poll::Ready(None);
        }
        let wait = self.1.get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(10))));
        std::task::ready!(wait.as_mut().poll(cx));
        self.1 = None;
        self.0 += 1;
        Poll::Ready(Some(Ok(Event::default().data(self.0.to_string()))))
    }
}

/// What axum's `WebSocketUpgrade` does on hyper, on this server: the handshake of RFC 6455 §4.2.2, then another crate's protocol over the stream.
async fn websocket(Extension(upgrade): Extension<Upgrade>, fields: HeaderMap) -> Response {
    let Some(key) = fields.get(header::SEC_WEBSOCKET_KEY) else { return StatusCode::BAD_REQUEST.into_response() };
    let stream = upgrade.taken();
    tokio::spawn(async move {
        let Ok(stream) = stream.await else { return };
        let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        while let Some(Ok(message)) = socket.next().await {
            if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    let accept = derive_accept_key(key.as_bytes());
    let fields = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)];
    (StatusCode::SWITCHING_PROTOCOLS, fields).into_response()
}

/// Serves it: over HTTP/1.1, and over HTTP/2 with whoever begins with that (`curl --http2-prior-knowledge`).
#[tokio::main]
pub async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".into());
    let server = Server::bind(address).await?.with_http2(Http2Config::server());
    println!("http://{}", server.local_addr().expect("a TCP socket"));
    server.serve_service(app().with_state(())).await.map(drop)
}
