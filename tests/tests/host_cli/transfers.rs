//! Which files, from where to where: globs, existing files, standard input and output, links.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use skiff_tests::programs::{run, run_with};

use crate::{Scene, content, timeless};

#[test]
fn several_files_go_and_one_that_fails_does_not_stop_the_others() {
    let scene = Scene::new();
    scene.have(&["a", "b", "d/c"]);
    let ran = scene.run(&["put", "a", "none", "d/c", "b"]);
    assert_eq!(ran.failed(1), "put none: No such file or directory");
    assert_eq!(scene.all_there(), ["a", "b", "c"]);
    let ran = scene.run(&["get", "a", "none", "c", "-o", "new/"]);
    assert_eq!(ran.failed(1), "get none: no such file on the server");
    assert_eq!(ran.out().lines().count(), 2);
    scene.is_here("new/a", "a");
    scene.is_here("new/c", "d/c");
}

#[test]
fn put_stores_under_the_name_or_in_the_directory_that_is_asked_for() {
    let scene = Scene::new();
    scene.have(&["a.txt", "d/b.txt"]);
    let out = scene.run(&["put", "a.txt", "-o", "x/y.txt"]).ok();
    assert!(out.ends_with(", stored as x/y.txt\n"), "{out}");
    let out = scene.run(&["put", "a.txt", "d/b.txt", "-o", "data/"]).ok();
    assert!(out.contains("put d/b.txt: ") && out.ends_with(", stored as data/b.txt\n"), "{out}");
    assert_eq!(scene.all_there(), ["data/", "data/a.txt", "data/b.txt", "x/", "x/y.txt"]);
    scene.is_there("data/b.txt", "d/b.txt");
    // Two files that would have the same name.
    scene.have(&["e/b.txt"]);
    let ran = scene.run(&["put", "d/b.txt", "e/b.txt"]);
    assert_eq!(ran.failed(1), "put e/b.txt: another file of this command is stored as b.txt");
    scene.is_there("b.txt", "d/b.txt");
    // A file on the server is replaced.
    scene.done(&["put", "e/b.txt"]);
    scene.is_there("b.txt", "e/b.txt");
}

#[test]
fn a_local_file_is_kept_and_the_new_one_numbered_unless_it_is_to_be_replaced() {
    let scene = Scene::new();
    scene.serve(&["notes.txt", "d/a.tar.gz", "plain"]);
    scene.write("notes.txt", b"mine");
    let out = scene.run(&["get", "notes.txt"]).ok();
    assert_eq!(
        timeless(&out),
        "get notes.txt: 9 bytes, crc32c 5ec38429, saved as notes(1).txt since notes.txt exists (-f replaces it)\n"
    );
    let out = scene.run(&["get", "notes.txt"]).ok();
    assert!(out.contains(", saved as notes(2).txt since notes.txt exists"), "{out}");
    scene.is_here("notes.txt", "mine");
    scene.is_here("notes(2).txt", "notes.txt");
    for name in ["d/a.tar.gz", "plain"] {
        for _ in 0..2 {
            scene.done(&["get", name]);
        }
    }
    scene.is_here("a.tar(1).gz", "d/a.tar.gz");
    scene.is_here("plain(1)", "plain");

    fs::set_permissions(scene.here.path().join("notes.txt"), fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(timeless(&scene.run(&["get", "-f", "notes.txt"]).ok()), "get notes.txt: 9 bytes, crc32c 5ec38429\n");
    scene.is_here("notes.txt", "notes.txt");
    let mode = fs::metadata(scene.here.path().join("notes.txt")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    assert!(!scene.all_here().iter().any(|name| name.contains("skiff-part")), "{:?}", scene.all_here());
    // If the destination is a directory, the file goes into it, as everywhere.
    fs::create_dir(scene.here.path().join("dir")).unwrap();
    scene.done(&["get", "plain", "-o", "dir"]);
    scene.is_here("dir/plain", "plain");
}

#[test]
fn with_replacing_two_files_of_one_name_are_not_fetched_over_each_other() {
    let scene = Scene::new();
    scene.serve(&["a/x", "b/x"]);
    let ran = scene.run(&["get", "-f", "a/x", "b/x"]);
    assert_eq!(ran.failed(1), "get b/x: another file of this command is saved as x");
    scene.is_here("x", "a/x");
    let out = scene.run(&["get", "a/x", "b/x", "-o", "new/"]).ok();
    assert!(out.contains("saved as new/x(1) since new/x exists"), "{out}");
}

#[test]
fn neither_a_device_nor_what_a_link_points_to_is_written_over() {
    let scene = Scene::new();
    scene.serve(&["f"]);
    scene.have(&["target"]);
    symlink("target", scene.here.path().join("f")).unwrap();
    // A link counts as an existing name.
    assert!(scene.run(&["get", "f"]).ok().contains("saved as f(1) since f exists"));
    scene.done(&["get", "-f", "f"]);
    scene.is_here("target", "target");
    scene.is_here("f", "f");
    assert!(fs::symlink_metadata(scene.here.path().join("f")).unwrap().is_file());
    // A socket can't be written to.
    let _socket = std::os::unix::net::UnixListener::bind(scene.here.path().join("socket")).unwrap();
    for options in [&[][..], &["-f"]] {
        let ran = run(scene.command().args(["get", "f", "-o", "socket"]).args(options));
        assert_eq!(ran.code, Some(1), "{ran:?}");
    }
}

#[test]
fn what_is_no_regular_file_is_written_to_as_it_is() {
    use std::os::unix::fs::FileTypeExt as _;
    let scene = Scene::new();
    scene.serve(&["f", "g"]);
    let before = fs::read_dir("/dev").unwrap().count();
    for out in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "-"] {
        for options in [&[][..], &["-f"], &["-c"]] {
            let ran = run(scene.command().args(["get", "f", "g", "-o", out]).args(options));
            assert_eq!((ran.code, ran.out(), ran.err.as_str()), (Some(0), "fg", ""), "{out} {options:?}");
        }
    }
    // If standard output is a file, writing continues at its position.
    let file = fs::File::create(scene.here.path().join("out")).unwrap();
    (&file).write_all(b"before ").unwrap();
    let status = scene.command().args(["get", "f", "-o", "/dev/stdout"]).stdout(file).status().unwrap();
    assert!(status.success());
    scene.is_here("out", "before f");
    // Further descriptors are the shell's.
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", r#"exec "$@" 5>>out"#, "sh"]).current_dir(scene.here.path());
    let ran = run(shell.arg(scene.command().get_program()).args(scene.command().get_args()).args([
        "get",
        "g",
        "-o",
        "/dev/fd/5",
    ]));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    scene.is_here("out", "before fg");
    symlink("/dev/null", scene.here.path().join("null")).unwrap();
    for out in ["/dev/null", "null"] {
        let ran = run(scene.command().args(["get", "-f", "f", "g", "-o", out]));
        assert_eq!((ran.code, ran.err.as_str(), ran.out().lines().count()), (Some(0), "", 2), "{ran:?}");
    }
    assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
    let fifo = scene.here.path().join("fifo");
    if std::process::Command::new("mkfifo").arg(&fifo).status().is_ok_and(|status| status.success()) {
        let path = fifo.clone();
        let reader = std::thread::spawn(move || fs::read(path).unwrap());
        scene.done(&["get", "f", "-o", "fifo"]);
        assert_eq!(skiff_tests::programs::join(reader), b"f");
    }
    for (words, why) in
        [(&["get", "f", "-o", "/dev/null", "-j", "2"][..], "-j"), (&["get", "-r", ".", "-o", "null"], "directory")]
    {
        assert!(scene.run(words).failed(2).contains(why), "{words:?}");
    }
    assert_eq!(fs::read_dir("/dev").unwrap().count(), before);
    assert!(!scene.all_here().iter().any(|name| name.contains('(')), "{:?}", scene.all_here());
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_that_says_it_is_empty_and_is_not_is_sent_as_it_reads() {
    let scene = Scene::new();
    scene.have(&["t/x"]);
    scene.write("empty", b"");
    scene.done(&["put", "/proc/self/status", "empty"]);
    let status = scene.host.content("status").unwrap();
    assert!(status.starts_with(b"Name:"), "{:?}", String::from_utf8_lossy(&status));
    assert_eq!(scene.host.content("empty").unwrap(), b"");
    symlink("/proc/version", scene.here.path().join("version")).unwrap();
    scene.done(&["put", "-c", "version"]);
    assert_eq!(scene.host.content("version").unwrap(), fs::read("/proc/version").unwrap());
}

#[test]
fn a_file_that_replaces_another_has_no_more_rights_than_that() {
    let scene = Scene::new();
    scene.host.put("f", &content(300_000, 1));
    let path = scene.here.path().join("f");
    for (before, after) in
        [(0o4755, 0o755), (0o6750, 0o750), (0o1640, 0o640), (0o600, 0o600), (0o444, 0o444), (0o7777, 0o777)]
    {
        for options in [&["-f"][..], &["-fc"], &["-f", "-j", "2"]] {
            _ = fs::remove_file(&path);
            fs::write(&path, "old").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            scene.done(&[&["get", "f"], options].concat());
            let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, after, "{before:o} {options:?}: {mode:o}");
            assert!(fs::read(&path).unwrap() == content(300_000, 1));
        }
    }
    // A new one has the rights that the umask leaves.
    for (mask, mode) in [("022", 0o644), ("077", 0o600), ("002", 0o664)] {
        fs::remove_file(&path).unwrap();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", r#"umask $0; exec "$@""#, mask]).current_dir(scene.here.path());
        let ran = run(shell.arg(scene.command().get_program()).args(scene.command().get_args()).args(["get", "f"]));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn globs_choose_on_the_server() {
    let scene = Scene::new();
    scene.serve(&["a.txt", "b.txt", "c.bin", "[x].txt", ".hidden.txt", "logs/1.txt", "logs/2.txt", "old/1.txt"]);
    let ls = |pattern: &str| scene.run(&["ls", pattern]).ok();
    assert_eq!(ls("*.txt"), "[x].txt\na.txt\nb.txt\n");
    assert_eq!(ls("?.txt"), "a.txt\nb.txt\n");
    assert_eq!(ls("[bc].*"), "b.txt\nc.bin\n");
    assert_eq!(ls("{a,c}.*"), "a.txt\nc.bin\n");
    assert_eq!(ls("*/1.txt"), "logs/1.txt\nold/1.txt\n");
    assert_eq!(ls("*"), "[x].txt\na.txt\nb.txt\nc.bin\nlogs/\nold/\n");
    // A name that exists literally means that name.
    assert_eq!(ls("[x].txt"), "[x].txt\n");
    assert_eq!(ls("\\[x].txt"), "[x].txt\n");
    assert_eq!(ls("[ab].txt"), "a.txt\nb.txt\n");
    assert_eq!(scene.run(&["ls", "*.zip"]).failed(1), "ls *.zip: matches nothing on the server");
    assert_eq!(scene.run(&["ls", "none/*"]).code, Some(1));

    assert_eq!(scene.run(&["cat", "?.txt"]).ok(), "a.txtb.txt");
    assert_eq!(scene.run(&["get", "l*"]).failed(1), "get l*: matches directories only on the server");
    assert_eq!(scene.run(&["get", "{?.txt,logs/*}", "-o", "x/"]).code, Some(1), "no `/` within braces");
    scene.done(&["get", "*.txt", "logs/*", "a.txt", "-o", "new/"]);
    assert_eq!(fs::read_dir(scene.here.path().join("new")).unwrap().count(), 5);
    assert_eq!(scene.run(&["sum", "logs/*"]).ok().lines().count(), 2);
    assert_eq!(scene.run(&["stat", "*"]).ok().lines().count(), 6);
    assert_eq!(scene.run(&["rm", "*.txt", "logs/*"]).ok().lines().count(), 5);
    assert_eq!(scene.run(&["rmdir", "l*"]).ok(), "rmdir logs: removed\n");
    assert_eq!(scene.run(&["rmdir", "c*"]).failed(1), "rmdir c*: matches no directory on the server");
    assert_eq!(scene.all_there(), [".hidden.txt", "c.bin", "old/", "old/1.txt"]);
}

#[test]
fn globs_choose_local_files() {
    let scene = Scene::new();
    scene.have(&["a.txt", "b.txt", "c.bin", "[x].txt", ".hidden.txt", "d/1.txt"]);
    scene.done(&["put", "?.txt", "*/1.txt"]);
    assert_eq!(scene.all_there(), ["1.txt", "a.txt", "b.txt"]);
    scene.done(&["put", "[x].txt"]);
    scene.is_there("[x].txt", "[x].txt");
    assert_eq!(scene.run(&["put", "*.zip"]).failed(1), "put *.zip: matches nothing here");
    assert_eq!(scene.run(&["put", "d*"]).failed(1), "put d*: matches directories only here");
}

#[test]
fn standard_input_and_output_carry_files() {
    let scene = Scene::new();
    let bytes = content(3_000_000, 9);
    let ran = run_with(scene.command().args(["put", "-", "-o", "d/pipe"]), &bytes);
    let out = ran.ok();
    assert!(out.starts_with("put -: 3000000 bytes, ") && out.ends_with(", stored as d/pipe\n"), "{out}");
    assert!(scene.host.content("d/pipe").unwrap() == bytes);
    scene.serve(&["small"]);
    let ran = scene.run(&["get", "d/pipe", "small", "-o", "-"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    assert!(ran.bytes == [bytes.as_slice(), b"small"].concat(), "nothing but the data");
    assert_eq!(scene.all_here(), Vec::<String>::new());
    // An empty standard input is an empty file.
    assert!(scene.run(&["put", "-", "-o", "empty"]).ok().starts_with("put -: 0 bytes"));
    assert_eq!(scene.host.content("empty").unwrap(), b"");
    let ran = scene.run(&["put", "-"]);
    assert_eq!(ran.failed(2), "put: standard input has no name; give one with -o NAME");
    let ran = scene.run(&["get", "none", "small", "-o", "-"]);
    assert_eq!((ran.failed(1), ran.out()), ("get none: no such file on the server", "small"));
    // Standard input is spooled to TMPDIR.
    let ran = run_with(scene.command().env("TMPDIR", "/nonexistent").args(["put", "-", "-o", "x"]), "x");
    assert_eq!(ran.failed(1), "put -: No such file or directory");
}

#[test]
fn a_full_device_is_reported() {
    if !std::path::Path::new("/dev/full").exists() {
        return skiff_tests::programs::skip("a_full_device_is_reported", "there is no /dev/full");
    }
    let scene = Scene::new();
    scene.host.put("f", &content(100_000, 1));
    for words in [&["ls"][..], &["cat", "f"], &["get", "f", "-o", "-"]] {
        let command = scene.command();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", r#"exec "$@" > /dev/full"#, "sh"]);
        let ran = run(shell.arg(command.get_program()).args(command.get_args()).args(words));
        assert!(ran.failed(1).contains("No space left on device"), "{words:?} {ran:?}");
    }
}

#[test]
fn names_with_spaces_accents_and_other_scripts_go_both_ways() {
    let scene = Scene::new();
    let names = ["a b.txt", "olá.txt", "日本/名前", "emoji 😀", "%20+&?"];
    scene.have(&names);
    for name in names {
        let out = scene.run(&["put", "-o", name, "--", name]).ok();
        assert!(out.starts_with(&format!("put {name}: ")), "{out}");
        scene.is_there(name, name);
        scene.done(&["get", "-o", "back", "-f", "--", name]);
        scene.is_here("back", name);
    }
    scene.have(&["-dash"]);
    scene.done(&["put", "--", "-dash"]);
    scene.done(&["get", "-f", "-o", "back", "--", "-dash"]);
    scene.is_here("back", "-dash");
    let listed = scene.run(&["ls", "-R"]).ok();
    for name in names {
        assert!(listed.lines().any(|line| line == name), "{name}\n{listed}");
    }
}

#[test]
fn a_local_name_that_is_not_text_can_be_sent_under_another() {
    use std::os::unix::ffi::OsStrExt as _;
    let scene = Scene::new();
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
    fs::write(scene.here.path().join(odd), "content").unwrap();
    let ran = run(scene.command().arg("put").arg(odd));
    assert!(ran.failed(1).ends_with("the name is not UTF-8; give another with -o NAME"), "{ran:?}");
    _ = run(scene.command().arg("put").arg(odd).args(["-o", "good"])).ok();
    scene.is_there("good", "content");
}

#[test]
fn a_read_only_server_is_reported_in_one_line_per_file() {
    let scene = Scene::with(|setup| setup.store.read_only = true);
    scene.serve(&["f"]);
    scene.have(&["f"]);
    for words in [&["put", "f"][..], &["rm", "f"], &["mv", "f", "g"], &["mkdir", "d"], &["rmdir", "d"]] {
        let ran = scene.run(words);
        assert!(ran.failed(1).contains("read-only") || ran.failed(1).contains("takes no changes"), "{ran:?}");
    }
    assert_eq!(scene.all_there(), ["f"]);
}
