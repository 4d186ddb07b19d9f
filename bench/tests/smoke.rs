//! The bench itself, small: every job with skiff alone, each result checked by the bench as in a real run.

use std::fs;
use std::process::Command;

const JOBS: [&str; 13] = [
    "get-discard",
    "get-tmpfs",
    "put-tmpfs",
    "put-disk",
    "small-get-tmpfs",
    "small-get-disk",
    "small-put-disk",
    "tiny",
    "session",
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

#[test]
fn a_peer_that_nobody_knows_is_refused() {
    let ran = Command::new(env!("CARGO_BIN_EXE_skiff-bench")).args(["host", "--peers", "ngnix"]).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&ran.stderr).contains("nginx"), "{ran:?}");
}
