//! The program device-serv: its options, its errors, and that it sleeps when idle.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::time::Duration;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, kill_process};
use skiff_tests::device::TAP;
use skiff_tests::namespace::{inside, ip};
use skiff_tests::programs::{Serv, Signal, device_serv, free_port, host_cli, program, run};
use skiff_tests::wire::{Wire, answers, eventually};

/// Behind a free port of this machine.
fn listening(options: &[&str]) -> Serv {
    Serv::launch(device_serv().args(["--listen", "0"]).args(options), "port ").unwrap()
}

/// On a network.
fn on_tap(options: &[&str]) -> Serv {
    Serv::launch(device_serv().args(["--tap", TAP]).args(options), "port ").unwrap()
}

/// Its error message when it could not start.
#[track_caller]
fn fails(code: i32, options: &[&str]) -> String {
    let ran = run(device_serv().args(options));
    assert_eq!((ran.code, ran.out()), (Some(code), ""), "{options:?}: {}", ran.err);
    ran.err
}

#[test]
fn it_serves_behind_a_loopback_port_and_ends_on_a_signal() {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("a.txt"), "content").unwrap();
    let here = tempfile::tempdir().unwrap();
    let serv = listening(&["--name", "lab-3", "--preload", files.path().to_str().unwrap(), "-v"]);
    let port = serv.port().to_string();
    let out = run(host_cli(here.path()).args(["localhost", &port, "ls"])).ok();
    assert_eq!(out, "a.txt\n");
    let out = run(host_cli(here.path()).args(["localhost", &port, "info"])).ok();
    assert!(out.contains("name: lab-3") && out.contains("server skiff-device/"), "{out}");
    assert!(!out.contains("mkdir"), "a flat store has no directories: {out}");
    let ran = serv.stop();
    assert_eq!((ran.code, ran.out()), (Some(0), &*format!("port {port}\n")));
    assert!(ran.err.contains("4 sessions in ") && ran.err.contains("2 accepted, 0 refused"), "{}", ran.err);
}

#[test]
fn a_flat_store_is_named_as_the_reason_and_a_dry_run_knows_it() {
    let here = tempfile::tempdir().unwrap();
    for (dir, name) in [("t", "a"), ("t/sub", "b")] {
        fs::create_dir_all(here.path().join(dir)).unwrap();
        fs::write(here.path().join(dir).join(name), "x").unwrap();
    }
    fs::create_dir(here.path().join("t/empty")).unwrap();
    let serv = listening(&[]);
    let port = serv.port().to_string();
    let cli = |words: &[&str]| run(host_cli(here.path()).args(["localhost", &port]).args(words));
    for words in
        [&["mkdir", "x"][..], &["mkdir", "-p", "x"], &["rmdir", "x"], &["cd", "x"], &["tree", "x"], &["du", "x"]]
    {
        assert!(cli(words).failed(1).ends_with(" x: this server has no directories"), "{words:?}");
    }
    let ran = cli(&["bench", "--size", "1GiB"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let note = "host-cli: bench: 1 GiB is more than half of the free space; transferring 512 KiB\n";
    assert_eq!(ran.err, note);
    let dry = cli(&["sync", "-n", "t", "/"]);
    let ran = cli(&["sync", "t", "/"]);
    assert!(dry.out().starts_with("would put a: 1 byte\nwould be done: 1 sent, "), "{}", dry.out());
    assert_eq!((dry.code, &dry.err), (Some(1), &ran.err));
    assert!(dry.err.contains("put t/sub/b: ") && dry.err.contains("put empty/: skipped: "), "{}", dry.err);
    // One line reports any number of files or directories.
    fs::create_dir(here.path().join("t/empty/er")).unwrap();
    let skipped = "host-cli: put empty/: skipped: this server has no directories (1 more for the same reason)\n";
    assert_eq!(cli(&["put", "-r", "t/empty"]).err, skipped);
    fs::write(here.path().join("t/sub/c"), "x").unwrap();
    let flash = format!("flash:{}", here.path().join("image").display());
    for store in ["ram", &flash] {
        let serv = listening(&["--store", store]);
        let port = serv.port().to_string();
        let cli = |words: &[&str]| run(host_cli(here.path()).args(["localhost", &port]).args(words));
        _ = cli(&["put", "t/a"]).ok();
        let why = "this server has no directories";
        for words in [
            &["sync", "-n", "t"][..],
            &["sync", "t"],
            &["put", "-r", "t/sub"],
            &["put", "t/sub/b", "t/sub/c", "-o", "d/"],
        ] {
            let err = cli(words).err;
            let lines: Vec<_> = err.lines().filter(|line| !line.contains(": skipped: ")).collect();
            let line = format!("host-cli: put t/sub/b: {why} (1 more file for the same reason)");
            assert_eq!(lines, [line], "{words:?}");
        }
        for (words, about) in [
            (&["sync", "t", "sub"][..], "sync sub"),
            (&["mv", "a", "d/b"], "mv a"),
            (&["cp", "a", "d/b"], "cp a"),
            (&["ls", "a/b"], "ls a/b"),
            (&["get", "a/b"], "get a/b"),
            (&["rm", "a/b"], "rm a/b"),
            (&["stat", "a/b"], "stat a/b"),
            (&["edit", "a/b"], "edit a/b"),
        ] {
            assert_eq!(cli(words).failed(1), format!("{about}: {why}"));
        }
        assert!(cli(&["ls", "none"]).failed(1).ends_with("no such file or directory on the server"));
    }
}

#[test]
fn the_port_comes_before_what_is_said() {
    let mut command = Command::new("sh");
    command.args(["-c", "exec 2>&1; exec \"$@\"", "sh"]).arg(program("device-serv")).args(["--listen", "0"]);
    let ran = Serv::launch(&mut command, "port ").unwrap().stop();
    let lines: Vec<_> = ran.out().lines().collect();
    assert!(lines[0].starts_with("port ") && lines[1].contains("4 sessions in "), "{lines:?}");
}

#[test]
fn a_file_comes_over_as_many_sessions_as_there_are() {
    let files = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..500_000_u32).map(|at| (at.wrapping_mul(at) >> 7).to_le_bytes()[0]).collect();
    fs::write(files.path().join("log"), &bytes).unwrap();
    let here = tempfile::tempdir().unwrap();
    let serv = listening(&["--sessions", "2", "--preload", files.path().to_str().unwrap()]);
    let port = serv.port().to_string();
    let out = run(host_cli(here.path()).args(["localhost", &port, "get", "log", "-j", "8"])).ok();
    assert!(out.contains(", over 2 sessions"), "{out}");
    assert!(fs::read(here.path().join("log")).unwrap() == bytes);
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn an_error_at_start_is_one_line() {
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    for (options, words) in [
        (&["--listen", &port][..], &[&*port, "in use"][..]),
        (&["--listen", "0", "--preload", "/nonexistent"], &["/nonexistent", "No such file"]),
        (
            &["--listen", "0", "--store", "ram:1", "--preload", concat!(env!("CARGO_MANIFEST_DIR"), "/../docs")],
            &["--preload", "no space"],
        ),
    ] {
        let err = fails(1, options);
        assert!(err.starts_with("device-serv: ") || err.contains("\ndevice-serv: "), "{err}");
        assert!(words.iter().all(|word| err.contains(word)) && !err.contains("os error"), "{options:?}: {err}");
    }
    for options in [
        &[][..],
        &["--listen", "0", "--tap", "tap0"],
        &["--listen", "0", "--ip", "10.0.0.1/24"],
        &["--listen", "0", "--name", "two words"],
        &["--listen", "0", "--store", "disk"],
        &["--listen", "0", "--buffer", "100"],
        &["--listen", "0", "--data-ports", "5-4"],
    ] {
        fails(2, options);
    }
    for (option, text, why) in [
        ("--sessions", "3", "1, 2, 4 or 8"),
        ("--listen", "65536", "must be a whole number from 0 to 65535"),
        ("--min-generation", "0", "must be a whole number, at least 1"),
        ("--store", "ram:1GiB", "65535KiB"),
        ("--store", "ram:0", "1 byte"),
        ("--store", "ram:x", "`x` is not a size, such as"),
        ("--data-ports", "5", "4 sessions need 2"),
    ] {
        let listen: &[&str] = if option == "--listen" { &[] } else { &["--listen", "0"] };
        let err = fails(2, &[listen, &[option, text]].concat());
        assert!(err.contains(why), "{err}");
    }
}

#[test]
fn a_start_that_fails_leaves_no_files_behind() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    let store = |size: &str| format!("flash:{}{size}", image.display());
    // An invalid size of a chip, and valid ones in a start that fails later.
    let refused = [
        (store(":1000"), "", "the size must be"),
        (store(":0"), "", "the size must be"),
        (store(":28KiB"), "", "the size must be 32KiB to 262140KiB, in blocks of 4KiB"),
        (store(":1TiB"), "", "the size must be 32KiB"),
        (store(":1MiB"), "/nonexistent", "No such file"),
    ];
    for empty in [false, true] {
        for (store, preload, why) in &refused {
            if empty {
                fs::write(&image, "").unwrap();
            }
            let mut options = vec!["--listen", "0", "--store", store];
            if !preload.is_empty() {
                options.extend(["--preload", preload]);
            }
            let err = fails(1, &options);
            assert!(err.contains(why), "{store}: {err}");
            let left = fs::metadata(&image).map(|metadata| metadata.len()).ok();
            assert_eq!(left, empty.then_some(0), "{store} {preload}");
        }
    }
    // The smallest chip has room for a file.
    assert_eq!(listening(&["--store", &store(":32KiB")]).stop().code, Some(0));
    fs::remove_file(&image).unwrap();
    // Existing files stay as they are, whatever fails.
    let store = store(":1MiB");
    assert_eq!(listening(&["--store", &store]).stop().code, Some(0));
    let before = fs::read(&image).unwrap();
    fails(1, &["--listen", "0", "--store", &store, "--preload", "/nonexistent"]);
    assert!(fs::read(&image).unwrap() == before);
}

#[test]
fn links_out_of_the_directory_are_not_preloaded_and_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let (inside, outside) = (dir.path().join("inside"), dir.path().join("inside-not"));
    fs::create_dir(&inside).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    fs::write(inside.join("file"), "content").unwrap();
    for (name, to) in [
        ("absolute", outside.join("secret")),
        ("relative", "../inside-not/secret".into()),
        ("directory", outside),
        ("twice", inside.join("absolute")),
        ("nowhere", "nothing".into()),
        ("itself", "itself".into()),
        ("within", "file".into()),
    ] {
        symlink(to, inside.join(name)).unwrap();
    }
    fs::create_dir(inside.join("below")).unwrap();
    let serv = listening(&["--preload", inside.to_str().unwrap()]);
    let port = serv.port().to_string();
    let out = run(host_cli(dir.path()).args(["localhost", &port, "ls"])).ok();
    assert_eq!(out, "file\nwithin\n");
    let err = serv.stop().err;
    for name in ["absolute", "relative", "directory", "twice", "nowhere", "itself", "below"] {
        assert!(err.contains(&format!("/inside/{name}: skipped: ")), "{name}: {err}");
    }
}

/// On the test's own network, because options accepted by mistake would create a TAP there.
#[test]
fn options_that_can_not_work_on_a_network_are_wrong_usage() {
    if !inside(module_path!(), "options_that_can_not_work_on_a_network_are_wrong_usage") {
        return;
    }
    for options in [
        &["--tap", "tap0", "--ip", "224.0.0.1"][..],
        &["--tap", "tap0", "--ip", "10.0.0.1/33"],
        &["--tap", "tap0", "--gateway", "0.0.0.0"],
        &["--tap", "tap0", "--delay", "18446744073709551615"],
        &["--tap", "tap0", "--mac", "01:00:00:00:00:00"],
        &["--tap", "tap0", "--drop", "101"],
        &["--tap", "tap0", "--port", "0"],
    ] {
        fails(2, options);
    }
    for (options, why) in [
        (&["--ip", "192.168.69.0/24"][..], "can't be the address of a host"),
        (&["--ip", "192.168.69.255/24"], "can't be the address of a host"),
        (&["--ip", "10.0.0.1", "--ip", "10.0.0.2"], "at most one IPv4"),
        (&["--ip", "10.0.0.1", "--dhcp"], "--dhcp can't be used with an IPv4 --ip"),
        (&["--gateway", "10.0.0.1"], "not on the server's network"),
        (&["--gateway", "192.168.69.1"], "the server's own"),
        (&["--host-ip", "192.168.69.1"], "the server's own"),
        (&["--dhcp", "--host-ip", "192.168.69.2"], "needs a fixed IPv"),
        (&["--host-ip", "fd00::1"], "needs a fixed IPv"),
        (&["--ip", "fd00::1/64", "--host-ip", "fd01::1"], "not on the server's network"),
        (&["--data-ports", "50000-50003"], "the range contains the control port"),
    ] {
        let err = fails(2, &[&["--tap", "tap0"], options].concat());
        assert!(err.contains(why), "{err}");
    }
}

#[test]
fn a_missing_tap_is_reported_with_advice() {
    if !inside(module_path!(), "a_missing_tap_is_reported_with_advice") {
        return;
    }
    // A user namespace below this one may do nothing to this one's network.
    let unprivileged = |tap: &str| {
        let ran = run(Command::new("unshare").arg("--user").arg(program("device-serv")).args(["--tap", tap]));
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        ran.err
    };
    let err = unprivileged("tap9");
    assert!(err.contains("no TAP tap9") && err.contains("ip tuntap add dev tap9 mode tap user"), "{err}");
    let err = fails(1, &["--tap", "lo"]);
    assert!(err.contains("lo is not a TAP"), "{err}");
    let err = fails(2, &["--tap", "a-name-that-is-too-long"]);
    assert!(err.contains("1 to 15 bytes"), "{err}");
    let err = fails(1, &["--tap", TAP, "--ip", "127.0.0.1/8"]);
    assert!(err.contains("127.0.0.1 is an address of this machine"), "{err}");
    let serv = on_tap(&[]);
    let err = fails(1, &["--tap", TAP, "--ip", "192.168.69.2"]);
    assert!(err.contains("in use by another program"), "{err}");
    drop(serv);
}

#[test]
fn a_tap_that_is_there_is_used_as_it_is_and_every_frame_is_captured() {
    if !inside(module_path!(), "a_tap_that_is_there_is_used_as_it_is_and_every_frame_is_captured") {
        return;
    }
    ip(&format!("tuntap add dev {TAP} mode tap"));
    ip(&format!("addr add 10.1.2.3/24 dev {TAP}"));
    ip(&format!("link set {TAP} up"));
    let here = tempfile::tempdir().unwrap();
    let pcap = here.path().join("link.pcap");
    let options = ["--ip", "10.1.2.4/24", "--port", "4000", "--mac", "02:00:00:00:00:09", "--duplicate", "50"];
    let serv = on_tap(&[&options[..], &["--pcap", pcap.to_str().unwrap(), "-v"]].concat());
    assert_eq!(serv.port(), 4000);
    fs::write(here.path().join("a"), "a frame with this in it").unwrap();
    _ = run(host_cli(here.path()).args(["10.1.2.4", "4000", "put", "a"]));
    let out = run(host_cli(here.path()).args(["10.1.2.4", "4000", "cat", "a"])).ok();
    assert_eq!(out, "a frame with this in it");
    let ran = serv.stop();
    assert!(ran.err.contains("10.1.2.4/24, port 4000") && !ran.err.contains("made"), "{}", ran.err);
    let captured = fs::read(pcap).unwrap();
    // Ethernet frames, in the pcap format of 1998 that every tool reads.
    assert_eq!((&captured[..4], &captured[20..24]), (&0xa1b2_c3d4_u32.to_ne_bytes()[..], &1_u32.to_ne_bytes()[..]));
    let seen = captured.windows(23).filter(|window| *window == b"a frame with this in it").count();
    assert!(seen >= 2, "up and down: {seen}");
    assert!(captured.windows(6).any(|window| window == [2, 0, 0, 0, 0, 9]));
}

#[test]
fn a_tap_that_goes_away_ends_the_server() {
    if !inside(module_path!(), "a_tap_that_goes_away_ends_the_server") {
        return;
    }
    let serv = on_tap(&[]);
    ip(&format!("link del {TAP}"));
    let ran = serv.running.wait();
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("the TAP was removed"), "{}", ran.err);
}

/// Started by a shell, which runs `before` first.
fn after(before: &str, options: &str) -> Serv {
    let script = format!("{before}; exec \"$0\" {options}");
    Serv::launch(Command::new("sh").args(["-c", &script]).arg(program("device-serv")), "port ").unwrap()
}

/// The fate of a standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stream {
    Closed,
    Full,
    /// A pipe whose reader closes after the server has started.
    Broken,
    /// A pipe that nobody reads.
    Unread,
    Null,
}

#[test]
fn it_serves_and_ends_whatever_becomes_of_its_standard_streams() {
    for stream in [Stream::Closed, Stream::Full, Stream::Broken, Stream::Unread] {
        serves_over(Stream::Null, stream);
        serves_over(stream, Stream::Null);
    }
    serves_over(Stream::Closed, Stream::Closed);
}

fn serves_over(out: Stream, err: Stream) {
    let redirect = |number, stream| match stream {
        Stream::Closed => format!(" {number}>&-"),
        Stream::Full => format!(" {number}>/dev/full"),
        Stream::Null => format!(" {number}>/dev/null"),
        Stream::Broken | Stream::Unread => String::new(),
    };
    // The port is not read.
    let port = free_port().to_string();
    let script = format!("exec \"$0\" --listen {port} -v{}{}", redirect(1, out), redirect(2, err));
    let mut command = Command::new("sh");
    command.args(["-c", &script]).arg(program("device-serv")).stdin(Stdio::null());
    let mut serv = Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let addr = format!("127.0.0.1:{port}").parse().unwrap();
    assert!(eventually(|| answers(addr, "ping")), "{out:?}, {err:?}");
    if out == Stream::Broken {
        drop(serv.0.stdout.take());
    }
    if err == Stream::Broken {
        drop(serv.0.stderr.take());
    }
    // A line for each connection: more than a pipe holds.
    let lines = if err == Stream::Unread { 700 } else { 5 };
    for at in 0..lines {
        assert!(eventually(|| answers(addr, "ping")), "{out:?}, {err:?}: connection {at}");
    }
    kill_process(Pid::from_child(&serv.0), Signal::TERM).unwrap();
    let ended = eventually(|| serv.0.try_wait().unwrap().is_some());
    assert!(ended, "{out:?}, {err:?}: it does not end");
    assert_eq!(serv.0.wait().unwrap().code(), Some(0), "{out:?}, {err:?}");
}

/// A process that is killed when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The processor time of the process.
fn used(serv: &Serv) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", serv.running.pid())).unwrap();
    // Behind the name, which ends with the last parenthesis: in hundredths of a second, in user mode and in the kernel.
    let words: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[test]
fn without_descriptors_it_sleeps_and_serves_waiting_clients_as_soon_as_there_are_some() {
    let serv = after("ulimit -n 26", "--listen 0 --sessions 8");
    let served: Vec<_> = (0..20).map(|_| serv.connect()).collect();
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", serv.running.pid())).unwrap().count();
    assert!(eventually(|| descriptors() >= 26), "{}", descriptors());
    let before = used(&serv);
    std::thread::sleep(Duration::from_secs(2));
    let used = used(&serv) - before;
    assert!(used < Duration::from_millis(200), "{used:?} in 2 s");
    drop(served);
    assert!(eventually(|| answers(serv.addr(), "ping")));
    assert_eq!(serv.stop().code, Some(0));
}

/// How often the process has gone to sleep.
fn sleeps(serv: &Serv) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", serv.running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// No input and no work, except for an occasional keep-alive.
fn rests(serv: &Serv, mut wire: Wire) {
    assert_eq!(wire.ask("ping"), "ok");
    let mut before = sleeps(serv);
    // The kernel sends packets for some seconds after an interface comes up.
    let rested = eventually(|| {
        std::thread::sleep(Duration::from_secs(2));
        let now = sleeps(serv);
        let few = now - before <= 4;
        before = now;
        few
    });
    assert!(rested, "it wakes up all the time");
    assert_eq!(wire.ask("ping"), "ok");
}

#[test]
fn with_one_idle_connection_it_sleeps_on_a_network() {
    if inside(module_path!(), "with_one_idle_connection_it_sleeps_on_a_network") {
        let serv = on_tap(&[]);
        let wire = Wire::connect("192.168.69.1:50000".parse().unwrap());
        rests(&serv, wire);
    }
}

#[test]
fn with_one_idle_connection_it_sleeps_behind_a_port() {
    let serv = listening(&[]);
    let wire = serv.connect();
    rests(&serv, wire);
    serv.running.signal(Signal::INT);
    assert_eq!(serv.running.wait().code, Some(0));
}
