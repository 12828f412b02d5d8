//! A pool of one's own, in place of [`Client`](persist_async::Client)'s: connections to one address, several requests on each, the emptiest first. The state
//! events of each connection are all that it needs: how much room there is, and when it is over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use persist_async::{Body, ClientConn, Config, Error, Phase, Reply, Request, Response, Server, StateEvent};
use tokio::net::TcpStream;

/// Where to, how many requests at a time on each connection, and the connections, with the room that each last said it had.
#[derive(Clone)]
pub struct Pool(std::net::SocketAddr, u32, Arc<Mutex<BTreeMap<u64, (Conn, usize)>>>);
type Conn = Arc<ClientConn<TcpStream>>;

impl Pool {
    pub(crate) fn new(address: std::net::SocketAddr, depth: u32) -> Self {
        Self(address, depth, Arc::default())
    }
    pub(crate) fn connections(&self) -> usize {
        self.2.lock().expect("no panic").len()
    }
    /// Sends a request over a connection that has room, or a fresh one.
    pub async fn send(&self, request: Request, body: impl Into<Body>) -> Result<Reply, Error> {
        let roomy = self.2.lock().expect("no panic").values().max_by_key(|(_, room)| *room).cloned();
        let conn = match roomy {
            Some((conn, room)) if room > 0 && (conn.pending() > 0 || conn.is_reusable()) => conn,
            _ => self.connect().await.map_err(|cause| Error::new(Phase::Connect, cause))?,
        };
        conn.send(request, body).await
    }
    async fn connect(&self) -> std::io::Result<Conn> {
        let mut config = Config::client();
        config.pipelining.depth = self.1;
        let conn = Arc::new(ClientConn::with_config(TcpStream::connect(self.0).await?, config));
        let (id, known, mut events) = (conn.id(), self.2.clone(), conn.events());
        known.lock().expect("no panic").insert(id, (conn.clone(), conn.available()));
        tokio::spawn(async move {
            // Who waits here drives the connection, and so notices while it is idle that the peer closes it.
            while let Some(event) = events.wait().await {
                let mut known = known.lock().expect("no panic");
                match event {
                    StateEvent::Available(room) => drop(known.get_mut(&id).map(|conn| conn.1 = room)),
                    StateEvent::Closed(_) => drop(known.remove(&id)),
                    _ => {}
                }
            }
        });
        Ok(conn)
    }
}

#[tokio::main]
pub(crate) async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::bind("127.0.0.1:0").await?;
    let pool = Pool::new(server.local_addr().ok_or("no TCP socket")?, 8);
    tokio::spawn(server.serve(|received| received.responder.send(Response::ok(), "hello")));
    let reply = pool.send(Request::get("/").field("Host", "localhost")?, ()).await?;
    println!("{} over {} connection", reply.head.status(), pool.connections());
    Ok(())
}
