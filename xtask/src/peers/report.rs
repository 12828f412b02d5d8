//! What was measured, as a table: for a terminal and for a page.

use std::fmt::{self, Write as _};
use std::process::Command;

use super::measure::Figures;
use super::scenario::{Bound, Goal, Metric, Scenario, Side};
use crate::{release, shell};

pub(super) fn side(scenario: &Scenario) -> &'static str {
    match scenario.side {
        Side::Server => "server",
        Side::Client => "client",
    }
}

/// The medians of a scenario.
#[derive(Debug)]
pub(super) struct Table {
    scenario: Scenario,
    runs: usize,
    rows: Vec<(&'static str, Figures)>,
}

impl Table {
    pub(super) fn new(scenario: Scenario, runs: usize, all: &[(&'static str, Vec<Figures>)]) -> Self {
        let rows = all.iter().map(|(who, runs)| (*who, medians(runs))).collect();
        Self { scenario, runs, rows }
    }

    pub(super) fn name(&self) -> &'static str {
        self.scenario.name
    }

    fn title(&self) -> String {
        format!("{}, {}", side(&self.scenario), self.scenario.title)
    }

    fn metrics(&self) -> Vec<Metric> {
        self.rows.first().map(|(_, figures)| figures.iter().map(|(metric, _)| *metric).collect()).unwrap_or_default()
    }

    fn figure(&self, who: &str, metric: Metric) -> Option<f64> {
        let (_, figures) = self.rows.iter().find(|(name, _)| *name == who)?;
        figures.iter().find(|(it, _)| *it == metric).map(|(_, figure)| *figure)
    }

    /// A cell: the figure, and what multiple of the first row's it is.
    fn cell(&self, who: &str, metric: Metric) -> String {
        let figure = self.figure(who, metric).unwrap_or(f64::NAN);
        let first = self.rows.first().and_then(|(first, _)| self.figure(first, metric)).unwrap_or(f64::NAN);
        format!("{} (× {:.2})", number(figure), figure / first)
    }

    /// Each goal, and what came of it; those whose figures are there.
    fn goals(&self) -> Vec<Reached> {
        let told = |goal: &Goal| {
            let mut figure = self.figure(goal.who, goal.metric)?;
            let mut unit = goal.metric.unit().to_owned();
            if let Some(other) = goal.times {
                figure /= self.figure(other, goal.metric)?;
                let _ = write!(unit, ", × {other}");
            }
            let (sign, bound, met) = match goal.bound {
                Bound::Most(bound) => ("≤", bound, figure <= bound),
                Bound::Least(bound) => ("≥", bound, figure >= bound),
            };
            Some(Reached { who: goal.who, unit, figure, bound: format!("{sign} {}", number(bound)), met })
        };
        self.scenario.goals.iter().filter_map(told).collect()
    }

    pub(super) fn text(&self) -> String {
        let metrics = self.metrics();
        let mut text = format!("{}: {}\n", self.scenario.name, self.title());
        let _ = write!(text, "  {:<22}", "");
        for metric in &metrics {
            let _ = write!(text, "{:>24}", metric.unit());
        }
        text.push('\n');
        for (who, _) in &self.rows {
            let _ = write!(text, "  {who:<22}");
            for metric in &metrics {
                let _ = write!(text, "{:>24}", self.cell(who, *metric));
            }
            text.push('\n');
        }
        for goal in self.goals() {
            let _ = writeln!(text, "  {goal}");
        }
        text.push('\n');
        text
    }

    fn markdown(&self) -> String {
        let metrics = self.metrics();
        let units: Vec<&str> = metrics.iter().map(|metric| metric.unit()).collect();
        let mut text = format!("### {}\n\n", self.title());
        let _ = writeln!(text, "| `{}` | {} |", self.scenario.name, units.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(units.len()));
        for (who, _) in &self.rows {
            let cells: Vec<String> = metrics.iter().map(|metric| self.cell(who, *metric)).collect();
            let shown = if who.starts_with("persist") { format!("**{who}**") } else { (*who).to_owned() };
            let _ = writeln!(text, "| {shown} | {} |", cells.join(" | "));
        }
        let goals = self.goals();
        if !goals.is_empty() {
            text.push('\n');
        }
        for goal in goals {
            let _ = writeln!(text, "- {goal}");
        }
        text.push('\n');
        text
    }
}

/// What came of a goal.
#[derive(Debug)]
struct Reached {
    who: &'static str,
    unit: String,
    figure: f64,
    bound: String,
    met: bool,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { who, unit, figure, bound, met } = self;
        let verdict = if *met { "reached" } else { "NOT reached" };
        write!(f, "{who}: {unit}: {}, goal {bound}: {verdict}", number(*figure))
    }
}

/// The median of each metric over the runs.
fn medians(runs: &[Figures]) -> Figures {
    let Some(first) = runs.first() else { return Vec::new() };
    let median = |index: usize| {
        let mut figures: Vec<f64> = runs.iter().map(|run| run[index].1).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    first.iter().enumerate().map(|(index, (metric, _))| (*metric, median(index))).collect()
}

/// Three digits or more, with separators for thousands.
fn number(figure: f64) -> String {
    if figure.abs() < 100.0 {
        return format!("{figure:.2}");
    }
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Every goal beside what was measured, in one table.
fn goals(tables: &[Table]) -> String {
    let mut text = "| where | whose | what | measured | goal | |\n|---|---|---|---|---|---|\n".to_owned();
    for table in tables {
        for Reached { who, unit, figure, bound, met } in table.goals() {
            let verdict = if met { "" } else { "missed" };
            let _ = writeln!(text, "| {} | {who} | {unit} | {} | {bound} | {verdict} |", table.title(), number(figure));
        }
    }
    text
}

/// Where the table of goals stands in another page.
const MARKS: [&str; 2] =
    ["<!-- written by `cargo xtask bench-peers --write` -->\n", "<!-- end of what bench-peers writes -->\n"];

/// That page with this table in the place of the last one.
///
/// # Errors
/// The page has no place for it.
pub(super) fn with_goals(page: &str, tables: &[Table]) -> Result<String, String> {
    let parts = page.split_once(MARKS[0]).and_then(|(before, rest)| Some((before, rest.split_once(MARKS[1])?.1)));
    let (before, after) = parts.ok_or("docs/performance.md has no place that is marked for the table of goals")?;
    let (reached, all) = count(tables);
    let table = goals(tables);
    Ok(format!("{before}{}{reached} of {all} goals are reached.\n\n{table}{}{after}", MARKS[0], MARKS[1]))
}

/// Goals that are reached, and all.
fn count(tables: &[Table]) -> (usize, usize) {
    let goals: Vec<Reached> = tables.iter().flat_map(Table::goals).collect();
    (goals.iter().filter(|goal| goal.met).count(), goals.len())
}

/// The page of all tables. `load` is what the machine had to do besides, `missing` what was not measured.
pub(super) fn page(tables: &[Table], load: &str, missing: &[&str]) -> Result<String, String> {
    let rust = shell::output(Command::new("rustc").arg("--version"))?;
    let lock = std::fs::read_to_string(shell::root().join("tests/peers/Cargo.lock"))
        .map_err(|error| format!("cannot read tests/peers/Cargo.lock: {error}"))?;
    let versions: Vec<String> =
        ["hyper", "hyper-util", "ureq", "reqwest", "tokio"].iter().filter_map(|name| version(&lock, name)).collect();
    let (reached, goals) = count(tables);
    let missing = match missing {
        [] => String::new(),
        names => format!(" Not measured this time: `{}`.", names.join("`, `")),
    };
    let runs = tables.iter().map(|table| table.runs).max().unwrap_or_default();
    let mut text = format!(
        "# Side by side with others\n\n\
         Written by `cargo xtask bench-peers --write` on {}; do not edit. {}; {}.\n\n\
         `--list` names the scenarios; `--only server-64` measures one, `--only client` all whose names begin so; `--who persist-async` leaves others\n\
         out; `--runs 5` takes the median of so many; `--quick` does an eighth of the work, once. It wants Linux and two cores, `taskset`, `strace`\n\
         for system calls and `valgrind` for instructions. What is compared is in `tests/peers`, outside the workspace.\n\n\
         Everything is one program, built alike (fat LTO, one codegen unit), and talks over loopback. What is measured runs on one core, its\n\
         counterpart on another. In each scenario all take turns, {runs} times, and a figure is the median; counts of system calls, instructions\n\
         and memory are the same each time and taken once. Multiples are of the first row. Figures are to be compared within one table only: the\n\
         machine is a small and shared one.\n\n\
         *epoll-floor*, *tokio-floor* and *std-floor* are loops that parse heads with httparse and write constant bytes: what the machine allows,\n\
         not products. Servers run on one thread, but persist-sync, whose handlers have threads; they answer with 13 bytes of content, `Server`,\n\
         `Date`, `Content-Type` and `Content-Length`. Clients talk to a floor. *persist-sync conn* and *persist-async conn* are a `ClientConn`, the\n\
         others a `Client` with its pool. A client's requests are all alike and made once, as far as its interface lets it: floors have bytes, hyper\n\
         and reqwest parts to be cloned, ours a `Request` to be lent. hyper's server has no timer, and so no deadlines; ours has its own.\n\n\
         Processor time is that of `/proc/PID/task/*/schedstat`. Times at a fixed rate count from when a request was due. Calls are strace's and\n\
         instructions callgrind's, each the difference between N and 2N requests. Memory of an idle connection is the difference between N and 2N\n\
         connections; the most memory is `VmHWM`.\n\n\
         {load} Of {goals} goals {reached} are reached.{missing}\n\n",
        release::today(),
        rust.trim(),
        versions.join(", "),
    );
    for table in tables {
        text += &table.markdown();
    }
    Ok(text.trim_end().to_owned() + "\n")
}

/// A package's version in a lock file.
fn version(lock: &str, name: &str) -> Option<String> {
    let (_, rest) = lock.split_once(&format!("\nname = \"{name}\"\nversion = \""))?;
    Some(format!("{name} {}", rest.split('"').next()?))
}

#[cfg(test)]
mod tests {
    use super::super::scenario::SCENARIOS;
    use super::*;

    fn table(ours: f64) -> Table {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == "server-64").expect("it is there");
        let run = |cpu: f64| vec![(Metric::Cpu, cpu), (Metric::Rate, 100_000.0)];
        let all = [("epoll-floor", vec![run(5.0), run(90.0), run(4.0)]), ("persist-async", vec![run(ours)])];
        Table::new(*scenario, 3, &all)
    }

    #[test]
    fn figures_are_medians_and_multiples_of_the_first_row() {
        let text = table(5.2).text();
        assert!(text.contains("5.00 (× 1.00)") && text.contains("5.20 (× 1.04)"), "{text}");
        assert!(text.contains("persist-async: µs/request, × epoll-floor: 1.04, goal ≤ 1.08: reached"), "{text}");
        assert!(text.contains("100,000 (× 1.00)"), "{text}");
    }

    #[test]
    fn a_goal_that_is_missed_is_said_to_be() {
        let markdown = table(6.0).markdown();
        assert!(
            markdown.contains("- persist-async: µs/request, × epoll-floor: 1.20, goal ≤ 1.08: NOT reached\n"),
            "{markdown}"
        );
        assert!(markdown.contains("| **persist-async** | 6.00 (× 1.20) |"), "{markdown}");
    }

    #[test]
    fn the_goals_are_put_where_they_were_and_nothing_else_is_touched() {
        let [begin, end] = MARKS;
        let page = with_goals(&format!("a\n{begin}old\n{end}b\n"), &[table(6.0)]).expect("a place");
        assert!(
            page.starts_with(&format!("a\n{begin}0 of 1 goals")) && page.ends_with(&format!(" |\n{end}b\n")),
            "{page}"
        );
        assert!(page.contains("| persist-async | µs/request, × epoll-floor | 1.20 | ≤ 1.08 | missed |"), "{page}");
        assert!(with_goals("nothing", &[]).is_err());
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(
            [0.5, 99.99, 100.4, 1234.0, 1_234_567.0].map(number),
            ["0.50", "99.99", "100", "1,234", "1,234,567"]
        );
    }
}
