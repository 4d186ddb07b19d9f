//! A background process: started, ready, stopped.

use core::time::Duration;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::measure::run::Timed;
use crate::measure::{Cpu, process};

/// How long something may take to start or to end. Nothing waits for it to pass.
const LIMIT: Duration = Duration::from_secs(60);

/// A background process: started, ready, stopped.
#[derive(Debug)]
pub(super) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Running {
    /// Starts it and waits for the first line that it prints.
    pub(super) fn start(name: &str, command: &mut Command) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("skiff-bench-log-").tempdir()?;
        let log = dir.path().join("log");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let child = command.spawn().with_context(|| format!("{command:?}"))?;
        let mut running = Self { name: name.to_owned(), child, log, _dir: dir };
        running.wait_until_ready()?;
        Ok(running)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let mut out = self.child.stdout.take().context("standard output")?;
        let limit = Timespec { tv_sec: LIMIT.as_secs().try_into()?, tv_nsec: 0 };
        let mut byte = [0];
        while byte != [b'\n'] {
            let ready = poll(&mut [PollFd::new(&out, PollFlags::IN)], Some(&limit))?;
            ensure!(ready > 0, "{} was not ready after {} s; {}", self.name, LIMIT.as_secs(), self.said());
            if out.read(&mut byte)? == 0 {
                bail!("{} did not start; {}", self.name, self.said());
            }
        }
        // A program that prints more must not fail because of that.
        self.child.stdout = Some(out);
        Ok(())
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its output to standard error.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default().trim().to_owned()
    }

    /// How often it has slept, and so has been woken up, so far.
    pub(super) fn sleeps(&self) -> Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/status", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Ok(line.context("voluntary_ctxt_switches")?.trim().parse()?)
    }
}

impl Timed for Running {
    fn cpu(&self) -> Cpu {
        process::tree_cpu(self.pid())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        process::end(&mut self.child, LIMIT);
    }
}
