//! reqwest, without TLS and without its other features.

use std::sync::Arc;

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
    url: String,
}

impl Pooled {
    pub fn new(client: reqwest::Client, plan: Arc<Plan>) -> Self {
        let url = plan.url();
        Self { client, plan, url }
    }
}

impl Worker for Pooled {
    async fn run(self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            let request = match self.plan.upload {
                0 => self.client.get(&self.url),
                length => {
                    let body = reqwest::Body::wrap(Pieces::new(length, Framing::Length));
                    self.client.put(&self.url).body(body)
                }
            };
            let mut response = request.send().await?;
            let mut length = 0;
            while let Some(piece) = response.chunk().await? {
                length += piece.len() as u64;
            }
            require(response.status().as_u16(), length, &self.plan)?;
        }
        Ok(self)
    }
}
