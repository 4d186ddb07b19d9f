//! Tests in a network namespace that only the test's process sees, without root.
//!
//! A namespace belongs to a process, and a test is only a thread. So the test starts its own program again in a new
//! namespace, only for this test; there it detects that it is inside and continues.

use core::time::Duration;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Instant;

use crate::programs::skip;

/// The environment variable that is set inside.
const INSIDE: &str = "SKIFF_TEST_NAMESPACE";

/// How long a test inside may take.
const LIMIT: Duration = Duration::from_secs(300);

/// True inside the namespace, where the test has to do its work; false outside, where the work is already done. Write
/// `if !inside(module_path!(), "name") { return; }` as the first line of test `name`.
///
/// # Panics
/// Outside: if the test fails inside. Where the kernel forbids namespaces, the test is skipped.
#[must_use]
#[track_caller]
pub fn inside(module: &str, test: &str) -> bool {
    enter_test(module, test, true)
}

/// The same for a test that mounts file systems and needs no network.
///
/// # Panics
/// As [`inside`].
#[must_use]
#[track_caller]
pub fn mounts(module: &str, test: &str) -> bool {
    enter_test(module, test, false)
}

#[track_caller]
fn enter_test(module: &str, test: &str, tun: bool) -> bool {
    // As the test harness calls it: without the crate's own name.
    let test = &match module.split_once("::") {
        Some((_, module)) => format!("{module}::{test}"),
        None => test.to_owned(),
    };
    if env::var_os(INSIDE).is_some() {
        settle();
        return true;
    }
    let Some(unshare) = unshare() else {
        skip(test, "no network namespaces; permit user namespaces (`unshare -Urn true` must work) or run as root");
        return false;
    };
    if tun && fs::File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        skip(test, "no /dev/net/tun; `modprobe tun` as root provides it");
        return false;
    }
    let mut child = Command::new("unshare")
        .args(unshare)
        .arg(env::current_exe().expect("the path of this test"))
        .args([test, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("unshare");
    let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let readers = [drain(out), drain(err)];
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break Some(status);
        }
        if start.elapsed() > LIMIT {
            _ = child.kill();
            _ = child.wait();
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let [out, err] = readers.map(|reader| reader.join().expect("a reader"));
    // What is measured inside is told here, and what is skipped inside is skipped here.
    for row in out.lines().filter_map(|line| line.find("| ").map(|at| &line[at..])) {
        println!("{row}");
    }
    for line in err.lines().filter(|line| line.starts_with("SKIPPED")) {
        _ = writeln!(io::stderr(), "{line}");
    }
    let passed = status.is_some_and(|status| status.success()) && out.contains("1 passed");
    assert!(passed, "{test}, inside: {status:?}\n{out}\n{err}");
    false
}

/// The same for a program: starts it again with `args` and returns its result; `None` inside, where it has to do its
/// work.
///
/// # Errors
/// The kernel forbids namespaces, or the program can't be started.
pub fn enter(args: impl IntoIterator<Item = OsString>) -> io::Result<Option<ExitStatus>> {
    if env::var_os(INSIDE).is_some() {
        settle();
        return Ok(None);
    }
    let unshare = unshare().ok_or_else(|| io::Error::other("no network namespaces here"))?;
    let mut command = Command::new("unshare");
    command.args(unshare).arg(env::current_exe()?).args(args).env(INSIDE, "1").stdin(Stdio::null());
    command.status().map(Some)
}

fn drain(mut pipe: impl io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The options of `unshare` that work here, without root if that is permitted.
fn unshare() -> Option<&'static [&'static str]> {
    static OPTIONS: OnceLock<Option<&[&str]>> = OnceLock::new();
    *OPTIONS.get_or_init(|| {
        let ways: [&[&str]; 2] = [&["--user", "--map-root-user", "--net", "--mount"], &["--net", "--mount"]];
        ways.into_iter().find(|options| {
            let mut command = Command::new("unshare");
            command.args(*options).arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        })
    })
}

/// Brings up loopback: the new network has only a loopback interface, which is down.
fn settle() {
    ip("link set lo up");
    // Addresses can be used at once: nobody else is there who could have the same.
    for which in ["all", "default"] {
        _ = fs::write(format!("/proc/sys/net/ipv6/conf/{which}/accept_dad"), "0");
    }
}

/// Runs `ip` with these words.
///
/// # Panics
/// If it fails.
#[track_caller]
pub fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).stdin(Stdio::null()).output().expect("ip, of iproute2");
    assert!(output.status.success(), "ip {words}: {}", String::from_utf8_lossy(&output.stderr));
}
