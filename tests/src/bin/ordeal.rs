//! The long ordeals of the host, as docs/RELIABILITY.md lists them: `cargo run --release -p skiff-tests --bin ordeal -- all`.

use core::time::Duration;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};

/// Puts host-serv through what the tests do in small.
#[derive(Debug, Parser)]
#[command(
    name = "ordeal",
    after_help = "Exit codes: 0 every promise was kept, 1 could not start or one rate was too low, 2 usage, 101 a promise was broken."
)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Clone, Subcommand)]
enum What {
    /// SIGKILL at any moment of uploads
    Kill {
        /// How often
        #[arg(default_value_t = 200)]
        kills: u32,
        /// Clients that write
        #[arg(long, default_value_t = 4)]
        writers: u32,
        /// The longest life, in milliseconds
        #[arg(long, default_value_t = 100)]
        life: u64,
        /// Of what is left to chance
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Links swapped in by a neighbour
    Links {
        /// Swaps, with openat2 and without it
        #[arg(default_value_t = 100_000)]
        swaps: u64,
        /// Commands meanwhile, at least
        #[arg(long, default_value_t = 100_000)]
        commands: u64,
        /// Clients that use every command
        #[arg(long, default_value_t = 2)]
        clients: usize,
    },
    /// Idle and busy connections
    Crowd {
        /// Connections that do nothing
        #[arg(default_value_t = 1000)]
        idle: usize,
        /// Connections that work
        #[arg(default_value_t = 200)]
        active: usize,
        /// Files that each of these writes and reads
        #[arg(long, default_value_t = 50)]
        files: usize,
    },
    /// A byte now and then, in every state
    Slow {
        /// Slow connections
        #[arg(default_value_t = 500)]
        clients: usize,
        /// Seconds between two bytes
        #[arg(long, default_value_t = 5.0)]
        every: f64,
        /// Seconds that are measured, before, with and after them
        #[arg(long, default_value_t = 60)]
        measure: u64,
        /// Per cent that must be left for an ordinary client
        #[arg(long, default_value_t = 80.0)]
        least: f64,
    },
    /// The order of what is written, synced, named and answered, against a disk that keeps nothing else (strace)
    Order {
        /// Of about 60 changes each
        #[arg(default_value_t = 50)]
        rounds: u32,
        /// Of what is left to chance
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Transfers over a line that loses, delays, doubles and reorders, and fails for 2 s every 30 s
    Soak {
        /// How long
        #[arg(default_value_t = 20.0)]
        minutes: f64,
        /// Of what is left to chance
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// Content spoilt so that TCP can't tell
    Spoil {
        /// How long
        #[arg(default_value_t = 60)]
        seconds: u64,
        /// Of a million full frames
        #[arg(long, default_value_t = 2000)]
        rate: u32,
        /// Of what is left to chance
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
    /// All of these, as long as they are by default
    All,
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    // A release build aborts when it panics: what stands for a process is not dropped, and the process would stay.
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

/// Each as a process of its own: some in a network of their own, and none in the memory of another.
#[cfg(target_os = "linux")]
fn all() -> ExitCode {
    for what in ["kill", "links", "crowd", "order", "slow", "spoil", "soak"] {
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
    use skiff_tests::ordeal::soak::{Soak, Spoil, bad_line};

    let in_a_network = matches!(what, What::Soak { .. } | What::Spoil { .. });
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
            say("soak", &Soak { time, faults: bad_line(), outage, outages_every, seed }.run());
        }
        What::Spoil { seconds, rate, seed } => {
            say("spoil", &Spoil { time: Duration::from_secs(seconds), rate, seed }.run());
        }
        What::All => {}
    }
    ExitCode::SUCCESS
}
