//! One run of one contender: processes, turns, counters.

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use super::process::{MEASURED, OTHER, Process, joined, tool};
use super::scenario::{Measure, Metric, Scenario, Side};

/// What a run said, in the order in which it is shown.
pub(super) type Figures = Vec<(Metric, f64)>;

/// What the work took.
#[derive(Debug)]
struct Timed {
    /// Processor time, in nanoseconds.
    cpu: f64,
    /// From its begin to its end, in nanoseconds.
    wall: f64,
    /// The most memory that was held by then, in KiB.
    peak: f64,
    /// What else the actor told.
    told: Vec<f64>,
}

/// Where the program lies, and where tools may write.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) program: PathBuf,
    pub(super) scratch: PathBuf,
}

/// The bare server that clients talk to: the lightest that can do it.
fn counterpart(scenario: &Scenario) -> &'static str {
    let small = scenario.target == "/" && scenario.upload_mib == 0;
    if small { "epoll-floor" } else { "tokio-floor" }
}

impl Bench {
    pub(super) fn run(&self, scenario: &Scenario, who: &str) -> Result<Figures, String> {
        match scenario.measure {
            Measure::Time => self.time(scenario, who),
            Measure::Latency => self.latency(scenario, who),
            Measure::Bodies => self.bodies(scenario, who),
            Measure::Idle => self.idle(scenario, who),
            Measure::Calls => {
                let calls = self.twice(scenario, who, Self::calls)?;
                Ok(vec![(Metric::Calls, calls)])
            }
            Measure::Instructions => {
                let instructions = self.twice(scenario, who, Self::instructions)?;
                Ok(vec![(Metric::Instructions, instructions)])
            }
        }
    }

    fn time(&self, scenario: &Scenario, who: &str) -> Result<Figures, String> {
        let Timed { cpu, wall, .. } = self.timed(scenario, who)?;
        let requests = scenario.requests as f64;
        Ok(vec![(Metric::Cpu, cpu / requests / 1e3), (Metric::Rate, requests / wall * 1e9)])
    }

    fn bodies(&self, scenario: &Scenario, who: &str) -> Result<Figures, String> {
        let Timed { cpu, wall, peak, .. } = self.timed(scenario, who)?;
        let mib = scenario.mib() * scenario.requests as f64;
        Ok(vec![
            (Metric::CpuPerMib, cpu / mib / 1e3),
            (Metric::MibPerSecond, mib / wall * 1e9),
            (Metric::PeakMib, peak / 1024.0),
        ])
    }

    fn latency(&self, scenario: &Scenario, who: &str) -> Result<Figures, String> {
        let told = self.timed(scenario, who)?.told;
        let [half, most, nearly] = told[..] else { return Err("the load tells no times".to_owned()) };
        Ok(vec![(Metric::Half, half / 1e3), (Metric::Most, most / 1e3), (Metric::Nearly, nearly / 1e3)])
    }

    fn timed(&self, scenario: &Scenario, who: &str) -> Result<Timed, String> {
        let (server, mut actor) = self.start(scenario, who, scenario.requests, &[])?;
        actor.expect("ready")?;
        let before = measured(scenario, &server, &actor).cpu()?;
        actor.go()?;
        let line = actor.expect("done")?;
        let told = line.split(' ').map(str::parse).collect::<Result<Vec<f64>, _>>().map_err(|_| "no time")?;
        let subject = measured(scenario, &server, &actor);
        let (after, peak) = (subject.cpu()?, subject.memory("VmHWM")?);
        actor.finish()?;
        server.finish()?;
        let (wall, told) = told.split_first().ok_or("no time")?;
        Ok(Timed { cpu: (after - before) as f64, wall: *wall, peak: peak as f64, told: told.to_vec() })
    }

    /// What as many connections more take, each after one request.
    fn idle(&self, scenario: &Scenario, who: &str) -> Result<Figures, String> {
        let hold = |connections: u64| -> Result<u64, String> {
            let held = Scenario { connections, requests: 0, ..*scenario };
            let (server, mut actor) = self.start(&held, who, 0, &[])?;
            actor.expect("ready")?;
            let memory = server.resident()?;
            actor.go()?;
            actor.expect("done")?;
            actor.finish()?;
            server.finish()?;
            Ok(memory)
        };
        let (some, more) = (hold(scenario.requests)?, hold(2 * scenario.requests)?);
        let bytes = more.saturating_sub(some) as f64 * 1024.0 / scenario.requests as f64;
        Ok(vec![(Metric::IdleBytes, bytes)])
    }

    /// The difference between so many requests and twice as many, for each: start and end fall out.
    fn twice(
        &self,
        scenario: &Scenario,
        who: &str,
        count: fn(&Self, &Scenario, &str, u64) -> Result<f64, String>,
    ) -> Result<f64, String> {
        let once = count(self, scenario, who, scenario.requests)?;
        let twice = count(self, scenario, who, 2 * scenario.requests)?;
        Ok((twice - once) / scenario.requests as f64)
    }

    fn calls(&self, scenario: &Scenario, who: &str, requests: u64) -> Result<f64, String> {
        let out = self.scratch.join("strace");
        let tools =
            [tool("strace", "system calls")?, "-f".into(), "-c".into(), "-o".into(), out.clone().into(), "--".into()];
        self.under(scenario, who, requests, &tools)?;
        let text = fs::read_to_string(&out).map_err(|error| format!("cannot read {}: {error}", out.display()))?;
        calls_in(&text).ok_or_else(|| format!("{} has no total", out.display()))
    }

    fn instructions(&self, scenario: &Scenario, who: &str, requests: u64) -> Result<f64, String> {
        let out = self.scratch.join("callgrind");
        let tools = [
            tool("valgrind", "instructions")?,
            "--quiet".into(),
            "--tool=callgrind".into(),
            joined("--callgrind-out-file=", out.as_os_str()),
        ];
        self.under(scenario, who, requests, &tools)?;
        let text = fs::read_to_string(&out).map_err(|error| format!("cannot read {}: {error}", out.display()))?;
        let totals = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        totals.ok_or_else(|| format!("{} has no totals", out.display()))
    }

    /// One run with a tool on whoever is measured.
    fn under(&self, scenario: &Scenario, who: &str, requests: u64, tools: &[OsString]) -> Result<(), String> {
        let (server, mut actor) = self.start(scenario, who, requests, tools)?;
        actor.expect("ready")?;
        actor.go()?;
        actor.expect("done")?;
        actor.finish()?;
        server.finish()
    }

    /// Both sides, the measured one under the tools and on a core of its own.
    fn start(
        &self,
        scenario: &Scenario,
        who: &str,
        requests: u64,
        tools: &[OsString],
    ) -> Result<(Process, Process), String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (server, client) = match scenario.side {
            Side::Server => (who, words(&["load"])),
            Side::Client => (counterpart(scenario), words(&["client", who])),
        };
        let is_server = scenario.side == Side::Server;
        let place = |measured: bool| if measured { (MEASURED, tools) } else { (OTHER, &[][..]) };
        let (core, its_tools) = place(is_server);
        let mut server = Process::start(core, its_tools, &self.program, &words(&["server", server]))?;
        let address = server.expect("listening")?;
        let mut arguments = client;
        for (option, value) in [
            ("--to", address),
            ("--connections", scenario.connections.to_string()),
            ("--depth", scenario.depth.to_string()),
            ("--requests", requests.to_string()),
            ("--target", scenario.target.to_owned()),
            ("--upload", (scenario.upload_mib << 20).to_string()),
            ("--head", scenario.head.to_string()),
            ("--rate", scenario.rate.to_string()),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        let (core, its_tools) = place(!is_server);
        let actor = Process::start(core, its_tools, &self.program, &arguments)?;
        Ok((server, actor))
    }
}

fn measured<'p>(scenario: &Scenario, server: &'p Process, actor: &'p Process) -> &'p Process {
    match scenario.side {
        Side::Server => server,
        Side::Client => actor,
    }
}

/// The calls in the last line of strace's table, `100.00 0.01 12 3456 78 total`: the fourth column.
fn calls_in(table: &str) -> Option<f64> {
    let total = table.lines().rfind(|line| line.trim_end().ends_with(" total"))?;
    let numbers: Vec<&str> = total.split_whitespace().collect();
    // Without errors, that column is empty; older versions leave the third one out of the total.
    numbers.iter().skip(2).take(2).filter_map(|number| number.parse::<f64>().ok()).next_back()
}

#[cfg(test)]
mod tests {
    use super::calls_in;

    #[test]
    fn calls_are_read_from_the_total_of_the_table() {
        let table = "% time     seconds  usecs/call     calls    errors syscall\n 99.00    0.000010           1        12           read\n------\n100.00    0.000010           0        29         1 total\n";
        assert_eq!(calls_in(table), Some(29.0));
        assert_eq!(calls_in("100.00    0.000010           0        29           total\n"), Some(29.0));
        assert_eq!(calls_in("nothing\n"), None);
    }
}
