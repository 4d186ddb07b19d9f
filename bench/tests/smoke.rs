//! A short run of the bench: every job once, for `host` with only skiff; the bench checks each result as in a real run.

use std::fs;
use std::process::Command;

const JOBS: [&str; 20] = [
    "get-discard",
    "get-tmpfs",
    "put-tmpfs",
    "put-disk",
    "sealed-get-discard",
    "sealed-get-tmpfs",
    "sealed-put-tmpfs",
    "sealed-connect",
    "small-get-tmpfs",
    "small-get-disk",
    "small-put-disk",
    "sync-unchanged",
    "sync-cold",
    "tiny",
    "session",
    "file-sizes",
    "clients",
    "server-memory",
    "session-memory",
    "start",
];

#[test]
fn every_job_measures_skiff_and_keeps_what_it_measured() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("results.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_skiff-bench"));
    bench.args(["host", "--rounds", "1", "--size", "2", "--files", "40", "--peers", "none", "--note", "a test"]);
    bench.arg("--dir").arg(dir.path()).arg("--shm").arg(dir.path()).arg("--out").arg(&out);
    let ran = bench.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");

    let results: serde_json::Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(results["note"], "a test");
    assert!(results["machine"]["kernel"].as_str().unwrap().starts_with("Linux"), "{results}");
    let jobs = results["jobs"].as_array().unwrap();
    assert_eq!(jobs.iter().map(|job| job["job"].as_str().unwrap()).collect::<Vec<_>>(), JOBS);
    for job in jobs {
        let contenders = job["contenders"].as_array().unwrap();
        let ours = contenders.iter().filter(|one| one["role"].as_str().unwrap().starts_with("skiff"));
        assert!(ours.clone().count() > 0, "{job}");
        assert!(ours.clone().all(|one| one["values"][0].as_f64().unwrap() > 0.0), "{job}");
    }
    // Nothing of the run stays behind.
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["results.json"]);
}

const DEVICE_JOBS: [&str; 9] =
    ["get", "put", "small-buffers-get", "small-buffers-put", "files", "round-trip", "idle", "messages", "bad-line"];

#[test]
fn every_device_job_measures_all_of_its_contenders() {
    // As the bench asks, and behind a TAP.
    let own = Command::new("unshare").args(["-Urn", "true"]).output().is_ok_and(|output| output.status.success());
    let tap = fs::File::options().read(true).write(true).open("/dev/net/tun").is_ok();
    if !own || !tap || Command::new("ip").arg("-V").output().is_err() {
        eprintln!("SKIPPED: no network of its own, no TAP or no `ip` here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("results.json");
    let mut bench = Command::new(env!("CARGO_BIN_EXE_skiff-bench"));
    let ran = bench.args(["device", "--quick", "--out"]).arg(&out).env("TMPDIR", dir.path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");

    let results: serde_json::Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    let jobs = results["jobs"].as_array().unwrap();
    assert_eq!(jobs.iter().map(|job| job["job"].as_str().unwrap()).collect::<Vec<_>>(), DEVICE_JOBS);
    for job in jobs {
        // Its sources are not part of this.
        let skipped = job["skipped"].as_array().unwrap();
        assert!(skipped.iter().all(|word| word.as_str().unwrap().starts_with("lwIP: ")), "{job}");
        let contenders = job["contenders"].as_array().unwrap();
        assert!(contenders.iter().any(|one| one["role"] == "skiff"), "{job}");
        assert!(contenders.iter().all(|one| one["values"][0].as_f64().is_some()), "{job}");
        // Rates say what is better than what, and every goal was judged.
        assert!(job["goals"].as_array().unwrap().iter().all(|goal| goal["measured"].as_f64().is_some()), "{job}");
        assert!(!job["goals"].as_array().unwrap().is_empty(), "{job}");
    }
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["results.json"]);
}

#[test]
fn a_peer_that_nobody_knows_is_refused() {
    let ran = Command::new(env!("CARGO_BIN_EXE_skiff-bench")).args(["host", "--peers", "ngnix"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("nginx"), "{ran:?}");
}
