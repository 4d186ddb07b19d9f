//! Programs as processes: host-serv and HAProxy.

use core::time::Duration;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use crate::S3;

/// Time limit for what must happen but may be slow, such as a program that begins to listen.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A running program. Dropping it kills the program.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `command` and appends what it prints to the file `log`.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let command = command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, log: log.to_owned() }
    }

    /// Waits until the program accepts connections at `port`.
    ///
    /// # Panics
    /// If it ends, or does not listen in time.
    pub fn listens(&mut self, port: u16) {
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(self.child.try_wait().unwrap().is_none() && begun.elapsed() < LIMIT, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until the program exits by itself.
    ///
    /// # Panics
    /// If it does not end in time.
    pub fn ends(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < LIMIT, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the program like `kill -9`.
    pub fn kill(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Waits until the program has printed `text`.
    ///
    /// # Panics
    /// If it does not do so in time.
    pub fn prints(&self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            assert!(begun.elapsed() < LIMIT, "{text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the program has printed.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command for host-serv (at `path`) on the storage of `server`, with its port and that of its metrics.
#[must_use]
pub fn host_serv(path: &str, server: &S3, (port, metrics): (u16, u16)) -> Command {
    let mut command = Command::new(path);
    command.arg(port.to_string()).arg("--metrics").arg(format!("127.0.0.1:{metrics}"));
    command.arg("--store").arg(server.url());
    for (key, value) in server.options() {
        command.arg("--store-option").arg(format!("{key}={value}"));
    }
    command
}

/// A free port that the system does not give to outgoing connections, so that it stays free while its program restarts.
/// Each call returns another one.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut ports = core::iter::repeat_with(|| fastrand::u16(10_000..32_000)).take(1000);
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    ports.find(|port| is_free(*port) && GIVEN.lock().unwrap().insert(*port)).unwrap()
}

/// Reports that a test can't run here. This is shown even if the test passes.
pub fn skip(test: &str, why: &str) {
    // Not `eprintln`: the test harness captures it.
    _ = writeln!(std::io::stderr(), "SKIPPED: {test}: {why}");
}
