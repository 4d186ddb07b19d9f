//! Commands that users know from other programs: removing, renaming and showing whole trees, following logs, editing
//! and comparing files, limited rates.

use core::time::Duration;
use std::fs::{self, File};
use std::io::Write as _;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};
use skiff_tests::programs::{Running, Signal, run};
use skiff_tests::wire::eventually;

use crate::prompt::Session;
use crate::{Scene, content};

#[test]
fn whole_trees_are_removed() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/d/e/b", "t.txt", "u/x", "v/x", "f"]);
    fs::create_dir(scene.host.root().join("t/empty")).unwrap();
    assert_eq!(
        scene.run(&["rm", "t"]).failed(1),
        "rm t: is a directory on the server (rm -r removes it with all that is in it)"
    );
    let out = scene.run(&["rm", "-r", "t", "t/d/", "f"]).ok();
    let lines = ["rm t/a: removed", "rm t/d/e/b: removed", "rm f: removed", "rm t/empty: removed", "rm t/d/e: removed"];
    assert_eq!(out.lines().take(5).collect::<Vec<_>>(), lines);
    assert_eq!(scene.all_there(), ["t.txt", "u/", "u/x", "v/", "v/x"]);
    assert_eq!(scene.run(&["rm", "-r", "none", "u"]).failed(1), "rm none: no such file on the server");
    for root in [".", "/", "./"] {
        assert!(scene.run(&["rm", "-r", root]).failed(2).contains("the root can't be removed"), "{root}");
    }
    assert_eq!(scene.all_there(), ["t.txt", "v/", "v/x"]);
    scene.done(&["rm", "-r", "*"]);
    assert_eq!(scene.all_there(), Vec::<String>::new());
}

#[test]
fn directories_are_renamed() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/d/b", "other/x", "f"]);
    fs::create_dir(scene.host.root().join("t/empty")).unwrap();
    assert_eq!(scene.run(&["mv", "t", "new/u"]).ok(), "mv t: renamed to new/u\n");
    assert_eq!(
        scene.all_there(),
        ["f", "new/", "new/u/", "new/u/a", "new/u/d/", "new/u/d/b", "new/u/empty/", "other/", "other/x"]
    );
    scene.is_there("new/u/d/b", "t/d/b");
    for (words, why) in [
        (&["mv", "new/u", "other"][..], "the directory other exists on the server (mv new/u other/ moves it in there)"),
        (&["mv", "new/u", "f"], "a file on the server is called f"),
        (&["mv", "new", "new/x"], "a directory can't be moved into itself"),
        (&["mv", "f", "other"], "the new name is a directory on the server (TO/ puts it in there)"),
        (&["mv", "none", "x"], "no such file on the server"),
    ] {
        assert!(scene.run(words).failed(1).ends_with(why), "{words:?}");
    }
    scene.done(&["mv", "new/u", "other/"]);
    assert_eq!(scene.all_there()[..5], ["f", "new/", "other/", "other/u/", "other/u/a"]);
}

#[test]
fn unlisted_files_keep_a_directory_and_are_reported() {
    let scene = Scene::new();
    scene.serve(&["u/.hid", "u/c"]);
    let left = "something that the server does not list is left in this directory";
    assert_eq!(scene.run(&["rm", "-r", "u"]).failed(1), format!("rm u: what the server lists was removed; {left}"));
    assert_eq!(scene.all_there(), ["u/", "u/.hid"]);
}

#[test]
fn control_characters_in_local_names_are_escaped_in_messages() {
    let scene = Scene::new();
    scene.have(&["new\nline"]);
    let out = scene.run(&["put", "new\nline", "-o", "f"]).ok();
    assert!(out.starts_with("put new\\u{a}line: 8 bytes, ") && out.lines().count() == 1, "{out}");
    let out = scene.run(&["get", "f", "-o", "x\ty"]).ok();
    assert!(out.ends_with(", saved as x\\u{9}y\n"), "{out}");
}

#[test]
fn a_file_is_copied_on_the_server() {
    let scene = Scene::new();
    scene.serve(&["a", "old", "d/x"]);
    assert_eq!(scene.run(&["cp", "a", "old"]).ok(), "cp a: copied to old\n");
    scene.is_there("old", "a");
    scene.done(&["cp", "a", "d/"]);
    scene.is_there("d/a", "a");
    scene.is_there("a", "a");
    assert!(scene.run(&["cp", "a", "./a"]).failed(1).contains("the same file"));
    assert!(scene.run(&["cp", "none", "b"]).failed(1).contains("no such file on the server"));
    assert_eq!(scene.run(&["cp", "d", "e"]).failed(1), "cp d: is a directory; cp copies single files");
    assert_eq!(scene.all_here(), Vec::<String>::new());
}

#[test]
fn a_tree_is_shown_and_counted() {
    let scene = Scene::new();
    scene.serve(&["a/b/x", "a/y", "z"]);
    assert_eq!(
        scene.run(&["tree"]).ok(),
        "/\n├── a/\n│   ├── b/\n│   │   └── x\n│   └── y\n└── z\n2 directories, 3 files\n"
    );
    assert_eq!(scene.run(&["tree", "a/b"]).ok(), "a/b/\n└── x\n0 directories, 1 file\n");
    assert_eq!(scene.run(&["tree", "--json", "a"]).ok().lines().count(), 3);
    assert_eq!(scene.run(&["du"]).ok(), "5  a/b/\n8  a/\n9  /\n");
    assert_eq!(scene.run(&["du", "-h", "a/b"]).ok(), "5 B  a/b/\n");
    let usage: Value = serde_json::from_str(&scene.run(&["du", "--json", "a/b"]).ok()).unwrap();
    assert_eq!(usage, json!({"type": "usage", "name": "a/b", "size": 5, "files": 1}));
    assert!(scene.run(&["tree", "none"]).failed(1).contains("no such"));
    assert!(scene.run(&["du", "none"]).failed(1).contains("no such"));
}

#[test]
fn the_end_of_a_file_is_printed() {
    let scene = Scene::new();
    let lines: Vec<_> = (1..=5000).map(|number| format!("line {number}\n")).collect();
    scene.host.put("log", lines.concat().as_bytes());
    scene.host.put("open", b"a\nb\nc");
    scene.host.put("empty", b"");
    assert_eq!(scene.run(&["tail", "log"]).ok(), lines[4990..].concat());
    for count in [0, 1, 3000, 4999, 5000, 6000_usize] {
        let expected = lines[5000 - count.min(5000)..].concat();
        assert_eq!(scene.run(&["tail", "-n", &count.to_string(), "log"]).ok(), expected, "{count}");
    }
    assert_eq!(scene.run(&["tail", "-n", "2", "open"]).ok(), "b\nc");
    assert_eq!(scene.run(&["tail", "empty"]).ok(), "");
    assert_eq!(scene.run(&["tail", "none"]).failed(1), "tail none: no such file on the server");
}

#[test]
fn a_log_is_followed_through_truncation_and_rotation() {
    let scene = Scene::new();
    let log = scene.host.root().join("log");
    let append = |text: &str| File::options().append(true).open(&log).unwrap().write_all(text.as_bytes()).unwrap();
    fs::write(&log, "first\nsecond\n").unwrap();
    let words = ["tail", "-f", "-n", "1", "--interval", "0.02", "log"];
    let running = Running::start(scene.command().args(words).stdin(Stdio::null()));
    let mut seen = running.hear("second\n", 0);
    append("third\n");
    seen = running.hear("third\n", seen);
    // Shorter.
    fs::write(&log, "new\n").unwrap();
    seen = running.hear("new\n", seen);
    // Another file, longer than what was shown.
    fs::write(scene.host.root().join("log.new"), "rotated, and longer than before\n").unwrap();
    fs::rename(scene.host.root().join("log.new"), &log).unwrap();
    seen = running.hear("rotated, and longer than before\n", seen);
    fs::remove_file(&log).unwrap();
    assert!(eventually(|| running.err().contains("the file has gone; waiting for it")), "{}", running.err());
    fs::write(&log, "back again, a completely new file\n").unwrap();
    running.hear("back again, a completely new file\n", seen);
    assert_eq!(
        running.out(),
        "second\nthird\nnew\nrotated, and longer than before\nback again, a completely new file\n"
    );
    assert!(eventually(|| running.catches(Signal::INT)));
    running.signal(Signal::INT);
    assert_eq!(running.wait().code, Some(130));
}

#[test]
fn a_file_is_edited_and_never_overwrites_what_changed_meanwhile() {
    let scene = Scene::new();
    scene.serve(&["d/conf.txt"]);
    let edit = |script: &str, name: &str| {
        let mut command = scene.command();
        command.args(["edit", name]).env_remove("VISUAL").env("TMPDIR", scene.here.path());
        run(command.env("EDITOR", format!("sh -c '{script}' sh")))
    };
    assert_eq!(edit("printf more >> \"$1\"", "d/conf.txt").ok(), "edit d/conf.txt: 14 bytes, stored\n");
    assert_eq!(scene.host.content("d/conf.txt").unwrap(), b"d/conf.txtmore");
    assert_eq!(edit("test \"${1##*/}\" = conf.txt", "d/conf.txt").ok(), "edit d/conf.txt: unchanged\n");
    assert!(edit("false", "d/conf.txt").failed(1).contains("the editor failed"));
    assert_eq!(edit("printf new > \"$1\"", "new.txt").ok(), "edit new.txt: 3 bytes, stored\n");
    assert_eq!(scene.host.content("new.txt").unwrap(), b"new");
    assert_eq!(edit("true", "none.txt").code, Some(0));
    let mode = "stat -c %a \"$1\" \"${1%/*}\" | tr \"\\n\" \" \" > \"$1\"";
    _ = edit(mode, "new.txt").ok();
    assert_eq!(scene.host.content("new.txt").unwrap(), b"600 700 ", "nobody else can read what is edited");
    assert_eq!(scene.host.content("none.txt"), None);
    assert_eq!(scene.all_here(), Vec::<String>::new());

    let path = scene.host.root().join("d/conf.txt");
    let script = format!("printf mine > \"$1\"; printf theirs > {}", path.display());
    let ran = edit(&script, "d/conf.txt");
    let kept = ran.failed(1).rsplit_once("your version is ").unwrap().1;
    assert_eq!((fs::read(kept).unwrap(), fs::read(&path).unwrap()), (b"mine".to_vec(), b"theirs".to_vec()));
}

#[test]
fn a_local_file_is_compared_with_one_on_the_server() {
    const TEXT: &str = "--- text\n+++ text (server)\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n";
    let scene = Scene::new();
    scene.write("same", b"x\n");
    scene.host.put("same", b"x\n");
    scene.write("text", b"1\n2\n3\n");
    scene.host.put("text", b"1\ntwo\n3\n");
    scene.write("bytes", b"\xff\x00");
    scene.host.put("bytes", b"\xff\x01");
    assert_eq!(scene.run(&["diff", "same", "same"]).ok(), "");
    let ran = scene.run(&["diff", "text", "text"]);
    assert_eq!((ran.code, ran.out()), (Some(1), TEXT));
    let ran = scene.run(&["diff", "bytes", "bytes"]);
    assert_eq!((ran.code, ran.out(), ran.err.as_str()), (Some(1), "bytes and bytes on the server differ\n", ""));
    let ran = scene.run(&["diff", "--json", "text", "text"]);
    let object: Value = serde_json::from_str(ran.out()).unwrap();
    assert_eq!((ran.code, object), (Some(1), json!({"type": "differ", "local": "text", "name": "text", "diff": TEXT})));
    assert!(scene.run(&["diff", "none", "text"]).failed(1).contains("diff none: No such file"));
    assert!(scene.run(&["diff", "text", "none"]).failed(1).contains("no such file on the server"));
}

#[test]
fn a_transfer_keeps_to_its_rate() {
    let scene = Scene::new();
    let bytes = content(300_000, 5);
    scene.host.put("there", &bytes);
    scene.write("here", &bytes);
    for words in [
        &["get", "there", "-f", "--limit-rate", "300K"][..],
        &["get", "there", "-f", "--limit-rate", "300K", "-j", "2"],
        &["put", "here", "--limit-rate", "300K"],
    ] {
        let begun = Instant::now();
        scene.done(words);
        let took = begun.elapsed();
        // It may begin at once with an eighth of a second's worth of data, and a socket buffer's.
        assert!(took > Duration::from_millis(600), "{words:?}: {took:?}");
    }
    assert_eq!((scene.content("there").unwrap(), scene.host.content("here").unwrap()), (bytes.clone(), bytes));
    assert!(scene.run(&["get", "there", "--limit-rate", "0"]).failed(2).contains("must be more than 0"));
}

#[test]
fn put_n_never_replaces() {
    let scene = Scene::new();
    scene.have(&["a", "b", "t/a", "t/n"]);
    scene.host.put("a", b"old");
    scene.host.put("t/a", b"old");
    let ran = scene.run(&["put", "-n", "a", "b"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "host-cli: put a: skipped: exists on the server\n"));
    assert_eq!(scene.host.content("a").unwrap(), b"old");
    scene.is_there("b", "b");
    assert_eq!(scene.run(&["put", "-n", "-r", "t"]).code, Some(0));
    assert_eq!(scene.host.content("t/a").unwrap(), b"old");
    scene.is_there("t/n", "t/n");
}

#[test]
fn a_directory_that_exists_is_one_to_put_things_in() {
    let scene = Scene::new();
    scene.have(&["t/a", "f"]);
    scene.done(&["put", "-r", "t", "-o", "copy"]);
    assert_eq!(scene.all_there(), ["copy/", "copy/a"]);
    scene.done(&["put", "-r", "t", "-o", "copy"]);
    assert_eq!(scene.all_there(), ["copy/", "copy/a", "copy/t/", "copy/t/a"]);
    // A continued download goes to the same place as before.
    scene.done(&["rm", "-r", "copy/t"]);
    scene.done(&["put", "-r", "-c", "t", "-o", "copy"]);
    assert_eq!(scene.all_there(), ["copy/", "copy/a"]);
    let hint = "put f: is a directory on the server (-o NAME/ puts it in there)";
    assert_eq!(scene.run(&["put", "f", "-o", "copy"]).failed(1), hint);
}

#[test]
fn words_of_habit_work_and_are_not_shown() {
    let scene = Scene::new();
    scene.have(&["a", "b"]);
    assert_eq!(scene.script("mput a b\ndir\nmget a -f\nbye\nls\n").ok().lines().count(), 5);
    assert!(scene.run(&["?"]).ok().contains("Commands:"));
    let help = scene.run(&["help"]).ok();
    for word in ["dir", "bye", "mget", "mput"] {
        assert!(!help.split(|c: char| !c.is_alphanumeric()).any(|shown| shown == word), "{word}");
    }
}

#[test]
fn a_tilde_is_the_home_directory() {
    let scene = Scene::new();
    scene.have(&["home/a"]);
    let run = |words: &[&str]| run(scene.command().env("HOME", scene.here.path().join("home")).args(words));
    _ = run(&["put", "~/a"]).ok();
    scene.is_there("a", "home/a");
    _ = run(&["get", "a", "-o", "~/b"]).ok();
    scene.is_here("home/b", "home/a");
    assert_eq!(run(&["lls", "~/"]).ok(), "a\nb\n");
}

#[test]
fn a_prompt_runs_commands_of_the_shell() {
    let scene = Scene::new();
    let test = "a_prompt_runs_commands_of_the_shell";
    let Some(mut session) = Session::new(test, &scene, scene.host.port(), &[("SHELL", "/bin/sh")]) else { return };
    session.enter("!echo one-$((1+1))");
    session.see("one-2");
    session.enter("!exit 3");
    session.see("exit status: 3");
    session.enter("quit");
    session.ends_with(0);
}

#[test]
fn a_bench_measures_both_ways_and_cleans_up() {
    let scene = Scene::new();
    let out = scene.run(&["bench", "--size", "100K"]).ok();
    let begins: Vec<_> = out.lines().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(begins[1..], ["put: 100.0 kB", "get: 100.0 kB"]);
    assert!(scene.run(&["bench", "--size", "0"]).failed(2).contains("must be more than 0"));
    assert!(begins[0].starts_with("round trip: "));
    let object: Value = serde_json::from_str(&scene.run(&["--json", "bench", "--size", "1000"]).ok()).unwrap();
    assert_eq!((&object["type"], &object["size"]), (&json!("bench"), &json!(1000)));
    assert_eq!(scene.all_there(), Vec::<String>::new());
}
