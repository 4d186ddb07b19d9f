//! The deterministic simulation that docs/RELIABILITY.md describes:
//! `cargo run --profile sim -p skiff-tests --bin simulate -- --seed 1 --seeds 1000`.

use core::time::Duration;
use std::fs;
use std::process::ExitCode;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clap::Parser;
use skiff_tests::simulate::control::Counts;
use skiff_tests::simulate::plan::Plan;
use skiff_tests::simulate::{Failure, simulate, simulate_traced};

/// Simulates a device and its clients in virtual time, with every kind of fault, and checks all replies.
///
/// Each seed is a separate run: the same seed and number of steps repeat it exactly.
#[derive(Debug, Parser)]
#[command(name = "simulate", after_help = "Exit codes: 0 no failure, 1 a seed failed, 2 usage error.")]
struct Args {
    /// First seed; `fresh`: derived from the time
    #[arg(long, default_value = "1", value_parser = seed)]
    seed: u64,
    /// Number of seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Stop after SECONDS, even if seeds are left
    #[arg(long)]
    seconds: Option<u64>,
    /// Commands per run
    #[arg(long, default_value_t = 100)]
    steps: u64,
    /// Stop after this many failures
    #[arg(long, default_value_t = 1)]
    failures: u64,
    /// Lines of the trace to show
    #[arg(long, default_value_t = 40)]
    lines: usize,
    /// Show the trace of every seed
    #[arg(long)]
    trace: bool,
}

fn seed(text: &str) -> Result<u64, String> {
    if text == "fresh" {
        let time = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
        return Ok(time.as_secs() * 1_000_000);
    }
    text.parse().map_err(|_| "a number, or `fresh`".into())
}

fn main() -> ExitCode {
    let args = Args::parse();
    // Failures are panics, reported below.
    if std::env::var_os("RUST_BACKTRACE").is_none() {
        std::panic::set_hook(Box::new(|_| {}));
    }
    let begin = Instant::now();
    let mut done = Done::default();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        if args.seconds.is_some_and(|seconds| begin.elapsed() >= Duration::from_secs(seconds)) {
            break;
        }
        match if args.trace { simulate_traced(seed, args.steps) } else { simulate(seed, args.steps) } {
            Ok(report) => {
                show(&report.trace, args.lines);
                done.add(&report.counts, report.time);
            }
            Err(failure) => {
                tell(seed, &args, &failure);
                done.failures += 1;
                if done.failures >= args.failures {
                    break;
                }
            }
        }
    }
    done.tell(args.seed, begin.elapsed());
    if done.failures > 0 || done.has_grown() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn tell(seed: u64, args: &Args, failure: &Failure) {
    println!("seed {seed}: {}", failure.message);
    println!("the world: {}", Plan::new(seed, args.steps));
    show(&failure.trace, args.lines);
    println!("again: simulate --seed {seed} --steps {} --lines 2000", args.steps);
}

fn show(trace: &[String], lines: usize) {
    for line in &trace[trace.len().saturating_sub(lines)..] {
        println!("{line}");
    }
}

/// The totals.
#[derive(Debug, Default)]
struct Done {
    seeds: u64,
    failures: u64,
    counts: Counts,
    time: Duration,
    /// KiB of memory after the first seeds and now.
    memory: Option<(u64, u64)>,
}

/// The number of seeds after which the memory should no longer grow.
const WARM: u64 = 200;

impl Done {
    fn add(&mut self, counts: &Counts, time: Duration) {
        self.seeds += 1;
        self.counts.add(counts);
        self.time += time;
        if self.seeds >= WARM && self.seeds.is_multiple_of(WARM) {
            let now = resident();
            self.memory = now.map(|now| (self.memory.map_or(now, |(first, _)| first), now));
        }
    }

    /// True if the memory has grown: anything kept from one world to the next is a leak.
    fn has_grown(&self) -> bool {
        self.memory.is_some_and(|(first, last)| last > 2 * first)
    }

    fn tell(&self, first: u64, took: Duration) {
        println!("{} seeds from {first} on: {}", self.seeds, self.counts);
        let rate = |count: u64| count as f64 / took.as_secs_f64();
        println!(
            "{:.1} s for {:.0} hours of the worlds' time: {:.0} commands and {:.0} power cuts a second",
            took.as_secs_f64(),
            self.time.as_secs_f64() / 3600.0,
            rate(self.counts.commands),
            rate(self.counts.power_cuts),
        );
        if let Some((first, last)) = self.memory {
            let grown = if self.has_grown() { ": it grows" } else { "" };
            println!("memory: {first} KiB after {WARM} seeds, {last} KiB in the end{grown}");
        }
    }
}

/// The memory of this process in KiB.
fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}
