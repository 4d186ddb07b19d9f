//! The jobs of `device`: one file per subject.

mod idle;
mod large;
mod latency;
mod line;
mod many;

use core::net::SocketAddr;
use std::fs;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::client::{LARGE, content};
use super::lwip::Lwip;
use super::network::Place;
use super::running::Running;
use super::server::{Baseline, DeviceServ, Servers, Setup};
use super::transfer::Took;
use crate::args::{Device, DeviceJob};
use crate::job::Job;
use crate::measure::{Sample, run};

const KIB: usize = 1024;
const MIB: u64 = 1 << 20;

/// The state that all jobs share.
pub(super) struct Bench {
    servers: Servers,
    lwip: Result<Lwip>,
    scale: Scale,
    rounds: u32,
    dir: TempDir,
}

/// The amount of work.
struct Scale {
    /// Bytes of the large file.
    size: u64,
    /// The divisor for the bytes that a turn moves.
    less: u64,
    /// Small files, and how often all of them are moved.
    files: u32,
    times: u32,
    /// Requests per turn.
    questions: u32,
    /// Seconds of idleness.
    seconds: u64,
    /// Bytes over the lossy link for each session.
    line: u64,
}

impl Bench {
    pub(super) fn new(args: &Device, servers: Servers, lwip: Result<Lwip>, dir: TempDir) -> Result<Self> {
        let scale = if args.quick {
            Scale { size: MIB, less: 64, files: 20, times: 1, questions: 50, seconds: 1, line: MIB / 8 }
        } else {
            Scale { size: 16 * MIB, less: 1, files: 200, times: 20, questions: 5000, seconds: 10, line: MIB }
        };
        fs::write(dir.path().join(LARGE), content(scale.size, 1)?)?;
        Ok(Self { servers, lwip, scale, rounds: if args.quick { 1 } else { args.rounds }, dir })
    }

    pub(super) const fn rounds(&self) -> u32 {
        self.rounds
    }

    pub(super) fn job(&self, name: DeviceJob) -> Result<Job<'_>> {
        match name {
            DeviceJob::Get => large::get(self),
            DeviceJob::Put => large::put(self),
            DeviceJob::SmallBuffersGet => large::small_buffers_get(self),
            DeviceJob::SmallBuffersPut => large::small_buffers_put(self),
            DeviceJob::Files => many::job(self),
            DeviceJob::RoundTrip => latency::job(self),
            DeviceJob::Idle => idle::idle(self),
            DeviceJob::Messages => idle::messages(self),
            DeviceJob::BadLine => line::job(self),
        }
    }

    /// device-serv with the large file, next to this machine.
    fn device_serv(&self, number: u8, offload: bool, buffer: usize) -> Result<Rc<DeviceServ>> {
        let place = Place::near(number);
        let setup = Setup { place, offload, buffer, sessions: 4, preload: Some(self.dir.path()) };
        Ok(Rc::new(DeviceServ::start(&self.servers, setup, None)?))
    }

    fn baseline(&self, number: u8, buffer: usize) -> Result<Rc<Baseline>> {
        Ok(Rc::new(Baseline::start(&self.servers, Place::near(number), buffer, None)?))
    }

    /// lwIP; if it is missing, the job says why.
    fn lwip(&self, number: u8, job: &mut Job<'_>) -> Option<Rc<Baseline>> {
        let started =
            self.lwip.as_ref().map_err(|error| format!("{error:#}")).and_then(|lwip| {
                Baseline::lwip(&lwip.program, Place::near(number)).map_err(|error| format!("{error:#}"))
            });
        started.map(Rc::new).map_err(|word| job.skipped.push(format!("{}: {word}", Lwip::NAME))).ok()
    }
}

/// The bench's own client.
fn client(words: &[&str], addr: SocketAddr) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("device-client").args(words).args(["--addr", &addr.to_string()]);
    Ok(command)
}

/// Runs a client that moves `bytes`, and returns the rate that it measured.
fn rate(command: &mut Command, bytes: u64, server: Option<&Running>) -> Result<Sample> {
    let (sample, said) = run::output(command, server.map(|server| server as _))?;
    let took: Took = serde_json::from_slice(&said).context("what a client prints")?;
    Ok(Sample { value: bytes as f64 / 1e6 / took.seconds, ..sample })
}
