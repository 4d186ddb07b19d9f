//! Servers found by name, in a network namespace.

use std::path::Path;
use std::process::{Command, Stdio};

use skiff_tests::namespace::{inside, ip};
use skiff_tests::programs::{Running, Signal, device_serv, host_cli, host_serv, run, skip};
use skiff_tests::wire::eventually;

/// This machine's address.
const HERE: &str = "192.168.69.254";

/// A bridge with two TAPs, on which this machine has [`HERE`]. False if the kernel has no bridges.
fn network(test: &str) -> bool {
    let bridge = Command::new("ip").args(["link", "add", "br0", "type", "bridge"]).stderr(Stdio::null()).status();
    if !bridge.is_ok_and(|status| status.success()) {
        skip(test, "the kernel has no bridges");
        return false;
    }
    ip(&format!("addr add {HERE}/24 dev br0"));
    for tap in ["tap0", "tap1"] {
        ip(&format!("tuntap add {tap} mode tap"));
        ip(&format!("link set {tap} master br0"));
        ip(&format!("link set {tap} up"));
    }
    ip("link set br0 up");
    true
}

/// device-serv on a TAP, with the last byte of its addresses.
fn device(tap: &str, byte: u8) -> Running {
    let (address, mac) = (format!("192.168.69.{byte}/24"), format!("02:00:00:00:00:{byte:02x}"));
    let words = ["--tap", tap, "--name", "lab3", "--ip", &address, "--mac", &mac];
    let running = Running::start(device_serv().args(words));
    said(&running, "announced as lab3");
    running
}

/// Waits until a program has printed this on standard error.
fn said(running: &Running, text: &str) {
    assert!(eventually(|| running.err().contains(text)), "no {text:?}: {}", running.err());
}

/// The output of `discover`, run until `is_complete` accepts it.
fn discovered(dir: &Path, is_complete: impl Fn(&str) -> bool) -> String {
    let mut found = String::new();
    let done = eventually(|| {
        found = run(host_cli(dir).args(["discover", "--timeout", "1.5"])).out().to_owned();
        is_complete(&found)
    });
    assert!(done, "{found}");
    found
}

#[test]
fn servers_of_the_network_are_found_and_reached_by_name() {
    const TEST: &str = "servers_of_the_network_are_found_and_reached_by_name";
    let temp = tempfile::tempdir().expect("a directory");
    // Built outside the namespace.
    drop((host_cli(temp.path()), device_serv()));
    if !inside(module_path!(), TEST) || !network(TEST) {
        return;
    }
    // Two devices with the same name: the second one takes another name.
    let first = device("tap0", 1);
    let second = device("tap1", 2);
    said(&second, "announced as lab3-2.local");
    let mut serving = host_serv(temp.path());
    let files = Running::start(serving.args(["--bind", HERE, "--open", "--announce=files"]));
    let found = discovered(temp.path(), |found| found.lines().count() == 3);
    let lines: Vec<_> = found.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let version = env!("CARGO_PKG_VERSION");
    let (device, host) = (format!("skiff-device/{version}"), format!("skiff/{version}"));
    assert_eq!(lines[0][..2], ["files.local", HERE]);
    assert_eq!(lines[0][3], host);
    assert_eq!(lines[1], ["lab3-2.local", "192.168.69.2", "50000", &device]);
    assert_eq!(lines[2], ["lab3.local", "192.168.69.1", "50000", &device]);

    let json = run(host_cli(temp.path()).args(["--json", "discover"])).ok();
    let objects: Vec<serde_json::Value> = json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let last = objects.iter().find(|object| object["name"] == "lab3").expect("the first device");
    assert_eq!((&last["type"], &last["host"]), (&"found".into(), &"lab3.local".into()));
    assert_eq!((&last["address"], &last["port"]), (&"192.168.69.1".into(), &50_000.into()));
    assert!(
        last["addresses"]
            .as_array()
            .expect("a list")
            .iter()
            .any(|address| address.as_str().expect("text").starts_with("[fe80:"))
    );

    // By a name that no system resolver knows.
    let info = |host: &str| run(host_cli(temp.path()).args([host, "info"])).ok();
    assert!(info("lab3.local").contains("lab3.local:50000 (192.168.69.1:50000)"));
    assert!(info("LAB3-2.local").contains("(192.168.69.2:50000)"));
    let nobody = run(host_cli(temp.path()).args(["nobody.local", "ls"]));
    let text = nobody.failed(1);
    assert!(text.contains("nobody.local") && text.contains("no host on this network answers"), "{text}");

    // A server that ends sends a goodbye.
    first.signal(Signal::TERM);
    files.signal(Signal::TERM);
    assert_eq!((first.wait().code, files.wait().code), (Some(0), Some(0)));
    let left = discovered(temp.path(), |found| found.lines().count() == 1);
    assert!(left.starts_with("lab3-2.local "), "{left}");
}

#[test]
fn discover_reports_that_no_server_answered() {
    const TEST: &str = "discover_reports_that_no_server_answered";
    let temp = tempfile::tempdir().expect("a directory");
    drop((host_cli(temp.path()), device_serv()));
    if !inside(module_path!(), TEST) {
        return;
    }
    // A device that is not announced.
    let mut quiet = device_serv();
    let quiet = Running::start(quiet.args(["--tap", "tap0", "--no-announce"]));
    quiet.hear("port 50000", 0);
    let ran = run(host_cli(temp.path()).args(["discover", "--timeout", "1"]));
    let text = ran.failed(1);
    assert!(text.starts_with("discover: no server answered within 1 s; does it announce itself"), "{text}");
    let ran = run(host_cli(temp.path()).args(["discover", "--timeout", "0"]));
    assert_eq!(ran.code, Some(2));
    let ran = run(host_serv(temp.path()).arg("--announce"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("--announce: only this machine can connect"), "{}", ran.err);
}
