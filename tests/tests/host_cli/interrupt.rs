//! Ctrl-C stops a command in any state, even if nobody reads its output.

use core::time::Duration;
use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use skiff_tests::programs::{Running, Signal, on_a_terminal_of, python};
use skiff_tests::wire::eventually;

use crate::Scene;
use crate::prompt::Session;

/// A program must end within this time, on a busy machine. One that ignores Ctrl-C takes longer, or never ends.
const SOON: Duration = Duration::from_secs(10);

/// A scene with a file that takes long at any rate, and takes no space on the server.
fn scene_with_a_large_file() -> Scene {
    let scene = Scene::new();
    let file = fs::File::create(scene.host.root().join("big")).unwrap();
    file.set_len(4 << 30).unwrap();
    scene
}

/// Sends one Ctrl-C to a working program, and waits for the end.
#[track_caller]
fn interrupted(what: &str, mut running: Running) {
    // If it blocks before it handles Ctrl-C, the signal ends it.
    let blocked =
        || fs::read_to_string(format!("/proc/{}/wchan", running.pid())).is_ok_and(|at| at.contains("pipe_write"));
    assert!(eventually(|| running.catches(Signal::INT) || blocked()), "{what}: is not at work");
    let listens = running.catches(Signal::INT);
    let begun = Instant::now();
    running.signal(Signal::INT);
    assert!(eventually(|| running.has_ended()), "{what}");
    let took = begun.elapsed();
    let ran = running.wait();
    assert!(
        ran.code == Some(130) && ran.err.contains("cancelled") || ran.code.is_none() && !listens,
        "{what}: {ran:?}"
    );
    assert!(took < SOON, "{what}: {took:?}");
}

#[test]
fn one_ctrl_c_ends_a_command_and_a_script_whatever_they_do() {
    let scene = scene_with_a_large_file();
    for name in 0..20_000 {
        fs::write(scene.host.root().join(format!("{name:0200}")), b"").unwrap();
    }
    for words in [
        &["get", "big", "-f"][..],
        &["-q", "get", "big", "-f"],
        &["get", "big", "-f", "-j", "2"],
        &["get", "big", "-o", "-"],
        &["cat", "big"],
        &["ls"],
    ] {
        for (output, stdio) in [("/dev/null", Stdio::null()), ("a pipe that is not read", Stdio::piped())] {
            // A command that ends quickly can't be interrupted.
            if words == ["ls"] && output == "/dev/null" {
                continue;
            }
            let mut command = scene.command();
            let running = Running::start_with_output_elsewhere(command.args(words).stdin(Stdio::null()).stdout(stdio));
            interrupted(&format!("{words:?} to {output}"), running);
        }
        let mut command = scene.command();
        let mut running = Running::start_with_output_elsewhere(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
        running.say(words.join(" ").replace("-q ", "") + "\n");
        assert!(eventually(|| running.catches(Signal::INT)));
        interrupted(&format!("{words:?} in a script"), running);
    }
    // A script that waits for its next line.
    let mut command = scene.command();
    let mut running = Running::start(command.stdin(Stdio::piped()));
    running.say("mkdir d\nlpwd\n");
    assert!(running.first_line().is_some());
    interrupted("a script that waits", running);
}

#[test]
fn a_get_ended_by_a_signal_resumes_on_request() {
    let scene = Scene::new();
    let len = 300 << 20;
    fs::File::create(scene.host.root().join("big")).unwrap().set_len(len).unwrap();
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut running = Running::start(scene.command().args(["get", "-c", "big"]));
        let part = || {
            let files = fs::read_dir(scene.here.path()).unwrap().flatten();
            files.map(|file| file.metadata().map_or(0, |meta| meta.len())).max().unwrap_or(0)
        };
        assert!(eventually(|| part() > 1 << 20 || running.has_ended()));
        running.signal(signal);
        let ran = running.wait();
        assert_ne!(ran.code, Some(0), "{signal:?}");
        assert!(part() > 1 << 20 && scene.content("big").is_none(), "{signal:?}");
    }
    let out = scene.run(&["get", "-c", "big", "-f"]).ok();
    assert!(out.contains(", resumed at "), "{out}");
    assert_eq!(fs::metadata(scene.here.path().join("big")).unwrap().len(), len);
}

#[test]
fn ctrl_c_on_a_terminal_stops_what_comes_too_fast_for_it() {
    let test = "ctrl_c_on_a_terminal_stops_what_comes_too_fast_for_it";
    let scene = scene_with_a_large_file();
    // Text, so that no byte becomes more than one.
    scene.host.put("text", "0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(1_000_000).as_bytes());
    for options in [&[][..], &["--slow"]] {
        for name in ["text", "big"] {
            let Some(mut session) = Session::on(options, test, &scene, scene.host.port(), &[]) else { return };
            session.enter(&format!("cat {name}"));
            session.see(if name == "text" { "xyz" } else { "\\u{0}" });
            let begun = Instant::now();
            session.type_in("\u{3}");
            session.see("host-cli: cat");
            session.see("cancelled");
            session.see("skiff> ");
            let took = begun.elapsed();
            assert!(took < SOON, "{options:?} {name}: {took:?}");
            session.type_in("quit\r");
            session.ends_with(0);
            let Some(python) = python(test) else { return };
            let mut command = scene.command();
            let mut running = on_a_terminal_of(python, options, command.args(["cat", name]));
            _ = running.hear(if name == "text" { "xyz" } else { "\\u{0}" }, 0);
            // If a command ends before it handles Ctrl-C, the signal ends it.
            std::thread::sleep(Duration::from_millis(100));
            let begun = Instant::now();
            running.say("\u{3}");
            let ran = running.wait();
            assert!(matches!(ran.code, Some(130 | 254)), "{:?}", ran.code);
            assert!(begun.elapsed() < SOON, "{options:?} {name}");
        }
    }
}

#[test]
fn two_ctrl_c_at_a_prompt_whose_output_is_not_read_stop_the_command() {
    let test = "two_ctrl_c_at_a_prompt_whose_output_is_not_read_stop_the_command";
    let scene = scene_with_a_large_file();
    let Some(python) = python(test) else { return };
    let fifo = scene.here.path().join("fifo");
    let program = skiff_tests::programs::program("host-cli");
    let shell = format!("mkfifo fifo; exec {program:?} 127.0.0.1 {} > fifo", scene.host.port());
    let mut command = Command::new("sh");
    command.args(["-c", &shell]).current_dir(scene.here.path()).env("SKIFF_HISTORY", "");
    let mut running = on_a_terminal_of(python, &[], &command);
    assert!(eventually(|| fifo.exists()));
    let mut reader = fs::File::open(&fifo).unwrap();
    reader.read_exact(&mut [0; 10]).unwrap();
    running.say("cat big\r");
    // Until the pipe is full.
    assert!(eventually(|| rustix::io::ioctl_fionread(&reader).is_ok_and(|n| n >= 30_000)));
    // A Ctrl-C while nothing at all can be written may not be enough: then another one ends the prompt. At each, the
    // terminal discards what it has not shown yet, so they come ever more slowly.
    assert!((0..8).any(|at| {
        running.try_say("\u{3}").is_err() || {
            std::thread::sleep(Duration::from_millis(100 << at));
            running.out().contains("cancelled")
        }
    }));
}

#[test]
fn an_interrupted_bench_leaves_nothing_on_the_server() {
    let scene = Scene::new();
    let is_staged = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(".skiff-stage");
    let staged = || {
        let slots = fs::read_dir(scene.host.root()).unwrap().flatten().filter(|entry| is_staged(&entry.file_name()));
        slots
            .flat_map(|slot| fs::read_dir(slot.path()).unwrap().flatten())
            .map(|file| file.metadata().map_or(0, |meta| meta.len()))
            .sum::<u64>()
    };
    let mut command = scene.command();
    let running = Running::start(command.args(["bench", "--size", "1GiB"]).stdin(Stdio::null()));
    assert!(eventually(|| staged() > 0), "{}", running.err());
    assert!(running.catches(Signal::INT), "before anything is on the server");
    running.signal(Signal::INT);
    let ran = running.wait();
    assert_eq!(ran.code, Some(130), "{ran:?}");
    assert!(eventually(|| staged() == 0), "{} bytes are staged", staged());
    assert_eq!(scene.all_there(), Vec::<String>::new());
}
