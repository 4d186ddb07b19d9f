//! Tables in Markdown. docs/PERFORMANCE.md contains the same ones.

use core::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;

use crate::measure::others::Others;
use crate::measure::stats;
use crate::results::{Bound, ContenderResult, GoalResult, JobResult, Results, Role, Unit};

/// The table of a job.
pub(crate) fn table(job: &JobResult) -> String {
    let mut out = format!("### {}: {}\n\n", job.title(), job.what);
    let head =
        ["", "median", "spread", "x best peer", "x limit", "CPU s", "server: user + system", "client: user + system"];
    let mut rows = vec![head.into_iter().chain(["client MiB"]).map(str::to_owned).collect::<Vec<_>>()];
    for contender in &job.contenders {
        let (peer, limit) = rivals(job, contender.role);
        let against = |other: Option<&ContenderResult>| {
            let ratios = other.map(|other| stats::ratios(&contender.values, &other.values)).unwrap_or_default();
            let Some((ratio, (low, high))) = stats::median(&ratios).zip(stats::quartiles(&ratios)) else {
                return String::new();
            };
            if ratios.len() < 2 { format!("{ratio:.2}") } else { format!("{ratio:.2} ({low:.2} to {high:.2})") }
        };
        let seconds = |values: &[f64]| stats::median(values).map_or_else(String::new, short);
        let memory = |kib: Option<f64>| kib.map_or_else(String::new, |kib| format!("{:.1}", kib / 1024.0));
        // The kernel splits the two in steps of 10 ms: the mean of all rounds is finer than their median.
        let mean = |values: &[f64]| stats::mean(values).map(|mean| short(mean.max(0.0)));
        let parts = |all: &[f64], user: &[f64], system: &[f64]| match mean(user).zip(mean(system)) {
            Some((user, system)) => format!("{user} + {system}"),
            None => seconds(all),
        };
        rows.push(vec![
            contender.name.clone(),
            number(contender.median(), job.unit),
            spread(&contender.values, job.unit),
            against(peer),
            against(limit),
            seconds(&contender.cpu()),
            parts(&contender.server_cpu, &contender.server_user, &contender.server_system),
            parts(&contender.client_cpu, &contender.client_user, &contender.client_system),
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
        let measured = short(goal.measured);
        let spread = goal.spread.map_or_else(String::new, |(low, high)| format!(", {} to {}", short(low), short(high)));
        let word = bound(goal.bound).map_or_else(String::new, |bound| format!(" (goal: {bound}): {word}"));
        _ = writeln!(out, "\n- {}: {measured}{spread}{word}", goal.what);
    }
    if let Some(word) = job.others.as_ref().and_then(Others::word) {
        _ = writeln!(out, "\n- DISTURBED: {word}");
    }
    for skipped in &job.skipped {
        _ = writeln!(out, "\n- SKIPPED: {skipped}");
    }
    out
}

/// The best peer and the limit that a contender of this role is compared with.
fn rivals(job: &JobResult, role: Role) -> (Option<&ContenderResult>, Option<&ContenderResult>) {
    let limit = job.best(Role::Limit);
    match role {
        Role::Skiff => (job.best(Role::Peer), job.best(Role::SkiffLimit).or(limit)),
        Role::SkiffServer => (job.best(Role::PeerServer), job.best(Role::SkiffLimit).or(limit)),
        Role::Peer => (job.best(Role::Peer), limit),
        Role::PeerServer => (job.best(Role::PeerServer), limit),
        // How far below the best peer skiff could be.
        Role::Limit | Role::SkiffLimit => (job.best(Role::Peer).or(job.best(Role::PeerServer)), None),
    }
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
    let mut out = goals(&runs.iter().collect::<Vec<_>>());
    for run in &runs {
        _ = writeln!(out, "\n## {}, commit {}, {}", title(run), run.machine.commit, run.machine.processor);
        for job in &run.jobs {
            _ = write!(out, "\n{}", table(job));
        }
    }
    // Not `print!`, which panics when the reader closes.
    Ok(std::io::stdout().write_all(out.as_bytes())?)
}

/// `host 2026-11-28`, or `host 2026-12-01 run 2`
fn title(run: &Results) -> String {
    let kind = run.command.get(1).map_or("", String::as_str);
    let number = run.run.map_or_else(String::new, |run| format!(" run {run}"));
    format!("{kind} {}{number}", run.date.get(..10).unwrap_or_default())
}

/// The goals of several runs side by side, missed ones first.
pub(crate) fn goals(runs: &[&Results]) -> String {
    let titles: Vec<_> = runs.iter().map(|run| title(run)).collect();
    let mut head = format!("| job | figure | goal | {} |", titles.join(" | "));
    let mut line = format!("|---|---|---|{}", "---:|".repeat(runs.len()));
    if runs.len() > 1 {
        head.push_str(" median | min to max |");
        line.push_str("---:|---:|");
    }
    let head = format!("{head}\n{line}\n");
    let (mut missed, mut met, mut compared) = (head.clone(), head.clone(), head);
    // A goal is known by its job and its place there: the best peer, which its name contains, differs from run to run.
    let mut seen = Vec::new();
    for job in runs.iter().flat_map(|run| &run.jobs) {
        let title = job.title();
        if seen.contains(&title) {
            continue;
        }
        for (place, goal) in job.goals.iter().enumerate() {
            let of = |run: &&Results| run.jobs.iter().find(|other| other.title() == title)?.goals.get(place).cloned();
            let found: Vec<_> = runs.iter().map(of).collect();
            let mut cells: Vec<_> = found.iter().map(|found| found.as_ref().map_or_else(String::new, cell)).collect();
            let values: Vec<_> = found.iter().flatten().map(|goal| goal.measured).collect();
            if runs.len() > 1 {
                let end = |part| stats::quantile(&values, part).map_or_else(String::new, short);
                cells.extend([end(0.5), format!("{} to {}", end(0.0), end(1.0))]);
            }
            let out = match bound(goal.bound) {
                None => &mut compared,
                Some(_) if found.iter().flatten().all(|goal| goal.met) => &mut met,
                Some(_) => &mut missed,
            };
            let bound = bound(goal.bound).unwrap_or_default();
            _ = writeln!(out, "| {title} | {} | {bound} | {} |", goal.what, cells.join(" | "));
        }
        seen.push(title);
    }
    format!("## Goals missed in a run\n\n{missed}\n## Goals met\n\n{met}\n## Compared with the limits\n\n{compared}")
}

/// `at most 0.850`
fn bound(bound: Option<Bound>) -> Option<String> {
    Some(match bound? {
        Bound::Most(most) => format!("at most {}", short(most)),
        Bound::Least(least) => format!("at least {}", short(least)),
    })
}

/// What a run measured, with the spread over its rounds; bold if the goal is missed.
fn cell(goal: &GoalResult) -> String {
    let measured = short(goal.measured);
    let measured = if goal.met { measured } else { format!("**{measured}**") };
    let spread = goal.spread.map(|(low, high)| format!(" ({} to {})", short(low), short(high)));
    format!("{measured}{}", spread.unwrap_or_default())
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
    use crate::measure::pin::Placement;
    use crate::measure::{Cpu, Sample};

    fn goal(what: &str, measured: f64, most: f64) -> GoalResult {
        let what = what.to_owned();
        GoalResult { what, measured, spread: None, bound: Some(Bound::Most(most)), met: measured <= most }
    }

    fn job(name: &str, contenders: Vec<ContenderResult>, goals: Vec<GoalResult>) -> JobResult {
        let (job, what) = (name.to_owned(), "a file".to_owned());
        let skipped = vec!["x: not installed".to_owned()];
        JobResult { job, placement: None, what, unit: Unit::Seconds, contenders, goals, skipped, others: None }
    }

    fn contender(name: &str, role: Role, values: &[f64]) -> ContenderResult {
        let samples: Vec<_> = values.iter().map(|&value| Sample { value, ..Sample::default() }).collect();
        ContenderResult::new(name, role, &samples, Vec::new())
    }

    #[test]
    fn a_table_compares_like_with_like() {
        let contenders = vec![
            contender("skiff", Role::Skiff, &[0.5, 1.0, 0.5]),
            contender("slow", Role::Peer, &[4.0, 4.0, 4.0]),
            contender("fast", Role::Peer, &[1.0, 2.0, 1.0]),
            contender("server", Role::SkiffServer, &[0.3, 0.3, 0.3]),
            contender("sendfile", Role::Limit, &[0.25, 0.5, 0.25]),
            contender("verified", Role::SkiffLimit, &[0.4, 0.8, 0.4]),
        ];
        let mut job = job("get", contenders, vec![goal("skiff / fast", 0.5, 0.85)]);
        job.goals[0].spread = Some((0.4, 0.6));
        job.placement = Some(Placement::OneProcessor);
        job.others = Some(Others { processes: 0.3, greatest: None, steal: 0.0 });
        let table = table(&job);
        let row = |name: &str| table.lines().find(|line| line.starts_with(&format!("| {name} "))).unwrap().to_owned();
        let cells = |name: &str| row(name).split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>();
        let same = ["0.50 (0.50 to 0.50)", "1.25 (1.25 to 1.25)"];
        assert_eq!(cells("skiff")[2..6], ["0.500 s", "0.500 s to 0.750 s", same[0], same[1]]);
        // A contender that does not verify is compared with a limit that does not either.
        assert_eq!(cells("slow")[4..6], ["4.00 (3.00 to 4.00)", "16.00 (12.00 to 16.00)"]);
        assert_eq!(cells("verified")[4], "0.40 (0.40 to 0.40)");
        // There is no other server by itself to compare with.
        assert_eq!(cells("server")[4], "");
        assert!(table.contains("### get, one processor: a file"), "{table}");
        assert!(table.contains("skiff / fast: 0.500, 0.400 to 0.600 (goal: at most 0.850): met"), "{table}");
        assert!(table.contains("SKIPPED: x") && table.contains("DISTURBED: other processes took 30%"), "{table}");
        assert!(!table.contains("CPU"), "{table}");
    }

    #[test]
    fn user_and_system_time_of_server_and_client_are_separate() {
        let cpu = |user, system| Some(Cpu { user, system });
        let turn =
            |user| Sample { value: 1.0, server_cpu: cpu(user, 0.3), client_cpu: cpu(0.05, 0.1), ..Sample::default() };
        let contender = ContenderResult::new("skiff", Role::Skiff, &[turn(0.0), turn(0.01), turn(0.0)], Vec::new());
        let table = table(&job("get", vec![contender], Vec::new()));
        assert!(table.contains("| CPU s | server: user + system | client: user + system |"), "{table}");
        assert!(table.contains("| 0.450 |       0.00333 + 0.300 |        0.0500 + 0.100 |"), "{table}");
    }

    fn run(date: &str, jobs: Vec<JobResult>) -> Results {
        let machine = r#"{"kernel": "", "processor": "", "processors": 2, "memory_mib": 1, "congestion": "", "disk": "",
            "tmpfs": "", "load": 0.0, "rustc": "", "commit": "", "programs": {}}"#;
        let (command, machine) =
            (vec!["skiff-bench".to_owned(), "host".to_owned()], serde_json::from_str(machine).unwrap());
        Results { date: date.to_owned(), command, run: None, note: None, machine, jobs }
    }

    #[test]
    fn goals_of_several_runs_stand_beside_each_other_and_missed_ones_come_first() {
        let job = |name: &str, best: &str, measured: [f64; 2]| {
            let goals = measured.map(|measured| goal(&format!("skiff / {best}"), measured, 0.9));
            job(name, Vec::new(), goals.into())
        };
        let first = run("2026-11-25T1", vec![job("get", "a", [0.8, 0.5])]);
        let mut second = run("2026-11-28T1", vec![job("get", "b", [1.0, 0.6]), job("put", "b", [0.7, 0.7])]);
        second.run = Some(2);
        second.jobs[0].goals[0].spread = Some((0.95, 1.05));
        let goals = goals(&[&first, &second]);
        let (missed, met) = goals.split_once("## Goals met").unwrap();
        assert!(missed.contains("| goal | host 2026-11-25 | host 2026-11-28 run 2 | median | min to max |"), "{goals}");
        let row = "| get | skiff / a | at most 0.900 | 0.800 | **1.00** (0.950 to 1.05) | 0.900 | 0.800 to 1.00 |";
        assert!(missed.contains(row), "{goals}");
        let row = "| put | skiff / b | at most 0.900 |  | 0.700 | 0.700 | 0.700 to 0.700 |";
        assert!(met.contains("| 0.500 | 0.600 |") && met.contains(row), "{goals}");
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
