//! The project's own tasks: `cargo xtask TASK`. One module a task, one line a task in [`TASKS`].
#![forbid(unsafe_code)]

mod dist;
mod features;
mod fuzz;
mod icount;
mod peers;
mod pool;
mod release;
mod shell;
mod spec;
mod standalone;
mod suite;
mod tidy;

use std::process::ExitCode;

/// What a task returns: nothing, or one sentence for the person who started it; an empty one if it has said all.
type Outcome = Result<(), String>;

struct Task {
    name: &'static str,
    options: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome,
}

#[rustfmt::skip]
const TASKS: &[Task] = &[
    Task { name: "test", options: suite::OPTIONS, about: "run every test, and interop with the peers that are installed", run: suite::run },
    Task { name: "tidy", options: "", about: "check what the compiler does not: layers, file length, docs that name files", run: tidy::run },
    Task { name: "features", options: features::OPTIONS, about: "check the libraries without features, or with each of them alone", run: features::run },
    Task { name: "spec", options: "", about: "check that each requirement of RFC 9112 has its place and its test", run: spec::run },
    Task { name: "fuzz", options: fuzz::OPTIONS, about: "run the fuzz targets, each for so many seconds", run: fuzz::run },
    Task { name: "standalone", options: "", about: "build and run, for each crate, a program outside the workspace that uses only that", run: standalone::run },
    Task { name: "release", options: release::OPTIONS, about: "prepare, check and publish a release; see docs/releasing.md", run: release::run },
    Task { name: "dist", options: dist::OPTIONS, about: "build what people download: archive, Debian package, checksums", run: dist::run },
    Task { name: "bench-icount", options: icount::OPTIONS, about: "count instructions and allocations per exchange against their budgets", run: icount::run },
    Task { name: "bench-peers", options: peers::OPTIONS, about: "measure ours and others' side by side over sockets", run: peers::run },
    Task { name: "bench-pool", options: "", about: "time the pool by number of destinations and connections", run: pool::run },
];

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let options: Vec<String> = arguments.collect();
    if matches!(name.as_str(), "" | "help" | "-h" | "--help") {
        print!("{}", help());
        return if name.is_empty() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprintln!("xtask: there is no task `{name}`\n\n{}", help());
        return ExitCode::from(2);
    };
    if options.iter().any(|option| matches!(option.as_str(), "-h" | "--help")) {
        println!("cargo xtask {} {}\n{}", task.name, task.options, task.about);
        return ExitCode::SUCCESS;
    }
    match (task.run)(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            if !why.is_empty() {
                eprintln!("xtask {name}: {why}");
            }
            ExitCode::FAILURE
        }
    }
}

fn help() -> String {
    let mut text = String::from("cargo xtask TASK [OPTIONS]\n\n");
    for task in TASKS {
        text += &format!("  {:<14} {}\n", task.name, task.about);
        if !task.options.is_empty() {
            text += &format!("  {:<14} {}\n", "", task.options);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{TASKS, help};

    #[test]
    fn help_names_every_task_once() {
        let text = help();
        for task in TASKS {
            assert_eq!(text.matches(&format!("\n  {:<14} ", task.name)).count(), 1, "{}:\n{text}", task.name);
        }
    }
}
