//! The `persist` command as a library, so that tests and fuzz targets can call its parts. Not a stable interface: the command is.
#![forbid(unsafe_code)]

pub mod exit;
pub mod inspect;
pub mod report;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Persistent HTTP/1.1 connections: fetch, serve, inspect.
#[derive(Debug, Parser)]
#[command(
    name = "persist",
    version,
    propagate_version = false,
    after_help = "Each command explains its options and exit codes: persist COMMAND --help"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One subcommand each; its file of the same name has its options and its work.
#[derive(Debug, Subcommand)]
#[non_exhaustive]
pub enum Command {
    /// Show how recorded bytes are understood as HTTP/1.1, and why they are rejected
    Inspect(inspect::Args),
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Inspect(args) => inspect::run(&args),
    }
}
