//! skiff's own server.

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::{Endpoint, Peer, Scheme, free_port, program};

/// The paths of host-serv and host-cli.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) serv: PathBuf,
    pub(crate) cli: PathBuf,
}

impl Programs {
    /// The programs in a directory.
    pub(crate) fn in_dir(dir: &Path) -> Result<Self> {
        let programs = Self { serv: dir.join("host-serv"), cli: dir.join("host-cli") };
        for path in [&programs.serv, &programs.cli] {
            ensure!(path.is_file(), "{} does not exist", path.display());
        }
        Ok(programs)
    }

    /// Builds them from the current sources, with the profile of this program, beside it.
    pub(crate) fn build() -> Result<Self> {
        build(&["--package", "skiff-host", "--package", "skiff-bench", "--bins"], "../Cargo.toml", "")?;
        Self::beside()
    }

    /// The programs that were built beside this one.
    pub(crate) fn beside() -> Result<Self> {
        let me = std::env::current_exe().context("this program")?;
        Self::in_dir(directory(&me)?)
    }
}

/// Builds something with the profile of this program; `manifest` is relative to the bench's own, `below` to the target
/// directory.
pub(crate) fn build(what: &[&str], manifest: &str, below: &str) -> Result<()> {
    let me = std::env::current_exe().context("this program")?;
    let dir = directory(&me)?;
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--profile", profile]).args(what);
    cargo.args(["--manifest-path", &format!("{}/{manifest}", env!("CARGO_MANIFEST_DIR")), "--target-dir"]);
    cargo.arg(dir.parent().context("a target directory")?.join(below));
    let status = cargo.status().with_context(|| format!("{cargo:?}"))?;
    ensure!(status.success(), "{cargo:?}: {status}");
    Ok(())
}

/// The bench's own small program, if it was built.
pub(crate) fn small() -> Result<PathBuf> {
    let me = std::env::current_exe().context("this program")?;
    let small = directory(&me)?.join("skiff-bench-small");
    ensure!(small.is_file(), "{} does not exist; run cargo build -p skiff-bench --bins", small.display());
    Ok(small)
}

/// A server that only answers: the limit for the start of a server.
#[derive(Debug)]
pub(crate) struct Small;

impl Peer for Small {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn program(&self) -> &'static str {
        "skiff-bench-small"
    }

    fn version(&self) -> String {
        concat!("skiff-bench-small ", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn command(&self, _root: &Path, _config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let mut command = Command::new(small()?);
        command.args(["echo", &port.to_string()]);
        Ok((command, Endpoint { scheme: Scheme::Skiff, port }))
    }
}

/// Where cargo puts programs, given one of them, or a test beside it.
pub(crate) fn directory(program: &Path) -> Result<&Path> {
    program.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).context("a directory")
}

/// host-serv, as a user starts it.
#[derive(Debug, Clone)]
pub(crate) struct Skiff {
    serv: PathBuf,
    args: Vec<String>,
}

impl Skiff {
    pub(crate) fn new(programs: &Programs) -> Self {
        Self { serv: programs.serv.clone(), args: Vec::new() }
    }

    /// Accepts so many sessions at a time.
    pub(crate) fn max_clients(mut self, max: u32) -> Self {
        self.args.push(format!("--max-clients={max}"));
        self
    }
}

impl Peer for Skiff {
    fn name(&self) -> &'static str {
        "skiff"
    }

    fn program(&self) -> &'static str {
        "host-serv"
    }

    fn version(&self) -> String {
        concat!("host-serv ", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn command(&self, root: &Path, _config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let mut command = Command::new(&self.serv);
        command.arg(port.to_string()).arg("--root").arg(root).args(&self.args).env_remove("RUST_LOG");
        Ok((command, Endpoint { scheme: Scheme::Skiff, port }))
    }
}

/// host-serv with a secret, which serves only clients with a key, over protected connections.
#[derive(Debug)]
pub(crate) struct Sealed {
    programs: Programs,
}

impl Sealed {
    pub(crate) fn new(programs: &Programs) -> Self {
        Self { programs: programs.clone() }
    }
}

impl Peer for Sealed {
    fn name(&self) -> &'static str {
        "skiff"
    }

    fn program(&self) -> &'static str {
        "host-serv"
    }

    fn version(&self) -> String {
        Skiff::new(&self.programs).version()
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let (secret, key) = (config.join("secret"), config.join("key"));
        let mut new = Command::new(&self.programs.cli);
        new.args(["key", "new"]).arg(&secret);
        let mut grant = Command::new(&self.programs.cli);
        grant.args(["key", "grant", "--secret"]).arg(&secret).args(["--role", "rw", "bench", "-o"]).arg(&key);
        for mut command in [new, grant] {
            let made = command.output().with_context(|| format!("{command:?}"))?;
            ensure!(made.status.success(), "{command:?}: {}", String::from_utf8_lossy(&made.stderr).trim());
        }
        let (mut command, Endpoint { port, .. }) = Skiff::new(&self.programs).command(root, config)?;
        command.arg("--secret").arg(secret);
        Ok((command, Endpoint { scheme: Scheme::Sealed { key }, port }))
    }
}

/// host-serv, watched by strace while it waits for the disk.
#[derive(Debug)]
pub(crate) struct Traced {
    skiff: Skiff,
    log: PathBuf,
}

impl Traced {
    pub(crate) fn new(skiff: &Skiff, log: PathBuf) -> Self {
        Self { skiff: skiff.clone(), log }
    }

    /// How often it made each system call, once it has ended.
    pub(crate) fn calls(&self) -> Result<BTreeMap<String, u32>> {
        let begin = Instant::now();
        loop {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            if let Some(calls) = calls(&text) {
                return Ok(calls);
            }
            ensure!(begin.elapsed() < Duration::from_secs(10), "strace did not exit");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Peer for Traced {
    fn name(&self) -> &'static str {
        "skiff"
    }

    fn program(&self) -> &'static str {
        "strace"
    }

    fn version(&self) -> String {
        self.skiff.version()
    }

    fn command(&self, root: &Path, config: &Path) -> Result<(Command, Endpoint)> {
        let (command, endpoint) = self.skiff.command(root, config)?;
        let mut traced = program(self.program())?;
        // -D: the process that is started becomes host-serv, so that ending it ends that.
        traced.args(["-D", "-f", "-q", "-e", "trace=fsync,fdatasync,syncfs,sync,sync_file_range,msync", "-o"]);
        traced.arg(&self.log).arg(command.get_program()).args(command.get_args());
        Ok((traced, endpoint))
    }
}

/// How often each system call was made; `None` before the end of the process.
fn calls(log: &str) -> Option<BTreeMap<String, u32>> {
    let mut calls = BTreeMap::new();
    let mut first = None;
    let mut ended = false;
    for line in log.lines() {
        let (pid, what) = line.split_once(' ')?;
        ended |= *first.get_or_insert(pid) == pid && what.contains("+++");
        // A call that is interrupted by another thread's has two lines; the second one has no parenthesis in front.
        if let Some((name, _)) = what.trim().split_once('(').filter(|(name, _)| !name.contains(' ')) {
            *calls.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    ended.then_some(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_others_interrupt_count_once() {
        let log = "7  --- SIGTERM ---
8  syncfs(9 <unfinished ...>
9  fsync(4)                          = 0
8  <... syncfs resumed>)             = 0
8  syncfs(9)                         = 0
8  +++ exited with 0 +++
";
        assert_eq!(calls(log), None);
        let calls = calls(&format!("{log}7  +++ exited with 0 +++\n")).unwrap();
        assert_eq!(calls.into_iter().collect::<Vec<_>>(), [("fsync".to_owned(), 1), ("syncfs".to_owned(), 2)]);
    }
}
