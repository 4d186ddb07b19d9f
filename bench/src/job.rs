//! A job: what is measured, the contenders, and the goals.
//!
//! In every round each contender runs once, with a different one first each time, so that disturbances affect all of
//! them.

use anyhow::Result;

use crate::measure::{Sample, stats};
use crate::results::{Bound, ContenderResult, Extra, GoalResult, JobResult, Role, Unit};

/// A contender, which runs once in every round.
pub(crate) struct Contender<'a> {
    name: String,
    role: Role,
    turn: Box<dyn FnMut() -> Result<Sample> + 'a>,
    /// Figures of other kinds, measured once after all rounds.
    after: Option<Box<dyn FnMut() -> Result<Vec<Extra>> + 'a>>,
}

impl<'a> Contender<'a> {
    pub(crate) fn new(name: impl Into<String>, role: Role, turn: impl FnMut() -> Result<Sample> + 'a) -> Self {
        Self { name: name.into(), role, turn: Box::new(turn), after: None }
    }

    pub(crate) fn after(mut self, after: impl FnMut() -> Result<Vec<Extra>> + 'a) -> Self {
        self.after = Some(Box::new(after));
        self
    }
}

/// A goal.
pub(crate) struct Goal {
    of: String,
    measure: Measure,
    bound: Option<Bound>,
}

/// The measure that a goal applies to.
pub(crate) enum Measure {
    /// Median of the ratios to the best of a role.
    Best(Role),
    /// Median of the ratios to this contender.
    To(String),
    /// The same, of the server's processor time.
    ServerCpuTo(String),
    /// The same, of the processor time of server and client together, to the lowest of a role.
    CpuBest(Role),
    /// The same to this contender.
    CpuTo(String),
    /// Median of the ratios of the processor time that it takes beyond that of `base`, to that of `to`.
    AddedCpuTo { base: String, to: String },
    /// The median itself.
    Value,
    /// A figure of another kind.
    Extra(&'static str),
}

/// A job.
pub(crate) struct Job<'a> {
    what: String,
    unit: Unit,
    contenders: Vec<Contender<'a>>,
    goals: Vec<Goal>,
    pub(crate) skipped: Vec<String>,
}

impl<'a> Job<'a> {
    pub(crate) fn new(what: impl Into<String>, unit: Unit) -> Self {
        Self { what: what.into(), unit, contenders: Vec::new(), goals: Vec::new(), skipped: Vec::new() }
    }

    pub(crate) fn add(&mut self, contender: Contender<'a>) {
        self.contenders.push(contender);
    }

    /// Sets a goal: `of` is at most `most`.
    pub(crate) fn goal(&mut self, of: &str, measure: Measure, most: f64) {
        self.goals.push(Goal { of: of.to_owned(), measure, bound: Some(Bound::Most(most)) });
    }

    /// Sets a goal: `of` is at least `least`.
    pub(crate) fn at_least(&mut self, of: &str, measure: Measure, least: f64) {
        self.goals.push(Goal { of: of.to_owned(), measure, bound: Some(Bound::Least(least)) });
    }

    /// Reports a measure without a goal: how far something is from a limit, or how far a limit is from the goal.
    pub(crate) fn compare(&mut self, of: &str, measure: Measure) {
        self.goals.push(Goal { of: of.to_owned(), measure, bound: None });
    }

    /// Runs it. Contenders that fail are left out, with a note.
    pub(crate) fn run(mut self, name: &str, rounds: u32) -> JobResult {
        let count = self.contenders.len();
        let mut samples = vec![Vec::new(); count];
        let mut failed = vec![None; count];
        for round in 0..rounds as usize {
            for turn in 0..count {
                let at = (round + turn) % count;
                if failed[at].is_some() {
                    continue;
                }
                match (self.contenders[at].turn)() {
                    Ok(sample) => samples[at].push(sample),
                    Err(error) => failed[at] = Some(format!("{error:#}")),
                }
            }
        }
        let mut contenders = Vec::new();
        for ((mut contender, samples), failed) in self.contenders.into_iter().zip(samples).zip(failed) {
            let mut extra = Vec::new();
            let failed = failed.or_else(|| match contender.after.as_mut().map(|after| after()) {
                Some(Ok(figures)) => {
                    extra = figures;
                    None
                }
                Some(Err(error)) => Some(format!("{error:#}")),
                None => None,
            });
            match failed {
                None => contenders.push(ContenderResult::new(&contender.name, contender.role, &samples, extra)),
                Some(error) => {
                    let ours = matches!(contender.role, Role::Skiff | Role::SkiffServer);
                    let word = if ours { FAILED } else { "" };
                    self.skipped.push(format!("{word}{}: {error}", contender.name));
                }
            }
        }
        let (what, unit, skipped) = (self.what, self.unit, self.skipped);
        let (job, goals) = (name.to_owned(), Vec::new());
        let mut result = JobResult { job, placement: None, what, unit, contenders, goals, skipped, others: None };
        result.goals = self.goals.iter().filter_map(|goal| goal.judge(&result)).collect();
        result
    }
}

/// The beginning of the note on one of our own contenders that failed: then the run has failed.
pub(crate) const FAILED: &str = "FAILED: ";

impl Goal {
    /// `None` if its measure is missing.
    fn judge(&self, job: &JobResult) -> Option<GoalResult> {
        let of = job.contender(&self.of)?;
        let to = |other: &ContenderResult| stats::ratios(&of.values, &other.values);
        let (what, ratios) = match &self.measure {
            Measure::Best(role) => {
                let best = job.best(*role)?;
                (format!("{} / {}", self.of, best.name), to(best))
            }
            Measure::To(other) => (format!("{} / {other}", self.of), to(job.contender(other)?)),
            Measure::ServerCpuTo(other) => {
                let ratios = stats::ratios(&of.server_cpu, &job.contender(other)?.server_cpu);
                (format!("{} / {other}, processor time of the server", self.of), ratios)
            }
            Measure::CpuBest(role) => {
                let best = job.thriftiest(*role)?;
                (format!("{} / {}, processor time", self.of, best.name), stats::ratios(&of.cpu(), &best.cpu()))
            }
            Measure::CpuTo(other) => {
                let ratios = stats::ratios(&of.cpu(), &job.contender(other)?.cpu());
                (format!("{} / {other}, processor time", self.of), ratios)
            }
            Measure::AddedCpuTo { base, to } => {
                let (base, of, limit) = (job.contender(base)?, of.cpu(), job.contender(to)?);
                let added: Vec<_> = of.iter().zip(base.cpu()).map(|(of, base)| of - base).collect();
                let what = format!("({} - {}) / {to}, processor time", self.of, base.name);
                (what, stats::ratios(&added, &limit.cpu()))
            }
            Measure::Value => return Some(self.result(self.of.clone(), of.median(), None)),
            Measure::Extra(what) => {
                return Some(self.result(format!("{}, {what}", self.of), of.extra(what)?, None));
            }
        };
        Some(self.result(what, stats::median(&ratios)?, stats::quartiles(&ratios)))
    }

    fn result(&self, what: String, measured: f64, spread: Option<(f64, f64)>) -> GoalResult {
        GoalResult {
            what,
            measured,
            spread,
            bound: self.bound,
            met: self.bound.is_none_or(|bound| bound.allows(measured)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Cpu;

    fn fixed<'a>(name: &str, role: Role, value: f64) -> Contender<'a> {
        Contender::new(name, role, move || {
            let (server, client) = (Cpu { user: value, system: 0.0 }, Cpu { user: 0.5, system: 0.5 });
            Ok(Sample { value, server_cpu: Some(server), client_cpu: Some(client), ..Sample::default() })
        })
    }

    #[test]
    fn goals_are_judged_and_what_fails_is_left_out_with_a_word() {
        let mut job = Job::new("x", Unit::Seconds);
        job.add(fixed("ours", Role::Skiff, 1.0).after(|| Ok(vec![Extra { what: "calls".to_owned(), value: 7.0 }])));
        job.add(fixed("theirs", Role::Peer, 2.0));
        job.add(fixed("worse", Role::Peer, 3.0));
        job.add(Contender::new("broken", Role::Peer, || anyhow::bail!("no")));
        job.goal("ours", Measure::Best(Role::Peer), 0.5);
        job.goal("ours", Measure::To("worse".into()), 0.3);
        job.goal("ours", Measure::ServerCpuTo("theirs".into()), 1.0);
        job.goal("ours", Measure::CpuTo("worse".into()), 0.5);
        job.goal("ours", Measure::CpuBest(Role::Peer), 0.6);
        job.goal("worse", Measure::AddedCpuTo { base: "theirs".into(), to: "ours".into() }, 0.5);
        job.goal("ours", Measure::Value, 0.9);
        job.goal("ours", Measure::Extra("calls"), 7.0);
        job.at_least("ours", Measure::To("worse".into()), 0.3);
        job.at_least("ours", Measure::Value, 1.1);
        job.goal("ours", Measure::To("broken".into()), 1.0);
        job.compare("ours", Measure::To("worse".into()));
        let result = job.run("x", 3);
        assert_eq!(result.contenders.len(), 3);
        assert!(result.contenders.iter().all(|contender| contender.values.len() == 3));
        let met: Vec<_> = result.goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true, false, true, true, false, true, false, true, true, false, true]);
        let spreads: Vec<_> = result.goals.iter().map(|goal| goal.spread).collect();
        assert_eq!((spreads[0], spreads[6]), (Some((0.5, 0.5)), None));
        assert_eq!(result.skipped, ["broken: no"]);
    }

    #[test]
    fn a_contender_of_ours_that_fails_fails_the_run() {
        let mut job = Job::new("x", Unit::Seconds);
        job.add(Contender::new("ours", Role::SkiffServer, || anyhow::bail!("no")));
        assert_eq!(job.run("x", 1).skipped, ["FAILED: ours: no"]);
    }
}
