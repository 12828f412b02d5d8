//! A program that uses persist-async, the runtime that it is for, and nothing else: a server, and a client that pools connections to it.

use std::time::Duration;

use persist_async::{Client, Request, Response, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let server = Server::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", server.local_addr().expect("a TCP socket"));
        let handle = server.handle();
        let serving = tokio::spawn(server.serve(|received| async move {
            let said = format!("you asked for {}", received.head.target());
            received.responder.send(Response::ok(), said).await
        }));

        let client = Client::new();
        for number in 0..8 {
            let mut reply = client.send(Request::get(format!("{url}{number}")), ()).await?;
            assert_eq!(reply.body.bytes(100).await?, format!("you asked for /{number}"));
        }
        drop(client);
        handle.shutdown(Duration::from_secs(10));
        assert_eq!(serving.await??.connections, 1);
        println!("8 requests over one pooled connection");
        Ok(())
    })
}
