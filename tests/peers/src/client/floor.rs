//! The floor of blocking clients: a socket, httparse, and a count of bytes. It judges bodies, too.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use super::{BlockingWorker, require};
use crate::Error;
use crate::plan::{PIECE, Plan};

#[derive(Debug)]
pub struct Blocking {
    stream: TcpStream,
    plan: Arc<Plan>,
    burst: Vec<u8>,
    buffer: Vec<u8>,
    /// What is read and not used, in the buffer.
    from: usize,
    to: usize,
}

/// How the content that follows a head ends.
#[derive(Clone, Copy, Debug)]
pub enum Ends {
    Length(u64),
    Chunked,
}

impl Blocking {
    pub fn connect(plan: &Plan) -> Result<Self, Error> {
        let stream = TcpStream::connect(plan.to)?;
        stream.set_nodelay(true)?;
        let burst = plan.request().repeat(plan.depth);
        Ok(Self { stream, plan: Arc::new(plan.clone()), burst, buffer: vec![0; 128 * 1024], from: 0, to: 0 })
    }

    fn more(&mut self) -> Result<(), Error> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        let n = self.stream.read(&mut self.buffer[self.to..])?;
        if n == 0 {
            return Err("the server closed".into());
        }
        self.to += n;
        Ok(())
    }

    fn answer(&mut self) -> Result<(), Error> {
        let (status, ends) = loop {
            if let Some((len, status, ends)) = response(&self.buffer[self.from..self.to])? {
                self.from += len;
                break (status, ends);
            }
            self.more()?;
        };
        let length = match ends {
            Ends::Length(length) => self.skip(length).map(|()| length)?,
            Ends::Chunked => self.chunks()?,
        };
        require(status, length, &self.plan)
    }

    fn skip(&mut self, mut left: u64) -> Result<(), Error> {
        loop {
            let there = ((self.to - self.from) as u64).min(left);
            self.from += there as usize;
            left -= there;
            if left == 0 {
                return Ok(());
            }
            self.more()?;
        }
    }

    fn chunks(&mut self) -> Result<u64, Error> {
        let mut total = 0;
        loop {
            let size = loop {
                match httparse::parse_chunk_size(&self.buffer[self.from..self.to]).map_err(|_| "no chunk")? {
                    httparse::Status::Complete((len, size)) => {
                        self.from += len;
                        break size;
                    }
                    httparse::Status::Partial => self.more()?,
                }
            };
            self.skip(size + 2)?;
            if size == 0 {
                return Ok(total);
            }
            total += size;
        }
    }
}

impl BlockingWorker for Blocking {
    fn run(&mut self, bursts: u64) -> Result<(), Error> {
        for _ in 0..bursts {
            if self.plan.upload > 0 {
                self.stream.write_all(&self.plan.upload_head())?;
                for _ in 0..self.plan.upload / PIECE.len() as u64 {
                    self.stream.write_all(&PIECE)?;
                }
            } else {
                self.stream.write_all(&self.burst)?;
            }
            for _ in 0..self.plan.depth {
                self.answer()?;
            }
        }
        Ok(())
    }
}

/// Reads a response's head; returns its length, its status, and how its content ends.
pub fn response(bytes: &[u8]) -> Result<Option<(usize, u16, Ends)>, Error> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; 64];
    let mut head = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    match config.parse_response_with_uninit_headers(&mut head, bytes, &mut fields)? {
        httparse::Status::Partial => Ok(None),
        httparse::Status::Complete(len) => {
            let length = head.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
            let ends = match length {
                Some(field) => Ends::Length(std::str::from_utf8(field.value)?.parse()?),
                None => Ends::Chunked,
            };
            Ok(Some((len, head.code.unwrap_or_default(), ends)))
        }
    }
}
