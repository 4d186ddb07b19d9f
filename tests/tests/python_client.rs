//! The client in Python (contrib/python), a second implementation of the protocol: its own tests, with the programs as
//! they are built now.

use core::time::Duration;
use std::ffi::OsStr;
use std::process::Command;
use std::thread;
use std::time::Instant;

use skiff_tests::programs::{Running, program, python, skip};

/// How long one file of tests may take.
const LIMIT: Duration = Duration::from_secs(300);

/// Runs a file of tests, and says what it skips.
fn passes(test: &str, pattern: &str) {
    let Some(python) = python(test) else { return };
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/../contrib/python");
    let mut command = Command::new(python);
    command.args(["-m", "unittest", "discover", "--verbose", "--start-directory", "tests", "--pattern", pattern]);
    command.current_dir(here).env("PYTHONPATH", "src").env("PYTHONDONTWRITEBYTECODE", "1").env_remove("RUST_LOG");
    let programs = program("host-serv").parent().map(OsStr::new).expect("a directory").to_owned();
    let mut running = Running::start(command.env("SKIFF_PROGRAMS", programs).stdin(std::process::Stdio::null()));
    let start = Instant::now();
    while !running.has_ended() {
        assert!(start.elapsed() < LIMIT, "it does not end: {}", running.err());
        thread::sleep(Duration::from_millis(10));
    }
    let ran = running.wait();
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    assert!(!ran.err.contains("\nRan 0 tests"), "{}", ran.err);
    for line in ran.err.lines() {
        if let Some((name, why)) = line.split_once(" ... skipped ") {
            skip(&format!("{test}: {name}"), why);
        }
    }
}

#[test]
fn it_knows_names_numbers_and_checksums() {
    passes("it_knows_names_numbers_and_checksums", "test_units.py");
}

#[test]
fn it_passes_the_vectors_with_a_script_and_with_both_servers() {
    passes("it_passes_the_vectors_with_a_script_and_with_both_servers", "test_vectors.py");
}

#[test]
fn its_transfers_survive_cut_links_damage_and_full_disks() {
    passes("its_transfers_survive_cut_links_damage_and_full_disks", "test_transfers.py");
}

#[test]
fn hostile_servers_get_it_to_fail_and_nothing_else() {
    passes("hostile_servers_get_it_to_fail_and_nothing_else", "test_hostile.py");
}

#[test]
fn it_transfers_with_classic_servers() {
    passes("it_transfers_with_classic_servers", "test_classic.py");
}

#[test]
fn its_program_answers_as_host_cli_does() {
    passes("its_program_answers_as_host_cli_does", "test_cli.py");
}

#[test]
fn its_package_installs() {
    passes("its_package_installs", "test_package.py");
}
