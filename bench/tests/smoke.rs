//! A short run of the bench: every job once, for `host` with only skiff; the bench checks each result as in a real run.

use std::fs;
use std::process::Command;

use skiff_tests::programs::program;

const JOBS: [&str; 21] = [
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
    "sessions",
    "clients",
    "server-memory",
    "session-memory",
    "start",
];

/// The bench, with the programs that other tests use: built as it builds them, they would have other features, and be
/// compiled again with most of their dependencies.
fn bench(mode: &str) -> Command {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_skiff-bench"));
    bench.arg(mode).arg("--programs").arg(program("host-serv").parent().expect("a directory"));
    bench
}

/// The names of jobs, without repeats.
fn names(jobs: &[serde_json::Value]) -> Vec<&str> {
    let mut names: Vec<_> = jobs.iter().map(|job| job["job"].as_str().expect("a name")).collect();
    names.dedup();
    names
}

/// The names of the jobs that were measured on one processor, and also on two if there are two.
fn pinned(jobs: &[serde_json::Value]) -> Vec<&str> {
    let on = |placement: &str| {
        let jobs = jobs.iter().filter(|job| job["placement"] == placement);
        jobs.map(|job| job["job"].as_str().expect("a name")).collect::<Vec<_>>()
    };
    if std::thread::available_parallelism().is_ok_and(|number| number.get() > 1) {
        assert_eq!(on("one-processor"), on("two-processors"));
    }
    on("one-processor")
}

#[test]
fn each_run_has_its_own_results_and_the_goals_are_shown_side_by_side() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = bench("host");
    bench.args(["--rounds", "1", "--size", "1", "--peers", "none", "--only", "server-memory", "--runs", "2"]);
    bench.arg("--dir").arg(dir.path()).arg("--shm").arg(dir.path()).arg("--out").arg(dir.path().join("kept.json"));
    let ran = bench.output().unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{ran:?}");
    assert!(said.contains(" run 1 ") && said.contains(" run 2 | median | min to max |"), "{said}");
    for run in [1, 2] {
        let path = dir.path().join(format!("kept-{run}.json"));
        let results: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        assert_eq!(results["run"], run);
    }
}

#[test]
fn every_job_measures_skiff_and_keeps_what_it_measured() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("results.json");
    let mut bench = bench("host");
    bench.args(["--rounds", "1", "--size", "2", "--files", "40", "--peers", "none", "--note", "a test"]);
    bench.arg("--dir").arg(dir.path()).arg("--shm").arg(dir.path()).arg("--out").arg(&out);
    let ran = bench.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");

    let results: serde_json::Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    assert_eq!(results["note"], "a test");
    assert!(results["machine"]["kernel"].as_str().unwrap().starts_with("Linux"), "{results}");
    let jobs = results["jobs"].as_array().unwrap();
    assert_eq!(names(jobs), JOBS);
    assert_eq!(pinned(jobs), ["tiny", "session", "file-sizes"]);
    for job in jobs {
        assert!(job["others"]["processes"].as_f64().is_some(), "{job}");
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
    let ran = bench("device").args(["--quick", "--out"]).arg(&out).env("TMPDIR", dir.path()).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{said}");

    let results: serde_json::Value = serde_json::from_slice(&fs::read(&out).unwrap()).unwrap();
    let jobs = results["jobs"].as_array().unwrap();
    assert_eq!(names(jobs), DEVICE_JOBS);
    assert_eq!(pinned(jobs), ["get", "put", "round-trip"]);
    for job in jobs {
        // lwIP's sources are not part of this repository, and a machine may have only one processor.
        let mut skipped = job["skipped"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        assert!(skipped.all(|word| word.starts_with("lwIP: ") || word.starts_with("two processors: ")), "{job}");
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
