//! The floor of clients on tokio: a socket, httparse, and a count of bytes. Small responses only.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::floor::{Ends, response};
use super::{Worker, require};
use crate::Error;
use crate::plan::Plan;

pub struct Floor {
    stream: TcpStream,
    plan: Arc<Plan>,
    burst: Vec<u8>,
    read: Vec<u8>,
}

impl Floor {
    pub async fn connect(plan: Arc<Plan>) -> Result<Self, Error> {
        let stream = TcpStream::connect(plan.to).await?;
        stream.set_nodelay(true)?;
        let burst = plan.request().repeat(plan.depth);
        Ok(Self { stream, plan, burst, read: Vec::with_capacity(16 * 1024) })
    }
}

impl Worker for Floor {
    async fn run(mut self, bursts: u64) -> Result<Self, Error> {
        for _ in 0..bursts {
            self.stream.write_all(&self.burst).await?;
            let mut left = self.plan.depth;
            self.read.clear();
            while left > 0 {
                if self.stream.read_buf(&mut self.read).await? == 0 {
                    return Err("the server closed".into());
                }
                let mut at = 0;
                while let Some((len, status, Ends::Length(length))) = response(&self.read[at..])? {
                    if self.read.len() < at + len + length as usize {
                        break;
                    }
                    require(status, length, &self.plan)?;
                    at += len + length as usize;
                    left -= 1;
                }
                self.read.drain(..at);
            }
        }
        Ok(self)
    }
}
