//! Ours: a connection by itself, and the pooled client, in both worlds. Bursts are pipelined where a connection is used by itself.

use std::io::Read;
use std::sync::Arc;
use std::task::Poll;

use super::{BlockingWorker, Worker, require};
use crate::Error;
use crate::plan::{Plan, pieces};

/// What blocking readers read into, as others do.
const SCRATCH: usize = 64 * 1024;

/// What a connection may have in flight.
fn config(plan: &Plan) -> persist_sync::Config {
    let mut config = persist_sync::Config::client();
    config.pipelining.depth = plan.depth as u32;
    config
}

/// The pool's limits, wide enough for every worker.
fn client_config(plan: &Plan) -> persist_sync::persist_core::ClientConfig {
    let mut config = persist_sync::persist_core::ClientConfig::default();
    config.conn = self::config(plan);
    config.pool.per_destination_max = config.pool.per_destination_max.max(plan.connections as u32);
    config
}

/// What is asked again and again: made once, and lent to each exchange.
fn request(plan: &Plan, target: &str) -> persist_sync::Request {
    let method = if plan.upload == 0 { persist_sync::Method::GET } else { persist_sync::Method::PUT };
    persist_sync::Request::new(method, target)
}

pub struct SyncConn {
    conn: persist_sync::ClientConn,
    plan: Arc<Plan>,
    request: persist_sync::Request,
    scratch: Vec<u8>,
}

impl SyncConn {
    pub fn connect(plan: &Arc<Plan>) -> Result<Self, Error> {
        let stream = std::net::TcpStream::connect(plan.to)?;
        stream.set_nodelay(true)?;
        let conn = persist_sync::ClientConn::with_config(stream, config(plan))?;
        let request = request(plan, &plan.target).field("Host", plan.to.to_string())?;
        Ok(Self { conn, request, plan: plan.clone(), scratch: vec![0; SCRATCH] })
    }
}

impl BlockingWorker for SyncConn {
    fn run(&mut self, bursts: u64) -> Result<(), Error> {
        for _ in 0..bursts {
            if self.plan.depth == 1 {
                let mut reply = self.conn.send(&self.request, sync_body(&self.plan))?;
                read_sync(&mut reply, &mut self.scratch, &self.plan)?;
                continue;
            }
            let burst = (0..self.plan.depth).map(|_| (&self.request, sync_body(&self.plan)));
            for exchange in self.conn.write_all(burst)? {
                read_sync(&mut self.conn.read(exchange)?, &mut self.scratch, &self.plan)?;
            }
        }
        Ok(())
    }
}

pub fn sync_client(plan: &Plan) -> Result<persist_sync::Client, Error> {
    Ok(persist_sync::Client::with_config(client_config(plan))?)
}

pub struct SyncPooled {
    client: persist_sync::Client,
    plan: Arc<Plan>,
    request: persist_sync::Request,
    scratch: Vec<u8>,
}

impl SyncPooled {
    pub fn new(client: persist_sync::Client, plan: &Arc<Plan>) -> Self {
        Self { client, request: request(plan, &plan.url()), plan: plan.clone(), scratch: vec![0; SCRATCH] }
    }
}

impl BlockingWorker for SyncPooled {
    fn run(&mut self, bursts: u64) -> Result<(), Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            read_sync(&mut self.client.send(&self.request, sync_body(&self.plan))?, &mut self.scratch, &self.plan)?;
        }
        Ok(())
    }
}

fn sync_body(plan: &Plan) -> persist_sync::Body {
    match plan.upload {
        0 => persist_sync::Body::empty(),
        length => persist_sync::Body::pieces(pieces(length).map(Ok), Some(length)),
    }
}

fn read_sync(reply: &mut persist_sync::Reply, scratch: &mut [u8], plan: &Plan) -> Result<(), Error> {
    let mut length = 0;
    loop {
        match reply.body.read(scratch)? {
            0 => return require(reply.head.status().as_u16(), length, plan),
            n => length += n as u64,
        }
    }
}

pub struct AsyncConn {
    conn: persist_async::ClientConn<tokio::net::TcpStream>,
    plan: Arc<Plan>,
    request: persist_async::Request,
}

impl AsyncConn {
    pub async fn connect(plan: Arc<Plan>) -> Result<Self, Error> {
        let stream = tokio::net::TcpStream::connect(plan.to).await?;
        stream.set_nodelay(true)?;
        let conn = persist_async::ClientConn::with_config(stream, config(&plan));
        let request = request(&plan, &plan.target).field("Host", plan.to.to_string())?;
        Ok(Self { conn, request, plan })
    }
}

impl Worker for AsyncConn {
    async fn run(self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts {
            if self.plan.depth == 1 {
                read_async(self.conn.send(&self.request, async_body(&self.plan)).await?, &self.plan).await?;
                continue;
            }
            let burst = (0..self.plan.depth).map(|_| (&self.request, async_body(&self.plan)));
            for exchange in self.conn.write_all(burst).await? {
                read_async(self.conn.read(exchange).await?, &self.plan).await?;
            }
        }
        Ok(self)
    }
}

pub fn async_client(plan: &Plan) -> Result<persist_async::Client, Error> {
    Ok(persist_async::Client::with_config(client_config(plan))?)
}

pub struct AsyncPooled {
    client: persist_async::Client,
    plan: Arc<Plan>,
    request: persist_async::Request,
}

impl AsyncPooled {
    pub fn new(client: persist_async::Client, plan: Arc<Plan>) -> Self {
        Self { client, request: request(&plan, &plan.url()), plan }
    }
}

impl Worker for AsyncPooled {
    async fn run(self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            read_async(self.client.send(&self.request, async_body(&self.plan)).await?, &self.plan).await?;
        }
        Ok(self)
    }
}

fn async_body(plan: &Plan) -> persist_async::Body {
    match plan.upload {
        0 => persist_async::Body::empty(),
        length => {
            let mut pieces = pieces(length);
            persist_async::Body::pieces(move |_| Poll::Ready(pieces.next().map(Ok)), Some(length))
        }
    }
}

async fn read_async(mut reply: persist_async::Reply, plan: &Plan) -> Result<(), Error> {
    let mut length = 0;
    while let Some(piece) = reply.body.chunk().await? {
        length += piece.len() as u64;
    }
    require(reply.head.status().as_u16(), length, plan)
}
