//! Full runs: each measures every job once, pinned jobs once in each placement.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::args::{JobKind, Runs};
use crate::job::{FAILED, Job};
use crate::machine::Machine;
use crate::measure::others::{Others, Watch};
use crate::measure::pin::{Placement, Processors};
use crate::results::{JobResult, Results, command_line};
use crate::{namespace, report};

/// The subject of the runs.
pub(crate) struct Subject<'a, N> {
    /// `host` or `device`.
    pub(crate) kind: &'static str,
    pub(crate) names: &'a [N],
    pub(crate) rounds: u32,
    /// Whether results are written to a file even without `--out`.
    pub(crate) is_whole: bool,
}

/// Does `runs.runs` runs.
pub(crate) fn measure<'j, N: JobKind>(
    subject: &Subject<'_, N>,
    runs: &Runs,
    machine: impl Fn() -> Machine,
    make: impl Fn(N) -> Result<Job<'j>>,
) -> Result<ExitCode> {
    let processors = Processors::look()?;
    let mut all = Vec::new();
    for run in 1..=runs.runs {
        let machine = machine();
        eprintln!("{} on {}, {}, load {}", machine.commit, machine.kernel, machine.congestion, machine.load);
        let run = (runs.runs > 1).then_some(run);
        let (date, command, note) = (jiff::Timestamp::now().to_string(), command_line(), runs.note.clone());
        let mut results = Results { date, command, run, note, machine, jobs: vec![] };
        for &name in subject.names {
            for placement in placements(name, &processors) {
                let result = one(subject, &processors, name, placement, &make);
                // Even after an error: the next job must not inherit this placement.
                processors.for_clients(None)?;
                results.jobs.push(result?);
            }
        }
        if runs.out.is_some() || subject.is_whole {
            println!("{}", results.write(runs.out.as_deref(), subject.kind)?.display());
        }
        all.push(results);
    }
    if all.len() > 1 {
        println!("\n{}", report::goals(&all.iter().collect::<Vec<_>>()));
    }
    let mut skipped = all.iter().flat_map(|run| &run.jobs).flat_map(|job| &job.skipped);
    Ok(if skipped.any(|word| word.starts_with(FAILED)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The placements of a job that this machine allows.
fn placements<N: JobKind>(name: N, processors: &Processors) -> Vec<Option<Placement>> {
    if !name.is_pinned() {
        return vec![None];
    }
    Placement::ALL.into_iter().filter(|placement| processors.allow(*placement)).map(Some).collect()
}

/// Measures one job and prints its table.
fn one<'j, N: JobKind>(
    subject: &Subject<'_, N>,
    processors: &Processors,
    name: N,
    placement: Option<Placement>,
    make: impl Fn(N) -> Result<Job<'j>>,
) -> Result<JobResult> {
    let words = placement.map_or_else(String::new, |placement| format!(", {}", placement.name()));
    eprintln!("{}{words} ...", name.name());
    processors.for_servers(placement)?;
    let mut job = make(name).with_context(|| name.name())?;
    processors.for_clients(placement)?;
    if let Some(placement) = placement
        && let Some(missing) = Placement::ALL.into_iter().find(|other| !processors.allow(*other))
        && placement != missing
    {
        eprintln!("SKIPPED: {}, {}: this machine has only one", name.name(), missing.name());
        job.skipped.push(format!("{}: this machine has only one", missing.name()));
    }
    let (proc, is_own) = namespace::whole_proc();
    let watch = Watch::begin(&proc, is_own);
    let mut result = job.run(&name.name(), subject.rounds);
    result.others = watch.and_then(|watch| watch.end());
    if let Some(word) = result.others.as_ref().and_then(Others::word) {
        eprintln!("DISTURBED: {}{words}: {word}", name.name());
    }
    result.placement = placement;
    println!("{}", report::table(&result));
    Ok(result)
}
