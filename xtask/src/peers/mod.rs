//! `cargo xtask bench-peers`: ours and others', side by side over sockets. Only what stands in one table can be compared: the runs of a
//! scenario alternate between all who take part, and each figure is the median of its runs.

mod measure;
mod process;
mod report;
mod scenario;

use std::fs;
use std::path::Path;

use crate::{Outcome, shell};
use measure::{Bench, Figures};
use report::Table;
use scenario::{SCENARIOS, Scenario};

pub(crate) const OPTIONS: &str = "[--only SCENARIO]... [--who CONTENDER]... [--runs N] [--quick] [--write] [--list]";

/// Runs of each contender in each scenario.
const RUNS: usize = 3;

#[derive(Debug, Default)]
struct Options {
    only: Vec<String>,
    who: Vec<String>,
    runs: Option<usize>,
    quick: bool,
    write: bool,
    list: bool,
}

pub(crate) fn run(options: &[String]) -> Outcome {
    let options = parse(options)?;
    if options.list {
        for scenario in SCENARIOS {
            println!("{:<30} {}: {}", scenario.name, report::side(scenario), scenario.title);
        }
        return Ok(());
    }
    let scenarios = chosen(&options)?;
    let bench = build()?;
    let mut tables = Vec::new();
    let mut failed = Vec::new();
    let mut load = Load::default();
    for scenario in &scenarios {
        load.look();
        match compare(&bench, scenario, &options) {
            Ok(table) => {
                print!("{}", table.text());
                tables.push(table);
            }
            Err(why) => {
                println!("{}: {why}\n", scenario.name);
                failed.push(scenario.name);
            }
        }
        if options.write {
            // Each time: it takes long, and what is measured is not lost when the rest is.
            let is_there = |name: &str| tables.iter().any(|table| table.name() == name);
            let missing: Vec<&str> =
                SCENARIOS.iter().map(|scenario| scenario.name).filter(|name| !is_there(name)).collect();
            let mut circumstances = load.text();
            if options.quick {
                circumstances += " Each run did an eighth of the usual work.";
            }
            write(&tables, &circumstances, &missing)?;
        }
    }
    if options.write {
        println!("written: docs/benchmarks.md, docs/performance.md");
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not measured: {}", failed.join(", "))) }
}

fn write(tables: &[Table], load: &str, missing: &[&str]) -> Outcome {
    let docs = shell::root().join("docs");
    let (benchmarks, performance) = (docs.join("benchmarks.md"), docs.join("performance.md"));
    let fail = |path: &Path| format!("cannot write {}", path.display());
    let text = fs::read_to_string(&performance).map_err(|error| format!("{}: {error}", fail(&performance)))?;
    for (path, text) in
        [(performance, report::with_goals(&text, tables)?), (benchmarks, report::page(tables, load, missing)?)]
    {
        fs::write(&path, text).map_err(|error| format!("{}: {error}", fail(&path)))?;
    }
    Ok(())
}

/// What else the machine had to do, from what the kernel says of the last minute at the beginning of each scenario. With nothing else, it is about 2.
#[derive(Debug, Default)]
struct Load(Vec<f64>);

impl Load {
    fn look(&mut self) {
        let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        self.0.extend(text.split(' ').next().and_then(|load| load.parse::<f64>().ok()));
    }

    fn text(&self) -> String {
        let most = self.0.iter().copied().fold(0.0, f64::max);
        let mean = self.0.iter().sum::<f64>() / self.0.len().max(1) as f64;
        format!("Load of the machine meanwhile: {mean:.1} on average, {most:.1} at most (2 is the measurement itself).")
    }
}

fn parse(words: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().cloned().ok_or_else(|| format!("`{word}` needs a value"));
        match word.as_str() {
            "--only" => options.only.push(value()?),
            "--who" => options.who.push(value()?),
            "--runs" => {
                let text = value()?;
                let runs = text.parse().ok().filter(|runs| *runs > 0);
                options.runs = Some(runs.ok_or_else(|| format!("`--runs {text}` is no number of runs"))?);
            }
            "--quick" => options.quick = true,
            "--write" => options.write = true,
            "--list" => options.list = true,
            _ => return Err(format!("unknown option `{word}`; there are: {OPTIONS}")),
        }
    }
    if options.write && (!options.who.is_empty() || (options.quick && options.runs.is_none())) {
        return Err("`--write` wants everybody measured: leave out --who, and --quick unless with --runs".to_owned());
    }
    Ok(options)
}

/// The scenarios that were asked for: by name, or by the beginning of one.
fn chosen(options: &Options) -> Result<Vec<Scenario>, String> {
    if let Some(unknown) =
        options.only.iter().find(|name| !SCENARIOS.iter().any(|scenario| scenario.name.starts_with(name.as_str())))
    {
        return Err(format!("there is no scenario `{unknown}`; --list shows them"));
    }
    let is_exact = |name: &str| SCENARIOS.iter().any(|scenario| scenario.name == name);
    let is_wanted = |scenario: &&Scenario| {
        let fits = |name: &String| {
            if is_exact(name) { scenario.name == name } else { scenario.name.starts_with(name.as_str()) }
        };
        options.only.is_empty() || options.only.iter().any(fits)
    };
    Ok(SCENARIOS
        .iter()
        .filter(is_wanted)
        .map(|scenario| if options.quick { scenario.quick() } else { *scenario })
        .collect())
}

fn build() -> Result<Bench, String> {
    let target = shell::target_dir().join("peers");
    let manifest = shell::root().join("tests/peers/Cargo.toml");
    let mut build = shell::cargo();
    shell::run(build.args(["build", "--release", "--manifest-path"]).arg(manifest).env("CARGO_TARGET_DIR", &target))?;
    Ok(Bench { program: target.join("release/persist-peers"), scratch: target })
}

/// Runs everyone in turn, again and again.
fn compare(bench: &Bench, scenario: &Scenario, options: &Options) -> Result<Table, String> {
    use scenario::Measure::{Calls, Idle, Instructions};
    // Counts are the same each time.
    let is_exact = matches!(scenario.measure, Calls | Instructions | Idle);
    let usual = if options.quick { 1 } else { RUNS };
    let runs = if is_exact { 1 } else { options.runs.unwrap_or(usual) };
    let takes_part = |who: &&&str| options.who.is_empty() || options.who.iter().any(|wanted| wanted == **who);
    let who: Vec<&'static str> = scenario.who.iter().filter(takes_part).copied().collect();
    let mut all: Vec<(&'static str, Vec<Figures>)> = who.iter().map(|who| (*who, Vec::new())).collect();
    for run in 0..runs {
        for (who, figures) in &mut all {
            eprint!("\r{}: run {} of {runs}: {who:<24}", scenario.name, run + 1);
            figures.push(bench.run(scenario, who)?);
        }
    }
    eprint!("\r{:<80}\r", "");
    Ok(Table::new(*scenario, runs, &all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn scenarios_are_chosen_by_name_or_by_how_it_begins() {
        let names = |text: &str| -> Vec<&str> {
            let options = parse(&words(text)).expect("options");
            chosen(&options).expect("scenarios").iter().map(|scenario| scenario.name).collect()
        };
        assert_eq!(names("--only server-1"), ["server-1"], "not server-1000");
        assert_eq!(names("--only client-calls --only server-idle-head"), ["server-idle-head", "client-calls"]);
        assert!(names("--only client").len() > 5 && names("").len() == SCENARIOS.len());
        let unknown = parse(&words("--only nothing")).expect("options");
        assert!(chosen(&unknown).is_err_and(|why| why.contains("`nothing`")));
    }

    #[test]
    fn what_is_not_complete_is_not_written() {
        assert!(parse(&words("--write --quick")).is_err());
        assert!(parse(&words("--runs 0")).is_err());
        assert!(parse(&words("--frobnicate")).is_err());
    }
}
