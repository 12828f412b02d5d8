//! The `persist` command: see `docs/cli.md`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    persist_cli::run(persist_cli::Cli::parse())
}
