//! The programs host-serv, host-cli and device-serv, and the stand-ins of the original ones, as processes: built,
//! started, watched, stopped.
//!
//! No wait is unbounded: if something does not happen within [`LIMIT`], the test fails. A process does not outlive its
//! value, and only processes started here are ever ended.

use core::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use core::time::Duration;
use std::env;
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// How long a program may take for anything before the test fails. It is long because machines that run tests are busy;
/// no test waits for it to pass.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The workspace's program of this name, built from the current sources.
///
/// # Panics
/// If it can't be built.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(build).join(format!("{name}{}", env::consts::EXE_SUFFIX))
}

/// Builds the programs, because cargo builds no programs of other packages for a test: with the same cargo, into the
/// same directory and with the same profile as the running test. If they are already built, this takes only a moment.
fn build() -> PathBuf {
    let test = env::current_exe().expect("the path of this test");
    let directory = test.parent().expect("a directory");
    // Test binaries lie one directory below programs.
    let profile = if directory.ends_with("deps") { directory.parent().expect("a directory") } else { directory };
    // With --target there is one more directory.
    let above = profile.parent().expect("a directory");
    let (target, triple) = if above.join(".rustc_info.json").is_file() {
        (above, None)
    } else {
        (above.parent().unwrap_or(above), above.file_name())
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.args(["build", "--quiet", "--locked", "--package", "skiff-host", "--bin", "host-serv", "--bin", "host-cli"]);
    cargo.args(["--package", "skiff-device", "--bin", "device-serv"]);
    cargo.args(["--package", "skiff-conformance", "--bin", "skiff-conformance"]);
    // Together with this test binary, so that features are the same and its dependencies are reused.
    cargo.arg("--package").arg(env::var_os("CARGO_PKG_NAME").unwrap_or_else(|| "skiff-tests".into()));
    if let Some((name, _)) = test.file_stem().and_then(OsStr::to_str).and_then(|stem| stem.rsplit_once('-')) {
        cargo.args(["--test", name]);
    }
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"), "--target-dir"]).arg(target);
    if let Some(triple) = triple {
        cargo.arg("--target").arg(triple);
    }
    match profile.file_name().and_then(OsStr::to_str).expect("a profile") {
        "debug" => {}
        name => _ = cargo.args(["--profile", name]),
    }
    // Variables of the package of this test: the build script of ring would run again if they differ.
    for (variable, _) in env::vars_os().filter(|(variable, _)| is_of_package(variable)) {
        cargo.env_remove(variable);
    }
    let output = cargo.stdin(Stdio::null()).output().expect("cargo");
    assert!(output.status.success(), "{cargo:?}\n{}", String::from_utf8_lossy(&output.stderr));
    profile.to_owned()
}

fn is_of_package(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy();
    ["CARGO_PKG_", "CARGO_MANIFEST_", "OUT_DIR"].iter().any(|prefix| name.starts_with(prefix))
}

/// `host-cli` with `dir` as its local directory, without the user's settings.
#[must_use]
pub fn host_cli(dir: &Path) -> Command {
    let mut command = Command::new(program("host-cli"));
    command.current_dir(dir).env("TZ", "UTC").env("SKIFF_HISTORY", "").env_remove("RUST_LOG");
    command.env("NO_COLOR", "1").env("XDG_CONFIG_HOME", dir.join(".config-of-test")).env_remove("SKIFF_BOARD");
    command
}

/// `host-serv` that serves `root` on a free port.
#[must_use]
pub fn host_serv(root: &Path) -> Command {
    let mut command = Command::new(program("host-serv"));
    command.arg("0").arg("--root").arg(root).env_remove("RUST_LOG");
    command
}

/// `device-serv`.
#[must_use]
pub fn device_serv() -> Command {
    Command::new(program("device-serv"))
}

/// `skiff-conformance` with these arguments.
#[must_use]
pub fn conformance(arguments: &[&str]) -> Command {
    let mut command = Command::new(program("skiff-conformance"));
    command.args(arguments);
    command
}

/// A free port outside the ephemeral range, so the system does not assign it to another program; a new one on each
/// call.
///
/// # Panics
/// If all are in use.
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 80).expect("less than 80") * 100;
    let ports = core::iter::repeat_with(|| 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000);
    let is_free = |port: &u16| std::net::TcpListener::bind((core::net::Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.take(10_000).find(is_free).expect("a free port")
}

/// Runs a program to its end, with empty standard input.
///
/// # Panics
/// If it can't be started or does not end.
#[must_use]
pub fn run(command: &mut Command) -> Ran {
    Running::start(command.stdin(Stdio::null())).wait()
}

/// Runs a program to its end with `input` on standard input.
///
/// # Panics
/// As [`run`].
#[must_use]
pub fn run_with(command: &mut Command, input: impl AsRef<[u8]>) -> Ran {
    let mut running = Running::start(command.stdin(Stdio::piped()));
    let mut stdin = running.stdin.take().expect("standard input");
    // It may write before it has read everything, and need not read everything.
    let input = input.as_ref().to_vec();
    let writing = thread::spawn(move || _ = stdin.write_all(&input));
    let ran = running.wait();
    writing.join().expect("written");
    ran
}

/// The result of a program.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub bytes: Vec<u8>,
    /// Its standard error.
    pub err: String,
}

impl Ran {
    /// Its standard output as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn out(&self) -> &str {
        core::str::from_utf8(&self.bytes).expect("text")
    }

    /// Its standard output, after it succeeded without output on standard error.
    ///
    /// # Panics
    /// If it did not.
    #[track_caller]
    #[must_use]
    pub fn ok(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", String::from_utf8_lossy(&self.bytes));
        String::from_utf8(self.bytes).expect("text")
    }

    /// The one line that host-cli printed on standard error when it ended with `code`, without `host-cli: `.
    ///
    /// # Panics
    /// If it ended differently, or printed something else.
    #[track_caller]
    #[must_use]
    pub fn failed(&self, code: i32) -> &str {
        assert_eq!(self.code, Some(code), "{}{}", String::from_utf8_lossy(&self.bytes), self.err);
        let line = self.err.strip_suffix('\n').and_then(|err| err.strip_prefix("host-cli: "));
        match line.filter(|line| !line.contains('\n')) {
            Some(line) => line,
            None => panic!("not one line: {:?}", self.err),
        }
    }
}

/// Output of a program as it arrives.
#[derive(Debug, Default)]
struct Stream {
    state: Mutex<(Vec<u8>, bool)>,
    changed: Condvar,
}

impl Stream {
    /// Collects all output of `from`.
    fn collect(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let stream = Arc::new(Self::default());
        let collected = Arc::clone(&stream);
        thread::spawn(move || {
            let mut buffer = [0; 8192];
            loop {
                let n = from.read(&mut buffer).unwrap_or(0);
                let mut state = collected.lock();
                state.0.extend_from_slice(&buffer[..n]);
                state.1 = n == 0;
                collected.changed.notify_all();
                if n == 0 {
                    return;
                }
            }
        });
        stream
    }

    fn lock(&self) -> MutexGuard<'_, (Vec<u8>, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `done`, given the output so far and whether it is complete, returns something.
    fn wait<T>(&self, done: impl Fn(&[u8], bool) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + LIMIT;
        let mut state = self.lock();
        loop {
            if let Some(found) = done(&state.0, state.1) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().0).into_owned()
    }
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Running {
    child: Child,
    /// Its standard input, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    out: Arc<Stream>,
    err: Arc<Stream>,
}

impl Running {
    /// Starts a program.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = Stream::collect(child.stdout.take().expect("standard output"));
        let err = Stream::collect(child.stderr.take().expect("standard error"));
        Self { stdin: child.stdin.take(), child, out, err }
    }

    /// Starts a program whose standard output is as in `command` and is not collected.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start_with_output_elsewhere(command: &mut Command) -> Self {
        let child = command.stderr(Stdio::piped()).spawn();
        let mut child = child.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let err = Stream::collect(child.stderr.take().expect("standard error"));
        Self { stdin: child.stdin.take(), child, out: Stream::collect(io::empty()), err }
    }

    /// Its process ID.
    ///
    /// # Panics
    /// Never: every process has one.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has been waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process");
    }

    /// True once it has installed a handler for this signal, so that the signal does not just end it.
    #[must_use]
    pub fn catches(&self, signal: Signal) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
        mask & 1 << (signal.as_raw() - 1) != 0
    }

    /// Writes to its standard input, as a user types.
    ///
    /// # Panics
    /// If it does not read any more, or standard input is not a pipe.
    pub fn say(&mut self, text: impl AsRef<[u8]>) {
        self.try_say(text).expect("written");
    }

    /// Writes to the program's standard input.
    ///
    /// # Errors
    /// The program no longer reads it.
    ///
    /// # Panics
    /// If standard input is not a pipe.
    pub fn try_say(&mut self, text: impl AsRef<[u8]>) -> io::Result<()> {
        let stdin = self.stdin.as_mut().expect("standard input");
        stdin.write_all(text.as_ref()).and_then(|()| stdin.flush())
    }

    /// Waits until standard output contains `text` after the first `from` bytes; returns the position after it.
    ///
    /// # Panics
    /// If it does not appear.
    #[track_caller]
    pub fn hear(&self, text: &str, from: usize) -> usize {
        let find = |bytes: &[u8]| bytes.get(from..)?.windows(text.len()).position(|window| window == text.as_bytes());
        let found = self.out.wait(|bytes, ended| match find(bytes) {
            Some(at) => Some(Ok(from + at + text.len())),
            None => ended.then_some(Err(())),
        });
        match found {
            Some(Ok(at)) => at,
            _ => panic!("no {text:?} in {:?}; {:?}", self.out.text().get(from..), self.err.text()),
        }
    }

    /// The first line on standard output; `None` if it ended without one.
    #[must_use]
    pub fn first_line(&self) -> Option<String> {
        let line = self.out.wait(|bytes, ended| match bytes.iter().position(|&byte| byte == b'\n') {
            Some(at) => Some(Some(String::from_utf8_lossy(&bytes[..at]).into_owned())),
            None => ended.then_some(None),
        });
        line.flatten()
    }

    /// Its standard output so far.
    #[must_use]
    pub fn out(&self) -> String {
        self.out.text()
    }

    /// Its standard error so far.
    #[must_use]
    pub fn err(&self) -> String {
        self.err.text()
    }

    /// True if it has ended.
    ///
    /// # Panics
    /// If the system does not report it.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("its state").is_some()
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it does not end within [`LIMIT`].
    #[must_use]
    pub fn wait(mut self) -> Ran {
        self.stdin = None;
        let deadline = Instant::now() + LIMIT;
        let status: ExitStatus = loop {
            if let Some(status) = self.child.try_wait().expect("its state") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end: {:?} {:?}", self.out.text(), self.err.text());
            thread::sleep(Duration::from_millis(2));
        };
        let all =
            |stream: &Stream| stream.wait(|bytes, ended| ended.then(|| bytes.to_vec())).expect("the end of output");
        let err = String::from_utf8(all(&self.err)).expect("text on standard error");
        Ran { code: status.code(), bytes: all(&self.out), err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            _ = self.child.kill();
            _ = self.child.wait();
        }
    }
}

/// A running `host-serv`, or the classic server of [`classic_serv`].
#[derive(Debug)]
pub struct Serv {
    /// The process.
    pub running: Running,
    port: u16,
}

impl Serv {
    /// Serves `root` with further `options`.
    ///
    /// # Panics
    /// If it does not print its port.
    #[must_use]
    pub fn start(root: &Path, options: &[&str]) -> Self {
        Self::launch(host_serv(root).args(options), "port ").unwrap_or_else(|ran| panic!("{ran:?}"))
    }

    /// Starts a program that prints its port after `greeting` in its first line.
    ///
    /// # Errors
    /// The output instead.
    pub fn launch(command: &mut Command, greeting: &str) -> Result<Self, Ran> {
        let running = Running::start(command.stdin(Stdio::null()));
        let port = running.first_line().and_then(|line| line.strip_prefix(greeting)?.parse().ok());
        match port {
            Some(port) => Ok(Self { running, port }),
            None => Err(running.wait()),
        }
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn addr(&self) -> core::net::SocketAddr {
        (core::net::Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// A control connection.
    #[must_use]
    pub fn connect(&self) -> crate::wire::Wire {
        crate::wire::Wire::connect(self.addr())
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// If it does not end.
    #[must_use]
    pub fn stop(self) -> Ran {
        self.running.signal(Signal::TERM);
        self.running.wait()
    }

    /// Kills it, so that it can't clean up.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(self) {
        self.running.signal(Signal::KILL);
        _ = self.running.wait();
    }
}

/// A Python that can run the stand-ins of the original programs; `None`, after [`skip`], if there is none.
#[must_use]
pub fn python(test: &str) -> Option<&'static str> {
    static PYTHON: OnceLock<bool> = OnceLock::new();
    let there = *PYTHON.get_or_init(|| {
        let check = ["-c", "import sys; sys.exit(sys.version_info < (3, 10))"];
        Command::new("python3").args(check).status().is_ok_and(|status| status.success())
    });
    if !there {
        skip(test, "no Python 3.10 or later; install it (Debian: apt install python3)");
    }
    there.then_some("python3")
}

/// The client in Python, with `dir` as its local directory.
#[must_use]
pub fn python_cli(python: &str, dir: &Path) -> Command {
    let mut command = Command::new(python);
    command.args(["-m", "skiff"]).current_dir(dir).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/python/src"));
    command
}

/// Runs a file of Python tests of `contrib/FOLDER` with the programs of the workspace; reports what it skips.
///
/// # Panics
/// If a test fails, or they do not end.
pub fn python_tests(test: &str, folder: &str, pattern: &str) {
    /// A file has many tests, and the machine may be busy.
    const LIMIT: Duration = Duration::from_secs(600);
    let Some(python) = python(test) else { return };
    let mut command = Command::new(python);
    command.args(["-m", "unittest", "discover", "--verbose", "--start-directory", "tests", "--pattern", pattern]);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib").join(folder));
    command.env("PYTHONPATH", concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/python/src"));
    command.env("SKIFF_PROGRAMS", program("host-serv").parent().expect("a directory"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("RUST_LOG").stdin(Stdio::null());
    let mut running = Running::start(&mut command);
    let start = Instant::now();
    while !running.has_ended() {
        assert!(start.elapsed() < LIMIT, "it does not end: {}", running.err());
        thread::sleep(Duration::from_millis(10));
    }
    let ran = running.wait();
    assert!(
        ran.code == Some(0) && !ran.err.contains("\nRan 0 tests"),
        "{}{}",
        String::from_utf8_lossy(&ran.bytes),
        ran.err
    );
    for (name, why) in ran.err.lines().filter_map(|line| line.split_once(" ... skipped ")) {
        skip(&format!("{test}: {name}"), why);
    }
}

/// A script of the directory `python`.
fn script(python: &str, name: &str) -> Command {
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/").to_owned() + name);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUNBUFFERED", "1").env("PYTHONUTF8", "1");
    command
}

/// The stand-in of the original server; it serves `root`.
///
/// # Panics
/// If it does not print its port.
#[must_use]
pub fn classic_serv(python: &str, root: &Path) -> Serv {
    let mut command = script(python, "serv.py");
    Serv::launch(command.arg("0").current_dir(root), "listening on ").unwrap_or_else(|ran| panic!("{ran:?}"))
}

/// The stand-in of the original client, which executes `commands` in `dir`.
///
/// # Panics
/// If it does not end.
#[must_use]
pub fn classic_cli(python: &str, dir: &Path, port: u16, commands: &str) -> Ran {
    let mut command = script(python, "cli.py");
    run_with(command.args(["127.0.0.1", &port.to_string()]).current_dir(dir), commands)
}

/// The reader of flash images, which is based on docs/FLASH.md and not on our code.
#[must_use]
pub fn flash_reader(python: &str, image: &Path) -> Command {
    let mut command = script(python, "flash.py");
    command.arg(image);
    command
}

/// A program on its own terminal: input is typed, and standard output is what the terminal shows.
///
/// # Panics
/// If it can't be started.
#[must_use]
pub fn on_a_terminal(python: &str, command: &Command) -> Running {
    on_a_terminal_of(python, &[], command)
}

/// The same with options of `terminal.py`.
///
/// # Panics
/// If it can't be started.
#[must_use]
pub fn on_a_terminal_of(python: &str, options: &[&str], command: &Command) -> Running {
    let mut terminal = script(python, "terminal.py");
    terminal.args(options).arg(command.get_program()).args(command.get_args());
    if let Some(dir) = command.get_current_dir() {
        terminal.current_dir(dir);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => terminal.env(name, value),
            None => terminal.env_remove(name),
        };
    }
    Running::start(terminal.env("TERM", "xterm").stdin(Stdio::piped()))
}

/// A child of a process that was started here: the program that strace runs. Dropping it kills it.
#[derive(Debug)]
pub struct Below(Pid);

impl Below {
    /// The process with this id.
    ///
    /// # Panics
    /// If it is not a valid id.
    #[must_use]
    pub fn new(pid: i32) -> Self {
        Self(Pid::from_raw(pid).expect("the number of a process"))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it has ended.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.0, signal).expect("a process");
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // It has ended already, unless the test has failed.
        _ = kill_process(self.0, Signal::KILL);
    }
}

/// Kills all descendants of this process, for a program that ends without cleaning up.
#[cfg(target_os = "linux")]
pub fn kill_all_below() {
    fn below(pid: u32, found: &mut Vec<u32>) {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            for child in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
                found.push(child);
                below(child, found);
            }
        }
    }
    let mut found = Vec::new();
    below(std::process::id(), &mut found);
    for pid in found.into_iter().filter_map(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
        // It may have ended meanwhile.
        _ = kill_process(pid, Signal::KILL);
    }
}

/// Reports that a test, or a part of it, can't run here. This is shown even if the test passes.
pub fn skip(test: &str, why: &str) {
    static SKIPPED: AtomicUsize = AtomicUsize::new(0);
    let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Not `eprintln`: the test harness captures it.
    _ = writeln!(io::stderr(), "SKIPPED ({number}): {test}: {why}");
}

/// Waits for a thread, for a limited time.
///
/// # Panics
/// If it does not end within [`LIMIT`], or has panicked.
#[track_caller]
pub fn join<T>(thread: JoinHandle<T>) -> T {
    assert!(crate::wire::eventually(|| thread.is_finished()), "a thread does not end");
    thread.join().expect("a thread that did not panic")
}
