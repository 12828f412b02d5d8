//! ureq, without TLS and without its other features.

use std::io::Read;
use std::sync::Arc;

use ureq::http::Uri;
use ureq::{Agent, SendBody};

use super::{BlockingWorker, require};
use crate::Error;
use crate::plan::{PIECE, Plan};

pub fn agent() -> Agent {
    // As many connections as the busiest scenario has workers.
    Agent::config_builder().proxy(None).max_idle_connections(256).max_idle_connections_per_host(256).build().new_agent()
}

pub struct Pooled {
    agent: Agent,
    plan: Arc<Plan>,
    target: Uri,
    scratch: Vec<u8>,
}

impl Pooled {
    pub fn new(agent: Agent, plan: &Arc<Plan>) -> Result<Self, Error> {
        Ok(Self { agent, plan: plan.clone(), target: plan.url().parse()?, scratch: vec![0; 64 * 1024] })
    }
}

impl BlockingWorker for Pooled {
    fn run(&mut self, bursts: u64) -> Result<(), Error> {
        for _ in 0..bursts * self.plan.depth as u64 {
            let mut response = match self.plan.upload {
                0 => self.agent.get(self.target.clone()).call()?,
                length => {
                    let mut body = Xs.take(length);
                    let body = SendBody::from_reader(&mut body);
                    self.agent.put(self.target.clone()).header("Content-Length", length.to_string()).send(body)?
                }
            };
            let mut reader = response.body_mut().as_reader();
            let mut length = 0;
            loop {
                match reader.read(&mut self.scratch)? {
                    0 => break,
                    n => length += n as u64,
                }
            }
            require(response.status().as_u16(), length, &self.plan)?;
        }
        Ok(())
    }
}

/// Gives the bytes of [`PIECE`] for ever, as fast as they can be copied: it takes readers only.
#[derive(Debug)]
struct Xs;

impl Read for Xs {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = buf.len().min(PIECE.len());
        buf[..n].copy_from_slice(&PIECE[..n]);
        Ok(n)
    }
}
