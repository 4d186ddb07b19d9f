//! `skiff-bench`: skiff against other ways to move files, on this machine.
//!
//! | module | content |
//! |---|---|
//! | `args` | the command line |
//! | `namespace` | a network namespace for a run |
//! | `machine` | the machine: kernel, processor, versions |
//! | `content`, `site` | the test files, their directories, checks that they arrived |
//! | `peers` | servers: how each is set up, started and ended |
//! | `tools` | client programs: the command line for a task |
//! | `minimal` | the bench's own clients, which do only the protocol |
//! | `wire` | a connection and a skiff session on it, for these clients |
//! | `measure` | time, processor time and memory of processes; pinning; load of other processes; medians |
//! | `whole` | full runs: every job, pinned ones in each placement |
//! | `job`, `jobs` | what is measured, one file per subject |
//! | `device` | the jobs of `device`: servers behind a TAP |
//! | `report`, `results` | tables for people, JSON for later use |
//! | `plot` | SVG from saved results |
//! | `counts` | instructions of the protocol core, without noise |
//!
//! `bench/results/README.md` explains the figures.

mod args;
mod content;
mod counts;
mod device;
mod job;
mod jobs;
mod machine;
mod measure;
mod minimal;
mod namespace;
mod peers;
mod plot;
mod report;
mod results;
mod site;
mod tools;
mod whole;
mod wire;

use std::process::ExitCode;

use args::{Args, Mode};
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.mode {
        Mode::Host(host) => jobs::host(&host),
        Mode::Counts(counts) => counts::run(&counts).map(|()| ExitCode::SUCCESS),
        Mode::Plot(plot) => plot::run(&plot).map(|()| ExitCode::SUCCESS),
        Mode::Tables { results } => report::kept(&results).map(|()| ExitCode::SUCCESS),
        Mode::Device(device) => device::run(&device),
        Mode::DeviceClient(client) => device::client::run(&client).map(|()| ExitCode::SUCCESS),
        Mode::Client(client) => minimal::run(&client).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("skiff-bench: {error:#}");
        ExitCode::FAILURE
    })
}
