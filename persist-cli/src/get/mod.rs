//! `persist get`: any number of URLs over as few connections as it can, pipelined.

mod args;
mod budget;
mod demo;
mod elsewhere;
mod failure;
mod fetcher;
mod headers;
mod job;
mod lane;
mod order;
mod outputs;
mod payload;
mod plan;
mod proxy;
mod queue;
mod receive;
mod record;
mod secure;
mod show;
mod sink;
mod upload;
mod way;

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

pub use args::Args;

use crate::exit::Exit;
use fetcher::{Fetcher, Options};
use plan::{Plan, Unusable};
use record::{Reporter, Summary, Wanted};
use show::Show;

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let outcome = if args.demo { demo::run(args) } else { fetch(args) };
    match outcome {
        Ok(exit) => exit.into(),
        Err(unusable) => {
            // Nobody is left to tell when standard error is gone.
            let _ = writeln!(io::stderr(), "persist get: {}", unusable.message);
            unusable.exit.into()
        }
    }
}

fn fetch(args: &Args) -> Result<Exit, Unusable> {
    let way = way::Way::new(args).map_err(Unusable::usage)?;
    let plan = plan::plan(args, &way)?;
    let options = Options {
        depth: args.pipeline.get(),
        connections: args.connections.get(),
        way,
        include: args.include || args.head,
        fail: args.fail,
        create_dirs: args.outputs.create_dirs(),
        max_time: args.max_time,
        show: Show { verbose: args.verbose },
    };
    carry_out(plan, options, wanted(args)).map(|(_, exit)| exit)
}

fn wanted(args: &Args) -> Wanted {
    Wanted { format: args.format, errors: !args.silent || args.show_error, summary: !args.silent }
}

/// Carries out a plan and writes the report.
fn carry_out(plan: Plan, options: Options, wanted: Wanted) -> Result<(Summary, Exit), Unusable> {
    let begun = Instant::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Unusable { message: format!("starting: {error}"), exit: Exit::Failed })?;
    let fetcher = Arc::new(Fetcher::new(options, Reporter::new(wanted)));
    runtime.block_on(fetcher.run(plan));
    // A name that is still being looked up holds nobody back.
    runtime.shutdown_background();
    Ok(fetcher.reporter.finish(begun.elapsed()))
}
