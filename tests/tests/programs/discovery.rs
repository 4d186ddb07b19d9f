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

/// device-serv on a TAP, with the last two bytes of its address.
fn device(tap: &str, net: u8, byte: u8) -> Running {
    let (address, mac) = (format!("192.168.{net}.{byte}/24"), format!("02:00:00:00:00:{byte:02x}"));
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
    // Of servers with the same name, each later one takes another name.
    let first = device("tap0", 69, 1);
    let second = device("tap1", 69, 2);
    said(&second, "announced as lab3-2.local");
    let mut serving = host_serv(temp.path());
    let files = Running::start(serving.args(["--bind", HERE, "--open", "--announce=files"]));
    said(&files, "announced as files.local");
    let more = ["files", "lab3"].map(|name| {
        let announce = format!("--announce={name}");
        Running::start(host_serv(temp.path()).args(["--bind", "0.0.0.0", "--open", &announce]))
    });
    said(&more[0], "announced as files-2.local");
    said(&more[1], "announced as lab3-3.local");
    let found = discovered(temp.path(), |found| found.lines().count() == 5);
    let lines: Vec<_> = found.lines().map(|line| line.split_whitespace().collect::<Vec<_>>()).collect();
    let version = env!("CARGO_PKG_VERSION");
    let (device, host) = (format!("skiff-device/{version}"), format!("skiff/{version}"));
    assert_eq!(lines[0][..2], ["files.local", HERE]);
    assert_eq!(lines[0][3], host);
    assert_eq!(lines[1][..2], ["files-2.local", HERE]);
    assert_ne!(lines[0][2], lines[1][2]);
    assert_eq!(lines[2], ["lab3.local", "192.168.69.1", "50000", &device]);
    assert_eq!(lines[3], ["lab3-2.local", "192.168.69.2", "50000", &device]);
    assert_eq!(lines[4][..2], ["lab3-3.local", HERE]);

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

    // By a name that no system resolver knows, and without the port.
    let info = |host: &str| run(host_cli(temp.path()).args([host, "info"])).ok();
    assert!(info("lab3.local").contains("lab3.local:50000 (192.168.69.1:50000)"));
    assert!(info("LAB3-2.local").contains("(192.168.69.2:50000)"));
    assert!(info("files-2.local").contains(&format!("({HERE}:{})", lines[1][2])));
    let nobody = run(host_cli(temp.path()).args(["nobody.local", "ls"]));
    let text = nobody.failed(1);
    assert!(text.contains("nobody.local") && text.contains("no host on this network answers"), "{text}");

    // A server that ends sends a goodbye.
    first.signal(Signal::TERM);
    files.signal(Signal::TERM);
    assert_eq!((first.wait().code, files.wait().code), (Some(0), Some(0)));
    for server in more {
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code, Some(0));
    }
    let left = discovered(temp.path(), |found| found.lines().count() == 1);
    assert!(left.starts_with("lab3-2.local "), "{left}");
}

#[test]
fn boards_of_one_name_on_two_networks_are_listed_as_two() {
    const TEST: &str = "boards_of_one_name_on_two_networks_are_listed_as_two";
    let temp = tempfile::tempdir().expect("a directory");
    drop((host_cli(temp.path()), device_serv()));
    if !inside(module_path!(), TEST) {
        return;
    }
    for (tap, net) in [("tap0", 69), ("tap1", 70)] {
        ip(&format!("tuntap add {tap} mode tap"));
        ip(&format!("addr add 192.168.{net}.254/24 dev {tap}"));
        ip(&format!("link set {tap} up"));
    }
    // An interface that comes up while `discover` runs: the library itself would notice it after 5 s.
    let early = Running::start(host_cli(temp.path()).args(["discover", "--timeout", "4.9"]));
    let boards = [device("tap0", 69, 1), device("tap1", 70, 1)];
    assert_eq!(early.wait().code, Some(0));
    let found = discovered(temp.path(), |found| found.lines().count() == 2);
    for (line, net) in found.lines().zip([69, 70]) {
        assert!(line.starts_with(&format!("lab3.local  192.168.{net}.1  50000")), "{found}");
    }
    // One of them is used, and a note says which.
    for words in [&["lab3.local", "info"][..], &["lab3.local", "50000", "info"]] {
        let ran = run(host_cli(temp.path()).args(words));
        let [used, other] = if ran.out().contains("(192.168.69.1:50000)") { [69, 70] } else { [70, 69] }
            .map(|net| format!("192.168.{net}.1:50000"));
        assert!(ran.out().contains(&format!("({used})")), "{ran:?}");
        let name = words[0];
        assert_eq!(ran.failed(0), format!("{name} exists on several networks: using {used}, not {other}"));
    }
    // A server that is in both networks has the same name in both.
    let serving = Running::start(host_serv(temp.path()).args(["--bind", "0.0.0.0", "--open", "--announce=LAB3"]));
    said(&serving, "announced as LAB3-2.local");
    discovered(temp.path(), |found| found.lines().count() == 3 && found.starts_with("LAB3-2.local  192.168."));
    drop(boards);
}

#[test]
fn servers_of_a_network_with_two_subnets_are_listed_once() {
    const TEST: &str = "servers_of_a_network_with_two_subnets_are_listed_once";
    let temp = tempfile::tempdir().expect("a directory");
    drop((host_cli(temp.path()), device_serv()));
    if !inside(module_path!(), TEST) || !network(TEST) {
        return;
    }
    // Two subnets on one interface, and a second interface on the same network.
    ip("addr add 192.168.70.254/24 dev br0");
    ip("link add port1 type veth peer name eth1");
    ip("link set port1 master br0 up");
    ip("link set eth1 up");
    ip("addr add 192.168.71.254/24 dev eth1");
    let boards = [device("tap0", 69, 1), device("tap1", 70, 2)];
    said(&boards[1], "announced as lab3-2.local");
    let serving = Running::start(host_serv(temp.path()).args(["--bind", "0.0.0.0", "--open", "--announce=files"]));
    said(&serving, "announced as files.local");
    let found = discovered(temp.path(), |found| found.lines().count() >= 3);
    let hosts: Vec<_> = found.lines().map(|line| line.split(' ').next().expect("a name")).collect();
    assert_eq!(hosts, ["files.local", "lab3.local", "lab3-2.local"], "{found}");
    let json = run(host_cli(temp.path()).args(["--json", "discover"])).ok();
    let files: serde_json::Value = serde_json::from_str(json.lines().next().expect("an object")).expect("JSON");
    let addresses = files["addresses"].as_array().expect("a list").iter().filter_map(|address| address.as_str());
    let nets: Vec<_> = addresses.filter_map(|address| address.split_once(".254:")).map(|(net, _)| net).collect();
    assert_eq!(nets, ["192.168.69", "192.168.70", "192.168.71"], "{json}");
    let info = run(host_cli(temp.path()).args(["lab3-2.local", "info"])).ok();
    assert!(info.contains("(192.168.70.2:50000)"), "{info}");
}

/// Another machine of the network, on a switch of its own.
struct Machine(Running);

impl Machine {
    fn new(number: u8) -> Self {
        let running = Running::start(Command::new("unshare").args(["--net", "sh", "-c", "echo up; exec sleep 300"]));
        assert!(running.first_line().is_some(), "{}", running.err());
        let machine = Self(running);
        ip(&format!("link add switch{number} type bridge"));
        ip(&format!("link add port{number} type veth peer name eth0 netns {}", machine.0.pid()));
        ip(&format!("link set port{number} master switch{number} up"));
        ip(&format!("link set switch{number} up"));
        for words in ["link set eth0 up".to_owned(), format!("addr add 192.168.69.{number}/24 dev eth0")] {
            _ = run(&mut machine.on(Command::new("ip").args(words.split(' ')))).ok();
        }
        machine
    }

    /// This command on this machine.
    fn on(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there
            .args(["--net", "--target", &self.0.pid().to_string()])
            .arg(command.get_program())
            .args(command.get_args());
        there.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        there
    }
}

#[test]
fn servers_whose_networks_are_joined_get_different_names() {
    const TEST: &str = "servers_whose_networks_are_joined_get_different_names";
    let temp = tempfile::tempdir().expect("a directory");
    drop(host_cli(temp.path()));
    if !inside(module_path!(), TEST) || !network(TEST) {
        return;
    }
    let machines = [1, 2].map(Machine::new);
    let servers = machines.each_ref().map(|machine| {
        let mut serving = host_serv(temp.path());
        Running::start(&mut machine.on(serving.args(["--bind", "0.0.0.0", "--open", "--announce=lab3"])))
    });
    servers.iter().for_each(|server| said(server, "announced as lab3.local"));
    ip("link add cable1 type veth peer name cable2");
    for number in [1, 2] {
        ip(&format!("link set cable{number} master switch{number} up"));
    }
    // The first answers to this show the conflict.
    let mut discover = host_cli(temp.path());
    let discover = discover.args(["discover", "--timeout", "1.5"]);
    let is_named = || {
        let ran = run(&mut machines[0].on(discover));
        let names: Vec<_> = ran.out().lines().filter_map(|line| line.split(' ').next()).collect();
        names == ["lab3.local", "lab3-2.local"]
    };
    assert!(eventually(is_named), "{} {}", servers[0].err(), servers[1].err());
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
    for (words, hint) in [
        (&["--announce="][..], "must be 1 to 63 letters"),
        (&["--announce=a.b"], "must be 1 to 63 letters"),
        (&["--announce", "a"], "the name must follow a `=`: --announce=a"),
    ] {
        let ran = run(host_serv(temp.path()).args(words));
        assert!(ran.code == Some(2) && ran.err.contains(hint), "{ran:?}");
    }
    let ran = run(host_serv(temp.path()).arg("--announce"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("--announce: only this machine can connect"), "{}", ran.err);
}
