//! `cargo xtask bench-icount`: instructions and allocations per exchange, against their budgets.
//!
//! Each scenario runs under callgrind N and 2N times; the difference over N is exact, start-up excluded, and the same on a noisy machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, shell};

pub(crate) const OPTIONS: &str = "[--require]";

/// A row of the table: what `persist_bench` calls it, and what it may cost. Figures of hyper 1.12 are for the same exchanges.
struct Row {
    title: &'static str,
    scenario: &'static str,
    /// How many exchanges one run holds.
    exchanges: u64,
    times: u64,
    budget: u64,
    goal: u64,
    hyper: &'static str,
}

#[rustfmt::skip]
const ROWS: [Row; 9] = [
    Row { title: "server small",               scenario: "server-small",     exchanges: 1,  times: 1000, budget: 1_960,   goal: 1_900,   hyper: "5,970" },
    Row { title: "server medium",              scenario: "server-medium",    exchanges: 1,  times: 1000, budget: 4_400,   goal: 4_400,   hyper: "16,469" },
    Row { title: "server big",                 scenario: "server-big",       exchanges: 1,  times: 1000, budget: 8_350,  goal: 8_350,  hyper: "37,383" },
    Row { title: "server small, 16 pipelined", scenario: "server-pipelined", exchanges: 16, times: 100,  budget: 1_700,   goal: 1_650,   hyper: "4,644" },
    Row { title: "client small",               scenario: "client-small",     exchanges: 1,  times: 1000, budget: 2_600,   goal: 2_550,   hyper: "10,896" },
    Row { title: "client medium",              scenario: "client-medium",    exchanges: 1,  times: 1000, budget: 4_230,   goal: 4_230,   hyper: "17,311" },
    Row { title: "client big",                 scenario: "client-big",       exchanges: 1,  times: 1000, budget: 8_150,  goal: 8_150,  hyper: "35,343" },
    Row { title: "client small, request made", scenario: "client-made",      exchanges: 1,  times: 1000, budget: 3_200,   goal: 2_900,   hyper: "-" },
    Row { title: "64 KiB in 64 B chunks",      scenario: "chunks-64",        exchanges: 1,  times: 20,   budget: 215_000, goal: 215_000, hyper: "1,828 k" },
];

/// What must not grow: what the second scenario takes for each of its units, over what the first takes for each of its own.
struct Ratio {
    title: &'static str,
    of: [(&'static str, u64); 2],
    max: f64,
}

const RATIOS: [Ratio; 3] = [
    Ratio { title: "an exchange, 16 pipelined / alone", of: [("server-small", 1), ("server-pipelined", 16)], max: 1.1 },
    Ratio {
        title: "an exchange, 64 pipelined / 16",
        of: [("server-pipelined", 16), ("server-pipelined-64", 64)],
        max: 1.1,
    },
    Ratio { title: "a 7 KB head / 700 B, byte by byte", of: [("bytewise-700", 1), ("bytewise-7k", 10)], max: 1.2 },
];

/// Allocations per exchange: the head's block, and one to spare.
const ALLOCATIONS_BUDGET: f64 = 2.0;

pub(crate) fn run(options: &[String]) -> Outcome {
    let [require] = shell::flags(options, ["--require"])?;
    let Some(valgrind) = shell::find("valgrind") else {
        let why = "valgrind is not installed, and nothing else here counts instructions";
        if require {
            return Err(why.into());
        }
        println!("bench-icount: {why}; nothing measured");
        return Ok(());
    };
    shell::run(shell::cargo().args([
        "build",
        "--release",
        "-p",
        "persist-bench",
        "--bin",
        "icount",
        "--bin",
        "allocs",
    ]))?;
    let built = shell::target_dir().join("release");
    let counter = Counter { valgrind, icount: built.join("icount") };

    println!("{:<34} {:>9} {:>9} {:>9} {:>9}", "instructions per exchange", "measured", "budget", "goal", "hyper");
    let mut over = Vec::new();
    for row in &ROWS {
        let measured = counter.per_run(row.scenario, row.times)? / row.exchanges;
        println!("{:<34} {:>9} {:>9} {:>9} {:>9}", row.title, measured, row.budget, row.goal, row.hyper);
        if measured > row.budget {
            over.push(row.title);
        }
    }
    for ratio in &RATIOS {
        let [(first, units), (second, more)] = ratio.of;
        let per_unit = |scenario, units| Ok::<_, String>(counter.per_run(scenario, 20)? as f64 / units as f64);
        let measured = per_unit(second, more)? / per_unit(first, units)?;
        println!("{:<34} {:>9.2} {:>9.2}", ratio.title, measured, ratio.max);
        if measured > ratio.max {
            over.push(ratio.title);
        }
    }
    if !allocations_fit(&built.join("allocs"))? {
        over.push("allocations");
    }
    if over.is_empty() { Ok(()) } else { Err(format!("over budget: {}", over.join("; "))) }
}

/// Prints the figures that callgrind does not give; whether the allocations are within budget.
fn allocations_fit(program: &Path) -> Result<bool, String> {
    let text = shell::output(&mut Command::new(program))?;
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    let figures: HashMap<&str, f64> = pairs.filter_map(|(name, value)| Some((name, value.parse().ok()?))).collect();
    let figure = |name: &str| figures.get(name).copied().ok_or(format!("`allocs` printed no figure for {name}"));
    let mut fit = true;
    for row in ROWS.iter().filter(|row| !matches!(row.scenario, "chunks-64" | "client-made")) {
        let measured = figure(row.scenario)?;
        println!("{:<34} {:>9.2} {:>9} {:>9}", format!("allocations, {}", row.title), measured, ALLOCATIONS_BUDGET, 1);
        fit &= measured <= ALLOCATIONS_BUDGET;
    }
    let (machine, copy) = (figure("chunks-16k-ns")?, figure("memcpy-1m-ns")?);
    println!(
        "1 MiB in 16 KiB chunks: {machine:.0} ns, {:.2} x one memcpy of 1 MiB (not enforced: time depends on the machine)",
        machine / copy
    );
    Ok(fit)
}

struct Counter {
    valgrind: PathBuf,
    icount: PathBuf,
}

impl Counter {
    fn per_run(&self, scenario: &str, times: u64) -> Result<u64, String> {
        let once = self.total(scenario, times)?;
        let twice = self.total(scenario, 2 * times)?;
        Ok(twice.saturating_sub(once) / times)
    }

    fn total(&self, scenario: &str, times: u64) -> Result<u64, String> {
        let mut command = Command::new(&self.valgrind);
        command
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(&self.icount)
            .args([scenario, &times.to_string()]);
        let output = command.output().map_err(|error| format!("cannot start valgrind: {error}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(format!("{scenario} failed under valgrind:\n{said}"));
        }
        collected(&said).ok_or(format!("valgrind did not say how much it collected:\n{said}"))
    }
}

/// The number in a line like `==12== Collected : 1234567`.
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split_once("Collected : "))?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{ROWS, collected};

    #[test]
    fn the_count_is_read_from_what_valgrind_says() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 1234567\n"), Some(1_234_567));
        assert_eq!(collected("Killed"), None);
    }

    #[test]
    fn goals_lie_within_budgets() {
        for row in &ROWS {
            assert!(row.goal <= row.budget, "{}", row.title);
        }
    }
}
