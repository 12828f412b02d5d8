//! What is compared: each scenario, who takes part, and what is hoped for. One line a scenario, in the order in which they are run.

/// What is measured, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Processor time for each request, and requests a second.
    Time,
    /// How long requests take that come at a fixed rate.
    Latency,
    /// System calls for each request.
    Calls,
    /// Instructions in user space for each request.
    Instructions,
    /// Memory that one more idle connection takes.
    Idle,
    /// Processor time for each MiB of content, MiB a second, and the most memory that was held.
    Bodies,
}

/// Whose work is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The server's; the load is ours.
    Server,
    /// The client's; the server is a bare loop.
    Client,
}

/// A figure that ours should reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Goal {
    pub(super) who: &'static str,
    pub(super) metric: Metric,
    pub(super) bound: Bound,
    /// As a multiple of this one's figure in the same run; by itself, if none.
    pub(super) times: Option<&'static str>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Bound {
    Most(f64),
    Least(f64),
}

/// What a run says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    Cpu,
    Rate,
    Half,
    Most,
    Nearly,
    Calls,
    Instructions,
    IdleBytes,
    CpuPerMib,
    MibPerSecond,
    PeakMib,
}

impl Metric {
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "µs/request",
            Self::Rate => "requests/s",
            Self::Half => "µs, half of them",
            Self::Most => "µs, 90 of 100",
            Self::Nearly => "µs, 99 of 100",
            Self::Calls => "calls/request",
            Self::Instructions => "instructions/request",
            Self::IdleBytes => "bytes/connection",
            Self::CpuPerMib => "µs/MiB",
            Self::MibPerSecond => "MiB/s",
            Self::PeakMib => "MiB at most",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) side: Side,
    pub(super) measure: Measure,
    /// Who takes part; the others' figures are given as multiples of the first's.
    pub(super) who: &'static [&'static str],
    pub(super) connections: u64,
    pub(super) depth: u64,
    /// Requests of one run; for idle connections, how many of those.
    pub(super) requests: u64,
    pub(super) target: &'static str,
    /// Content of each request.
    pub(super) upload_mib: u64,
    /// Bytes of fields that are added to each request.
    pub(super) head: u64,
    /// Requests a second; none: each connection asks again at once.
    pub(super) rate: u64,
    pub(super) goals: &'static [Goal],
}

const SERVERS: &[&str] =
    &["epoll-floor", "tokio-floor", "hyper", "hyper-pipeline-flush", "persist-async", "persist-sync"];
const ON_TOKIO: &[&str] = &["tokio-floor", "hyper", "hyper-pipeline-flush", "persist-async", "persist-sync"];
const CLIENTS: &[&str] = &[
    "std-floor",
    "tokio-floor",
    "hyper",
    "hyper-util",
    "ureq",
    "reqwest",
    "persist-sync conn",
    "persist-sync",
    "persist-async conn",
    "persist-async",
];
const MANY: &[&str] =
    &["tokio-floor", "hyper", "hyper-util", "ureq", "reqwest", "persist-sync", "persist-async conn", "persist-async"];
const PIPELINING: &[&str] = &["std-floor", "tokio-floor", "hyper", "persist-sync conn", "persist-async conn"];
const BODIES: &[&str] = &["std-floor", "hyper", "ureq", "reqwest", "persist-sync", "persist-async"];

const fn most(who: &'static str, metric: Metric, bound: f64, times: &'static str) -> Goal {
    Goal { who, metric, bound: Bound::Most(bound), times: Some(times) }
}

const fn least(who: &'static str, metric: Metric, bound: f64, times: &'static str) -> Goal {
    Goal { who, metric, bound: Bound::Least(bound), times: Some(times) }
}

const fn at_most(who: &'static str, metric: Metric, bound: f64) -> Goal {
    Goal { who, metric, bound: Bound::Most(bound), times: None }
}

/// A scenario of servers, to be completed.
const SERVER: Scenario = Scenario {
    name: "",
    title: "",
    side: Side::Server,
    measure: Measure::Time,
    who: SERVERS,
    connections: 1,
    depth: 1,
    requests: 0,
    target: "/",
    upload_mib: 0,
    head: 0,
    rate: 0,
    goals: &[],
};

/// One axum application on two servers. The target `/streams` is asked for by HTTP/2, `depth` streams side by side.
const AXUM: Scenario = Scenario { who: &["axum-hyper", "axum-persist"], ..SERVER };

/// A scenario of clients, to be completed.
const CLIENT: Scenario = Scenario { side: Side::Client, who: CLIENTS, ..SERVER };

use Metric::{Calls, Cpu, CpuPerMib, Half, IdleBytes, Instructions, MibPerSecond, Most, PeakMib, Rate};

/// The goals are those of the project's performance goals, sections 2 and 3.
#[rustfmt::skip]
pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "server-1", title: "1 connection", connections: 1, requests: 30_000,
        goals: &[most("persist-async", Cpu, 1.08, "epoll-floor")], ..SERVER },
    Scenario { name: "server-64", title: "64 connections", connections: 64, requests: 192_000,
        goals: &[most("persist-async", Cpu, 1.08, "epoll-floor")], ..SERVER },
    Scenario { name: "server-256", title: "256 connections", connections: 256, requests: 192_000,
        goals: &[most("persist-async", Cpu, 1.12, "epoll-floor")], ..SERVER },
    Scenario { name: "server-pipelined", title: "64 connections, 16 requests pipelined on each", connections: 64, depth: 16, requests: 409_600,
        goals: &[most("persist-async", Cpu, 1.15, "epoll-floor"), least("persist-async", Rate, 8.0, "hyper")], ..SERVER },
    Scenario { name: "server-1000", title: "1,000 connections", connections: 1_000, requests: 100_000, who: ON_TOKIO,
        goals: &[most("persist-async", Cpu, 1.06, "tokio-floor")], ..SERVER },
    Scenario { name: "server-5000", title: "5,000 connections", connections: 5_000, requests: 100_000, who: ON_TOKIO,
        goals: &[most("persist-async", Cpu, 1.06, "tokio-floor")], ..SERVER },
    Scenario { name: "server-10000", title: "10,000 connections", connections: 10_000, requests: 100_000, who: ON_TOKIO,
        goals: &[most("persist-async", Cpu, 1.06, "tokio-floor")], ..SERVER },
    Scenario { name: "server-latency", title: "20,000 requests a second, on 64 connections", measure: Measure::Latency, connections: 64, requests: 40_000, rate: 20_000,
        goals: &[most("persist-async", Half, 1.0, "hyper"), most("persist-async", Most, 1.0, "hyper")], ..SERVER },
    Scenario { name: "server-calls", title: "system calls, 1 connection", measure: Measure::Calls, connections: 1, requests: 1_000,
        goals: &[at_most("persist-async", Calls, 3.02)], ..SERVER },
    Scenario { name: "server-calls-64", title: "system calls, 64 connections", measure: Measure::Calls, connections: 64, requests: 6_400,
        goals: &[at_most("persist-async", Calls, 2.05)], ..SERVER },
    Scenario { name: "server-calls-pipelined", title: "system calls, 64 connections, 16 pipelined", measure: Measure::Calls, connections: 64, depth: 16, requests: 51_200,
        goals: &[at_most("persist-async", Calls, 0.2)], ..SERVER },
    Scenario { name: "server-instructions", title: "instructions in user space, 1 connection", measure: Measure::Instructions, connections: 1, requests: 1_000,
        goals: &[at_most("persist-async", Instructions, 3_500.0)], ..SERVER },
    Scenario { name: "server-instructions-pipelined", title: "instructions in user space, 4 connections, 16 pipelined", measure: Measure::Instructions, connections: 4, depth: 16, requests: 6_400,
        goals: &[at_most("persist-async", Instructions, 1_600.0)], ..SERVER },
    Scenario { name: "server-idle", title: "memory of an idle connection, after a request", measure: Measure::Idle, who: ON_TOKIO, requests: 2_000,
        goals: &[at_most("persist-async", IdleBytes, 1_434.0), at_most("persist-sync", IdleBytes, 1_434.0)], ..SERVER },
    Scenario { name: "server-idle-head", title: "memory of an idle connection, after a head of 6 KB", measure: Measure::Idle, who: ON_TOKIO, requests: 2_000, head: 6_000,
        goals: &[at_most("persist-async", IdleBytes, 1_434.0), at_most("persist-sync", IdleBytes, 1_434.0)], ..SERVER },
    Scenario { name: "server-download", title: "responses of 1 MiB", measure: Measure::Bodies, who: ON_TOKIO, requests: 400, target: "/1m",
        goals: &[most("persist-async", CpuPerMib, 1.0, "hyper"), most("persist-async", CpuPerMib, 1.0, "tokio-floor")], ..SERVER },
    Scenario { name: "server-chunked", title: "responses of 1 MiB, chunked", measure: Measure::Bodies, who: ON_TOKIO, requests: 400, target: "/1m-chunked",
        goals: &[most("persist-async", CpuPerMib, 1.0, "hyper"), most("persist-async", CpuPerMib, 1.0, "tokio-floor")], ..SERVER },
    Scenario { name: "server-100m", title: "responses of 100 MiB", measure: Measure::Bodies, who: ON_TOKIO, requests: 4, target: "/100m",
        goals: &[at_most("persist-async", PeakMib, 5.0)], ..SERVER },
    Scenario { name: "server-upload", title: "requests of 1 MiB", measure: Measure::Bodies, who: ON_TOKIO, requests: 400, upload_mib: 1,
        goals: &[most("persist-async", CpuPerMib, 1.0, "hyper"), most("persist-async", CpuPerMib, 1.0, "tokio-floor")], ..SERVER },
    Scenario { name: "axum-1", title: "an axum application, 1 connection", connections: 1, requests: 60_000,
        goals: &[most("axum-persist", Cpu, 1.0, "axum-hyper")], ..AXUM },
    Scenario { name: "axum-64", title: "an axum application, 64 connections", connections: 64, requests: 192_000,
        goals: &[most("axum-persist", Cpu, 1.0, "axum-hyper")], ..AXUM },
    Scenario { name: "axum-http2", title: "an axum application by HTTP/2, 8 connections of 32 streams", connections: 8, depth: 32, requests: 153_600, target: "/streams",
        goals: &[most("axum-persist", Cpu, 1.1, "axum-hyper")], ..AXUM },
    Scenario { name: "client-sequential", title: "1 connection", requests: 40_000,
        goals: &[most("persist-sync conn", Cpu, 1.07, "std-floor"), most("persist-sync conn", Cpu, 0.82, "hyper"), most("persist-sync conn", Cpu, 0.75, "ureq"),
            most("persist-sync", Cpu, 0.82, "hyper"), most("persist-sync", Cpu, 0.75, "ureq"), most("persist-async conn", Cpu, 0.83, "hyper"), most("persist-async", Cpu, 0.83, "hyper")], ..CLIENT },
    Scenario { name: "client-64", title: "64 connections", connections: 64, requests: 96_000, who: MANY,
        goals: &[most("persist-async", Cpu, 0.80, "hyper"), least("persist-async", Rate, 1.25, "hyper")], ..CLIENT },
    Scenario { name: "client-pipelined", title: "1 connection, 16 requests pipelined", depth: 16, requests: 160_000, who: PIPELINING,
        goals: &[least("persist-async conn", Rate, 0.85, "tokio-floor"), least("persist-sync conn", Rate, 0.85, "std-floor"), least("persist-async conn", Rate, 14.0, "hyper")], ..CLIENT },
    Scenario { name: "client-calls", title: "system calls, 1 connection", measure: Measure::Calls, requests: 1_000,
        goals: &[at_most("persist-async", Calls, 3.02), at_most("persist-sync", Calls, 3.02)], ..CLIENT },
    Scenario { name: "client-instructions", title: "instructions in user space, 1 connection", measure: Measure::Instructions, requests: 1_000,
        goals: &[at_most("persist-sync conn", Instructions, 3_200.0), at_most("persist-sync", Instructions, 3_200.0),
            at_most("persist-async conn", Instructions, 5_000.0), at_most("persist-async", Instructions, 5_000.0)], ..CLIENT },
    Scenario { name: "client-64k", title: "responses of 64 KiB", measure: Measure::Bodies, who: BODIES, requests: 6_400, target: "/64k",
        goals: &[least("persist-sync", MibPerSecond, 1.0, "ureq"), least("persist-async", MibPerSecond, 1.0, "hyper")], ..CLIENT },
    Scenario { name: "client-chunked", title: "responses of 1 MiB, chunked", measure: Measure::Bodies, who: BODIES, requests: 800, target: "/1m-chunked",
        goals: &[least("persist-sync", MibPerSecond, 1.0, "ureq"), least("persist-async", MibPerSecond, 1.0, "hyper")], ..CLIENT },
    Scenario { name: "client-100m", title: "responses of 100 MiB", measure: Measure::Bodies, who: BODIES, requests: 10, target: "/100m",
        goals: &[least("persist-sync", MibPerSecond, 1.0, "ureq"), least("persist-async", MibPerSecond, 1.0, "hyper"), at_most("persist-sync", PeakMib, 4.0), at_most("persist-async", PeakMib, 4.0)], ..CLIENT },
    Scenario { name: "client-upload", title: "requests of 100 MiB", measure: Measure::Bodies, who: BODIES, requests: 10, upload_mib: 100,
        goals: &[least("persist-sync", MibPerSecond, 1.0, "reqwest"), least("persist-async", MibPerSecond, 1.0, "reqwest"), at_most("persist-sync", PeakMib, 4.0), at_most("persist-async", PeakMib, 4.0)], ..CLIENT },
];

impl Scenario {
    /// With less work, for a first look.
    pub(super) fn quick(mut self) -> Self {
        let least = match self.measure {
            // Fewer drown in pages.
            Measure::Idle => 1_000,
            _ => self.connections * self.depth,
        };
        self.requests = (self.requests / 8).max(least).next_multiple_of(least);
        self
    }

    /// Content that passes for each request, in MiB.
    pub(super) fn mib(&self) -> f64 {
        match self.target {
            _ if self.upload_mib > 0 => self.upload_mib as f64,
            "/64k" => 1.0 / 16.0,
            "/100m" => 100.0,
            _ => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_single_and_every_goal_is_of_somebody_who_takes_part() {
        let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        for scenario in SCENARIOS {
            for goal in scenario.goals {
                for who in [Some(goal.who), goal.times].into_iter().flatten() {
                    assert!(scenario.who.contains(&who), "{}: {who}", scenario.name);
                }
            }
        }
    }

    #[test]
    fn requests_come_out_even_on_all_connections_also_in_a_hurry() {
        for scenario in SCENARIOS.iter().filter(|scenario| scenario.measure != Measure::Idle) {
            for scenario in [*scenario, scenario.quick()] {
                assert_eq!(scenario.requests % (scenario.connections * scenario.depth), 0, "{}", scenario.name);
            }
        }
    }
}
