//! skiff-conformance, which checks the servers of others: with ours, with the original one, and with broken ones.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use skiff_conformance::report::Outcome;
use skiff_conformance::run::{Choice, run};
use skiff_conformance::scene::Target;
use skiff_tests::host::Host;
use skiff_tests::programs::{self, Ran, Running, Serv, classic_serv, conformance, device_serv, python};
use skiff_tests::sans_io::message;
use skiff_tests::sealed::{key, secret_text};
use skiff_tests::vector::{Cut, Pacing, load_all, play};
use skiff_tests::wire::{PATIENCE, Wire};
use tempfile::tempdir;

/// The checks of the server at `port`, with further arguments.
fn check(port: u16, arguments: &[&str]) -> (Ran, Value) {
    let port = port.to_string();
    let ran = programs::run(conformance(&["127.0.0.1", &port, "--json"]).args(arguments));
    let report = serde_json::from_slice(&ran.bytes).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran, report)
}

/// The names of the checks with this result.
fn with(report: &Value, result: &str) -> BTreeSet<String> {
    let checks = report["checks"].as_array().unwrap().iter().filter(|check| check["result"] == result);
    checks.map(|check| check["id"].as_str().unwrap().to_owned()).collect()
}

/// No check fails, `passed` pass, and nothing is left.
#[track_caller]
fn passes(port: u16, arguments: &[&str], passed: usize) {
    let (ran, report) = check(port, &[&["--timeout", "60"], arguments].concat());
    assert!(with(&report, "failed").is_empty() && ran.code == Some(0), "{report:#}");
    assert!(with(&report, "passed").len() >= passed && report["left"] == Value::Array(Vec::new()), "{report:#}");
}

/// Files with the secret and with a key for each role.
fn keys(dir: &Path) -> [PathBuf; 3] {
    let text = |id: &str| key(id).encode(&mut [0; skiff_proto::secure::Key::TEXT_LEN]).to_owned();
    let files = [("secret", secret_text()), ("rw", text("rw.alice.1")), ("ro", text("ro.bob.1"))];
    files.map(|(name, text)| {
        let path = dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        path
    })
}

#[test]
fn host_serv_passes_and_nothing_is_left_in_its_directory() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["--hidden"]);
    passes(serv.port(), &[], 100);
    assert_eq!(serv.stop().code, Some(0));
    let left = fs::read_dir(root.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().starts_with(".skiff-")).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn device_serv_passes() {
    let serv = Serv::launch(device_serv().args(["--listen", "0"]), "port ").unwrap();
    passes(serv.port(), &[], 95);
}

#[test]
fn servers_with_a_secret_pass_with_each_key_and_without_one() {
    let here = tempdir().unwrap();
    let [secret, change, read] = keys(here.path());
    let [secret, change, read] = [&secret, &change, &read].map(|path| path.to_str().unwrap());
    let root = tempdir().unwrap();
    let host = Serv::start(root.path(), &["--secret", secret]);
    let device = Serv::launch(device_serv().args(["--listen", "0", "--secret", secret]), "port ").unwrap();
    for serv in [host, device] {
        passes(serv.port(), &["--quick", "--key-file", change], 70);
        passes(serv.port(), &["--quick", "--key-file", read], 25);
        passes(serv.port(), &["--quick"], 9);
    }
}

#[test]
fn the_classic_server_fails_where_the_original_programs_are_known_to_differ() {
    let test = "the_classic_server_fails_where_the_original_programs_are_known_to_differ";
    let Some(python) = python(test) else { return };
    let root = tempdir().unwrap();
    let serv = classic_serv(python, root.path());
    let (ran, report) = check(serv.port(), &["--timeout", "3"]);
    assert_eq!((ran.code, &report["hello"]), (Some(1), &Value::Null));
    let (passed, failed) = (with(&report, "passed"), with(&report, "failed"));
    for id in ["get-missing", "round-trip", "empty-file", "put-numbers", "hello-version", "commands-during-transfer"] {
        assert!(passed.contains(id), "{id}: {report:#}");
    }
    for id in ["split-messages", "bad-length", "unknown-command", "put-short", "put-bytes", "port-owner"] {
        assert!(failed.contains(id), "{id}: {report:#}");
    }
    // It has no command to remove what the checks have stored.
    assert!(!report["left"].as_array().unwrap().is_empty());
}

/// Replaces the payload of a message.
type Change = fn(&[u8]) -> Option<Vec<u8>>;

/// A server with a fault: this one changes what passes to and from a sound server.
fn broken(server: SocketAddr, up: Change, down: Change) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let server = TcpStream::connect(server).unwrap();
                std::thread::scope(|scope| {
                    scope.spawn(|| pass(&client, &server, up));
                    pass(&server, &client, down);
                });
            });
        }
    });
    addr
}

/// Forwards messages, and the end.
fn pass(mut from: &TcpStream, mut to: &TcpStream, change: Change) {
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n @ 1..) = from.read(&mut buffer) {
        received.extend_from_slice(&buffer[..n]);
        while let Some(length) = received.get(..10) {
            let length = core::str::from_utf8(length).ok().and_then(|length| length.parse::<usize>().ok());
            if length.is_some_and(|length| received.len() < 10 + length) {
                break;
            }
            let rest = received.split_off(length.map_or(received.len(), |length| 10 + length));
            let bytes = core::mem::replace(&mut received, rest);
            let changed = change(&bytes[10.min(bytes.len())..]).map_or(bytes, message);
            _ = to.write_all(&changed);
        }
    }
    _ = to.write_all(&received);
    _ = to.shutdown(Shutdown::Write);
}

/// The message with another beginning, if it has this one.
fn replaced(payload: &[u8], begin: &str, other: &str) -> Option<Vec<u8>> {
    payload.strip_prefix(begin.as_bytes()).map(|rest| [other.as_bytes(), rest].concat())
}

#[test]
fn each_planted_fault_fails_the_check_for_it() {
    let host = Host::start();
    let same: Change = |_| None;
    let faults: [(&str, Change, Change); 13] = [
        ("empty-message", |sent| sent.is_empty().then(|| b"ping".to_vec()), same),
        ("lower-case", |sent| sent.is_ascii().then(|| sent.to_ascii_lowercase()), same),
        ("one-space", |sent| replaced(sent, " ping", "ping"), same),
        (
            "refused-abort",
            |sent| replaced(sent, "write 0 3 - ../d", "write"),
            |got| replaced(got, "error bad-command", "ok"),
        ),
        ("bad-names", same, |got| replaced(got, "error bad-name", "error not-found")),
        ("get-missing", same, |got| replaced(got, "-1", "0")),
        ("error-form", same, |got| replaced(got, "error ", "error E\x1b[2J")),
        ("read-ranges", same, |got| replaced(got, "error range", "error io")),
        ("write-read", same, |got| replaced(got, "crc32c ", "crc32c 0")),
        ("wrong-crc", same, |got| replaced(got, "error mismatch", "ok 4")),
        ("resume-interrupted", same, |got| replaced(got, "ok 4 f63af4ee", "ok 4 00000000")),
        ("busy", same, |got| replaced(got, "error busy", "ok 0 00000000")),
        ("hello-version", |sent| replaced(sent, "get /skiff/", "get /skiff/1").map(|_| b"get /skiff/1".to_vec()), same),
    ];
    for (id, up, down) in faults {
        let addr = broken(host.addr(), up, down);
        let target = Target { addr, key: None, timeout: PATIENCE };
        let choice = Choice { quick: true, only: vec![id.into()] };
        let report = run(&target, &choice, |_| ()).unwrap();
        let failed: Vec<_> = report.with(Outcome::Failed).map(|entry| entry.id).collect();
        assert!(failed.contains(&id), "{id}: {report:#?}");
    }
}

#[test]
fn a_server_that_is_none_is_reported_in_one_line() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    std::thread::spawn(move || {
        listener.incoming().flatten().for_each(|mut client| _ = client.write_all(b"SSH-2.0-x\r\n"))
    });
    let ran = programs::run(&mut conformance(&["127.0.0.1", &port]));
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), "skiff-conformance: not a length: \"SSH-2.0-x\\r\"\n"));
}

#[test]
fn it_plays_every_vector_for_a_client_and_reports_one_that_differs() {
    let mut server = Running::start(&mut conformance(&["serve", "0"]));
    let line = server.first_line().unwrap();
    let port: u16 = line.strip_prefix("port ").unwrap().parse().unwrap();
    let connect = || Wire::connect((core::net::Ipv4Addr::LOCALHOST, port).into());
    let mut heard = 0;
    for vector in load_all().unwrap() {
        heard = server.hear(&format!("next: {}\n", vector.file), heard);
        let mut wire = connect();
        play(&vector, Pacing::Lines, Cut::Whole, &mut wire).unwrap_or_else(|problem| panic!("{problem}"));
        drop(wire);
        heard = server.hear(&format!("ok {}\n", vector.file), heard);
    }
    assert_eq!(server.wait().code, Some(0));

    // A client that begins with a hello, and then lists in place of asking for the list.
    server = Running::start(&mut conformance(&["serve", "0", "classic-ls.txt"]));
    let port: u16 = server.first_line().unwrap().strip_prefix("port ").unwrap().parse().unwrap();
    let mut wire = Wire::connect((core::net::Ipv4Addr::LOCALHOST, port).into());
    assert!(wire.ask("get /skiff/1").starts_with("skiff/1 "));
    wire.say("list");
    let ran = server.wait();
    assert!(
        ran.code == Some(1) && ran.out().contains("FAILED classic-ls.txt:2: expected \"0000000002ls\", got "),
        "{ran:?}"
    );
}
