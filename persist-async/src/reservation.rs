//! Places in a connection's pipeline, reserved before there is a request for them.

use std::fmt;
use std::sync::Arc;

use persist_core::{Client, Slot};

use crate::link::{Link, Transport};

/// A reserved place in the pipeline, given back when dropped.
///
/// ```
/// use persist_async::{ClientConn, Request, Response, ServerConn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (near, far) = tokio::io::duplex(1 << 16);
/// let (client, server) = (ClientConn::new(near), ServerConn::new(far));
///
/// let place = client.reserve()?;
/// assert_eq!(client.available(), 0); // the depth is 1
/// let exchange = client.write_reserved(place, Request::get("/").field("Host", "localhost")?, ()).await?;
/// server.read().await?.expect("a request").responder.send(Response::ok(), "hello").await?;
/// tokio::spawn(async move { server.read().await }); // whoever waits for the next request sends the answer to this one
/// assert_eq!(client.read(exchange).await?.body.bytes(100).await?, "hello");
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it gives the place back"]
pub struct Reservation<S: Transport> {
    pub(crate) link: Arc<Link<Client, S>>,
    pub(crate) slot: Option<Slot>,
    #[cfg(feature = "http2")]
    pub(crate) place: Option<crate::http2::Place>,
}

impl<S: Transport> Drop for Reservation<S> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.link.mutate(|state| state.conn.release(slot));
        }
    }
}

impl<S: Transport> fmt::Debug for Reservation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("connection", &self.link.id).finish_non_exhaustive()
    }
}
