//! A pool of one's own, for when [`Client`](persist_async::Client)'s is not the one that is wanted: connections to one address, several requests on each, the
//! emptiest one first. The state events of each connection are all it needs: how much room there is, and when it is over.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use persist_async::{Body, ClientConn, Config, Error, Reply, Request, StateEvent};
use tokio::net::TcpStream;

type Conn = Arc<ClientConn<TcpStream>>;

/// A pool of connections to one address.
#[derive(Clone)]
pub struct Pool {
    address: SocketAddr,
    config: Arc<Config>,
    /// Each connection that is not over, with the room that it last said it had.
    conns: Arc<Mutex<HashMap<u64, (Conn, usize)>>>,
}

impl Pool {
    /// A pool whose connections carry `depth` requests at the same time.
    pub fn new(address: SocketAddr, depth: u32) -> Self {
        let mut config = Config::client();
        config.pipelining.depth = depth;
        Self { address, config: config.into(), conns: Arc::default() }
    }

    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.conns.lock().expect("no panic").len()
    }

    /// Sends a request over a connection that has room, or a fresh one.
    ///
    /// # Errors
    /// If it cannot connect, or the exchange fails.
    pub async fn send(&self, request: Request, body: impl Into<Body>) -> Result<Reply, Error> {
        let roomy = self.conns.lock().expect("no panic").values().max_by_key(|(_, room)| *room).cloned();
        let conn = match roomy {
            Some((conn, room)) if room > 0 && (conn.pending() > 0 || conn.is_reusable()) => conn,
            _ => self.connect().await.map_err(|cause| Error::new(persist_async::Phase::Connect, cause))?,
        };
        conn.send(request, body).await
    }

    async fn connect(&self) -> std::io::Result<Conn> {
        let stream = TcpStream::connect(self.address).await?;
        let conn = Arc::new(ClientConn::with_config(stream, self.config.clone()));
        let (id, room, conns) = (conn.id(), conn.available(), self.conns.clone());
        conns.lock().expect("no panic").insert(id, (conn.clone(), room));
        let mut events = conn.events();
        tokio::spawn(async move {
            // Who waits here drives the connection, and so notices while it is idle that the peer closes it.
            while let Some(event) = events.wait().await {
                let mut conns = conns.lock().expect("no panic");
                match event {
                    StateEvent::Available(room) => drop(conns.get_mut(&id).map(|known| known.1 = room)),
                    StateEvent::Closed(_) => drop(conns.remove(&id)),
                    _ => {}
                }
            }
        });
        Ok(conn)
    }
}

/// Sends a burst to a server of this process, and waits until all connections are gone again.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = persist_async::Server::bind("127.0.0.1:0").await?;
    let handle = server.handle();
    let pool = Pool::new(server.local_addr().ok_or("no TCP socket")?, 8);
    tokio::spawn(server.serve(|received| async move {
        let target = received.head.target().to_owned();
        received.responder.send(persist_async::Response::ok(), target).await
    }));
    for round in 1..=3 {
        let sending: Vec<_> = (0..100).map(|n| (n, tokio::spawn(ask(pool.clone(), format!("/{n}"))))).collect();
        for (n, sent) in sending {
            assert_eq!(sent.await??, format!("/{n}"));
        }
        println!("round {round}: 100 replies over {} connections", pool.connections());
    }
    handle.shutdown(std::time::Duration::from_secs(10));
    while pool.connections() > 0 {
        tokio::task::yield_now().await;
    }
    println!("the server has closed them");
    Ok(())
}

async fn ask(pool: Pool, target: String) -> Result<String, Error> {
    let request = Request::get(target).field("Host", "localhost").expect("a valid field");
    let mut reply = pool.send(request, ()).await?;
    Ok(String::from_utf8_lossy(&reply.body.bytes(100).await?).into_owned())
}
