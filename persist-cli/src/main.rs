//! The `persist` command: see `docs/cli.md`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    persist_cli::run_from(std::env::args_os())
}
