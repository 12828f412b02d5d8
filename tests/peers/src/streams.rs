//! A load of HTTP/2: so many connections, and on each so many streams side by side, each asking again when it is answered.

use std::future::poll_fn;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::plan::{HELLO, Plan};
use crate::{Error, actor};

/// What is asked for by HTTP/2.
pub const TARGET: &str = "/streams";

pub fn run(plan: &Plan) -> Result<(), Error> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut senders = Vec::new();
        for _ in 0..plan.connections {
            let stream = TcpStream::connect(plan.to).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = h2::client::handshake(stream).await?;
            tokio::spawn(async move {
                // What fails shows in the streams.
                let _ = connection.await;
            });
            senders.push(sender);
        }
        all(&senders, plan, 1).await?;
        let begun = actor::ready()?;
        all(&senders, plan, plan.bursts()).await?;
        actor::done(begun)
    })
}

/// Has each stream of each connection ask so often.
async fn all(senders: &[SendRequest<Bytes>], plan: &Plan, times: u64) -> Result<(), Error> {
    let mut streams = JoinSet::new();
    for sender in senders {
        for _ in 0..plan.depth {
            streams.spawn(ask(sender.clone(), plan.url(), times));
        }
    }
    while let Some(done) = streams.join_next().await {
        done??;
    }
    Ok(())
}

async fn ask(mut sender: SendRequest<Bytes>, url: String, times: u64) -> Result<(), Error> {
    let url: http::Uri = url.parse()?;
    for _ in 0..times {
        poll_fn(|cx| sender.poll_ready(cx)).await?;
        let mut request = Request::new(());
        *request.uri_mut() = url.clone();
        let (response, _) = sender.send_request(request, true)?;
        let mut body = response.await?.into_body();
        let mut length = 0;
        while let Some(data) = body.data().await {
            let data = data?;
            length += data.len();
            body.flow_control().release_capacity(data.len())?;
        }
        if length != HELLO.len() {
            return Err(format!("{length} bytes of content").into());
        }
    }
    Ok(())
}
