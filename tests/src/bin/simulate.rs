//! Runs the deterministic simulation: see `docs/RELIABILITY.md`.
use std::process::ExitCode;

use skiff_tests::simulate::simulate;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let seed: u64 = args[1].parse().unwrap();
    let count: u64 = args[2].parse().unwrap();
    let steps: u64 = args[3].parse().unwrap();
    let start = std::time::Instant::now();
    let mut counts = skiff_tests::simulate::control::Counts::default();
    if args.len() < 5 {
        std::panic::set_hook(Box::new(|_| ()));
    }
    let mut failed = 0;
    for seed in seed..seed + count {
        match simulate(seed, steps) {
            Ok(report) => counts.add(&report.counts),
            Err(failure) => {
                println!("seed {seed}: {}", failure.message);
                if count == 1 {
                    for line in failure.trace {
                        println!("{line}");
                    }
                }
                failed += 1;
                if failed > 20 {
                    break;
                }
            }
        }
    }
    println!("{counts} in {:?}", start.elapsed());
    ExitCode::SUCCESS
}
