//! One program with all the parts of a comparison, so that all are built alike: `peers server KIND`, `peers client KIND ...`, `peers load ...`.
//! `cargo xtask bench-peers` starts them, pins them and measures them.
#![forbid(unsafe_code)]

mod actor;
mod client;
mod load;
mod pace;
mod plan;
mod server;
mod streams;

use std::process::ExitCode;

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["server", kind] => server::run(kind),
        ["client", kind, ref options @ ..] => plan::Plan::parse(options).and_then(|plan| client::run(kind, plan)),
        ["load", ref options @ ..] => plan::Plan::parse(options).and_then(|plan| load::run(&plan)),
        _ => Err("peers server KIND | peers client KIND --to ADDRESS ... | peers load --to ADDRESS ...".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("peers {}: {why}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}
