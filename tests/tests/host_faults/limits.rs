//! Threads that can't be started, and work that would use up all threads.

use core::time::Duration;
use std::fs::{self, File};
use std::process::Command;
use std::time::Instant;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use skiff_tests::namespace;
use skiff_tests::ordeal::in_memory;
use skiff_tests::programs::{Serv, Signal, program, run};
use skiff_tests::wire::{End, Wire, eventually};
use tempfile::tempdir;

/// A field of /proc/PID/status.
fn status(serv: &Serv, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", serv.running.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn pid(serv: &Serv) -> Pid {
    Pid::from_raw(i32::try_from(serv.running.pid()).unwrap()).unwrap()
}

/// Ticks of processor time of the program.
fn ticks(serv: &Serv) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", serv.running.pid())).unwrap();
    let after = stat.rsplit(')').next().unwrap();
    after.split_whitespace().skip(11).take(2).map(|word| word.parse::<u64>().unwrap()).sum()
}

/// Waits until the program is idle.
fn comes_to_rest(serv: &Serv) -> bool {
    eventually(|| {
        let before = ticks(serv);
        std::thread::sleep(Duration::from_millis(200));
        ticks(serv) <= before + 1
    })
}

/// Ends a connection with a reset.
fn reset(wire: Wire) {
    let none = Some(Duration::ZERO);
    socket2::SockRef::from(&wire.stream).set_linger(none).unwrap();
}

#[test]
fn a_server_that_can_start_no_further_thread_goes_on_serving() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("f"), vec![7; 1 << 20]).unwrap();
    let serv = Serv::start(root.path(), &["--threads", "2"]);
    // Its threads have their memory only once they run.
    assert!(comes_to_rest(&serv));
    // There is no memory left for the stack of a thread, but enough for a connection.
    let memory = status(&serv, "VmSize:") * 1024 + (7 << 18);
    let limit = Rlimit { current: Some(memory), maximum: None };
    prlimit(Some(pid(&serv)), Resource::As, limit).unwrap();
    let mut wires: Vec<_> = (0..20).map(|_| serv.connect()).collect();
    for (at, wire) in wires.iter_mut().enumerate() {
        wire.send_write(&format!("{at}"), b"content");
        wire.say("sum 0 * f");
        wire.say(format!("resume 9 {at}"));
        wire.say("ls");
        wire.say(format!("mkdir d{at}"));
    }
    for wire in &mut wires {
        assert!(wire.hear_text().starts_with("ok 7 "));
        assert!(wire.hear_text().starts_with("ok 1048576 "));
        assert_eq!(wire.hear_text(), "ok 0 00000000");
        // Other clients add files, so it may omit some (PROTOCOL §3).
        let listed = wire.hear_text();
        assert!(!listed.starts_with("error"), "{listed}");
        assert_eq!(wire.hear_text(), "ok");
    }
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn a_server_that_can_not_start_its_threads_says_so_and_ends_with_1() {
    let root = tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", r#"ulimit -v 200000 && exec "$@""#, "sh"]).arg(program("host-serv"));
    let ran = run(command.args(["0", "--threads", "250", "--root"]).arg(root.path()));
    assert_eq!((ran.code, ran.out()), (Some(1), ""), "{ran:?}");
    assert!(ran.err.starts_with("host-serv: can't start 250 threads: ") && ran.err.lines().count() == 1, "{}", ran.err);
}

#[test]
fn sums_of_a_huge_file_block_no_client_and_end_with_their_clients() {
    let root = in_memory();
    File::create(root.path().join("sparse")).unwrap().set_len(20 << 30).unwrap();
    fs::write(root.path().join("f"), vec![7; 1 << 20]).unwrap();
    let serv = Serv::start(root.path(), &[]);
    let greedy: Vec<_> = (0..600)
        .map(|_| {
            let mut wire = serv.connect();
            wire.say("sum 0 * sparse");
            wire
        })
        .collect();
    // The server does not read from them any more, and they do count.
    assert!(status(&serv, "Threads:") < 50, "{}", status(&serv, "Threads:"));
    let begin = Instant::now();
    let mut honest = serv.connect();
    assert!(honest.write("g", b"content").starts_with("ok 7 "));
    assert!(honest.ask("sum 0 * f").starts_with("ok 1048576 "));
    assert_eq!(honest.ask("resume 5 h"), "ok 0 00000000");
    assert!(honest.ask("ls").contains('f'));
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    greedy.into_iter().for_each(reset);
    assert!(comes_to_rest(&serv), "it continues work that no client waits for");
    // One that has only closed its sending side still waits.
    honest.say("sum 0 60000000 sparse");
    honest.finish();
    assert!(honest.hear_text().starts_with("ok 60000000 "));
    assert_eq!(honest.hear_end(), (Vec::new(), End::Closed));
    assert_eq!(serv.stop().code, Some(0));
}

#[test]
fn a_closed_connection_is_noticed_while_work_is_in_progress() {
    if !namespace::inside(module_path!(), "a_closed_connection_is_noticed_while_work_is_in_progress") {
        return;
    }
    // How long the client's system remembers a closed connection.
    fs::write("/proc/sys/net/ipv4/tcp_fin_timeout", "1").unwrap();
    let root = tempdir().unwrap();
    File::create(root.path().join("sparse")).unwrap().set_len(1 << 43).unwrap();
    let serv = Serv::start(root.path(), &[]);
    let mut wire = serv.connect();
    wire.say("sum 0 * sparse");
    assert!(eventually(|| ticks(&serv) > 20));
    drop(wire);
    assert!(comes_to_rest(&serv), "it continues work that no client waits for");
    serv.running.signal(Signal::TERM);
    assert_eq!(serv.running.wait().code, Some(0));
}
