//! reqwest, without TLS and without its other features.

use std::sync::Arc;

use reqwest::{Method, Request};

use super::{Worker, require};
use crate::Error;
use crate::plan::{Framing, Plan};
use crate::server::hyper::Pieces;

pub fn client() -> Result<reqwest::Client, Error> {
    Ok(reqwest::Client::builder().no_proxy().build()?)
}

pub struct Pooled {
    client: reqwest::Client,
    plan: Arc<Plan>,
    request: Request,
}

impl Pooled {
    pub fn new(client: reqwest::Client, plan: Arc<Plan>) -> Result<Self, Error> {
        let method = if plan.upload == 0 { Method::GET } else { Method::PUT };
        Ok(Self { client, request: Request::new(method, plan.url().parse()?), plan })
    }
}

impl Worker for Pooled {
    async fn run(self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            let mut request = self.request.try_clone().ok_or("a request that cannot be sent twice")?;
            if self.plan.upload > 0 {
                *request.body_mut() = Some(reqwest::Body::wrap(Pieces::new(self.plan.upload, Framing::Length)));
            }
            let mut response = self.client.execute(request).await?;
            let mut length = 0;
            while let Some(piece) = response.chunk().await? {
                length += piece.len() as u64;
            }
            require(response.status().as_u16(), length, &self.plan)?;
        }
        Ok(self)
    }
}
