//! The dissector for Wireshark (contrib/wireshark): its own tests, and captures of device-serv.

#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use skiff_tests::device::TAP;
use skiff_tests::namespace::inside;
use skiff_tests::programs::{Serv, device_serv, host_cli, python, python_tests, run, run_with, skip};
use skiff_tests::vector::{Cut, Pacing, Vector, load_all, play};
use skiff_tests::wire::{Wire, eventually};

#[test]
fn it_shows_the_vectors_as_expected_and_survives_damaged_captures() {
    let test = "it_shows_the_vectors_as_expected_and_survives_damaged_captures";
    python_tests(test, "wireshark", "test_*.py");
}

/// The Info column of tshark, one line per frame; `None` without tshark.
fn tshark(test: &str, pcap: &Path, options: &[&str]) -> Option<String> {
    let home = tempfile::tempdir().unwrap();
    let script = concat!("lua_script:", env!("CARGO_MANIFEST_DIR"), "/../contrib/wireshark/skiff.lua");
    let mut command = Command::new("tshark");
    command.args(["-n", "-X", script, "-Y", "skiff", "-o", "gui.column.format:\"Info\",\"%i\"", "-r"]).arg(pcap);
    command.args(options).env("HOME", home.path()).env("XDG_CONFIG_HOME", home.path()).env("LC_ALL", "C.UTF-8");
    let Ok(output) = command.output() else {
        skip(test, "tshark is not installed");
        return None;
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !err.contains("Lua") && !out.contains("Lua Error"), "{err}{out}");
    Some(out.into_owned())
}

/// The messages of each direction, and the complete data connections, without what differs between servers or runs:
/// frame and port numbers, times, texts, tags.
fn comparable(shown: &str) -> [Vec<String>; 3] {
    let mut found = [const { Vec::new() }; 3];
    for line in shown.lines() {
        let (from, infos) = line.split_once(' ').unwrap();
        for info in infos.split(" | ").map(|info| info.split(" [").next().unwrap()) {
            let words = |count, text: &str| text.split(' ').take(count).collect::<Vec<_>>().join(" ");
            let info = match info.split_once(": ") {
                Some((command, reply)) if reply.starts_with("ok ") || reply.starts_with("error ") => {
                    format!("{command}: {}", words(2, reply))
                }
                Some((command, reply)) if reply.starts_with("port ") || reply.starts_with("skiff/") => {
                    format!("{command}: {}", words(1, reply))
                }
                _ => info.to_owned(),
            };
            match (info.strip_prefix("data of "), from) {
                (Some(data), _) if data.ends_with(", complete") => found[2].push(info),
                (Some(_), _) => {}
                (None, "50000") => found[0].push(info),
                (None, _) => found[1].push(info),
            }
        }
    }
    found
}

#[test]
fn captures_of_device_serv_show_each_vector_as_expected() {
    let test = "captures_of_device_serv_show_each_vector_as_expected";
    if !inside(module_path!(), test) {
        return;
    }
    let can_be_played = |vector: &Vector| vector.setting.omitted == 0 && !vector.setting.needs_directories();
    let here = tempfile::tempdir().unwrap();
    let (mut captures, mut expected) = (Vec::new(), String::new());
    for vector in load_all().unwrap().into_iter().filter(can_be_played) {
        let (files, pcap) = (here.path().join(&vector.file), here.path().join("link.pcap"));
        fs::create_dir(&files).unwrap();
        vector.setting.before.iter().for_each(|(name, content)| fs::write(files.join(name), content).unwrap());
        let options = ["--tap", TAP, "--pcap", pcap.to_str().unwrap(), "--preload", files.to_str().unwrap()];
        let serv = Serv::launch(device_serv().args(options), "port ").unwrap();
        let mut wire = Wire::connect(([192, 168, 69, 1], 50000).into());
        play(&vector, Pacing::Lines, Cut::Whole, &mut wire).unwrap();
        drop(wire);
        assert_eq!(serv.stop().code, Some(0));
        // All captures in one file, for one run of tshark: the header of the first, then the packets of all.
        captures.extend_from_slice(&fs::read(&pcap).unwrap()[if captures.is_empty() { 0 } else { 24 }..]);
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contrib/wireshark/tests/expected").join(&vector.file);
        for line in fs::read_to_string(text).unwrap().lines() {
            // Without the number of the frame and the time.
            expected.extend([line.split_once('.').unwrap().1.split_once(' ').unwrap().1, "\n"]);
        }
    }
    let pcap = here.path().join("all.pcap");
    fs::write(&pcap, captures).unwrap();
    let columns = ["-o", "gui.column.format:\"From\",\"%uS\",\"Info\",\"%i\""];
    let Some(shown) = tshark(test, &pcap, &columns) else { return };
    assert_eq!(comparable(&shown), comparable(&expected), "{shown}");
}

/// Both kinds of client with a device on a TAP; the capture that the device wrote.
fn captured(here: &Path, link: &[&str]) -> std::path::PathBuf {
    let pcap = here.join("link.pcap");
    let options = ["--tap", TAP, "--pcap", pcap.to_str().unwrap()];
    let serv = Serv::launch(device_serv().args(options).args(link), "port ").unwrap();
    fs::write(here.join("a.txt"), "hello\n").unwrap();
    fs::write(here.join("big"), vec![7; 100_000]).unwrap();
    let cli = |words: &[&str]| run(host_cli(here).args(["192.168.69.1", "50000"]).args(words)).ok();
    cli(&["put", "a.txt", "big"]);
    cli(&["get", "a.txt", "big", "-f"]);
    _ = run(host_cli(here).args(["192.168.69.1", "50000", "stat", "nothing"]));
    assert_eq!(serv.stop().code, Some(0));
    pcap
}

#[test]
fn it_shows_what_device_serv_captured() {
    let test = "it_shows_what_device_serv_captured";
    if !inside(module_path!(), test) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let pcap = captured(here.path(), &[]);
    let Some(out) = tshark(test, &pcap, &[]) else { return };
    for line in [
        "get /skiff/1: skiff/1 server=skiff-device/",
        "write a.txt: 6 bytes, crc32c 353dd8be, correct",
        "write a.txt: ok 6 353dd8be [",
        "data of write big: ",
        "write big: 100000 bytes, crc32c ",
        "read a.txt: 6 bytes, crc32c 353dd8be, correct",
        "read big: 100000 bytes, crc32c ",
        "stat nothing: error not-found ",
    ] {
        assert!(out.contains(line), "no {line:?} in\n{out}");
    }
    assert!(!out.contains("WRONG") && !out.contains("not a length") && !out.contains("nobody"), "{out}");
}

#[test]
fn it_shows_a_link_that_loses_and_reorders_without_an_error() {
    let test = "it_shows_a_link_that_loses_and_reorders_without_an_error";
    if !inside(module_path!(), test) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let pcap = captured(here.path(), &["--drop", "3", "--reorder", "5", "--duplicate", "5", "--seed", "18"]);
    for options in [&["-V"][..], &["-V", "-2"], &["-V", "-o", "tcp.reassemble_out_of_order:TRUE"]] {
        let Some(out) = tshark(test, &pcap, options) else { return };
        assert!(out.contains("Skiff File Transfer"), "{out}");
    }
}

#[test]
fn it_links_the_data_connections_of_the_classic_client() {
    let test = "it_links_the_data_connections_of_the_classic_client";
    let Some(python) = python(test) else { return };
    if !inside(module_path!(), test) {
        return;
    }
    let here = tempfile::tempdir().unwrap();
    let pcap = here.path().join("link.pcap");
    let options = ["--tap", TAP, "--pcap", pcap.to_str().unwrap()];
    let serv = Serv::launch(device_serv().args(options), "port ").unwrap();
    fs::write(here.path().join("teste.txt"), "olá\n".repeat(1000)).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/cli.py");
    let mut command = Command::new(python);
    command.args([script, "192.168.69.1", "50000"]).current_dir(here.path());
    let mut classic = |commands| {
        let ran = run_with(&mut command, commands);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
    };
    classic("put teste.txt\nquit\n");
    // The client does not wait until the file is stored.
    let mut wire = Wire::connect(([192, 168, 69, 1], 50000).into());
    assert!(eventually(|| wire.ask("stat teste.txt").starts_with("ok ")));
    classic("ls\nget none\nquit\n");
    assert_eq!(serv.stop().code, Some(0));
    let Some(out) = tshark(test, &pcap, &[]) else { return };
    for line in [
        "put teste.txt: port ",
        "data of put teste.txt: 5000 bytes, 4000 characters, complete",
        "ls: 1 name [",
        "get none: -1, no such file [",
    ] {
        assert!(out.contains(line), "no {line:?} in\n{out}");
    }
}
