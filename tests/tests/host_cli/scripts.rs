//! Commands from standard input, and how their words are quoted.

use skiff_tests::programs::run_with;

use crate::{Scene, timeless};

#[test]
fn a_script_is_carried_out_line_by_line() {
    let scene = Scene::new();
    scene.have(&["notes.txt"]);
    let out = scene
        .script(
            "# a comment, and an empty line\n\n  put notes.txt -o draft.txt  # here too\nmkdir archive\r\n\
             mv draft.txt archive/\nls archive\nget archive/draft.txt\nlls\nquit\nfrob",
        )
        .ok();
    let lines: Vec<_> = out.lines().map(timeless).collect();
    assert_eq!(
        lines,
        [
            "put notes.txt: 9 bytes, crc32c 5ec38429, stored as draft.txt",
            "mkdir archive: created",
            "mv draft.txt: renamed to archive/draft.txt",
            "archive/draft.txt",
            "get archive/draft.txt: 9 bytes, crc32c 5ec38429, saved as draft.txt",
            "draft.txt",
            "notes.txt",
        ]
    );
}

#[test]
fn a_script_stops_at_its_first_failure_and_names_the_line() {
    let scene = Scene::new();
    scene.have(&["a", "b"]);
    let ran = scene.script("put a\n# nothing\nget none\nput b\n");
    assert_eq!(ran.failed(1), "line 3: get none: no such file on the server");
    assert_eq!(scene.all_there(), ["a"]);
    let ran = scene.script("put a\nfrob\nput b\n");
    assert_eq!(ran.failed(2), "line 2: no such command 'frob'");
    assert_eq!(scene.all_there(), ["a"]);
    let ran = run_with(scene.command().arg("--json"), "ls\nget none");
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((ran.code, &error["line"]), (Some(1), &2.into()), "{error}");
}

#[test]
fn invalid_lines_of_a_script_are_reported() {
    let scene = Scene::new();
    scene.have(&["a"]);
    for (script, code, line) in [
        ("put 'a\n", 2, "line 1: unmatched quote"),
        ("put - -o x\n", 2, "line 1: put: commands are being read from standard input; give a file instead of -"),
        ("get\n", 2, "line 1: "),
        (
            "ls --retries 2\n",
            2,
            "line 1: ls: accepted only on the host-cli command line: --connect-timeout, --idle, --retries",
        ),
    ] {
        let ran = scene.script(script);
        assert!(ran.failed(code).starts_with(line), "{script:?} {ran:?}");
    }
    let ran = run_with(&mut scene.command(), b"ls\n\xff\xfe\n");
    assert_eq!(ran.failed(2), "line 2: the line is not UTF-8");
    assert_eq!(scene.script("").ok(), "");
    // The last line need not end with LF.
    assert!(scene.script("put a").ok().starts_with("put a: "));
}

#[test]
fn words_are_quoted_as_for_a_shell() {
    let scene = Scene::new();
    scene.have(&["a b.txt", "it's", "say \"x\"", "#1", "back\\slash", "tab\there", "x#y"]);
    let script = r#"
        put 'a b.txt' -o 'one two'
        put "a b.txt" -o "three four"
        put a\ b.txt -o five\ six
        put "it's" -o 'quote'
        put 'say "x"' -o "dou\"ble"
        put '#1' -o \#2
        put x#y
        get 'one two' -o "b c"
    "#;
    _ = scene.script(script).ok();
    assert_eq!(scene.all_there(), ["#2", "dou\"ble", "five six", "one two", "quote", "three four", "x#y"]);
    scene.is_here("b c", "a b.txt");
    // A backslash in a glob quotes the next character; `\\` is one backslash by the shell's rules.
    scene.serve(&["[x].txt", "x.txt"]);
    assert_eq!(scene.script("rm '\\[x\\].txt'\n").ok(), "rm [x].txt: removed\n");
}

#[test]
fn a_script_keeps_to_one_connection_and_can_change_the_local_directory() {
    let scene = Scene::with(|setup| setup.server.max_clients = 1);
    scene.have(&["d/x"]);
    let out = scene.script("lcd d\nput x\nls\nget x -o y\nlcd ..\nlls\n").ok();
    assert!(out.ends_with("\nd/\n"), "{out}");
    scene.is_here("d/y", "d/x");
}

#[test]
fn a_session_uploads_and_downloads_two_thousand_files() {
    let scene = Scene::new();
    for i in 0..2000 {
        scene.write(&format!("many/{}/{i}", i % 7), &crate::content(i, 3));
    }
    let before = scene.host.store.sync_calls();
    let out = scene.script("put -r many\nget -r many -o back\nget many/3/* -o some/\n").ok();
    assert_eq!(out.lines().filter(|line| line.starts_with("put ")).count(), 2000);
    assert_eq!(out.lines().filter(|line| line.starts_with("get ")).count(), 2000 + 286);
    let syncs = scene.host.store.sync_calls() - before;
    assert!(syncs <= 100, "{syncs} sync calls");
    for i in 0..2000 {
        let name = format!("{}/{i}", i % 7);
        assert!(scene.host.content(&format!("many/{name}")).unwrap() == crate::content(i, 3), "{name}");
        assert!(scene.content(&format!("back/{name}")).unwrap() == crate::content(i, 3), "{name}");
    }
    assert_eq!(std::fs::read_dir(scene.here.path().join("some")).unwrap().count(), 286);
}
