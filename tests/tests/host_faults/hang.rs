//! File systems that do not answer.

use core::time::Duration;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use skiff_tests::ordeal::in_memory;
use skiff_tests::programs::{Running, Serv, Signal, host_serv, skip};
use skiff_tests::sans_io::body;
use skiff_tests::wire::{Wire, eventually};
use tempfile::tempdir;

/// host-serv that serves `root`, with a file system at `hung` whose server never answers; `None`, after [`skip`] has
/// reported it, where none can be mounted.
fn with_hung(test: &str, root: &Path, hung: &Path, options: &[&str]) -> Option<Command> {
    // The FUSE server is the process that has the descriptor open: host-serv itself, which never answers on it.
    let mount =
        r#"exec 9<>/dev/fuse && mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 hung "$0" && exec "$@""#;
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["-Urm", "sh", "-c", mount]).arg(hung);
        command
    };
    if !unshare().arg("true").output().is_ok_and(|output| output.status.success()) {
        skip(
            test,
            "no FUSE file system can be mounted; permit user namespaces and provide /dev/fuse (`modprobe fuse` as root)",
        );
        return None;
    }
    let (mut command, serving) = (unshare(), host_serv(root));
    command.arg(serving.get_program()).args(serving.get_args()).args(options);
    Some(command)
}

#[test]
fn a_file_system_beneath_the_root_that_hangs_stops_nobody_but_those_who_touch_it_and_not_the_end() {
    let test = "a_file_system_beneath_the_root_that_hangs_stops_nobody_but_those_who_touch_it_and_not_the_end";
    // The answers are timed: no disk.
    let root = in_memory();
    let hung = root.path().join("hung");
    std::fs::create_dir(&hung).unwrap();
    std::fs::write(root.path().join("f"), vec![7; 1 << 20]).unwrap();
    std::os::unix::fs::symlink("f", root.path().join("link")).unwrap();
    let Some(mut command) = with_hung(test, root.path(), &hung, &["--grace", "1", "--threads", "2"]) else { return };
    let serv = Serv::launch(&mut command, "port ").unwrap_or_else(|ran| panic!("{ran:?}"));
    // More than the threads that may wait for it, and all kinds of commands.
    let commands = [
        "stat hung",
        "stat hung/x",
        "read 0 * hung/x",
        "sum 0 * hung/x",
        "list hung",
        "resume 7 hung/x",
        "get hung/x",
        "write 0 1 - hung/x",
        "remove hung/x",
        "rename f\nhung/f",
        "rename hung/x\ny",
        "mkdir hung/d",
        "rmdir hung/d",
    ];
    let touch = |command: &&str| {
        let mut wire = serv.connect();
        wire.say(command);
        if command.starts_with("write") {
            wire.send_bytes(&body(b"x", skiff_proto::crc::crc32c(b"x")));
        }
        wire
    };
    let mut touching: Vec<Wire> = commands.iter().cycle().take(4 * commands.len()).map(touch).collect();
    let begin = Instant::now();
    let mut wire = serv.connect();
    assert!(wire.ask("stat f").starts_with("ok 1048576 "));
    assert!(wire.ask("list").starts_with("ok"));
    let (listing, _) = wire.hear_body();
    let listing = String::from_utf8(listing).unwrap();
    assert!(listing.contains("0 - - hung/\n") && listing.contains(" link\n"), "{listing}");
    assert!(wire.write("g", b"content").starts_with("ok 7 "));
    assert_eq!(wire.read("link").unwrap().len(), 1 << 20);
    assert!(wire.ask("sum 0 * f").starts_with("ok 1048576 "));
    assert_eq!(wire.ask("resume 9 h"), "ok 0 00000000");
    assert_eq!(wire.ask("mkdir d"), "ok");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    // Clients for which no thread was free get an error and can continue.
    touching.iter().for_each(|wire| wire.stream.set_nonblocking(true).unwrap());
    let mut answered = None;
    assert!(eventually(|| {
        answered = touching.iter().position(|wire| wire.stream.peek(&mut [0]).is_ok());
        answered.is_some()
    }));
    let answered = &mut touching[answered.unwrap()];
    answered.stream.set_nonblocking(false).unwrap();
    let answer = answered.hear_text();
    assert!(answer == "-1" || answer == "error io the file system does not respond", "{answer}");
    assert_eq!(answered.ask("ping"), "ok");
    let begin = Instant::now();
    let ran = serv.stop();
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn a_root_that_hangs_keeps_nobody_from_ending_the_server() {
    let root = tempdir().unwrap();
    let test = "a_root_that_hangs_keeps_nobody_from_ending_the_server";
    for (grace, signals) in [("1", 1), ("1000", 100)] {
        let Some(mut command) = with_hung(test, root.path(), root.path(), &["--grace", grace]) else { return };
        let mut running = Running::start(&mut command);
        assert!(eventually(|| running.catches(Signal::TERM)));
        let mut sent = 0;
        assert!(eventually(|| {
            if sent < signals {
                running.signal(Signal::TERM);
                sent += 1;
            }
            running.has_ended()
        }));
        assert_eq!(running.wait().code, Some(0));
    }
}
