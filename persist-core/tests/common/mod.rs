//! What the property tests share: seeds, events one can compare, bytes to feed, and a network in one process.

// Each test is a crate of its own and takes what it needs.
#![allow(dead_code, unreachable_pub)]

pub mod end;
pub mod link;
pub mod plan;
pub mod seeds;
pub mod seen;
pub mod verdict;
pub mod wire;
pub mod world;
