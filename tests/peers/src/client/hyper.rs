//! hyper's client: one connection as it is, and hyper-util's pool over it. Neither pipelines.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::{Worker, require};
use crate::Error;
use crate::plan::{Framing, Plan};
use crate::server::hyper::Pieces;

type Body = Either<Empty<Bytes>, Pieces>;

pub struct Conn {
    sender: SendRequest<Body>,
    target: Uri,
    host: HeaderValue,
    plan: Arc<Plan>,
}

impl Conn {
    pub async fn connect(plan: Arc<Plan>) -> Result<Self, Error> {
        let stream = TcpStream::connect(plan.to).await?;
        stream.set_nodelay(true)?;
        let (sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(conn);
        Ok(Self { sender, target: plan.target.parse()?, host: plan.to.to_string().parse()?, plan })
    }
}

impl Worker for Conn {
    async fn run(mut self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            let mut request = request(&self.plan, &self.target);
            request.headers_mut().insert(HOST, self.host.clone());
            self.sender.ready().await?;
            read(self.sender.send_request(request).await?, &self.plan).await?;
        }
        Ok(self)
    }
}

pub struct Pooled {
    client: Client<HttpConnector, Body>,
    plan: Arc<Plan>,
    target: Uri,
}

pub fn pool() -> Client<HttpConnector, Body> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).build(connector)
}

impl Pooled {
    pub fn new(client: Client<HttpConnector, Body>, plan: Arc<Plan>) -> Result<Self, Error> {
        Ok(Self { client, target: plan.url().parse()?, plan })
    }
}

impl Worker for Pooled {
    async fn run(self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            let request = request(&self.plan, &self.target);
            read(self.client.request(request).await?, &self.plan).await?;
        }
        Ok(self)
    }
}

fn request(plan: &Plan, target: &Uri) -> Request<Body> {
    let mut request = Request::new(Either::Left(Empty::new()));
    *request.uri_mut() = target.clone();
    if plan.upload > 0 {
        *request.method_mut() = Method::PUT;
        *request.body_mut() = Either::Right(Pieces::new(plan.upload, Framing::Length));
    }
    request
}

async fn read(response: Response<Incoming>, plan: &Plan) -> Result<(), Error> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len) as u64;
    }
    require(status, length, plan)
}
