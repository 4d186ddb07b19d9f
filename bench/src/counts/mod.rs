//! Instructions of the protocol core, counted by valgrind: the same on every run, whatever the load.
//!
//! Each case runs twice under callgrind in its own process, with different numbers of turns: the difference is the cost
//! of the turns without the program start.

mod cases;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::peers::find;

/// Turns of the two runs of a case.
const TURNS: [u64; 2] = [100, 300];

/// The command line of `counts`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Counts {
    /// File with figures to compare with
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results/counts.json"))]
    baseline: PathBuf,

    /// Write the figures to this file instead of comparing
    #[arg(long)]
    write: bool,

    /// Fail if a case exceeds the baseline by more than PERCENT
    #[arg(long, value_name = "PERCENT")]
    fail_above: Option<f64>,

    /// Run one case TURNS times, and nothing else
    #[arg(long, hide = true, num_args = 2, value_names = ["CASE", "TURNS"])]
    case: Option<Vec<String>>,
}

/// Figures of an earlier run.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Baseline {
    /// The compiler they were counted with.
    rustc: String,
    /// Instructions per turn.
    counts: BTreeMap<String, f64>,
}

/// Counts all cases, or runs one.
pub(crate) fn run(args: &Counts) -> Result<()> {
    if let Some([name, turns]) = args.case.as_deref() {
        return cases::run(name, turns.parse()?);
    }
    if find("valgrind").is_none() {
        println!("SKIPPED: counts: valgrind is not installed");
        return Ok(());
    }
    let baseline = if args.write { Baseline::default() } else { read(&args.baseline)? };
    if !baseline.rustc.is_empty() && baseline.rustc != rustc() {
        println!("baseline: {}; this run: {}", baseline.rustc, rustc());
    }
    println!("| {:<36} | {:>12} | {:>8} |", "instructions of", "each", "change");
    println!("|-{:-<36}-|-{:->12}:|-{:->8}:|", "", "", "");
    let mut counts = BTreeMap::new();
    let mut worse = Vec::new();
    for case in cases::ALL {
        let runs = TURNS.map(|turns| instructions(case.name, turns));
        let [few, many] = runs;
        let each = (many? as f64 - few? as f64) / (TURNS[1] - TURNS[0]) as f64;
        let change = baseline.counts.get(case.name).map(|before| (each / before - 1.0) * 100.0);
        let shown = change.map_or_else(|| "new".to_owned(), |change| format!("{change:+.1}%"));
        println!("| {:<36} | {each:>12.1} | {shown:>8} |", case.what);
        if args.fail_above.zip(change).is_some_and(|(most, change)| change > most) {
            worse.push(case.name);
        }
        counts.insert(case.name.to_owned(), (each * 10.0).round() / 10.0);
    }
    if args.write {
        let text = serde_json::to_string_pretty(&Baseline { rustc: rustc(), counts })?;
        fs::write(&args.baseline, text + "\n").with_context(|| args.baseline.display().to_string())?;
    }
    ensure!(worse.is_empty(), "more instructions than before: {}", worse.join(", "));
    Ok(())
}

/// Saved figures in the order of the cases: name, subject, instructions.
pub(crate) fn kept(path: &Path) -> Result<Vec<(&'static str, &'static str, f64)>> {
    let counts = read(path)?.counts;
    Ok(cases::ALL.iter().filter_map(|case| Some((case.name, case.what, *counts.get(case.name)?))).collect())
}

fn read(path: &Path) -> Result<Baseline> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| path.display().to_string()),
        Err(_) => Ok(Baseline::default()),
    }
}

fn rustc() -> String {
    let output = Command::new("rustc").arg("--version").stdin(Stdio::null()).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Instructions of a process that runs a case.
fn instructions(case: &str, turns: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(std::env::current_exe()?);
    command.args(["counts", "--case", case, &turns.to_string()]).stdin(Stdio::null());
    let output = command.output().context("valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    collected(&said).with_context(|| format!("no count in the output of valgrind: {said}"))
}

/// `==7== Collected : 1234`
fn collected(said: &str) -> Option<u64> {
    said.lines().find_map(|line| line.split("Collected :").nth(1)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_stands_behind_the_word() {
        assert_eq!(collected("==1== Events    : Ir\n==1== Collected : 512345\n==1==\n"), Some(512_345));
        assert_eq!(collected("nothing"), None);
    }

    #[test]
    fn every_case_runs_and_has_a_name_of_its_own() {
        for (at, case) in cases::ALL.iter().enumerate() {
            cases::run(case.name, 2).unwrap();
            assert!(cases::ALL[..at].iter().all(|other| other.name != case.name));
        }
        assert!(cases::run("no such case", 1).is_err());
    }
}
