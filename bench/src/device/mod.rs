//! device-serv behind a TAP, compared with smoltcp with its own driver, and with lwIP if its sources are given.

pub(crate) mod client;
mod jobs;
mod lwip;
mod network;
mod relay;
mod running;
mod server;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use crate::args::{Device, DeviceJob};
use crate::job::FAILED;
use crate::machine::Machine;
use crate::results::{Results, command_line};
use crate::{namespace, report};

use jobs::Bench;
use lwip::Lwip;
use server::Servers;

/// Runs `device`.
pub(crate) fn run(args: &Device) -> Result<ExitCode> {
    if !args.inside {
        // Outside, where cargo finds everything as usual.
        Servers::build()?;
        let code = namespace::enter()?;
        // TAPs and addresses must not be made in the machine's own.
        return code.context("needs a network namespace, and unshare fails");
    }
    namespace::set_up()?;
    ensure!(std::path::Path::new("/dev/net/tun").exists(), "/dev/net/tun is missing: no TAP driver");
    let dir = tempfile::Builder::new().prefix("skiff-bench-").tempdir()?;
    let mut machine = Machine::look(&[], dir.path(), dir.path());
    eprintln!("{} on {}, {}, load {}", machine.commit, machine.kernel, machine.congestion, machine.load);
    let lwip = Lwip::build(args.lwip.as_deref(), dir.path());
    match &lwip {
        Ok(lwip) => _ = machine.programs.insert(Lwip::NAME.to_owned(), lwip.version.clone()),
        Err(error) => eprintln!("SKIPPED: {}: {error:#}", Lwip::NAME),
    }
    let bench = Bench::new(args, Servers::find(args.programs.as_deref())?, lwip, dir)?;
    let names = if args.only.is_empty() { DeviceJob::value_variants() } else { &args.only[..] };
    let date = jiff::Timestamp::now().to_string();
    let mut results = Results { date, command: command_line(), note: args.note.clone(), machine, jobs: vec![] };
    for name in names {
        eprintln!("{} ...", name.name());
        let job = bench.job(*name).with_context(|| name.name())?;
        let result = job.run(&name.name(), bench.rounds());
        println!("{}", report::table(&result));
        results.jobs.push(result);
    }
    if args.out.is_some() || args.only.is_empty() && !args.quick {
        println!("{}", results.write(args.out.as_deref(), "device")?.display());
    }
    let failed = results.jobs.iter().flat_map(|job| &job.skipped).any(|word| word.starts_with(FAILED));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
