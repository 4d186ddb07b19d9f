//! Directories with everything in them, in both directions.

use std::fs;
use std::os::unix::fs::symlink;

use crate::{Scene, THEN, below, set_time, time_of};

#[test]
fn a_tree_goes_up_and_comes_back_as_it_was() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/b c", "t/sub/d", "t/sub/deep/er/e"]);
    fs::create_dir_all(scene.here.path().join("t/empty/inner")).unwrap();
    set_time(&scene.here.path().join("t/sub/d"), THEN);
    let out = scene.run(&["put", "-r", "t"]).ok();
    assert!(out.lines().any(|line| line == "put t/empty/inner/: created"), "{out}");
    assert_eq!(scene.all_there(), scene.all_here());
    scene.is_there("t/sub/deep/er/e", "t/sub/deep/er/e");
    scene.done(&["get", "-r", "t", "-o", "copy"]);
    assert_eq!(below(&scene.here.path().join("copy")), below(&scene.here.path().join("t")));
    scene.is_here("copy/b c", "t/b c");
    assert_eq!(time_of(&scene.here.path().join("copy/sub/d")), THEN);
    assert!(!scene.host.root().join(".skiff-part").exists());
}

#[test]
fn the_destination_of_a_tree_follows_the_rules_of_files() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/sub/b"]);
    scene.done(&["put", "-r", "t", "-o", "copy"]);
    scene.done(&["put", "-r", "t/", "-o", "in/"]);
    assert_eq!(
        scene.all_there(),
        ["copy/", "copy/a", "copy/sub/", "copy/sub/b", "in/", "in/t/", "in/t/a", "in/t/sub/", "in/t/sub/b"]
    );
    let here = |words: &[&str]| {
        let scene = Scene { here: tempfile::tempdir().unwrap(), host: skiff_tests::host::Host::start() };
        scene.serve(&["logs/1", "logs/old/2", "top"]);
        scene.done(words);
        scene.all_here()
    };
    assert_eq!(here(&["get", "-r", "logs"]), ["logs/", "logs/1", "logs/old/", "logs/old/2"]);
    assert_eq!(here(&["get", "-r", "logs", "-o", "copy"]), ["copy/", "copy/1", "copy/old/", "copy/old/2"]);
    assert_eq!(
        here(&["get", "-r", "logs/", "-o", "copy/"]),
        ["copy/", "copy/logs/", "copy/logs/1", "copy/logs/old/", "copy/logs/old/2"]
    );
    for root in [".", "/"] {
        assert_eq!(here(&["get", "-r", root]), ["logs/", "logs/1", "logs/old/", "logs/old/2", "top"], "{root}");
    }
    assert_eq!(here(&["get", "-r", "*"]), ["logs/", "logs/1", "logs/old/", "logs/old/2", "top"]);
    assert_eq!(here(&["get", "-r", "top", "logs/old"]), ["old/", "old/2", "top"]);
}

#[test]
fn what_is_here_goes_into_the_root() {
    let scene = Scene::new();
    scene.have(&["a", "d/b"]);
    scene.done(&["put", "-r", "."]);
    assert_eq!(scene.all_there(), ["a", "d/", "d/b"]);
    // The server refuses hidden names; the others are transferred.
    scene.have(&[".git/config", "e"]);
    let ran = scene.run(&["put", "-r", "."]);
    assert_eq!(ran.failed(1), "put .git/config: hidden names are not allowed here (denied)");
    scene.is_there("e", "e");
    assert_eq!(scene.all_there(), ["a", "d/", "d/b", "e"]);
    // Many of them are reported once, directories too.
    scene.have(&[".git/HEAD", ".git/x/y", "d/.env"]);
    fs::create_dir_all(scene.here.path().join(".git/refs/heads")).unwrap();
    let ran = scene.run(&["put", "-r", "."]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(
        ran.err.lines().collect::<Vec<_>>(),
        [
            "host-cli: put .git/HEAD: hidden names are not allowed here (denied)",
            "host-cli: put: 5 more: hidden names are not allowed here (denied)",
        ]
    );
    assert_eq!(scene.run(&["put", "-r", ".", "--json"]).err.lines().count(), 6);
}

#[test]
fn what_this_program_has_begun_to_fetch_is_not_sent() {
    let scene = Scene::new();
    scene.have(&[
        "t/a",
        "t/.a.12-v1.skiff-part",
        "t/.5d41402abc4b2a76b9719d911017c592.7--.3.skiff-part",
        "t/b.skiff-part",
    ]);
    let ran = scene.run(&["put", "-r", "t"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(scene.all_there(), ["t/", "t/a", "t/b.skiff-part"]);
    let err = scene.run(&["put", "-r", "t", "-v"]).err;
    assert!(err.contains(".a.12-v1.skiff-part"), "{err}");
    // If it is named explicitly, the server's error is reported.
    assert_eq!(scene.run(&["put", "t/.a.12-v1.skiff-part", "-o", "part"]).code, Some(0));
}

#[test]
fn a_tree_is_sent_without_what_is_no_file_and_what_lies_outside() {
    let scene = Scene::new();
    scene.have(&["t/real", "secret"]);
    let at = |name: &str| scene.here.path().join(name);
    symlink("real", at("t/inside")).unwrap();
    symlink("../secret", at("t/outside")).unwrap();
    symlink("/etc", at("t/etc")).unwrap();
    symlink("none", at("t/dangling")).unwrap();
    symlink(".", at("t/loop")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("t/socket")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(at("t/fifo")).status();
    let ran = scene.run(&["put", "-r", "t"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(scene.all_there(), ["t/", "t/inside", "t/real"]);
    scene.is_there("t/inside", "t/real");
    let mut left_out = vec![
        "host-cli: put t/dangling: skipped: broken link",
        "host-cli: put t/etc: skipped: link to outside the tree",
        "host-cli: put t/loop: skipped: link to a directory",
        "host-cli: put t/outside: skipped: link to outside the tree",
        "host-cli: put t/socket: skipped: not a regular file",
    ];
    if fifo.is_ok_and(|status| status.success()) {
        left_out.insert(2, "host-cli: put t/fifo: skipped: not a regular file");
    }
    assert_eq!(ran.err.lines().collect::<Vec<_>>(), left_out);
    // It is reported in every output mode, since none of it was sent.
    let quiet = scene.run(&["put", "-rq", "t"]);
    assert_eq!((quiet.code, quiet.out(), &quiet.err), (Some(0), "", &ran.err));
    let json = scene.run(&["put", "-r", "t", "--json"]);
    let reported: Vec<serde_json::Value> = json.err.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.code, reported.len()), (Some(0), left_out.len()));
    let first = serde_json::json!({
        "type": "left-out", "command": "put", "name": "t/dangling", "message": "broken link"
    });
    assert_eq!(reported[0], first);
}

#[test]
fn a_tree_is_not_fetched_through_a_local_link() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/link/b", "t/file/c", "t/z"]);
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(scene.here.path().join("t")).unwrap();
    symlink(outside.path(), scene.here.path().join("t/link")).unwrap();
    scene.have(&["t/file"]);
    for options in [&[][..], &["-f"], &["-c"]] {
        let ran = scene.run(&[&["get", "-r", "t"], options].concat());
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            ran.err.contains("get t/link/b: is a symbolic link here; get -r does not write through it\n"),
            "{}",
            ran.err
        );
        assert!(ran.err.contains("get t/file/c: is a file here, not a directory\n"), "{}", ran.err);
        assert!(ran.err.lines().all(|line| line.starts_with("host-cli: get ")), "{}", ran.err);
        assert!(below(outside.path()).is_empty());
        scene.is_here("t/z", "t/z");
    }
    scene.is_here("t/file", "t/file");
    // A link that the user names is followed.
    let into = scene.here.path().join("named");
    symlink(outside.path(), &into).unwrap();
    scene.done(&["get", "-r", "t", "-o", "named"]);
    assert_eq!(below(outside.path()), ["t/", "t/a", "t/file/", "t/file/c", "t/link/", "t/link/b", "t/z"]);
}

#[test]
fn a_tree_that_is_there_is_kept_or_replaced_file_by_file() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/b"]);
    scene.write("t/a", b"mine");
    let out = scene.run(&["get", "-r", "t"]).ok();
    assert!(out.contains("saved as t/a(1) since t/a exists"), "{out}");
    scene.is_here("t/a", "mine");
    scene.is_here("t/b", "t/b");
    scene.done(&["get", "-rf", "t"]);
    scene.is_here("t/a", "t/a");
    // Resuming finds everything there.
    let out = scene.run(&["get", "-rc", "t"]).ok();
    let there =
        |line: &str| crate::timeless(line).contains("3 bytes, already complete") && !line.contains(" 0.000000 s");
    assert!(out.lines().all(there), "{out}");
    assert_eq!(scene.all_here(), ["t/", "t/a", "t/a(1)", "t/b"]);
}

#[test]
fn a_file_in_place_of_the_directory_is_one_error() {
    let scene = Scene::new();
    scene.serve(&["t/1", "t/2", "t/d/3"]);
    scene.have(&["file"]);
    for target in ["file", "file/"] {
        let ran = scene.run(&["get", "-r", "t", "-o", target]);
        assert_eq!(ran.failed(1), format!("get {target}: exists and is not a directory"));
    }
    scene.is_here("file", "file");
}
