//! File systems that ignore letter case, like those of Windows, macOS and SD cards, on this machine and on the server.

use std::fs;

use skiff_tests::host::Host;
use skiff_tests::namespace::mounts;
use skiff_tests::{fuse, programs};

use tempfile::TempDir;

use crate::Scene;

/// Runs `test` with a scene whose local directory ignores letter case.
fn ignoring_case(name: &str, test: impl Fn(&Scene)) {
    on_other_letters(name, |here| test(&Scene { here, host: Host::start() }));
}

/// Runs `test` with a directory that ignores letter case.
fn on_other_letters(name: &str, test: impl Fn(TempDir)) {
    if !mounts(module_path!(), name) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    match fuse::mount(&path) {
        Ok(mounted) => {
            test(dir);
            mounted.umount_and_join().unwrap();
            fs::remove_dir(path).unwrap();
        }
        Err(error) => programs::skip(name, &format!("no FUSE file system can be mounted: {error}")),
    }
}

#[test]
fn get_does_not_replace_one_file_with_another() {
    ignoring_case("get_does_not_replace_one_file_with_another", |scene| {
        scene.serve(&["logs/A", "logs/a", "logs/b"]);
        scene.done(&["get", "-r", "logs"]);
        assert_eq!(scene.all_here(), ["logs/", "logs/A", "logs/a(1)", "logs/b"]);
        scene.is_here("logs/A", "logs/A");
        scene.is_here("logs/a(1)", "logs/a");
        let ran = scene.run(&["get", "-rf", "logs", "-q"]);
        assert_eq!(ran.failed(1), "get logs/a: another file of this command is saved as logs/a");
        scene.is_here("logs/A", "logs/A");
        scene.is_here("logs/b", "logs/b");
    });
}

#[test]
fn sync_keeps_one_of_two_files_and_says_so() {
    ignoring_case("sync_keeps_one_of_two_files_and_says_so", |scene| {
        scene.serve(&["logs/A", "logs/a", "logs/b"]);
        for _ in 0..2 {
            let ran = scene.run(&["sync", "--pull", "--delete", "here", "logs", "-q"]);
            assert_eq!(ran.failed(1), "sync logs/a: LOCAL_DIR ignores letter case, and this file would replace logs/A");
            scene.is_here("here/A", "logs/A");
            scene.is_here("here/b", "logs/b");
        }
    });
}

#[test]
fn sync_does_not_delete_what_has_another_spelling_here() {
    ignoring_case("sync_does_not_delete_what_has_another_spelling_here", |scene| {
        scene.serve(&["logs/new/a", "logs/same"]);
        scene.have(&["here/NEW/A", "here/SAME"]);
        fs::write(scene.here.path().join("here/SAME"), "logs/same").unwrap();
        let out = scene.run(&["sync", "--pull", "--delete", "here", "logs"]).ok();
        assert!(out.contains("1 fetched, 0 deleted, 1 unchanged"), "{out}");
        scene.is_here("here/new/a", "logs/new/a");
        let out = scene.run(&["sync", "--pull", "--delete", "here", "logs"]).ok();
        assert!(out.contains("0 fetched, 0 deleted, 2 unchanged"), "{out}");
    });
}

#[test]
fn sync_does_not_delete_what_has_another_spelling_on_the_server() {
    on_other_letters("sync_does_not_delete_what_has_another_spelling_on_the_server", |root| {
        let scene = Scene { here: tempfile::tempdir().unwrap(), host: Host::serve(root.path(), |_| {}) };
        scene.serve(&["www/README", "www/gone"]);
        scene.have(&["site/readme", "site/new"]);
        let out = scene.run(&["sync", "--delete", "site", "www"]).ok();
        assert!(out.contains("2 sent, 1 deleted, 0 unchanged"), "{out}");
        scene.is_there("www/readme", "site/readme");
        scene.have(&["site/README"]);
        let ran = scene.run(&["sync", "--delete", "site", "www", "-q"]);
        assert_eq!(
            ran.failed(1),
            "sync www/readme: the server ignores letter case, and this file would replace www/README"
        );
    });
}
