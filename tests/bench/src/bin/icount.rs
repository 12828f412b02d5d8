//! Runs one scenario so often and nothing else: `icount SCENARIO TIMES`. Made to run under callgrind; see `cargo xtask bench-icount`.

use std::process::ExitCode;

use persist_bench::Scenario;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [name, times] => Scenario::named(name).zip(times.parse().ok()),
        _ => None,
    };
    let Some((scenario, times)) = parsed else {
        eprintln!("icount SCENARIO TIMES");
        return ExitCode::from(2);
    };
    scenario.run(times);
    ExitCode::SUCCESS
}
