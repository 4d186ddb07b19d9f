//! Tables in Markdown. docs/PERFORMANCE.md contains the same ones.

use core::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use crate::measure::stats;
use crate::results::{Bound, ContenderResult, JobResult, Results, Role, Unit};

/// The table of a job.
pub(crate) fn table(job: &JobResult) -> String {
    let mut out = format!("### {}: {}\n\n", job.job, job.what);
    let limit = job.best(Role::Limit);
    let mut rows = vec![[
        String::new(),
        "median".to_owned(),
        "spread".to_owned(),
        "x best peer".to_owned(),
        "x limit".to_owned(),
        "CPU s".to_owned(),
        "server CPU s".to_owned(),
        "client CPU s".to_owned(),
        "client MiB".to_owned(),
    ]];
    for contender in &job.contenders {
        let peer = match contender.role {
            Role::Skiff | Role::Peer => job.best(Role::Peer),
            Role::SkiffServer | Role::PeerServer => job.best(Role::PeerServer),
            Role::Limit => None,
        };
        let against = |other: Option<&ContenderResult>| {
            let ratio = other.and_then(|other| stats::ratio(&contender.values, &other.values));
            ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"))
        };
        let seconds = |values: &[f64]| stats::median(values).map_or_else(String::new, short);
        let memory = |kib: Option<f64>| kib.map_or_else(String::new, |kib| format!("{:.1}", kib / 1024.0));
        rows.push([
            contender.name.clone(),
            number(contender.median(), job.unit),
            spread(&contender.values, job.unit),
            against(peer),
            if contender.role == Role::Limit { String::new() } else { against(limit) },
            seconds(&contender.cpu()),
            seconds(&contender.server_cpu),
            seconds(&contender.client_cpu),
            memory(contender.client_memory),
        ]);
    }
    // What no contender has needs no column.
    let used: Vec<_> = (0..rows[0].len()).filter(|&at| rows[1..].iter().any(|row| !row[at].is_empty())).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(3);
    for (place, row) in rows.iter().enumerate() {
        for &at in &used {
            // Names to the left, figures to the right.
            let (cell, width) = (&row[at], width(at));
            _ = if at == 0 { write!(out, "| {cell:<width$} ") } else { write!(out, "| {cell:>width$} ") };
        }
        out.push_str("|\n");
        if place == 0 {
            for &at in &used {
                let dashes = "-".repeat(width(at));
                _ = if at == 0 { write!(out, "|-{dashes}-") } else { write!(out, "|-{dashes}:") };
            }
            out.push_str("|\n");
        }
    }
    extras(&mut out, job);
    for goal in &job.goals {
        let word = if goal.met { "met" } else { "MISSED" };
        let (least_or_most, bound) = match goal.bound {
            Bound::Most(most) => ("most", most),
            Bound::Least(least) => ("least", least),
        };
        let (measured, bound) = (short(goal.measured), short(bound));
        _ = writeln!(out, "\n- {}: {measured} (goal: at {least_or_most} {bound}): {word}", goal.what);
    }
    for skipped in &job.skipped {
        _ = writeln!(out, "\n- SKIPPED: {skipped}");
    }
    out
}

fn extras(out: &mut String, job: &JobResult) {
    for contender in job.contenders.iter().filter(|contender| !contender.extra.is_empty()) {
        let figures: Vec<_> =
            contender.extra.iter().map(|extra| format!("{} {}", short(extra.value), extra.what)).collect();
        _ = writeln!(out, "\n- {}: {}", contender.name, figures.join(", "));
    }
}

/// Prints the missed and met goals of earlier runs, and then their tables.
pub(crate) fn kept(paths: &[PathBuf]) -> Result<()> {
    let runs = paths.iter().map(|path| Results::read(path)).collect::<Result<Vec<_>>>()?;
    let mut out = goals(&runs);
    for run in &runs {
        _ = writeln!(out, "\n## {}, commit {}, {}", title(run), run.machine.commit, run.machine.processor);
        for job in &run.jobs {
            _ = write!(out, "\n{}", table(job));
        }
    }
    // Not `print!`, which panics when nobody reads on.
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

/// `host 2026-11-28`
fn title(run: &Results) -> String {
    format!("{} {}", run.command.get(1).map_or("", String::as_str), run.date.get(..10).unwrap_or_default())
}

/// The goals of several runs side by side, missed ones first.
fn goals(runs: &[Results]) -> String {
    let titles: Vec<_> = runs.iter().map(title).collect();
    let head =
        format!("| job | figure | goal | {} |\n|---|---|---|{}\n", titles.join(" | "), "---:|".repeat(runs.len()));
    let (mut missed, mut met) = (head.clone(), head);
    // A goal is known by its job and its place there: the best peer, which its name contains, differs from run to run.
    let mut seen = Vec::new();
    for job in runs.iter().flat_map(|run| &run.jobs) {
        if seen.contains(&&job.job) {
            continue;
        }
        seen.push(&job.job);
        for (place, goal) in job.goals.iter().enumerate() {
            let of = |run: &Results| {
                let job = run.jobs.iter().find(|other| other.job == job.job)?;
                job.goals.get(place).map(|goal| (short(goal.measured), goal.met))
            };
            let found: Vec<_> = runs.iter().map(of).collect();
            let (word, bound) = match goal.bound {
                Bound::Most(most) => ("at most", short(most)),
                Bound::Least(least) => ("at least", short(least)),
            };
            let cells = found.iter().map(|found| match found {
                Some((value, true)) => value.clone(),
                Some((value, false)) => format!("**{value}**"),
                None => String::new(),
            });
            let cells: Vec<_> = cells.collect();
            let is_met = found.iter().flatten().all(|(_, met)| *met);
            let out = if is_met { &mut met } else { &mut missed };
            _ = writeln!(out, "| {} | {} | {word} {bound} | {} |", job.job, goal.what, cells.join(" | "));
        }
    }
    format!("## Goals missed in a run\n\n{missed}\n## Goals met\n\n{met}")
}

/// A value with its unit, with three significant digits.
fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 0.1 => format!("{} ms", short(value * 1e3)),
        Unit::Seconds => format!("{} s", short(value)),
        Unit::Microseconds => format!("{} us", short(value)),
        Unit::Kib if value >= 1024.0 => format!("{} MiB", short(value / 1024.0)),
        Unit::Kib => format!("{} KiB", short(value)),
        Unit::MbPerSecond => format!("{} MB/s", short(value)),
        Unit::PerSecond => format!("{}/s", short(value)),
    }
}

/// The range that contains half of all values.
fn spread(values: &[f64], unit: Unit) -> String {
    if values.len() < 2 {
        return String::new();
    }
    let Some((low, high)) = stats::quartiles(values) else { return String::new() };
    format!("{} to {}", number(low, unit), number(high, unit))
}

/// Three significant digits.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 1.0 || small == 0.0 => format!("{value:.2}"),
        small if small >= 0.1 => format!("{value:.3}"),
        small if small >= 0.01 => format!("{value:.4}"),
        _ => format!("{value:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use crate::results::GoalResult;

    fn contender(name: &str, role: Role, values: &[f64]) -> ContenderResult {
        let samples: Vec<_> = values.iter().map(|&value| Sample { value, ..Sample::default() }).collect();
        ContenderResult::new(name, role, &samples, Vec::new())
    }

    #[test]
    fn a_table_compares_like_with_like() {
        let job = JobResult {
            job: "get".to_owned(),
            what: "a file".to_owned(),
            unit: Unit::Seconds,
            contenders: vec![
                contender("skiff", Role::Skiff, &[0.5, 1.0, 0.5]),
                contender("slow", Role::Peer, &[4.0, 4.0, 4.0]),
                contender("fast", Role::Peer, &[1.0, 2.0, 1.0]),
                contender("server", Role::SkiffServer, &[0.3, 0.3, 0.3]),
                contender("sendfile", Role::Limit, &[0.25, 0.5, 0.25]),
            ],
            goals: vec![GoalResult::new("skiff / fast".to_owned(), 0.5, Bound::Most(0.85))],
            skipped: vec!["x: not installed".to_owned()],
        };
        let table = table(&job);
        let row = |name: &str| table.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap().to_owned();
        let cells = |name: &str| row(name).split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(cells("skiff")[2..6], ["0.500 s", "0.500 s to 0.750 s", "0.50", "2.00"]);
        assert_eq!(cells("slow")[4..6], ["4.00", "16.00"]);
        // There is no other server by itself to compare with.
        assert_eq!(cells("server")[4], "");
        assert!(table.contains("skiff / fast: 0.500 (goal: at most 0.850): met") && table.contains("SKIPPED: x"));
        assert!(!table.contains("CPU"), "{table}");
    }

    fn run(date: &str, jobs: Vec<JobResult>) -> Results {
        let machine = r#"{"kernel": "", "processor": "", "processors": 2, "memory_mib": 1, "congestion": "", "disk": "",
            "tmpfs": "", "load": 0.0, "rustc": "", "commit": "", "programs": {}}"#;
        let (command, machine) =
            (vec!["skiff-bench".to_owned(), "host".to_owned()], serde_json::from_str(machine).unwrap());
        Results { date: date.to_owned(), command, note: None, machine, jobs }
    }

    #[test]
    fn goals_of_several_runs_stand_beside_each_other_and_missed_ones_come_first() {
        let job = |name: &str, best: &str, measured: [f64; 2]| {
            let goals = measured.map(|measured| GoalResult::new(format!("skiff / {best}"), measured, Bound::Most(0.9)));
            let (job, contenders) = (name.to_owned(), Vec::new());
            JobResult {
                job,
                what: String::new(),
                unit: Unit::Seconds,
                contenders,
                goals: goals.into(),
                skipped: vec![],
            }
        };
        let first = run("2026-11-25T1", vec![job("get", "a", [0.8, 0.5])]);
        let second = run("2026-11-28T1", vec![job("get", "b", [1.0, 0.6]), job("put", "b", [0.7, 0.7])]);
        let goals = goals(&[first, second]);
        let (missed, met) = goals.split_once("## Goals met").unwrap();
        assert!(missed.contains("| goal | host 2026-11-25 | host 2026-11-28 |"), "{goals}");
        assert!(missed.contains("| get | skiff / a | at most 0.900 | 0.800 | **1.00** |"), "{goals}");
        assert!(
            met.contains("| 0.500 | 0.600 |") && met.contains("| put | skiff / b | at most 0.900 |  | 0.700 |"),
            "{goals}"
        );
    }

    #[test]
    fn figures_have_three_digits() {
        assert_eq!(
            ["0.00", "0.00123", "0.0123", "0.123", "1.23", "12.3", "123"].map(str::to_owned),
            [0.0, 0.001_234, 0.01234, 0.1234, 1.234, 12.34, 123.4].map(short)
        );
        assert_eq!(number(0.0123, Unit::Seconds), "12.3 ms");
        assert_eq!(number(2048.0, Unit::Kib), "2.00 MiB");
    }
}
