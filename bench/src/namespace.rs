//! A network namespace for a run: only loopback, with reno, because BBR paces loopback.
//!
//! The bench restarts itself inside `unshare`, with its own network, processes and mounts, so that anything a server
//! leaves behind ends with the run. For an ordinary user that includes a user namespace, in which a few peers can't
//! switch to the users that they need.
//!
//! BBR, which some machines have as their default, paces bulk transfers and blurs ratios; reno does not.

use std::fs;
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::io::{FdFlags, fcntl_setfd};

const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";

/// Each classic transfer leaves a connection in TIME-WAIT for a minute. Tens of thousands of them take all ports that
/// the system chooses from by default, and then no server can be started.
const PORTS: (&str, &str) = ("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535");

/// Process 1 of the namespace waits for the bench, so that signals have their usual effect on the bench.
const FIRST: &str = r#""$0" "$@"; exit $?"#;

/// The outer /proc.
static OUTSIDE: OnceLock<OwnedFd> = OnceLock::new();

/// The /proc that shows the whole machine, and whether this process is in its own namespace.
pub(crate) fn whole_proc() -> (PathBuf, bool) {
    let outside = OUTSIDE.get().map(|proc| (format!("/proc/self/fd/{}", proc.as_raw_fd()).into(), true));
    outside.unwrap_or_else(|| ("/proc".into(), false))
}

/// Runs this program again, with `--inside`, in its own network namespace; `None` if that is not possible here.
pub(crate) fn enter() -> Result<Option<ExitCode>> {
    let mut flags = vec!["--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !rustix::process::geteuid().is_root() {
        flags.extend(["--user", "--map-root-user"]);
    }
    let allowed = Command::new("unshare").args(&flags).arg("true").stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        eprintln!(
            "no network namespace (unshare failed): measuring on this machine's loopback, with its congestion control"
        );
        return Ok(None);
    }
    let program = std::env::current_exe().context("this program")?;
    let mut inside = Command::new("unshare");
    inside.args(&flags).args(["sh", "-c", FIRST]).arg(program).args(std::env::args_os().skip(1));
    // Without CLOEXEC, so that it stays open inside.
    let proc = rustix::fs::open("/proc", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).context("/proc")?;
    inside.arg(format!("--inside={}", proc.as_raw_fd()));
    // It ends with us: see `watch`.
    let mut inside = inside.stdin(Stdio::piped()).spawn().context("unshare")?;
    let line = inside.stdin.take();
    let status = inside.wait().context("unshare")?;
    drop(line);
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(Some(ExitCode::from(u8::try_from(code).unwrap_or(1))))
}

/// Inside: brings loopback up, sets the congestion control, and ends when the outer process does. `proc` is a
/// descriptor of the outer /proc, which [`whole_proc`] then returns.
pub(crate) fn set_up(proc: i32) -> Result<()> {
    ensure!(proc > 2, "--inside is for internal use only");
    // SAFETY: `enter` has left it open for this process, and nothing else uses it.
    let proc = unsafe { OwnedFd::from_raw_fd(proc) };
    fcntl_setfd(&proc, FdFlags::CLOEXEC).context("--inside")?;
    _ = OUTSIDE.set(proc);
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("ip, of iproute2")?;
    ensure!(up.success(), "can't bring loopback up");
    if fs::write(CONGESTION, "reno").is_err() {
        eprintln!("can't change the congestion control: still {}", congestion());
    }
    if let Err(error) = fs::write(PORTS.0, PORTS.1) {
        eprintln!("can't extend the range of ephemeral ports: {error}");
    }
    watch();
    Ok(())
}

/// Waits for the end of standard input: the outer process holds the other end and never writes to it.
fn watch() {
    std::thread::spawn(|| {
        _ = std::io::stdin().read(&mut [0]);
        std::process::exit(1);
    });
}

/// The congestion control of connections here.
pub(crate) fn congestion() -> String {
    fs::read_to_string(CONGESTION).map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
