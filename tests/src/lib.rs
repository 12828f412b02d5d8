//! What tests share that cross crates or meet programs written by others, and the exchanges that benchmarks count.

pub mod cycles;
