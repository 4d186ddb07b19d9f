//! What is measured: one file a subject.
//!
//! A job has contenders. In every round each takes one turn, the first of them another one each time, so that what the
//! machine does meanwhile falls on all. What a turn brings is checked outside of the time that is measured.

mod clients;
mod large;
mod memory;
mod session;
mod small;
mod start;
mod tiny;

use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;

use crate::args::{Host, JobName};
use crate::machine::Machine;
use crate::measure::{Sample, stats};
use crate::peers::skiff::Skiff;
use crate::peers::{self, Peer, Programs, Server};
use crate::report;
use crate::results::{ContenderResult, Extra, GoalResult, JobResult, Results, Role, Unit};
use crate::site::{Medium, Site};
use crate::{namespace, tools::Tool};

/// What all jobs share.
struct Bench {
    args: Host,
    site: Site,
    programs: Programs,
    before: Option<Programs>,
    peers: Vec<Box<dyn Peer>>,
}

/// One that takes its turn in every round.
struct Contender<'a> {
    name: String,
    role: Role,
    turn: Box<dyn FnMut() -> Result<Sample> + 'a>,
    /// Figures of other kinds, measured once behind all rounds.
    after: Option<Box<dyn FnMut() -> Result<Vec<Extra>> + 'a>>,
}

impl<'a> Contender<'a> {
    fn new(name: impl Into<String>, role: Role, turn: impl FnMut() -> Result<Sample> + 'a) -> Self {
        Self { name: name.into(), role, turn: Box::new(turn), after: None }
    }

    fn after(mut self, after: impl FnMut() -> Result<Vec<Extra>> + 'a) -> Self {
        self.after = Some(Box::new(after));
        self
    }
}

/// Something to be reached.
struct Goal {
    of: &'static str,
    measure: Measure,
    most: f64,
}

/// What a goal is about.
enum Measure {
    /// Median of the ratios to the best of a role.
    Best(Role),
    /// Median of the ratios to this contender.
    To(&'static str),
    /// The same of the server's processor time.
    ServerCpuTo(&'static str),
    /// The median itself.
    Value,
    /// A figure of another kind.
    Extra(&'static str),
}

/// What is measured.
struct Job<'a> {
    what: String,
    unit: Unit,
    contenders: Vec<Contender<'a>>,
    goals: Vec<Goal>,
    skipped: Vec<String>,
}

impl<'a> Job<'a> {
    fn new(what: impl Into<String>, unit: Unit) -> Self {
        Self { what: what.into(), unit, contenders: Vec::new(), goals: Vec::new(), skipped: Vec::new() }
    }

    fn add(&mut self, contender: Contender<'a>) {
        self.contenders.push(contender);
    }

    fn goal(&mut self, of: &'static str, measure: Measure, most: f64) {
        self.goals.push(Goal { of, measure, most });
    }

    /// Runs it. What fails is left out with a word.
    fn run(mut self, name: &str, rounds: u32) -> JobResult {
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
        let mut result = JobResult { job: name.to_owned(), what, unit, contenders, goals: Vec::new(), skipped };
        result.goals = self.goals.iter().filter_map(|goal| goal.judge(&result)).collect();
        result
    }
}

/// Begins the word on a contender of ours that failed: then the run has.
const FAILED: &str = "FAILED: ";

impl Goal {
    /// `None` if what it is about was not measured.
    fn judge(&self, job: &JobResult) -> Option<GoalResult> {
        let of = job.contender(self.of)?;
        let to = |other: &ContenderResult| stats::ratio(&of.values, &other.values);
        let (what, measured) = match &self.measure {
            Measure::Best(role) => {
                let best = job.best(*role)?;
                (format!("{} / {}", self.of, best.name), to(best)?)
            }
            Measure::To(other) => (format!("{} / {other}", self.of), to(job.contender(other)?)?),
            Measure::ServerCpuTo(other) => {
                let ratio = stats::ratio(&of.server_cpu, &job.contender(other)?.server_cpu)?;
                (format!("{} / {other}, processor time of the server", self.of), ratio)
            }
            Measure::Value => (self.of.to_owned(), of.median()),
            Measure::Extra(what) => (format!("{}, {what}", self.of), of.extra(what)?),
        };
        Some(GoalResult { what, measured, most: self.most, met: measured <= self.most })
    }
}

impl Bench {
    /// The peer of this name, if it is there and wanted.
    fn peer(&self, name: &str) -> Option<&dyn Peer> {
        self.peers.iter().find(|peer| peer.name() == name).map(AsRef::as_ref)
    }

    /// skiff's programs, with what tables put behind its name: those of now, and those of an earlier build if there are any.
    fn builds(&self) -> Vec<(&'static str, &Programs)> {
        let before = self.before.iter().map(|programs| (" before", programs));
        core::iter::once(("", &self.programs)).chain(before).collect()
    }

    /// Starts a peer that serves `root`; says why in `job` if that does not work, and nothing if it is not there.
    fn start(&self, job: &mut Job<'_>, name: &str, root: &Path) -> Option<Rc<Server>> {
        match Server::start(self.peer(name)?, root) {
            Ok(server) => Some(Rc::new(server)),
            Err(error) => {
                job.skipped.push(format!("{name}: {error:#}"));
                None
            }
        }
    }

    /// Starts host-serv.
    fn start_skiff(&self, programs: &Programs, root: &Path) -> Result<Rc<Server>> {
        Ok(Rc::new(Server::start(&Skiff::new(programs), root)?))
    }

    /// Pairs of servers that serve one directory, each with client programs.
    fn pairs(&self, job: &mut Job<'_>, root: &Path, pairs: &[(&str, &[Tool])]) -> Vec<(Rc<Server>, Tool)> {
        let mut found = Vec::new();
        for (name, tools) in pairs {
            if let Some(server) = self.start(job, name, root) {
                found.extend(tools.iter().map(|tool| (Rc::clone(&server), tool.clone())));
            }
        }
        found
    }
}

/// A server with a client, as tables have it.
fn pair(server: &Server, tool: &Tool) -> String {
    match tool {
        // Known by one name.
        Tool::Rsync => "rsync".to_owned(),
        Tool::Atftp => "atftp".to_owned(),
        Tool::Sftp => "sftp".to_owned(),
        tool => format!("{} + {}", server.name, tool.name()),
    }
}

/// Runs `host`.
pub(crate) fn host(args: &Host) -> Result<ExitCode> {
    known(args.peers.as_deref().unwrap_or_default())?;
    if !args.inside {
        // Outside, where cargo finds everything as usual.
        if args.programs.is_none() {
            Programs::build()?;
        }
        if let Some(code) = namespace::enter()? {
            return Ok(code);
        }
    } else {
        namespace::set_up()?;
    }
    raise_descriptor_limit();
    let programs = match &args.programs {
        Some(dir) => Programs::in_dir(dir)?,
        None => Programs::beside()?,
    };
    let before = args.before.as_deref().map(Programs::in_dir).transpose()?;
    let peers = there(args.peers.as_deref());
    let site = Site::new(args)?;
    let machine = Machine::look(&peers, site.path(Medium::Disk), site.path(Medium::Memory));
    eprintln!("{} on {}, {}, load {}", machine.commit, machine.kernel, machine.congestion, machine.load);
    let bench = Bench { args: args.clone(), site, programs, before, peers };
    let names = if args.only.is_empty() { JobName::value_variants() } else { &args.only[..] };
    let date = jiff::Timestamp::now().to_string();
    let mut results =
        Results { date, command: std::env::args().collect(), note: args.note.clone(), machine, jobs: vec![] };
    results.command.retain(|word| word != "--inside");
    for name in names {
        eprintln!("{} ...", name.name());
        let job = bench.job(*name).with_context(|| name.name())?;
        let result = job.run(&name.name(), args.rounds);
        println!("{}", report::table(&result));
        results.jobs.push(result);
    }
    if args.out.is_some() || args.only.is_empty() {
        println!("{}", results.write(args.out.as_deref(), "host")?.display());
    }
    let failed = results.jobs.iter().flat_map(|job| &job.skipped).any(|word| word.starts_with(FAILED));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Bench {
    fn job(&self, name: JobName) -> Result<Job<'_>> {
        match name {
            JobName::GetDiscard => large::get_discard(self),
            JobName::GetTmpfs => large::get_tmpfs(self),
            JobName::PutTmpfs => large::put_tmpfs(self),
            JobName::PutDisk => large::put_disk(self),
            JobName::SmallGetTmpfs => small::get(self, Medium::Memory),
            JobName::SmallGetDisk => small::get(self, Medium::Disk),
            JobName::SmallPutDisk => small::put_disk(self),
            JobName::Tiny => tiny::job(self),
            JobName::Session => session::job(self),
            JobName::Clients => clients::job(self),
            JobName::ServerMemory => memory::server(self),
            JobName::SessionMemory => memory::session(self),
            JobName::Start => start::job(self),
        }
    }
}

/// An error if one of these is no server of [`peers::all`]; `none` stands for none of them.
fn known(wanted: &[String]) -> Result<()> {
    let all: Vec<_> = peers::all().iter().map(|peer| peer.name()).collect();
    let unknown = wanted.iter().find(|name| !all.contains(&name.as_str()) && *name != "none");
    unknown.map_or(Ok(()), |name| bail!("no server {name}: there are {}, and none", all.join(", ")))
}

/// The peers that are there and wanted; says of the others that they are not.
fn there(wanted: Option<&[String]>) -> Vec<Box<dyn Peer>> {
    let mut missing = false;
    let peers = peers::all().into_iter().filter(|peer| {
        if wanted.is_some_and(|wanted| wanted.iter().all(|name| name != peer.name())) {
            return false;
        }
        let why = if peers::find(peer.program()).is_none() { Some("not installed") } else { peer.obstacle() };
        if let Some(why) = why {
            eprintln!("SKIPPED: {}: {why}", peer.name());
            missing = true;
        }
        why.is_none()
    });
    let peers: Vec<_> = peers.collect();
    for tool in Tool::PEERS.iter().filter(|tool| peers::find(tool.name()).is_none()) {
        eprintln!("SKIPPED: {}: not installed", tool.name());
        missing = true;
    }
    if missing {
        eprintln!("{}", peers::INSTALL);
    }
    peers
}

/// Hundreds of sessions are open at a time.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed<'a>(name: &str, role: Role, value: f64) -> Contender<'a> {
        Contender::new(name, role, move || Ok(Sample { value, server_cpu: Some(value), ..Sample::default() }))
    }

    #[test]
    fn goals_are_judged_and_what_fails_is_left_out_with_a_word() {
        let mut job = Job::new("x", Unit::Seconds);
        job.add(fixed("ours", Role::Skiff, 1.0).after(|| Ok(vec![Extra { what: "calls".to_owned(), value: 7.0 }])));
        job.add(fixed("theirs", Role::Peer, 2.0));
        job.add(fixed("worse", Role::Peer, 3.0));
        job.add(Contender::new("broken", Role::Peer, || anyhow::bail!("no")));
        job.goal("ours", Measure::Best(Role::Peer), 0.5);
        job.goal("ours", Measure::To("worse"), 0.3);
        job.goal("ours", Measure::ServerCpuTo("theirs"), 1.0);
        job.goal("ours", Measure::Value, 0.9);
        job.goal("ours", Measure::Extra("calls"), 7.0);
        job.goal("ours", Measure::To("broken"), 1.0);
        let result = job.run("x", 3);
        assert_eq!(result.contenders.len(), 3);
        assert!(result.contenders.iter().all(|contender| contender.values.len() == 3));
        let met: Vec<_> = result.goals.iter().map(|goal| goal.met).collect();
        assert_eq!(met, [true, false, true, false, true]);
        assert_eq!(result.skipped, ["broken: no"]);
    }

    #[test]
    fn a_contender_of_ours_that_fails_fails_the_run() {
        let mut job = Job::new("x", Unit::Seconds);
        job.add(Contender::new("ours", Role::SkiffServer, || anyhow::bail!("no")));
        assert_eq!(job.run("x", 1).skipped, ["FAILED: ours: no"]);
    }
}
