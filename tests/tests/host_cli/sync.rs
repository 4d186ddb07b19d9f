//! `sync` transfers what differs and changes nothing else.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::{Value, json};
use skiff_tests::host::Host;
use skiff_tests::programs::{Ran, Running, Serv, Signal, device_serv, run};
use skiff_tests::wire::eventually;

use crate::{Scene, THEN, content, set_time, time_of};

impl Scene {
    /// The last line of the output of `sync`, without the duration.
    #[track_caller]
    fn synced(&self, words: &[&str]) -> String {
        let out = self.run(&[&["sync"], words].concat()).ok();
        let last = out.lines().last().unwrap();
        last[..last.rfind(" in ").unwrap()].to_owned()
    }
}

/// The actions, in order.
fn steps(ran: &Ran) -> Vec<String> {
    let lines = ran.out().lines().filter(|line| !line.contains(" unchanged, "));
    lines.map(|line| line.split(':').next().unwrap().to_owned()).collect()
}

#[test]
fn only_what_differs_is_sent_and_the_second_run_sends_nothing() {
    let scene = Scene::new();
    scene.have(&["site/a", "site/d/b", "site/d/e/c"]);
    fs::create_dir(scene.here.path().join("site/empty")).unwrap();
    scene.write("site/zero", b"");
    assert_eq!(scene.synced(&["site", "www"]), "4 sent, 0 deleted, 0 unchanged, 24 B");
    assert_eq!(
        scene.all_there(),
        ["www/", "www/a", "www/d/", "www/d/b", "www/d/e/", "www/d/e/c", "www/empty/", "www/zero"]
    );
    scene.is_there("www/d/e/c", "site/d/e/c");
    let second = scene.run(&["sync", "site", "www"]).ok();
    assert!(second.starts_with("0 sent, 0 deleted, 4 unchanged, 0 B in ") && second.lines().count() == 1, "{second}");
    // The same size and the same time: the content decides.
    scene.write("site/a", b"site/A");
    set_time(&scene.here.path().join("site/a"), time_of(&scene.host.root().join("www/a")));
    // Another time and the same content.
    set_time(&scene.here.path().join("site/d/b"), THEN);
    scene.write("site/d/e/c", b"longer than before");
    let third = scene.run(&["sync", "site/", "/www/"]);
    assert_eq!(steps(&third), ["put site/a", "put site/d/e/c"]);
    assert_eq!(scene.host.content("www/a").unwrap(), b"site/A");
    scene.is_there("www/d/b", "site/d/b");
}

#[test]
fn the_server_is_asked_for_checksums_that_its_listing_lacks() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/b", "t/c"]);
    scene.have(&["t/a", "t/c"]);
    scene.write("t/b", b"t/B");
    assert_eq!(scene.synced(&["t", "t"]), "1 sent, 0 deleted, 2 unchanged, 3 B");
    assert_eq!(scene.host.content("t/b").unwrap(), b"t/B");
}

#[test]
fn nothing_outside_the_named_tree_is_deleted() {
    let scene = Scene::new();
    scene.have(&["site/a"]);
    scene.serve(&["www/a", "www/old", "www/d/e/x", "wwwx/y", "keep", "www.txt"]);
    fs::create_dir(scene.host.root().join("www/gone")).unwrap();
    assert_eq!(scene.synced(&["site", "www"]), "1 sent, 0 deleted, 0 unchanged, 6 B");
    let ran = scene.run(&["sync", "--delete", "site", "www"]);
    assert_eq!(steps(&ran), ["rm www/d/e/x", "rm www/old", "rmdir www/gone", "rmdir www/d/e", "rmdir www/d"]);
    assert_eq!(scene.all_there(), ["keep", "www.txt", "www/", "www/a", "wwwx/", "wwwx/y"]);
    // The root is a tree like any other, but it has to be named.
    for command in ["sync", "watch"] {
        let why = scene.run(&[command, "--delete", "site"]);
        assert!(why.failed(2).ends_with("--delete needs REMOTE_DIR; / is the root of the server"));
    }
    assert_eq!(scene.synced(&["--delete", "site", "/"]), "1 sent, 6 deleted, 0 unchanged, 6 B");
    assert_eq!(scene.all_there(), ["a"]);
}

#[test]
fn excluded_names_are_neither_sent_nor_deleted() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/a.o", "t/log/x", "t/sub/b.o", "t/sub/k.c", "t/.skiffignore.x"]);
    fs::remove_file(scene.here.path().join("t/.skiffignore.x")).unwrap();
    scene.write("t/.skiffignore", b"*.o\n");
    scene.write("t/sub/.skiffignore", b"!b.o\nk.*\n");
    scene.write("t/.x.bin.12-3a.skiff-part", b"part");
    scene.serve(&["t/old.o", "t/log/y", "t/sub/k.h", "t/d/z.o", "t/d/z", "t/e/w"]);
    assert_eq!(scene.synced(&["--delete", "--exclude", "./log", "t", "t"]), "2 sent, 3 deleted, 0 unchanged, 12 B");
    assert_eq!(
        scene.all_there(),
        ["t/", "t/a", "t/d/", "t/d/z.o", "t/log/", "t/log/y", "t/old.o", "t/sub/", "t/sub/b.o", "t/sub/k.h"]
    );
    assert_eq!(scene.synced(&["--delete", "--exclude", "log", "t", "t"]), "0 sent, 0 deleted, 2 unchanged, 0 B");
    let ran = scene.run(&["sync", "--delete", "--exclude", "xx/log", "--exclude", "log", "t", "t"]);
    assert_eq!(ran.failed(0), "sync: --exclude 'xx/log' matches nothing; patterns are relative to LOCAL_DIR");
}

#[test]
fn a_pattern_that_is_not_valid_is_a_usage_error_before_anything_happens() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/d/b"]);
    scene.serve(&["t/x.log"]);
    for glob in ["[z-a]", "[*.log", "", " ", "#x", "!x"] {
        let ran = scene.run(&["sync", "--delete", "--exclude", glob, "t", "t"]);
        assert!(ran.failed(2).starts_with(&format!("sync: --exclude '{glob}': ")), "{ran:?}");
    }
    scene.write("t/d/.skiffignore", b"*.o\n[*.log\n");
    let ran = scene.run(&["sync", "--delete", "t", "t"]);
    assert!(ran.failed(2).starts_with("sync t/d/.skiffignore: line 2: "), "{ran:?}");
    // Not mounted.
    fs::remove_file(scene.here.path().join("t/d/.skiffignore")).unwrap();
    symlink("/none/ignore", scene.here.path().join("t/d/.skiffignore")).unwrap();
    let ran = scene.run(&["sync", "--delete", "t", "t"]);
    assert!(ran.failed(1).starts_with("sync t/d/.skiffignore: No such file or directory"), "{ran:?}");
    assert_eq!(scene.all_there(), ["t/", "t/x.log"]);
}

#[test]
fn links_are_treated_as_put_r_treats_them_and_protect_their_names() {
    let scene = Scene::new();
    scene.have(&["t/real", "outside"]);
    symlink("real", scene.here.path().join("t/inside")).unwrap();
    symlink("../outside", scene.here.path().join("t/out")).unwrap();
    symlink("../..", scene.here.path().join("t/dir")).unwrap();
    scene.serve(&["t/out", "t/dir/x", "t/old"]);
    let ran = scene.run(&["sync", "--delete", "t", "t"]);
    assert_eq!((ran.code, steps(&ran)), (Some(0), vec!["put t/inside".into(), "put t/real".into(), "rm t/old".into()]));
    let left: Vec<_> = ran.err.lines().collect();
    assert_eq!(
        left,
        [
            "host-cli: sync t/dir: skipped: link to outside the tree",
            "host-cli: sync t/out: skipped: link to outside the tree"
        ]
    );
    assert_eq!(scene.all_there(), ["t/", "t/dir/", "t/dir/x", "t/inside", "t/out", "t/real"]);
}

#[test]
fn a_dry_run_changes_nothing_and_shows_everything() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/n/b"]);
    fs::create_dir(scene.here.path().join("t/empty")).unwrap();
    scene.serve(&["t/old", "t/o/x"]);
    let before = (scene.all_here(), scene.all_there());
    let out = scene.run(&["sync", "-n", "--delete", "t", "t"]).ok();
    assert!(
        out.starts_with(
            "would put t/a: 3 bytes\nwould put t/n/b: 5 bytes\nwould mkdir t/empty\n\
             would rm t/o/x\nwould rm t/old\nwould rmdir t/o\nwould be done: 2 sent, 3 deleted, 0 unchanged, 8 B in "
        ),
        "{out}"
    );
    let out = scene.run(&["sync", "--pull", "--dry-run", "--delete", "--json", "t", "t"]).ok();
    let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(objects.contains(&json!({"type": "would", "command": "rm", "name": "t/a"})));
    assert!(objects.contains(&json!({"type": "would", "command": "get", "name": "t/o/x", "size": 5})));
    let summary = objects.last().unwrap();
    assert_eq!(
        (&summary["type"], &summary["sent"], &summary["deleted"], &summary["dry_run"], &summary["pull"]),
        (&json!("summary"), &json!(2), &json!(4), &json!(true), &json!(true))
    );
    assert_eq!((scene.all_here(), scene.all_there()), before);
}

#[test]
fn a_pull_is_the_same_the_other_way() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/d/b", "t/x.log", "u"]);
    fs::create_dir(scene.host.root().join("t/empty")).unwrap();
    set_time(&scene.host.root().join("t/a"), THEN);
    assert_eq!(
        scene.synced(&["--pull", "--exclude", "*.log", "new/copy", "t"]),
        "2 fetched, 0 deleted, 0 unchanged, 8 B"
    );
    let copy = ["new/", "new/copy/", "new/copy/a", "new/copy/d/", "new/copy/d/b", "new/copy/empty/"];
    assert_eq!(scene.all_here(), copy);
    assert_eq!(time_of(&scene.here.path().join("new/copy/a")), THEN);
    scene.have(&["new/copy/old", "new/copy/o/x", "new/copy/keep.log", "new/other"]);
    scene.write("new/copy/a", b"t/A");
    scene.write("new/copy/.x.bin.12-3a.skiff-part", b"part");
    symlink("/etc", scene.here.path().join("new/copy/etc")).unwrap();
    let ran = scene.run(&["sync", "--pull", "--delete", "--exclude", "*.log", "new/copy", "t"]);
    assert_eq!(steps(&ran), ["get t/a", "rm new/copy/o/x", "rm new/copy/old", "rmdir new/copy/o"]);
    scene.is_here("new/copy/a", "t/a");
    let mut left: Vec<_> = copy.map(str::to_owned).into();
    left.extend(
        ["new/copy/.x.bin.12-3a.skiff-part", "new/copy/etc", "new/copy/keep.log", "new/other"].map(str::to_owned),
    );
    left.sort();
    assert_eq!(scene.all_here(), left);
    let hint = "no such directory on the server; LOCAL_DIR comes first, even with --pull";
    assert!(scene.run(&["sync", "--pull", "t", "back"]).failed(1).ends_with(hint));
    assert!(
        scene.run(&["sync", "--pull", "new", "none"]).err.ends_with("sync none: no such directory on the server\n")
    );
}

/// A listing shows a link to a directory like a directory.
#[test]
fn what_a_link_on_the_server_leads_to_is_neither_removed_nor_moved() {
    let scene = Scene::new();
    scene.serve(&["other/o", "t/a", "t/d/old", "w/d/f", "hd/v"]);
    let root = scene.host.root();
    for (target, link) in [("../other", "t/link"), ("../other", "w/l"), ("hd", "hl")] {
        symlink(target, root.join(link)).unwrap();
    }
    scene.have(&["t/a"]);
    fs::create_dir_all(root.join("other/empty")).unwrap();
    let ran = scene.run(&["sync", "--delete", "t", "t"]);
    assert_eq!((ran.code, steps(&ran)), (Some(0), vec!["rm t/d/old".into(), "rmdir t/d".into()]));
    let why = "is a symbolic link on the server, or has just disappeared";
    assert_eq!(ran.err, format!("host-cli: sync t/link: skipped: {why}\n"));
    assert_eq!(scene.run(&["rm", "-r", "w"]).failed(1), format!("rm w/l: {why}"));
    assert_eq!(scene.run(&["mv", "hl", "hl2"]).failed(1), format!("mv hl: {why}"));
    for name in ["other/o", "hd/v"] {
        scene.is_there(name, name);
    }
    assert!(root.join("other/empty").is_dir() && root.join("w/l").is_symlink() && !root.join("hl2").exists());
    assert!(!root.join("w/d").exists());
}

#[test]
fn a_pull_deletes_nothing_that_the_server_may_have_or_cannot_have() {
    let scene = Scene::new();
    scene.serve(&["t/a"]);
    let there = scene.host.root().join("t");
    symlink("/etc/passwd", there.join("out")).unwrap();
    symlink("not-mounted/x", there.join("dangling")).unwrap();
    symlink("not-mounted", there.join("links")).unwrap();
    mkfifoat(CWD, there.join("pipe"), Mode::RWXU).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"bad\xff");
    scene.have(&[
        "t/a",
        "t/old",
        "t/.env",
        "t/.git/x/y",
        "t/out",
        "t/dangling",
        "t/links/x",
        "t/pipe/z",
        "t/back\\slash",
        "t/new\nline/x",
        "t/o/p",
    ]);
    fs::create_dir(scene.here.path().join("t/d")).unwrap();
    fs::write(scene.here.path().join("t/d").join(odd), "x").unwrap();
    let before = scene.all_here();
    let dry = scene.run(&["sync", "-n", "--pull", "--delete", "t", "t"]);
    assert_eq!(scene.all_here(), before);
    let ran = scene.run(&["sync", "--pull", "--delete", "t", "t"]);
    assert_eq!((ran.code, steps(&ran)), (Some(0), vec!["rm t/o/p".into(), "rm t/old".into(), "rmdir t/o".into()]));
    assert_eq!(dry.err, ran.err);
    let skipped: Vec<_> = ran.err.lines().map(|line| line.split(": skipped: ").next().unwrap()).collect();
    let names = ["d/bad\u{fffd}", ".env", ".git", "back\\slash", "dangling", "links", "new\\u{a}line", "out", "pipe"];
    assert_eq!(skipped, names.map(|name| format!("host-cli: sync t/{name}")));
    let left: Vec<_> = before.into_iter().filter(|name| !["t/o/", "t/o/p", "t/old"].contains(&name.as_str())).collect();
    assert_eq!(scene.all_here(), left);
    // An entry that the listing omits could be anything.
    scene.have(&["t/old"]);
    scene.host.put("t/not\\sendable", b"x");
    let ran = scene.run(&["sync", "--pull", "--delete", "t", "t"]);
    assert!(ran.code == Some(1) && ran.err.contains("nothing was deleted, since not everything could be listed"));
    scene.is_here("t/old", "t/old");
}

#[test]
fn a_pull_from_a_flat_store_deletes_no_directories() {
    let scene = Scene::new();
    let device = Serv::launch(device_serv().args(["--listen", "0"]), "port ").unwrap();
    scene.have(&["t/a", "t/old", "t/sub/x", "t/e/f"]);
    fs::remove_file(scene.here.path().join("t/e/f")).unwrap();
    _ = run(scene.command_to(device.port()).args(["put", "t/a"])).ok();
    let ran = run(scene.command_to(device.port()).args(["sync", "--pull", "--delete", "t", "/"]));
    assert_eq!((ran.code, steps(&ran)), (Some(0), vec!["rm t/old".to_owned()]), "{ran:?}");
    assert_eq!(scene.all_here(), ["t/", "t/a", "t/e/", "t/sub/", "t/sub/x"]);
}

#[test]
fn nothing_is_deleted_unless_everything_was_transferred() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/b/x", "t/c"]);
    scene.serve(&["t/old", "t/b"]);
    // Nothing can replace a FIFO.
    mkfifoat(CWD, scene.host.root().join("t/c"), Mode::RWXU).unwrap();
    let ran = scene.run(&["sync", "--delete", "t", "t"]);
    assert_eq!((ran.code, steps(&ran)), (Some(1), vec!["put t/a".to_owned()]), "{ran:?}");
    assert!(ran.err.ends_with("sync: nothing was deleted, since not everything could be transferred\n"), "{ran:?}");
    assert_eq!(scene.all_there(), ["t/", "t/a", "t/b", "t/c", "t/old"]);
}

#[test]
fn hidden_files_that_the_server_refuses_are_skipped_and_the_dry_run_says_so() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/.env", "t/.git/x", "t/.git/y"]);
    scene.serve(&["t/old"]);
    let dry = scene.run(&["sync", "-n", "--delete", "t", "t"]);
    assert_eq!(steps(&dry), ["would put t/a", "would rm t/old"]);
    let ran = scene.run(&["sync", "--delete", "t", "t"]);
    assert_eq!((ran.code, steps(&ran)), (Some(1), vec!["put t/a".into(), "rm t/old".into()]));
    let lines: Vec<_> = ran.err.lines().collect();
    let why = "skipped: hidden names are not allowed here (denied) (--exclude '.*' leaves them out)";
    assert_eq!(lines, [format!("host-cli: sync t/.env: {why}"), format!("host-cli: sync: 2 more: {why}")]);
    assert_eq!((dry.code, dry.err), (ran.code, ran.err));
    let scene = Scene { here: scene.here, host: Host::with(|setup| setup.store.hidden = true) };
    assert_eq!(scene.synced(&["t", "t"]), "4 sent, 0 deleted, 0 unchanged, 25 B");
}

#[test]
fn an_empty_source_deletes_nothing_unless_that_is_wanted() {
    let scene = Scene::new();
    scene.have(&["t/x.log"]);
    scene.serve(&["t/a"]);
    let words = ["--delete", "--exclude", "*.log", "t", "t"];
    for more in [&["sync"][..], &["sync", "-n"]] {
        let why = "sync: LOCAL_DIR has no files; with --allow-empty, --delete empties REMOTE_DIR";
        assert_eq!(scene.run(&[more, &words].concat()).failed(2), why);
    }
    scene.is_there("t/a", "t/a");
    assert_eq!(scene.synced(&[&["--allow-empty"], &words[..]].concat()), "0 sent, 1 deleted, 0 unchanged, 0 B");
    scene.have(&["t/b"]);
    let why = "sync: REMOTE_DIR has no files; with --allow-empty, --delete empties LOCAL_DIR";
    assert_eq!(scene.run(&["sync", "--pull", "--delete", "t", "t"]).failed(2), why);
    scene.is_here("t/b", "t/b");
}

#[test]
fn a_pull_does_not_write_through_a_link() {
    let scene = Scene::new();
    scene.serve(&["t/d/a"]);
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(scene.here.path().join("t")).unwrap();
    symlink(outside.path(), scene.here.path().join("t/d")).unwrap();
    let ran = scene.run(&["sync", "--pull", "--delete", "t", "t"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.err.contains("sync d: the target already has an entry of this name, which sync leaves alone"),
        "{ran:?}"
    );
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_file_in_the_way_of_a_directory_goes_only_with_delete() {
    let scene = Scene::new();
    scene.have(&["t/a/x", "t/b"]);
    scene.serve(&["t/a", "t/b/y"]);
    let ran = scene.run(&["sync", "t", "t"]);
    assert_eq!(ran.code, Some(1));
    for line in [
        "sync a: a directory in the source, a file in the target (--delete replaces it)",
        "sync b: a file in the source, a directory in the target (--delete replaces it)",
    ] {
        assert!(ran.err.contains(line), "{ran:?}");
    }
    assert_eq!(scene.synced(&["--delete", "t", "t"]), "2 sent, 3 deleted, 0 unchanged, 8 B");
    assert_eq!(scene.all_there(), ["t/", "t/a/", "t/a/x", "t/b"]);
    // The same way back.
    scene.have(&["back/a", "back/b/y"]);
    let ran = scene.run(&["sync", "--pull", "back", "t"]);
    assert!(ran.code == Some(1) && ran.err.contains("(--delete replaces it)"), "{ran:?}");
    assert_eq!(scene.synced(&["--pull", "--delete", "back", "t"]), "2 fetched, 3 deleted, 0 unchanged, 8 B");
    assert_eq!(scene.content("back/a/x").unwrap(), b"t/a/x");
    assert_eq!(scene.content("back/b").unwrap(), b"t/b");
    // Hidden names may exist on the server, too.
    scene.have(&["kept/b/.git/x"]);
    let ran = scene.run(&["sync", "--pull", "--delete", "kept", "t"]);
    assert!(
        ran.code == Some(1) && ran.err.ends_with("sync b: a file in the source, a directory in the target\n"),
        "{ran:?}"
    );
    assert_eq!(scene.content("kept/b/.git/x").unwrap(), b"kept/b/.git/x");
}

#[test]
fn what_is_in_the_way_of_a_directory_is_reported_once_and_the_rest_is_sent() {
    let scene = Scene::new();
    scene.have(&["t/pipe/x", "t/pipe/y", "t/b"]);
    fs::create_dir_all(scene.here.path().join("t/pipe/empty")).unwrap();
    fs::create_dir(scene.here.path().join("t/taken")).unwrap();
    fs::create_dir(scene.host.root().join("t")).unwrap();
    // Listings do not show FIFOs.
    for name in ["t/pipe", "t/taken"] {
        mkfifoat(CWD, scene.host.root().join(name), Mode::RWXU).unwrap();
    }
    let why = "is neither a file nor a directory on the server";
    let lines = [
        format!("host-cli: put t/pipe/x: t/pipe {why} (2 more files for the same reason)"),
        format!("host-cli: put t/taken: t/taken {why}"),
    ];
    let dry = scene.run(&["sync", "-n", "t", "t"]);
    assert_eq!(
        (dry.code, steps(&dry), dry.err.lines().collect::<Vec<_>>()),
        (Some(1), vec!["would put t/b".into()], lines.iter().map(String::as_str).collect())
    );
    let ran = scene.run(&["sync", "t", "t"]);
    assert_eq!((ran.code, steps(&ran), &ran.err), (Some(1), vec!["put t/b".into()], &dry.err));
    let ran = scene.run(&["put", "-r", "t"]);
    assert_eq!((ran.code, &ran.err), (Some(1), &dry.err));
    let ran = scene.run(&["--json", "put", "-r", "t"]);
    assert_eq!((ran.code, ran.err.lines().count()), (Some(1), 4));
}

#[test]
fn nothing_is_deleted_if_a_part_of_the_source_is_unknown() {
    let scene = Scene::new();
    scene.have(&["t/a"]);
    fs::write(scene.here.path().join("t").join(std::ffi::OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    scene.serve(&["t/old"]);
    let ran = scene.run(&["sync", "--delete", "t", "t"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("sync: nothing was deleted, since not everything could be listed"), "{ran:?}");
    assert_eq!(scene.all_there(), ["t/", "t/a", "t/old"]);
    for (words, why) in [(&["sync", "none"][..], "No such file or directory"), (&["sync", "t/a"], "Not a directory")] {
        assert!(scene.run(words).failed(1).contains(why), "{words:?}");
    }
}

#[test]
fn what_the_server_does_not_list_stays_and_is_not_a_failure() {
    let scene = Scene::new();
    scene.have(&["t/a"]);
    scene.serve(&["t/hid/.hidden", "t/hid/x", "t/odd/new\nline", "t/odd/y", "t/old"]);
    let hidden = "host-cli: sync t/hid: skipped: contains something that the server does not list";
    let odd = "host-cli: sync t/odd/: skipped: the listing omits 1 entry whose name can't be listed";
    for deleted in [3, 0] {
        let ran = scene.run(&["sync", "--delete", "t", "t"]);
        assert_eq!((ran.code, ran.err.lines().collect::<Vec<_>>()), (Some(0), vec![odd, hidden]));
        assert!(ran.out().contains(&format!(" {deleted} deleted, ")), "{ran:?}");
    }
    assert_eq!(scene.all_there(), ["t/", "t/a", "t/hid/", "t/hid/.hidden", "t/odd/", "t/odd/new\nline"]);
    // Without --delete it does not matter.
    assert_eq!(scene.run(&["sync", "t", "t"]).err, "");
    // As a source, it is incomplete.
    assert_eq!(scene.run(&["sync", "--pull", "--delete", "t", "t"]).code, Some(1));
}

#[test]
fn every_file_is_an_object_and_the_summary_is_the_last() {
    let scene = Scene::new();
    scene.write("t/big", &content(200_000, 1));
    scene.have(&["t/a"]);
    scene.serve(&["t/old"]);
    let out = scene.run(&["--json", "sync", "--delete", "t", "t"]).ok();
    let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let types: Vec<_> = objects.iter().map(|object| object["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["put", "put", "done", "summary"]);
    assert_eq!((&objects[2]["command"], &objects[2]["name"]), (&json!("rm"), &json!("t/old")));
    let summary = &objects[3];
    assert_eq!(
        (&summary["sent"], &summary["deleted"], &summary["unchanged"], &summary["bytes"]),
        (&json!(2), &json!(1), &json!(0), &json!(200_003))
    );
    assert_eq!(scene.run(&["-q", "sync", "t", "t"]).ok(), "");
}

#[test]
fn a_watched_directory_is_sent_at_each_change() {
    let scene = Scene::new();
    scene.have(&["t/a", "t/d/b"]);
    let words = ["watch", "--delete", "--exclude", "*.tmp", "t", "t"];
    let running = Running::start(scene.command().args(words).stdin(Stdio::null()));
    running.hear("2 sent, ", 0);
    scene.write("t/a", b"changed");
    scene.have(&["t/new/c", "t/x.tmp"]);
    fs::remove_file(scene.here.path().join("t/d/b")).unwrap();
    let there = ["t/", "t/a", "t/d/", "t/new/", "t/new/c"];
    let is_there = || scene.all_there() == there && scene.host.content("t/a").as_deref() == Some(b"changed");
    assert!(eventually(is_there), "{:?} {running:?}", scene.all_there());
    // The files in a new directory count as well.
    scene.have(&["t/new/e"]);
    assert!(eventually(|| scene.host.content("t/new/e").is_some()));
    assert!(eventually(|| running.catches(Signal::INT)));
    running.signal(Signal::INT);
    assert_eq!(running.wait().code, Some(130));
}

#[test]
fn a_watched_directory_may_be_empty_or_replaced_for_a_while() {
    let scene = Scene::new();
    scene.have(&["t/a"]);
    let local = scene.here.path().join("t");
    let running = Running::start(scene.command().args(["watch", "--delete", "t", "t"]).stdin(Stdio::null()));
    running.hear("1 sent, ", 0);
    fs::remove_file(local.join("a")).unwrap();
    assert!(eventually(|| running.err().contains("--allow-empty")), "{running:?}");
    scene.have(&["t/b"]);
    assert!(eventually(|| scene.all_there() == ["t/", "t/b"]), "{:?} {running:?}", scene.all_there());
    fs::remove_dir_all(&local).unwrap();
    assert!(eventually(|| running.err().contains("No such file or directory")), "{running:?}");
    assert_eq!(scene.all_there(), ["t/", "t/b"]);
    for name in ["t/c", "t/d"] {
        scene.have(&[name]);
        assert!(eventually(|| scene.host.content(name).is_some()), "{name} {running:?}");
    }
    running.signal(Signal::INT);
    assert_eq!(running.wait().code, Some(130));
}

#[test]
fn a_dry_run_reports_what_a_read_only_server_refuses() {
    let scene = Scene::with(|setup| setup.store.read_only = true);
    scene.have(&["t/a", "t/n/b"]);
    fs::create_dir(scene.here.path().join("t/empty")).unwrap();
    scene.serve(&["old"]);
    let dry = scene.run(&["sync", "-n", "t", "/"]);
    let ran = scene.run(&["sync", "t", "/"]);
    assert_eq!((dry.code, steps(&dry)), (Some(1), Vec::new()));
    assert_eq!((dry.code, dry.err), (ran.code, ran.err));
    let deletes = scene.run(&["sync", "-n", "--delete", "--exclude", "*", "--allow-empty", "t/empty", "/"]);
    assert_eq!(steps(&deletes), Vec::<String>::new());
    // What would replace a file is refused, too.
    scene.have(&["u/old/x"]);
    let replaces = scene.run(&["sync", "-n", "--delete", "u", "/"]);
    assert_eq!((replaces.code, steps(&replaces)), (Some(1), Vec::new()));
}
