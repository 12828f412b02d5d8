//! A program that uses persist-cli and nothing else: the command, made anew.

use std::process::ExitCode;

fn main() -> ExitCode {
    persist_cli::run_from(["persist", "get", "--demo"].map(Into::into))
}
