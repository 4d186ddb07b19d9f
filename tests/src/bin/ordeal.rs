//! The long ordeals of the host, as docs/RELIABILITY.md lists them: `cargo run --release -p skiff-tests --bin ordeal --
//! all`.

use core::time::Duration;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

/// Runs long versions of the fault tests of host-serv.
#[derive(Debug, Parser)]
#[command(
    name = "ordeal",
    after_help = "Exit codes: 0 passed, 1 could not start or a rate was too low, 2 usage error, 101 a guarantee was violated."
)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// SIGKILL at any moment of uploads
    Kill {
        /// Number of runs
        #[arg(default_value_t = 200)]
        kills: u32,
        /// Number of writing clients
        #[arg(long, default_value_t = 4)]
        writers: u32,
        /// Longest time until a kill, in milliseconds
        #[arg(long, default_value_t = 100)]
        life: u64,
        /// Seed of the random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Symbolic links swapped in by another process
    Links {
        /// Swaps, with and without openat2
        #[arg(default_value_t = 100_000)]
        swaps: u64,
        /// Minimum number of commands meanwhile
        #[arg(long, default_value_t = 100_000)]
        commands: u64,
        /// Clients that use every command
        #[arg(long, default_value_t = 2)]
        clients: usize,
    },
    /// Idle and busy connections
    Crowd {
        /// Idle connections
        #[arg(default_value_t = 1000)]
        idle: usize,
        /// Busy connections
        #[arg(default_value_t = 200)]
        active: usize,
        /// Files that each of these writes and reads
        #[arg(long, default_value_t = 50)]
        files: usize,
    },
    /// Slow clients, in every state of a connection
    Slow {
        /// Slow connections
        #[arg(default_value_t = 500)]
        clients: usize,
        /// Seconds between two bytes
        #[arg(long, default_value_t = 5.0)]
        every: f64,
        /// Seconds to measure, before, with and after them
        #[arg(long, default_value_t = 60)]
        measure: u64,
        /// Minimum throughput left for an ordinary client, in percent
        #[arg(long, default_value_t = 80.0)]
        least: f64,
    },
    /// Order of writes, syncs, renames and replies, checked against a model of a disk (strace)
    Order {
        /// Number of runs of about 60 changes each
        #[arg(default_value_t = 50)]
        rounds: u32,
        /// Seed of the random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Transfers over a link that drops, delays, duplicates and reorders frames, and is cut for 2 s every 30 s
    Soak {
        /// Duration in minutes
        #[arg(default_value_t = 20.0)]
        minutes: f64,
        /// Seed of the random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Content corrupted so that TCP can't detect it
    Corrupt {
        /// Duration in seconds
        #[arg(default_value_t = 60)]
        seconds: u64,
        /// Corrupted frames per million full frames
        #[arg(long, default_value_t = 2000)]
        rate: u32,
        /// Seed of the random choices
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// All of these, with their defaults
    All,
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    // A release build aborts when it panics: processes would not be dropped and would stay.
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        skiff_tests::programs::kill_all_below();
    }));
    match Args::parse().what {
        What::All => all(),
        what => go(&what),
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    _ = Args::parse();
    eprintln!("ordeal: only on Linux");
    ExitCode::FAILURE
}

/// Runs each as a separate process, because some need a network namespace and none should share memory with another.
#[cfg(target_os = "linux")]
fn all() -> ExitCode {
    for what in ["kill", "links", "crowd", "order", "slow", "corrupt", "soak"] {
        let ran = std::env::current_exe().and_then(|program| std::process::Command::new(program).arg(what).status());
        match ran {
            Ok(status) if status.success() => {}
            _ => return ExitCode::FAILURE,
        }
    }
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn go(what: &What) -> ExitCode {
    use skiff_tests::ordeal::crowd::Crowd;
    use skiff_tests::ordeal::kill::Kill;
    use skiff_tests::ordeal::links::Links;
    use skiff_tests::ordeal::order::Order;
    use skiff_tests::ordeal::slow::Slow;
    use skiff_tests::ordeal::soak::{Corrupt, Soak, bad_link};

    let in_a_network = matches!(what, What::Soak { .. } | What::Corrupt { .. });
    if in_a_network {
        match skiff_tests::namespace::enter(std::env::args_os().skip(1)) {
            Ok(None) => {}
            Ok(Some(status)) => return if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE },
            Err(error) => {
                eprintln!("ordeal: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    let start = Instant::now();
    let say = |name: &str, done: &dyn core::fmt::Display| {
        println!("{name}: {done} ({:.0} s)", start.elapsed().as_secs_f64());
    };
    match *what {
        What::Kill { kills, writers, life, seed } => say("kill", &Kill { kills, writers, life, seed }.run()),
        What::Links { swaps, commands, clients } => {
            for (portable, name) in [(false, "links"), (true, "links, portable")] {
                say(name, &Links { swaps, commands, clients, portable }.run());
            }
        }
        What::Crowd { idle, active, files } => say("crowd", &Crowd { idle, active, files }.run()),
        What::Slow { clients, every, measure, least } => {
            let (every, measure) = (Duration::from_secs_f64(every), Duration::from_secs(measure));
            let done = Slow { clients, every, measure }.run();
            say("slow", &done);
            if 100.0 * done.left() < least {
                eprintln!("ordeal: less than {least}% is left for an ordinary client");
                return ExitCode::FAILURE;
            }
        }
        What::Order { rounds, seed } => {
            for (portable, name) in [(false, "order"), (true, "order, portable")] {
                match (Order { rounds, portable, seed }).run("order") {
                    Some(done) => say(name, &done),
                    None => return ExitCode::FAILURE,
                }
            }
        }
        What::Soak { minutes, seed } => {
            let (outage, outages_every) = (Duration::from_secs(2), Duration::from_secs(30));
            let time = Duration::from_secs_f64(60.0 * minutes);
            say("soak", &Soak { time, faults: bad_link(), outage, outages_every, seed }.run());
        }
        What::Corrupt { seconds, rate, seed } => {
            say("corrupt", &Corrupt { time: Duration::from_secs(seconds), rate, seed }.run());
        }
        What::All => {}
    }
    ExitCode::SUCCESS
}
