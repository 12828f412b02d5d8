//! The `persist` command as a library, so that tests and fuzz targets can call its parts. Not a stable interface: the command is.
#![forbid(unsafe_code)]

pub mod exit;
pub mod get;
mod identity;
pub mod inspect;
pub mod report;
pub mod serve;

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
    /// Fetch URLs over as few connections as possible, pipelined
    Get(Box<get::Args>),
    /// Serve files, or an echo, until a signal comes
    Serve(serve::Args),
    /// Show how recorded bytes are understood as HTTP/1.1, and why they are rejected
    Inspect(inspect::Args),
}

/// The command, whole: reads these arguments, the program's name first, and does what they say.
pub fn run_from(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    run(Cli::parse_from(arguments))
}

/// Does what the command line says.
pub fn run(cli: Cli) -> ExitCode {
    match cli.command {
        Command::Get(args) => get::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Inspect(args) => inspect::run(&args),
    }
}
