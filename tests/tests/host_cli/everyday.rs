//! Commands that users know from other programs: removing, renaming and showing whole trees, following logs, editing
//! and comparing files, limited rates.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use serde_json::{Value, json};
use skiff_tests::programs::{Running, Signal, free_port, run, run_with};
use skiff_tests::wire::eventually;

use crate::prompt::Session;
use crate::relay::{Fault, Relay};
use crate::{Scene, content};

#[test]
fn whole_trees_are_removed() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/d/e/b", "t.txt", "u/x", "v/x", "f"]);
    fs::create_dir(scene.host.root().join("t/empty")).unwrap();
    assert_eq!(
        scene.run(&["rm", "t"]).failed(1),
        "rm t: is a directory on the server (rm -r removes it and its contents)"
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
        (
            &["mv", "new/u", "other"][..],
            "the directory other exists on the server (use mv new/u other/ to move it into that directory)",
        ),
        (&["mv", "new/u", "f"], "f exists on the server and is a file"),
        (&["mv", "new", "new/x"], "a directory can't be moved into itself"),
        (&["mv", "f", "other"], "the new name is a directory on the server (use TO/ to put the file in it)"),
        (&["mv", "none", "x"], "no such file on the server"),
    ] {
        assert!(scene.run(words).failed(1).ends_with(why), "{words:?}");
    }
    scene.done(&["mv", "new/u", "other/"]);
    assert_eq!(scene.all_there()[..5], ["f", "new/", "other/", "other/u/", "other/u/a"]);
}

#[test]
fn several_names_are_moved_and_copied_into_a_directory() {
    let scene = Scene::new();
    scene.serve(&["a", "b", "c.txt", "d.txt", "t/a", "old/x"]);
    assert_eq!(scene.run(&["mv", "-f", "a", "-q", "b", "new/"]).ok(), "");
    scene.done(&["cp", "*.txt", "new/b", "old"]);
    let copied = ["old/", "old/b", "old/c.txt", "old/d.txt", "old/x", "t/", "t/a"];
    assert_eq!(scene.all_there()[5..], copied);
    scene.is_there("old/d.txt", "d.txt");
    for (words, why) in [
        (
            &["mv", "*.txt", "typo"][..],
            "typo: not a directory on the server; with several names, TO must be one (TO/ creates it)",
        ),
        (&["mv", "c.txt", "d.txt", "old/x"], "old/x: not a directory on the server"),
        (&["mv", "x*", "old"], "x*: matches nothing on the server"),
        (&["cp", "-r", "t", "u"], "cp copies single files; get -r and put -r transfer directories"),
    ] {
        let ran = scene.run(words);
        assert!(ran.code != Some(0) && ran.err.contains(why) && ran.err.lines().count() == 1, "{words:?}: {ran:?}");
    }
    // One of two files of the same name would be lost.
    let text = "mv t/a: would replace end/a, another file of this command";
    assert_eq!(scene.run(&["mv", "new/a", "t/a", "end/"]).failed(1), text);
    assert_eq!(scene.all_there()[2..4], ["end/", "end/a"]);
    scene.is_there("t/a", "t/a");
    // So would the second one here, which has yet to be moved.
    let text = "mv t/a: would replace end/a, another file of this command";
    assert_eq!(scene.run(&["mv", "t/a", "end/a", "end/"]).err.lines().next().unwrap(), format!("host-cli: {text}"));
    scene.is_there("t/a", "t/a");
    scene.is_there("end/a", "a");
    scene.done(&["mv", "{new,old}", "end"]);
    assert_eq!(scene.all_there()[4..6], ["end/new/", "end/new/b"]);
}

#[test]
fn options_of_habit_are_accepted() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/d/b", "n.txt"]);
    scene.host.put("log", b"1\n2\n3\n4\n");
    scene.write("log", b"1\n2\n3\n4\n");
    assert_eq!(scene.run(&["ls", "-la"]).ok(), scene.run(&["ls", "-l", "-l"]).ok());
    assert_eq!(scene.run(&["du", "-sh", "t", "n*"]).ok(), "8 B  t/\n5 B  n.txt\n");
    assert_eq!(scene.run(&["tail", "-2", "log"]).ok(), "3\n4\n");
    assert_eq!(scene.run(&["tail", "-12", "-q", "log"]).ok(), "1\n2\n3\n4\n");
    assert!(scene.run(&["tail", "--", "-2"]).failed(1).contains("tail -2: no such file"));
    assert_eq!(scene.run(&["diff", "-u", "log", "log"]).ok(), "");
    assert_eq!(scene.run(&["rm", "-rf", "none", "x*", "t", "log/none"]).ok().lines().count(), 4);
    assert_eq!(scene.run(&["rm", "-f", "none", "n.txt"]).ok(), "rm n.txt: removed\n");
    assert_eq!(scene.run(&["rm", "-f", "."]).failed(1), "rm /: this is the root directory of the server");
    assert_eq!(scene.all_there(), ["log"]);
    assert!(!scene.run(&["help", "ls"]).ok().contains(" -a") && !scene.run(&["help", "cp"]).ok().contains(" -r"));
    assert!(scene.run(&["help"]).ok().contains("rm [-r] [-f] NAME... "));
}

#[test]
fn directories_are_made_where_none_is() {
    let scene = Scene::new();
    scene.serve(&["d/f"]);
    for (dir, line) in [
        ("a/b/", "mkdir a/b: created\n"),
        ("a/b", "mkdir a/b: exists\n"),
        ("/", "mkdir /: exists\n"),
        (".", "mkdir /: exists\n"),
    ] {
        assert_eq!(scene.run(&["mkdir", "-p", dir]).ok(), line, "{dir}");
    }
    assert_eq!(
        scene.script("cd d\nmkdir -p . e\n").ok().lines().skip(1).collect::<Vec<_>>(),
        ["mkdir d: exists", "mkdir d/e: created"]
    );
    assert_eq!(scene.run(&["mkdir", "-p", "d/f"]).failed(1), "mkdir d/f: a file on the server has this name");
    assert_eq!(scene.run(&["mkdir", "/"]).failed(1), "mkdir /: this is the root directory of the server");
}

#[test]
fn unlisted_files_keep_a_directory_and_are_reported() {
    let scene = Scene::new();
    scene.serve(&["u/.hid", "u/c"]);
    let left = "something that the server does not list is left in this directory";
    assert_eq!(scene.run(&["rm", "-r", "u"]).failed(1), format!("rm u: all listed entries were removed; {left}"));
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
    for (command, name) in [("cp", "a"), ("mv", "a"), ("cp", "d"), ("mv", "d"), ("mv", "none")] {
        let text = format!("{command} {name}: FROM and TO are the same");
        assert_eq!(scene.run(&[command, name, &format!("./{name}")]).failed(1), text);
    }
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
    assert_eq!(usage, json!({"type": "usage", "name": "a/b", "kind": "directory", "size": 5, "files": 1}));
    assert_eq!(scene.run(&["du", "z", "a/b/x"]).ok(), "1  z\n5  a/b/x\n");
    let usage: Value = serde_json::from_str(&scene.run(&["du", "--json", "a/y"]).ok()).unwrap();
    assert_eq!(usage, json!({"type": "usage", "name": "a/y", "kind": "file", "size": 3, "files": 1}));
    for command in ["tree", "rmdir", "cd"] {
        let text = format!("{command} a/y: is a file on the server, not a directory");
        assert_eq!(scene.run(&[command, "a/y"]).failed(1), text);
    }
    assert_eq!(scene.run(&["du", "[az]*"]).ok(), "5  a/b/\n8  a/\n1  z\n");
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
    for number in [0, 1, 2, 4999, 5000, 5001, 6000_usize] {
        let expected = lines[number.saturating_sub(1).min(5000)..].concat();
        assert_eq!(scene.run(&["tail", "-n", &format!("+{number}"), "log"]).ok(), expected, "+{number}");
    }
    assert_eq!(scene.run(&["tail", "-n", "-2", "open"]).ok(), "b\nc");
    assert_eq!(scene.run(&["tail", "-n", "2", "open"]).ok(), "b\nc");
    assert_eq!(scene.run(&["tail", "empty"]).ok(), "");
    let both = format!("==> log <==\n{}\n==> open <==\nc", lines[4999]);
    assert_eq!(scene.run(&["tail", "-n", "1", "lo*", "open"]).ok(), both);
    let ran = scene.run(&["tail", "-n", "1", "none", "open"]);
    assert_eq!((ran.code, ran.out()), (Some(1), "==> open <==\nc"));
    assert_eq!(scene.run(&["tail", "-f", "[lo]*"]).failed(2), "tail: -f follows one file only");
    assert_eq!(scene.run(&["tail", "none"]).failed(1), "tail none: no such file on the server");
}

#[test]
fn a_log_is_followed_through_truncation_and_rotation() {
    let scene = Scene::new();
    let log = scene.host.root().join("log");
    let append = |text: &str| File::options().append(true).open(&log).unwrap().write_all(text.as_bytes()).unwrap();
    fs::write(&log, "first\nsecond\n").unwrap();
    let words = ["tail", "-F", "-1", "--interval", "0.02", "log"];
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
    assert!(eventually(|| running.err().contains("the file no longer exists; waiting for it")), "{}", running.err());
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
fn tail_f_reports_that_it_has_reconnected() {
    let scene = Scene::new();
    let log = scene.host.root().join("log");
    fs::write(&log, "first\n").unwrap();
    let relay = Relay::start(scene.host.addr(), &[Fault::down(2_000)]);
    let words = ["tail", "-f", "--interval", "0.02", "log"];
    let running = Running::start(scene.command_to(relay.port()).args(words).stdin(Stdio::null()));
    let seen = running.hear("first\n", 0);
    let note = format!("host-cli: tail log: reconnected to 127.0.0.1:{}\n", relay.port());
    assert!(eventually(|| running.err() == note), "{}", running.err());
    File::options().append(true).open(&log).unwrap().write_all(b"second\n").unwrap();
    running.hear("second\n", seen);
    assert_eq!(running.err(), note);
}

#[test]
fn a_note_about_a_followed_file_comes_before_its_new_content() {
    let scene = Scene::new();
    let log = scene.host.root().join("log");
    fs::write(&log, "first\nsecond\n").unwrap();
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "exec 2>&1; exec \"$@\"", "sh"]).arg(skiff_tests::programs::program("host-cli"));
    command.args(["127.0.0.1", &scene.host.port().to_string(), "tail", "-f", "--interval", "0.02", "log"]);
    let running = Running::start(command.stdin(Stdio::null()));
    running.hear("second\n", 0);
    fs::write(&log, "new\n").unwrap();
    running.hear("new\n", 0);
    assert!(running.out().ends_with("log: file truncated; continuing from its start\nnew\n"), "{}", running.out());
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
    assert!(edit("false", "d/conf.txt").failed(1).ends_with("nothing was uploaded"));
    let ran = edit("printf mine > \"$1\"; exit 3", "d/conf.txt");
    let kept = ran.failed(1).split_once("nothing was uploaded; your version is ").unwrap().1;
    assert_eq!(fs::read(kept).unwrap(), b"mine");
    fs::remove_dir_all(Path::new(kept).parent().unwrap()).unwrap();
    assert_eq!(edit("printf new > \"$1\"", "new.txt").ok(), "edit new.txt: 3 bytes, stored\n");
    assert_eq!(scene.host.content("new.txt").unwrap(), b"new");
    assert_eq!(edit("true", "none.txt").code, Some(0));
    let ran = edit("printf new > \"$1\"", "n*");
    assert_eq!(ran.failed(1), "edit n*: no such file on the server; edit does not expand globs");
    assert_eq!(scene.host.content("n*"), None);
    let mode = "stat -c %a \"$1\" \"${1%/*}\" | tr \"\\n\" \" \" > \"$1\"";
    _ = edit(mode, "new.txt").ok();
    assert_eq!(scene.host.content("new.txt").unwrap(), b"600 700 ", "nobody else can read what is edited");
    assert_eq!(scene.host.content("none.txt"), None);
    assert_eq!(scene.all_here(), Vec::<String>::new());

    // Refused before the editor is opened.
    let marker = scene.here.path().join("opened");
    let open = format!("touch {}", marker.display());
    assert_eq!(edit(&open, "new.txt/x").failed(1), "edit new.txt/x: new.txt is a file on the server, not a directory");
    assert!(edit(&open, ".hidden").failed(1).contains("denied"));
    assert!(!marker.exists());

    let path = scene.host.root().join("d/conf.txt");
    let script = format!("printf mine > \"$1\"; printf theirs > {}", path.display());
    let ran = edit(&script, "d/conf.txt");
    let kept = ran.failed(1).rsplit_once("your version is ").unwrap().1;
    assert_eq!((fs::read(kept).unwrap(), fs::read(&path).unwrap()), (b"mine".to_vec(), b"theirs".to_vec()));
}

#[test]
fn nobody_edits_what_a_read_only_server_would_refuse() {
    let scene = Scene::with(|setup| setup.store.read_only = true);
    scene.serve(&["conf.txt"]);
    let marker = scene.here.path().join("opened");
    let editor = format!("sh -c 'touch {}' sh", marker.display());
    let ran = run(scene.command().args(["edit", "conf.txt"]).env_remove("VISUAL").env("EDITOR", editor));
    assert_eq!(ran.failed(1), "edit conf.txt: this server is read-only");
    assert!(!marker.exists());
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
    let ran = run_with(scene.command().args(["diff", "-", "text"]), "1\n2\n3\n");
    assert_eq!((ran.code, ran.out()), (Some(1), TEXT.replacen("text", "-", 1).as_str()));
    assert_eq!(run_with(scene.command().args(["diff", "-", "same"]), "x\n").ok(), "");
    // As with diff(1), a failure is not reported as a difference.
    assert!(scene.run(&["diff", "none", "text"]).failed(2).contains("diff none: No such file"));
    assert!(scene.run(&["diff", "text", "none"]).failed(2).contains("no such file on the server"));
    assert!(run(scene.command_to(free_port()).args(["diff", "text", "text"])).failed(2).contains("can't connect"));
    assert!(
        scene
            .script("diff - text\n")
            .failed(2)
            .ends_with("commands are being read from standard input; give a file instead of -")
    );
    assert_eq!(scene.script("diff text text\n").code, Some(1));
}

#[test]
fn a_log_that_grows_is_saved_with_the_length_that_it_had() {
    let scene = Scene::new();
    let bytes = content(400_000, 1);
    scene.host.put("log", &bytes);
    let log = scene.host.root().join("log");
    let is_over = AtomicBool::new(false);
    let ran = std::thread::scope(|threads| {
        threads.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                File::options().append(true).open(&log).unwrap().write_all(b"line\n").unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let ran = scene.run(&["get", "log", "-j", "3", "--limit-rate", "800K"]);
        is_over.store(true, Ordering::Relaxed);
        ran
    });
    _ = ran.ok();
    let (saved, now) = (scene.content("log").unwrap(), fs::read(&log).unwrap());
    assert!(saved.len() >= bytes.len() && now.starts_with(&saved), "{} {}", saved.len(), now.len());
}

#[test]
fn a_transfer_keeps_to_its_rate() {
    let scene = Scene::new();
    let bytes = content(300_000, 5);
    scene.host.put("there", &bytes);
    scene.write("here", &bytes);
    scene.write("t/x", &bytes);
    for words in [
        &["get", "there", "-f", "--limit-rate", "300K"][..],
        &["get", "there", "-f", "--limit-rate", "300K", "-j", "2"],
        &["put", "here", "--limit-rate", "300K"],
        &["sync", "t", "copy", "--limit-rate", "300K"],
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
    let hint = "put f: the name on the server is a directory (use -o NAME/ to store the file in it)";
    assert_eq!(scene.run(&["put", "f", "-o", "copy"]).failed(1), hint);
}

#[test]
fn words_of_habit_work_and_are_not_shown() {
    let scene = Scene::new();
    scene.have(&["a", "b"]);
    assert_eq!(scene.script("mput a b\ndir\nmget a -f\ndel a\ndelete b\nbye\nls\n").ok().lines().count(), 7);
    assert!(scene.run(&["?"]).ok().contains("Commands:"));
    let help = scene.run(&["help"]).ok();
    for word in ["dir", "del", "bye", "mget", "mput"] {
        assert!(!help.split(|c: char| !c.is_alphanumeric()).any(|shown| shown == word), "{word}");
    }
}

#[test]
fn mistakes_on_the_command_line_get_a_hint() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["gte", "x"]).failed(2), "no such command 'gte'; did you mean get?");
    assert_eq!(scene.script("!echo x\n").failed(2), "line 1: !COMMAND works only at the prompt, not in a script");
    let mixed = |words: &[&str]| run(skiff_tests::programs::host_cli(scene.here.path()).args(words));
    for server in [&["board:7"][..], &["board", "7"], &["serial:/dev/ttyACM0"]] {
        let ran = mixed(&[&["ls"], server].concat());
        let text = format!("the server comes before the command: host-cli {} ls; usage", server.join(" "));
        assert!(ran.failed(2).starts_with(&text), "{ran:?}");
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
    assert_eq!(begins[1..], ["put: 100 KB", "get: 100 KB"]);
    assert!(scene.run(&["bench", "--size", "0"]).failed(2).contains("must be more than 0"));
    assert!(begins[0].starts_with("round trip: "));
    let object: Value = serde_json::from_str(&scene.run(&["--json", "bench", "--size", "1000"]).ok()).unwrap();
    assert_eq!((&object["type"], &object["size"]), (&json!("bench"), &json!(1000)));
    assert_eq!(scene.all_there(), Vec::<String>::new());
}
