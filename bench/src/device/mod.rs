//! device-serv behind a TAP, compared with smoltcp with its own driver, and with lwIP if its sources are given.

pub(crate) mod client;
mod jobs;
mod lwip;
mod network;
mod raw;
mod relay;
mod running;
mod server;
mod transfer;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::ValueEnum as _;

use crate::args::{Device, DeviceJob};
use crate::machine::Machine;
use crate::namespace;
use crate::whole::{self, Subject};

use jobs::Bench;
use lwip::Lwip;
use server::Servers;

/// Runs `device`.
pub(crate) fn run(args: &Device) -> Result<ExitCode> {
    let Some(proc) = args.inside else {
        // Outside, where cargo finds everything as usual.
        Servers::build(args.programs.is_none())?;
        let code = namespace::enter()?;
        // TAPs and addresses must not be made in the machine's own.
        return code.context("needs a network namespace, and unshare fails");
    };
    namespace::set_up(proc)?;
    ensure!(std::path::Path::new("/dev/net/tun").exists(), "/dev/net/tun is missing: no TAP driver");
    let dir = tempfile::Builder::new().prefix("skiff-bench-").tempdir()?;
    let place = dir.path().to_owned();
    let lwip = Lwip::build(args.lwip.as_deref(), dir.path());
    let version = match &lwip {
        Ok(lwip) => Some(lwip.version.clone()),
        Err(error) => {
            eprintln!("SKIPPED: {}: {error:#}", Lwip::NAME);
            None
        }
    };
    let bench = Bench::new(args, Servers::find(args.programs.as_deref())?, lwip, dir)?;
    let names = if args.only.is_empty() { DeviceJob::value_variants() } else { &args.only[..] };
    let is_whole = args.only.is_empty() && !args.quick;
    let subject = Subject { kind: "device", names, rounds: bench.rounds(), is_whole };
    let machine = || {
        let mut machine = Machine::look(&[], &place, &place);
        machine.programs.extend(version.clone().map(|version| (Lwip::NAME.to_owned(), version)));
        machine
    };
    whole::measure(&subject, &args.runs, machine, |name| bench.job(name))
}
