//! What tests share that cross crates or meet programs written by others.
#![forbid(unsafe_code)]

pub mod batch;
pub mod certificates;
pub mod command;
pub mod folder;
pub mod fuzzed;
pub mod mutate;
pub mod peers;
pub mod process;
pub mod script;
pub mod seeded;
pub mod whimsical;

/// The examples of docs/proxy.md, compiled as tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/proxy.md")]
struct ProxyGuide;
