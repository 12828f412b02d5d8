//! The oracle: is told what clients ask, what handlers see and what becomes of it, and says which rules that breaks.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use persist_async::{Disposition, Method, Phase};
use tokio::time::Instant;

use crate::link::{Link, Side};
use crate::plan::Plan;
use crate::trace::Trace;
use crate::traffic::DEADLINE;

pub(crate) struct Oracle {
    state: Mutex<State>,
    trace: Arc<Trace>,
}

#[derive(Default)]
struct State {
    cases: BTreeMap<u64, Case>,
    broken: Vec<String>,
}

/// Who asks, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) client: usize,
    /// By a pooled client, which sends again; else by a connection of its own, once.
    pub(crate) pooled: bool,
    /// Requests that may be in flight on one connection.
    pub(crate) depth: u32,
}

/// One request, from all sides.
struct Case {
    plan: Plan,
    asker: Asker,
    asked: Instant,
    /// How often a handler got it, how often with all its content, and how often a handler set out to answer.
    arrivals: u32,
    whole_uploads: u32,
    answers: u32,
    /// A handler of it was ended by a crash.
    cut: bool,
    outcome: Option<(Outcome, Duration)>,
}

/// What its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Its own reply, to its end if it was read to that.
    Reply,
    /// A response of the server's that no handler gave.
    Status(u16),
    /// The content of its reply broke off.
    BrokeOff,
    Failed(Option<Disposition>, Phase),
    /// The client dropped what it did.
    Dropped,
}

impl Oracle {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        Self { state: Mutex::default(), trace }
    }

    /// A rule is broken.
    pub(crate) fn broken(&self, rule: &str, what: impl Display) {
        self.trace.say(format_args!("BROKEN: {rule}: {what}"));
        self.state.lock().expect("no panic").broken.push(format!("{rule}: {what}"));
    }

    pub(crate) fn verdict(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expect("no panic").broken)
    }

    pub(crate) fn cases(&self) -> usize {
        self.state.lock().expect("no panic").cases.len()
    }

    /// A request is about to be sent.
    pub(crate) fn asks(&self, asker: Asker, plan: impl FnOnce(u64) -> Plan) -> Plan {
        let mut state = self.state.lock().expect("no panic");
        let n = state.cases.len() as u64 + 1;
        let plan = plan(n);
        self.trace.say(format_args!("c{} asks {plan:?}", asker.client));
        let (cut, outcome) = (false, None);
        let case = Case {
            plan: plan.clone(),
            asker,
            asked: Instant::now(),
            arrivals: 0,
            whole_uploads: 0,
            answers: 0,
            cut,
            outcome,
        };
        state.cases.insert(n, case);
        plan
    }

    fn case<T>(&self, n: u64, change: impl FnOnce(&mut Case) -> T) -> Option<T> {
        self.state.lock().expect("no panic").cases.get_mut(&n).map(change)
    }

    /// A handler got it.
    pub(crate) fn arrives(&self, n: u64, method: &Method) -> Option<Plan> {
        let plan = self.case(n, |case| {
            case.arrivals += 1;
            case.plan.clone()
        });
        match &plan {
            Some(plan) if plan.method == *method => {}
            _ => self.broken("pairing", format_args!("a handler got {method:?} {n}, which nobody sent")),
        }
        plan
    }

    pub(crate) fn uploaded(&self, n: u64) {
        self.case(n, |case| case.whole_uploads += 1);
    }

    pub(crate) fn answers(&self, n: u64) {
        self.case(n, |case| case.answers += 1);
    }

    pub(crate) fn cut(&self, n: u64) {
        self.case(n, |case| case.cut = true);
    }

    pub(crate) fn ends(&self, n: u64, outcome: Outcome) {
        self.trace.say(format_args!("{n} ends: {outcome:?}"));
        self.case(n, |case| case.outcome = Some((outcome, case.asked.elapsed())));
    }

    /// Failures that this pooled client told.
    pub(crate) fn failures(&self, client: usize) -> usize {
        let told = |case: &&Case| {
            let outcome = case.outcome.map(|(outcome, _)| outcome);
            case.asker.client == client
                && case.asker.pooled
                && matches!(outcome, Some(Outcome::Failed(..) | Outcome::BrokeOff))
        };
        self.state.lock().expect("no panic").cases.values().filter(told).count()
    }

    pub(crate) fn requests(&self, client: usize) -> usize {
        let asked = |case: &&Case| case.asker.client == client && case.asker.pooled;
        self.state.lock().expect("no panic").cases.values().filter(asked).count()
    }

    /// Now that all is over: what became of each request, seen from both ends and on the wire. `calm`: nobody interfered with anything.
    pub(crate) fn judge(&self, links: &[Link], calm: bool) {
        let mut carriers: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for (number, link) in links.iter().enumerate() {
            self.judge_order(number, link);
            for &n in &link.end(Side::Dialler).tap.ids {
                carriers.entry(n).or_default().push(number);
            }
        }
        let cases = std::mem::take(&mut self.state.lock().expect("no panic").cases);
        for (n, case) in &cases {
            let on = carriers.get(n).map_or(&[][..], Vec::as_slice);
            for (rule, what) in case.breaks(on) {
                self.broken(rule, format_args!("request {n}: {what} ({:?} by {:?})", case.outcome, case.asker));
            }
            let alone = case.asker.depth == 1;
            let all_decent = |link: usize| {
                let others = links[link].end(Side::Dialler).tap.ids.iter().filter_map(|other| cases.get(other));
                others.into_iter().all(|other| other.plan.leaves_no_trace() && other.outcome_is_undisturbed())
            };
            let got_it = matches!(case.outcome, Some((Outcome::Reply, _)));
            if got_it || !case.plan.is_decent() || case.cut {
                continue;
            }
            match on {
                [link]
                    if case.arrivals > 0 && !links[*link].harmed && !case.is_late() && (alone || all_decent(*link)) =>
                {
                    self.broken("answered", format_args!("request {n}: on #{link}, which nothing befell, a handler got it, and its client no reply: {:?} by {:?}", case.outcome, case.asker));
                }
                _ if calm && alone && case.asker.pooled => {
                    self.broken(
                        "calm",
                        format_args!(
                            "request {n}: nothing befell anybody, and it failed: {:?} by {:?}",
                            case.outcome, case.asker
                        ),
                    );
                }
                _ => {}
            }
        }
        self.state.lock().expect("no panic").cases = cases;
    }

    /// On one connection, replies go by in the order of their requests, each once.
    fn judge_order(&self, number: usize, link: &Link) {
        let mut requests = link.end(Side::Dialler).tap.ids.iter();
        for reply in &link.end(Side::Acceptor).tap.ids {
            if !requests.any(|request| request == reply) {
                let all = (&link.end(Side::Dialler).tap.ids, &link.end(Side::Acceptor).tap.ids);
                self.broken("order", format_args!("#{number}: reply {reply} has no request before it: {all:?}"));
                return;
            }
        }
    }
}

impl Case {
    fn outcome_is_undisturbed(&self) -> bool {
        !matches!(self.outcome, Some((Outcome::Dropped, _)) | None)
    }

    /// Its deadline has passed, perhaps while it waited for a connection that others had.
    fn is_late(&self) -> bool {
        self.outcome.is_some_and(|(_, after)| after >= DEADLINE)
    }

    /// What this case alone shows to be wrong; `on`: the connections that carried it.
    fn breaks(&self, on: &[usize]) -> Vec<(&'static str, String)> {
        let mut broken = Vec::new();
        let plan = &self.plan;
        // One automatic retry of what may have been seen; more of what a `close` had declined, which only a pipeline knows.
        let most = match (self.asker.pooled && plan.is_repeatable(), self.asker.depth) {
            (false, _) => 1,
            (true, 1) => 2,
            (true, _) => 7,
        };
        if self.arrivals > most {
            broken.push(("once", format!("{} handlers got it, {most} may have", self.arrivals)));
        }
        match self.outcome.map(|(outcome, _)| outcome) {
            None => broken.push(("hang", "nobody knows what became of it".into())),
            Some(Outcome::Reply) if self.answers == 0 => {
                broken.push(("unhandled", "it was answered, and by no handler".into()));
            }
            Some(Outcome::Status(status)) => {
                // A handler that has nothing to say, one that could not read the content, one that was ended.
                let is_500 = plan.downloads().is_none() || self.cut || self.whole_uploads < self.arrivals;
                if status != 500 || !is_500 {
                    broken.push(("status", format!("the server answered {status} by itself")));
                }
            }
            Some(Outcome::Failed(Some(Disposition::NotSent), _)) if self.arrivals > 0 || !on.is_empty() => {
                broken.push(("not sent", format!("it was on {on:?}, and {} handlers got it", self.arrivals)));
            }
            // Handlers of safe requests may have run side by side with the one that said `close`.
            Some(Outcome::Failed(Some(Disposition::Declined), _)) if !plan.method.is_safe() && self.arrivals > 0 => {
                broken.push(("declined", "a handler got it all the same".into()));
            }
            Some(Outcome::Failed(Some(Disposition::PartlySent { .. }), _)) => {
                let whole = if plan.is_a_head_alone() { self.arrivals } else { self.whole_uploads };
                if whole > 0 {
                    broken.push(("partly sent", "a handler got all of it".into()));
                }
            }
            // It failed before any connection had it.
            Some(Outcome::Failed(None, _)) if self.arrivals > 0 => {
                broken.push(("never begun", "a handler got it".into()));
            }
            _ => {}
        }
        broken
    }
}
