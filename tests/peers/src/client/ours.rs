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

pub struct SyncConn {
    conn: persist_sync::ClientConn,
    plan: Arc<Plan>,
    host: String,
    burst: Vec<(persist_sync::Request, persist_sync::Body)>,
    scratch: Vec<u8>,
}

impl SyncConn {
    pub fn connect(plan: &Arc<Plan>) -> Result<Self, Error> {
        let stream = std::net::TcpStream::connect(plan.to)?;
        stream.set_nodelay(true)?;
        let conn = persist_sync::ClientConn::with_config(stream, config(plan))?;
        Ok(Self { conn, host: plan.to.to_string(), plan: plan.clone(), burst: Vec::new(), scratch: vec![0; SCRATCH] })
    }
}

impl BlockingWorker for SyncConn {
    fn run(&mut self, bursts: u64) -> Result<(), Error> {
        for _ in 0..bursts {
            if self.plan.depth == 1 {
                let (request, body) = sync_request(&self.plan, &self.plan.target);
                let mut reply = self.conn.send(request.field("Host", &*self.host)?, body)?;
                read_sync(&mut reply, &mut self.scratch, &self.plan)?;
                continue;
            }
            for _ in 0..self.plan.depth {
                let (request, body) = sync_request(&self.plan, &self.plan.target);
                self.burst.push((request.field("Host", &*self.host)?, body));
            }
            for exchange in self.conn.write_all(self.burst.drain(..))? {
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
    url: String,
    scratch: Vec<u8>,
}

impl SyncPooled {
    pub fn new(client: persist_sync::Client, plan: &Arc<Plan>) -> Self {
        Self { client, url: plan.url(), plan: plan.clone(), scratch: vec![0; SCRATCH] }
    }
}

impl BlockingWorker for SyncPooled {
    fn run(&mut self, bursts: u64) -> Result<(), Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            let (request, body) = sync_request(&self.plan, &self.url);
            read_sync(&mut self.client.send(request, body)?, &mut self.scratch, &self.plan)?;
        }
        Ok(())
    }
}

fn sync_request(plan: &Plan, target: &str) -> (persist_sync::Request, persist_sync::Body) {
    use persist_sync::{Body, Method, Request};
    match plan.upload {
        0 => (Request::get(target), Body::empty()),
        length => (Request::new(Method::PUT, target), Body::pieces(pieces(length).map(Ok), Some(length))),
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
    host: String,
    burst: Vec<(persist_async::Request, persist_async::Body)>,
}

impl AsyncConn {
    pub async fn connect(plan: Arc<Plan>) -> Result<Self, Error> {
        let stream = tokio::net::TcpStream::connect(plan.to).await?;
        stream.set_nodelay(true)?;
        let conn = persist_async::ClientConn::with_config(stream, config(&plan));
        Ok(Self { conn, host: plan.to.to_string(), burst: Vec::with_capacity(plan.depth), plan })
    }
}

impl Worker for AsyncConn {
    async fn run(mut self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts {
            if self.plan.depth == 1 {
                let (request, body) = async_request(&self.plan, &self.plan.target);
                read_async(self.conn.send(request.field("Host", &*self.host)?, body).await?, &self.plan).await?;
                continue;
            }
            for _ in 0..self.plan.depth {
                let (request, body) = async_request(&self.plan, &self.plan.target);
                self.burst.push((request.field("Host", &*self.host)?, body));
            }
            for exchange in self.conn.write_all(self.burst.drain(..)).await? {
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
    url: String,
}

impl AsyncPooled {
    pub fn new(client: persist_async::Client, plan: Arc<Plan>) -> Self {
        let url = plan.url();
        Self { client, plan, url }
    }
}

impl Worker for AsyncPooled {
    async fn run(self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            let (request, body) = async_request(&self.plan, &self.url);
            read_async(self.client.send(request, body).await?, &self.plan).await?;
        }
        Ok(self)
    }
}

fn async_request(plan: &Plan, target: &str) -> (persist_async::Request, persist_async::Body) {
    use persist_async::{Body, Method, Request};
    match plan.upload {
        0 => (Request::get(target), Body::empty()),
        length => {
            let mut pieces = pieces(length);
            let body = Body::pieces(move |_| Poll::Ready(pieces.next().map(Ok)), Some(length));
            (Request::new(Method::PUT, target), body)
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
