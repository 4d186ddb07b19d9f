//! Runs a client program once and measures it.

use core::time::Duration;
use std::io::{Read as _, Seek as _};
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use skiff_proto::crc::Crc32c;

use super::{Cpu, Sample, process};

/// How long a client program may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The running program, and its deadline.
static WATCHED: Mutex<Option<(OwnedFd, Instant)>> = Mutex::new(None);

/// Runs a program to its end. Its standard output is discarded unless `command` redirects it.
pub(crate) fn timed(command: &mut Command, server: Option<&dyn Timed>) -> Result<Sample> {
    Ok(measured(command, server)?.0)
}

/// Runs a program that measures itself to its end; also returns what it wrote to standard output.
pub(crate) fn output(command: &mut Command, server: Option<&dyn Timed>) -> Result<(Sample, Vec<u8>)> {
    let (sample, output) = measured(command.stdout(Stdio::piped()), server)?;
    // The memory of the bench's own client is of no interest.
    Ok((Sample { client_memory: None, ..sample }, output))
}

/// A server whose processor time is known.
pub(crate) trait Timed {
    /// Processor time so far.
    fn cpu(&self) -> Cpu;
}

fn measured(command: &mut Command, server: Option<&dyn Timed>) -> Result<(Sample, Vec<u8>)> {
    guard();
    let mut said = tempfile::tempfile()?;
    command.stdin(Stdio::null()).stderr(said.try_clone()?);
    let own = process::resident(std::process::id()).unwrap_or(0.0);
    let before = server.map(Timed::cpu);
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| format!("{command:?}"))?;
    watch(child.id(), start + LIMIT);
    let mut output = Vec::new();
    if let Some(out) = &mut child.stdout {
        out.read_to_end(&mut output)?;
    }
    let (status, usage) = process::wait(child.id())?;
    let value = start.elapsed().as_secs_f64();
    unwatch();
    let server_cpu = server.map(Timed::cpu).zip(before).map(|(after, before)| after - before);
    if !status.success() {
        let mut text = String::new();
        _ = said.rewind().and_then(|()| said.read_to_string(&mut text));
        bail!("{command:?}: {status}; {}", text.trim());
    }
    // Until a program begins, a process has the memory of its parent, which counts for its peak: a peak below that of
    // the bench itself can't be measured.
    let client_memory = Some(usage.memory).filter(|memory| *memory > own * 1.01);
    Ok((Sample { value, server_cpu, client_cpu: Some(usage.cpu), client_memory }, output))
}

/// Runs a program to its end; returns the length and the CRC-32C of its standard output.
pub(crate) fn summed(command: &mut Command) -> Result<(u64, u32)> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("{command:?}"))?;
    let mut out = child.stdout.take().context("standard output")?;
    let mut piece = vec![0; 256 * 1024];
    let (mut size, mut crc) = (0, Crc32c::new());
    loop {
        match out.read(&mut piece)? {
            0 => break,
            n => {
                size += n as u64;
                crc.update(&piece[..n]);
            }
        }
    }
    let status = child.wait()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok((size, crc.value()))
}

/// Kills a program that hangs, so that the bench does not hang with it. There is one thread for all programs, so that
/// starting it is not part of a measurement.
fn guard() {
    static GUARD: OnceLock<()> = OnceLock::new();
    GUARD.get_or_init(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                if let Some((process, until)) = &*WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
                    && *until < Instant::now()
                {
                    _ = pidfd_send_signal(process, Signal::KILL);
                }
            }
        });
    });
}

fn watch(pid: u32, until: Instant) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    *WATCHED.lock().unwrap_or_else(PoisonError::into_inner) = process.map(|process| (process, until));
}

fn unwatch() {
    *WATCHED.lock().unwrap_or_else(PoisonError::into_inner) = None;
}
