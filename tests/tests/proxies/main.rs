//! Proxies that others wrote: which one is chosen as curl would, and what it is like to go through each.

mod choice;
mod get;
mod matrix;
