//! Every command at least once, as a single command.

use std::fs;
use std::process::Command;

use skiff_proto::crc::crc32c;
use skiff_tests::programs::{free_port, program, run};

use crate::{Scene, THEN, set_time, time_of, timeless};

#[test]
fn a_file_goes_up_and_comes_back_with_its_time() {
    let scene = Scene::new();
    scene.write("notes.txt", b"123456789");
    set_time(&scene.here.path().join("notes.txt"), THEN);
    let out = scene.run(&["put", "notes.txt"]).ok();
    assert_eq!(timeless(&out), "put notes.txt: 9 bytes, crc32c e3069283\n");
    assert_eq!(scene.host.content("notes.txt").unwrap(), b"123456789");
    assert_eq!(time_of(&scene.host.root().join("notes.txt")), THEN);
    let out = scene.run(&["get", "notes.txt", "-o", "copy.txt"]).ok();
    assert_eq!(timeless(&out), "get notes.txt: 9 bytes, crc32c e3069283, saved as copy.txt\n");
    assert_eq!(scene.content("copy.txt").unwrap(), b"123456789");
    assert_eq!(time_of(&scene.here.path().join("copy.txt")), THEN);
    assert_eq!(scene.all_here(), ["copy.txt", "notes.txt"]);
}

#[test]
fn ls_shows_names_times_and_sizes_sorted() {
    let scene = Scene::new();
    scene.serve(&["b.txt", "logs/1.txt", "logs/old/2.txt"]);
    scene.host.put("a b.txt", &[0; 2048]);
    fs::create_dir(scene.host.root().join("empty")).unwrap();
    for name in ["b.txt", "a b.txt"] {
        set_time(&scene.host.root().join(name), THEN);
    }
    assert_eq!(scene.run(&["ls"]).ok(), "a b.txt\nb.txt\nempty/\nlogs/\n");
    for root in ["/", "."] {
        assert_eq!(scene.run(&["ls", root]).ok(), "a b.txt\nb.txt\nempty/\nlogs/\n", "{root}");
    }
    assert_eq!(scene.run(&["ls", "logs"]).ok(), "logs/1.txt\nlogs/old/\n");
    assert_eq!(scene.run(&["ls", "empty"]).ok(), "");
    assert_eq!(scene.run(&["ls", "b.txt", "logs/"]).ok(), "b.txt\nlogs/1.txt\nlogs/old/\n");
    assert_eq!(scene.run(&["ls", "-R"]).ok(), "a b.txt\nb.txt\nempty/\nlogs/\nlogs/1.txt\nlogs/old/\nlogs/old/2.txt\n");
    assert_eq!(scene.run(&["ls", "-R", "logs"]).ok(), "logs/1.txt\nlogs/old/\nlogs/old/2.txt\n");
    let long = scene.run(&["ls", "-l"]).ok();
    let lines: Vec<_> = long.lines().collect();
    assert_eq!(lines[0], "2048  2023-11-14 22:13:20  a b.txt");
    assert_eq!(lines[1], "   5  2023-11-14 22:13:20  b.txt");
    assert!(lines[2].starts_with("   -  20") && lines[2].ends_with("  empty/"), "{long}");
    let human = scene.run(&["ls", "-lh"]).ok();
    assert!(human.starts_with("2.0 KiB  2023-11-14 22:13:20  a b.txt\n"), "{human}");
    let there = run(scene.command().env("TZ", "<+02>-2").args(["ls", "-l", "b.txt"])).ok();
    assert_eq!(there, "5  2023-11-15 00:13:20  b.txt\n");
    assert_eq!(scene.run(&["ls", "none"]).failed(1), "ls none: no such file or directory on the server");
    assert_eq!(scene.run(&["ls", "b.txt/"]).failed(1), "ls b.txt: is a file on the server, not a directory");
}

#[test]
fn cat_writes_files_one_after_the_other_as_they_are() {
    let scene = Scene::new();
    let odd = b"\x1b[2J\xff\0\r\n".to_vec();
    scene.host.put("a", &odd);
    scene.serve(&["b"]);
    let ran = scene.run(&["cat", "a", "b", "a"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""));
    // A name that is given twice counts once.
    assert_eq!(ran.bytes, [odd.as_slice(), b"b"].concat());
    let ran = scene.run(&["cat", "none", "b"]);
    assert_eq!((ran.failed(1), ran.out()), ("cat none: no such file on the server", "b"));
}

#[test]
fn stat_and_sum_report_files() {
    let scene = Scene::new();
    for name in ["past", "stored"] {
        scene.write(name, b"123456789");
        set_time(&scene.here.path().join(name), THEN);
    }
    scene.done(&["put", "stored"]);
    scene.host.put("past", b"123456789");
    set_time(&scene.host.root().join("past"), THEN);
    fs::create_dir(scene.host.root().join("d")).unwrap();
    // One was put there without the server, which does not know its checksum without reading it.
    assert_eq!(
        scene.run(&["stat", "past", "stored", "d"]).ok(),
        "past: 9 bytes, 2023-11-14 22:13:20, crc32c -\n\
         stored: 9 bytes, 2023-11-14 22:13:20, crc32c e3069283\n\
         d/: directory\n"
    );
    assert_eq!(scene.run(&["sum", "past", "stored"]).ok(), "e3069283 9 past\ne3069283 9 stored\n");
    assert_eq!(scene.run(&["stat", "none"]).failed(1), "stat none: no such file on the server");
    assert_eq!(scene.run(&["sum", "none"]).failed(1), "sum none: no such file on the server");
    assert_eq!(scene.run(&["sum", "d"]).failed(1), "sum d: is a directory on the server");
}

#[test]
fn rm_continues_after_a_file_that_it_can_not_remove() {
    let scene = Scene::new();
    scene.serve(&["a", "b", "d/x"]);
    let ran = scene.run(&["rm", "a", "none", "b"]);
    assert_eq!((ran.failed(1), ran.out()), ("rm none: no such file on the server", "rm a: removed\nrm b: removed\n"));
    assert_eq!(
        scene.run(&["rm", "d"]).failed(1),
        "rm d: is a directory on the server (rm -r removes it and its contents)"
    );
    assert_eq!(scene.all_there(), ["d/", "d/x"]);
}

#[test]
fn mv_renames_replaces_and_makes_directories() {
    let scene = Scene::new();
    scene.serve(&["a", "b", "c"]);
    assert_eq!(scene.run(&["mv", "a", "b"]).ok(), "mv a: renamed to b\n");
    scene.is_there("b", "a");
    assert_eq!(scene.run(&["mv", "b", "new/dir/"]).ok(), "mv b: renamed to new/dir/b\n");
    assert_eq!(scene.run(&["mv", "new/dir/b", "/"]).ok(), "mv new/dir/b: renamed to b\n");
    assert_eq!(scene.run(&["mv", "none", "x"]).failed(1), "mv none: no such file on the server");
    assert_eq!(scene.run(&["mv", "c", "../c"]).failed(1), "mv c: ../c: leads out of the root directory of the server");
    assert!(scene.run(&["mv", "c"]).failed(2).contains("<TO>"));
    assert_eq!(scene.all_there(), ["b", "c", "new/", "new/dir/"]);
}

#[test]
fn directories_are_made_and_removed() {
    let scene = Scene::new();
    assert_eq!(scene.run(&["mkdir", "a", "b/"]).ok(), "mkdir a: created\nmkdir b: created\n");
    assert_eq!(scene.run(&["mkdir", "a"]).failed(1), "mkdir a: exists on the server");
    assert_eq!(
        scene.run(&["mkdir", "c/d"]).failed(1),
        "mkdir c/d: the parent directory does not exist (-p creates it)"
    );
    assert_eq!(scene.run(&["mkdir", "-p", "c/d/e", "a"]).ok(), "mkdir c/d/e: created\nmkdir a: exists\n");
    scene.serve(&["f"]);
    assert_eq!(scene.run(&["mkdir", "-p", "f"]).failed(1), "mkdir f: a file on the server has this name");
    let why = "mkdir f/x: f is a file on the server, not a directory";
    assert_eq!(scene.run(&["mkdir", "-p", "f/x"]).failed(1), why);
    assert_eq!(scene.run(&["rmdir", "c"]).failed(1), "rmdir c: the directory is not empty on the server");
    assert_eq!(
        scene.run(&["rmdir", "c/d/e", "c/d", "c"]).ok(),
        "rmdir c/d/e: removed\nrmdir c/d: removed\nrmdir c: removed\n"
    );
    assert_eq!(scene.run(&["rmdir", "none"]).failed(1), "rmdir none: no such directory on the server");
    assert_eq!(scene.run(&["rmdir", "f"]).failed(1), "rmdir f: is a file on the server, not a directory");
    assert_eq!(scene.all_there(), ["a/", "b/", "f"]);
}

#[test]
fn df_ping_and_info_report_the_server() {
    let scene = Scene::with(|setup| setup.server.nocrc = true);
    let df = scene.run(&["df"]).ok();
    assert!(df.contains(" bytes total, ") && df.contains(" bytes free, ") && df.ends_with("% used\n"), "{df}");
    let df = scene.run(&["df", "-h"]).ok();
    assert!(df.contains("iB total, ") && !df.contains("bytes"), "{df}");
    let address = format!("127.0.0.1:{}", scene.host.port());
    let ping = scene.run(&["ping"]).ok();
    assert!(ping.starts_with(&format!("{address}: ")) && ping.ends_with(" ms\n"), "{ping}");
    let ping = scene.run(&["ping", "-n", "3"]).ok();
    assert_eq!(ping.lines().count(), 4, "{ping}");
    assert!(ping.lines().last().unwrap().starts_with("min "), "{ping}");
    assert!(!scene.run(&["ping", "-n", "0"]).failed(2).is_empty());
    let info = scene.run(&["info"]).ok();
    for line in [
        format!("address: {address} ({address})"),
        format!("protocol: extended (skiff/1), server host-serv/{}", env!("CARGO_PKG_VERSION")),
        "longest name: 255 bytes".into(),
        "idle timeout: 300 s".into(),
        "checksums: optional".into(),
    ] {
        assert!(info.lines().any(|one| one == line), "{line}\n{info}");
    }
}

#[test]
fn local_commands_and_help_need_no_server() {
    let scene = Scene::new();
    scene.have(&["b", "d/x", ".hidden"]);
    scene.write("a", &[0; 2048]);
    set_time(&scene.here.path().join("a"), THEN);
    let closed = free_port();
    let alone = |words: &[&str]| run(scene.command_to(closed).args(words));
    assert_eq!(alone(&["lls"]).ok(), "a\nb\nd/\n");
    assert_eq!(alone(&["lls", "d"]).ok().lines().count(), 1);
    let long = alone(&["lls", "-l"]).ok();
    assert!(long.starts_with("2048  2023-11-14 22:13:20  a\n"), "{long}");
    assert!(alone(&["lls", "-lh"]).ok().starts_with("2.0 KiB  "));
    assert_eq!(alone(&["lls", "none"]).failed(1), "lls none: No such file or directory");
    let here = fs::canonicalize(scene.here.path()).unwrap();
    assert_eq!(alone(&["lpwd"]).ok(), format!("{}\n", here.display()));
    assert_eq!(alone(&["lcd", "d"]).ok(), format!("{}\n", here.join("d").display()));
    assert_eq!(alone(&["lcd", "none"]).failed(1), "lcd none: No such file or directory");
    for leave in ["quit", "exit"] {
        assert_eq!(alone(&[leave]).ok(), "");
    }
    let help = alone(&["help"]).ok();
    assert!(help.contains("get [-o LOCAL]") && help.contains("help [COMMAND]"), "{help}");
    assert!(alone(&["help", "put"]).ok().contains("Usage: put"));
    assert!(alone(&["put", "--help"]).ok().contains("Usage: put"));
    assert!(alone(&["put", "-h"]).ok().contains("Usage: put"));
    assert!(alone(&["ls", "--help"]).ok().contains("Usage: ls"));
    assert_eq!(alone(&["help", "frob"]).failed(2), "help frob: no such command; `help` lists them");
    for words in [&["--help"][..], &["-h"], &["help"]] {
        let help = run(Command::new(program("host-cli")).args(words)).ok();
        assert!(help.contains("Exit codes: 0 done, 1 refused or failed, 2 usage error, 130 stopped by Ctrl-C."));
        assert!(help.contains("Examples:\n  host-cli localhost "), "{help}");
    }
    assert!(run(Command::new(program("host-cli")).args(["help", "get"])).ok().contains("Usage: get"));
    assert!(run(Command::new(program("host-cli")).arg("--version")).ok().starts_with("host-cli "));
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let scene = Scene::new();
    scene.have(&["a", "b"]);
    for words in [
        &["frob"][..],
        &["get"],
        &["put"],
        &["cat"],
        &["stat"],
        &["rm"],
        &["mkdir"],
        &["mv", "a"],
        &["get", "a", "--frob"],
        &["get", "a", "-o"],
        &["ls", "--retries", "x"],
        &["ls", "--idle", "0"],
        &["put", "a", "b", "-o", "x"],
        &["put", "-"],
        &["get", "-r", ".", "-o", "-"],
    ] {
        let ran = scene.run(words);
        assert!(!ran.failed(2).is_empty() && ran.out().is_empty(), "{words:?} {ran:?}");
    }
    for words in [&[][..], &["ls"], &["localhost", "0"], &["localhost", "x"], &["--frob", "localhost", "1"]] {
        let ran = run(Command::new(program("host-cli")).args(words));
        assert!(!ran.failed(2).is_empty() && ran.out().is_empty(), "{words:?} {ran:?}");
    }
    assert_eq!(scene.all_there(), Vec::<String>::new());
}

#[test]
fn every_error_is_one_line_that_names_command_and_file() {
    let scene = Scene::new();
    scene.serve(&["f", "d/x"]);
    scene.have(&["f", "t/x"]);
    let long = "x".repeat(256);
    for (words, line) in [
        (&["get", "none"][..], "get none: no such file on the server"),
        (&["get", "d"], "get d: is a directory on the server (-r downloads it)"),
        (&["get", "f/x"], "get f/x: no such file on the server"),
        (&["get", "../x"], "get ../x: leads out of the root directory of the server"),
        (&["get", "*.zip"], "get *.zip: matches nothing on the server"),
        (&["get", "-r", "none"], "get none: no such file on the server"),
        (&["get", "f", "-o", "none/x"], "get f: there is no local directory none"),
        (&["get", "f", "-o", "f/y"], "get f: f is not a directory"),
        (&["put", "none"], "put none: No such file or directory"),
        (&["put", "t"], "put t: is a directory (-r uploads it)"),
        (&["put", "/dev/null"], "put /dev/null: not a regular file"),
        (
            &["put", "f", "-o", "d"],
            "put f: the name on the server is a directory (use -o NAME/ to store the file in it)",
        ),
        (&["put", "f", "-o", "f/x"], "put f: f is a file on the server, not a directory"),
        (&["put", "-r", "t", "-o", "d/x/y"], "put t/x: d/x is a file on the server, not a directory"),
        (&["sync", "t", "f"], "sync f: is a file on the server, not a directory"),
        (&["sync", "-n", "t", "f/x"], "sync f/x: f is a file on the server, not a directory"),
        (&["ls", "f/"], "ls f: is a file on the server, not a directory"),
        (&["cp", "f", ""], "cp f: '': the name is empty"),
        (&["put", "f", "-o", ""], "put f: '': the name is empty"),
        (&["watch", "none"], "watch none: No such file or directory"),
        (&["watch", "f"], "watch f: Not a directory"),
        (&["put", "f", "-o", ".skiff-x"], "put f: .skiff-x: names that begin with .skiff- are the server's own"),
        (&["put", "f", "-o", ".x"], "put f: hidden names are not allowed here (denied)"),
        (&["put", "*.zip"], "put *.zip: matches nothing here"),
        (&["mv", "f", "f/x"], "mv f/x: f is a file on the server, not a directory"),
        (&["cp", "f", "f/x"], "cp f/x: f is a file on the server, not a directory"),
        (&["mkdir", "f/x"], "mkdir f/x: f is a file on the server, not a directory"),
        (&["mkdir", "-p", "d/x/y"], "mkdir d/x/y: d/x is a file on the server, not a directory"),
        (&["mkdir", "d"], "mkdir d: exists on the server"),
        (&["rmdir", "/"], "rmdir /: this is the root directory of the server"),
        (
            &["sync", "--pull", "new", "f"],
            "sync f: is a file on the server, not a directory; LOCAL_DIR comes first, even with --pull",
        ),
        (&["stat", "."], "stat /: this is the root directory of the server"),
        (&["rm", ""], "rm '': the name is empty"),
        (&["mkdir", &long], &format!("mkdir {long}: the name is too long")),
    ] {
        let ran = scene.run(words);
        assert_eq!(ran.failed(1), line, "{words:?}");
        assert_eq!(ran.out(), "", "{words:?}");
    }
    assert_eq!(scene.all_there(), ["d/", "d/x", "f"]);
    assert_eq!(scene.all_here(), ["f", "t/", "t/x"]);
}

#[test]
fn a_server_that_is_not_there_is_told_with_its_address() {
    let scene = Scene::new();
    let closed = free_port();
    let ran = run(scene.command_to(closed).args(["ls"]));
    assert_eq!(ran.failed(1), format!("ls: can't connect to 127.0.0.1:{closed}: Connection refused"));
    // A listener that never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let ran = run(scene.command_to(port).args(["ls", "--idle", "0.2"]));
    assert_eq!(ran.failed(1), format!("ls: no response from 127.0.0.1:{port}; is a skiff server running there?"));
    let here = scene.here.path().join("f");
    fs::write(&here, "x").unwrap();
    let ran = run(scene.command_to(port).args(["put", "f", "--idle", "0.2"]));
    assert_eq!(ran.failed(1), format!("put f: no response from 127.0.0.1:{port}; is a skiff server running there?"));
}

#[test]
fn localhost_and_addresses_in_brackets_are_hosts() {
    let scene = Scene::new();
    scene.serve(&["f"]);
    let port = scene.host.port().to_string();
    for host in ["localhost", "127.0.0.1", "::1", "[::1]"] {
        if host.contains(':') && std::net::TcpListener::bind("[::1]:0").is_err() {
            skiff_tests::programs::skip("localhost_and_addresses_in_brackets_are_hosts", "in part: no IPv6 here");
            continue;
        }
        let ran = run(skiff_tests::programs::host_cli(scene.here.path()).args([host, &port, "ls"]));
        assert_eq!(ran.ok(), "f\n", "{host}");
    }
}

#[test]
fn options_stand_before_the_host_before_the_command_and_behind_it() {
    let scene = Scene::new();
    scene.have(&["f", "--json", "-x"]);
    let port = scene.host.port().to_string();
    for words in [
        ["-q", "127.0.0.1", &port, "put", "f"],
        ["127.0.0.1", &port, "-q", "put", "f"],
        ["127.0.0.1", &port, "put", "-q", "f"],
        ["127.0.0.1", &port, "put", "f", "--quiet"],
    ] {
        assert_eq!(run(skiff_tests::programs::host_cli(scene.here.path()).args(words)).ok(), "", "{words:?}");
    }
    // Everything behind `--` is a name.
    let out = scene.run(&["put", "--", "--json", "-x"]).ok();
    assert!(out.starts_with("put --json: 6 bytes, "), "{out}");
    assert_eq!(scene.all_there(), ["--json", "-x", "f"]);
    assert_eq!(scene.run(&["rm", "-q", "--", "-x"]).ok(), "");
    // On request it is shown nevertheless.
    assert_eq!(scene.run(&["ls", "-q"]).ok(), "--json\nf\n");
    let ran = scene.run(&["-v", "ls"]);
    assert!(ran.code == Some(0) && ran.out() == "--json\nf\n" && ran.err.contains("connected"), "{ran:?}");
}

#[test]
fn checksums_are_left_out_only_where_the_server_agrees() {
    let scene = Scene::with(|setup| setup.server.nocrc = true);
    scene.have(&["f"]);
    let out = scene.run(&["put", "--no-crc", "f"]).ok();
    assert_eq!(timeless(&out), "put f: 1 byte, not verified (no checksum)\n");
    scene.is_there("f", "f");
    let strict = Scene::new();
    strict.have(&["f"]);
    // This one does not, so it gets one.
    let out = strict.run(&["put", "--no-crc", "f"]).ok();
    assert_eq!(timeless(&out), format!("put f: 1 byte, crc32c {:08x}\n", crc32c(b"f")));
}

#[test]
fn an_empty_file_and_one_of_many_blocks_arrive_whole() {
    let scene = Scene::new();
    let big = crate::content(7_654_321, 1);
    scene.write("big", &big);
    scene.write("empty", b"");
    let out = scene.run(&["put", "big", "empty"]).ok();
    assert!(out.contains(&format!("crc32c {:08x}", crc32c(&big))) && out.contains("put empty: 0 bytes"), "{out}");
    assert!(scene.host.content("big").unwrap() == big);
    let out = scene.run(&["get", "big", "empty", "-o", "new/"]).ok();
    assert!(out.contains(", saved as new/big\n") && out.contains(", crc32c 00000000, saved as new/empty\n"), "{out}");
    assert!(scene.content("new/big").unwrap() == big);
    assert_eq!(scene.content("new/empty").unwrap(), b"");
}

#[test]
fn a_reader_that_closes_early_is_no_failure() {
    let scene = Scene::new();
    scene.host.put("big", &vec![b'x'; 5_000_000]);
    for i in 0..3000 {
        scene.host.put(&format!("d/{i:0100}"), b"");
    }
    for words in [&["ls", "d"][..], &["cat", "big"], &["get", "big", "-o", "-"], &["ls", "d", "--json"]] {
        let command = scene.command();
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"{ "$@"; echo "code $?" >&2; } | head -c 1 > /dev/null"#, "sh"]);
        shell.arg(command.get_program()).args(command.get_args()).args(words).current_dir(scene.here.path());
        let ran = run(&mut shell);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), "code 0\n"), "{words:?}");
    }
}

#[test]
fn names_on_the_server_may_begin_with_a_slash_or_a_dot() {
    let scene = Scene::new();
    scene.serve(&["f", "g", "h", "d/x", "ä1", "a1"]);
    for (words, out) in [
        (&["ls", "/"][..], "a1\nd/\nf\ng\nh\nä1\n"),
        (&["ls", "./d"], "d/x\n"),
        (&["ls", "/d/*"], "d/x\n"),
        (&["rm", "./g"], "rm g: removed\n"),
        (&["mv", "/h", "./d/"], "mv h: renamed to d/h\n"),
        (&["mkdir", "/e"], "mkdir e: created\n"),
        (&["rmdir", "./e/"], "rmdir e: removed\n"),
        (&["cat", "/f"], "f"),
        (&["sum", "/d/x"], "4f9b1ae0 3 d/x\n"),
        // By characters: this name does not have three.
        (&["ls", "?1"], "a1\nä1\n"),
    ] {
        let ran = scene.run(words).ok();
        if words[0] != "sum" {
            assert_eq!(ran, out, "{words:?}");
        }
    }
    assert_eq!(scene.run(&["rm", "??1"]).failed(1), "rm ??1: matches nothing on the server");
    scene.done(&["get", "/f", "./d/x"]);
    scene.is_here("f", "f");
    scene.is_here("x", "d/x");
    scene.done(&["put", "f", "-o", "/new/"]);
    scene.is_there("new/f", "f");
    assert!(scene.run(&["rm", "../f"]).failed(1).starts_with("rm ../f: "));
}

#[test]
fn a_destination_without_its_option_is_an_error_before_any_transfer() {
    let scene = Scene::new();
    scene.serve(&["notes.txt", "b", "d/x"]);
    scene.have(&["here.txt", "two", "dir/y"]);
    for (words, line) in [
        (&["get", "notes.txt", "copy.txt"][..], "get copy.txt: no such file on the server; did you mean -o?"),
        (&["get", "notes.txt", "b", "new/"], "get new/: no such file on the server; did you mean -o?"),
        (&["get", "notes.txt", "b", "dir"], "get dir: no such file on the server; did you mean -o?"),
        (&["get", "notes.txt", "."], "get .: the root of the server; did you mean -o?"),
        (&["put", "here.txt", "data/"], "put data/: No such file or directory; did you mean -o?"),
        (&["put", "here.txt", "two", "data/"], "put data/: No such file or directory; did you mean -o?"),
        (&["put", "here.txt", "dir/"], "put dir/: is a directory (-r uploads it); did you mean -o?"),
        (&["put", "here.txt", "copy.txt"], "put copy.txt: No such file or directory; did you mean -o?"),
    ] {
        assert_eq!(scene.run(words).failed(1), line, "{words:?}");
    }
    assert_eq!((scene.all_here().len(), scene.all_there().len()), (4, 4), "nothing was transferred");
    // One missing name of several does not stop the others.
    assert_eq!(scene.run(&["get", "notes.txt", "b", "none"]).code, Some(1));
    assert_eq!(scene.run(&["put", "here.txt", "two", "none"]).code, Some(1));
    scene.is_here("b", "b");
    scene.is_there("two", "two");
}

#[test]
fn info_says_whether_changes_are_accepted() {
    for (read_only, text) in [(false, "access: read and write"), (true, "access: read-only")] {
        let scene = Scene::with(|setup| setup.store.read_only = read_only);
        assert!(scene.run(&["info"]).ok().lines().any(|line| line == text), "{text}");
        let object: serde_json::Value = serde_json::from_str(&scene.run(&["info", "--json"]).ok()).unwrap();
        assert_eq!(object["read_only"], read_only);
        assert_eq!(scene.all_there(), Vec::<String>::new());
    }
}

#[test]
fn the_manual_shows_each_command_as_help_does() {
    let help = run(Command::new(program("host-cli")).arg("help")).ok();
    let listed = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let mut calls: Vec<String> = Vec::new();
    for line in listed.lines() {
        let text = line.trim_start();
        let call = text.split("  ").next().unwrap();
        match line.len() - text.len() {
            2 => calls.push(call.to_owned()),
            // The rest of a long one.
            6 => *calls.last_mut().unwrap() += &format!(" {call}"),
            _ => {}
        }
    }
    assert!(calls.len() > 30, "{calls:?}");
    let manual: Vec<_> = include_str!("../../../docs/CLI.md").lines().collect();
    // The manual shows each of their actions, shells and names.
    calls.retain(|call| !call.ends_with(" ...") && call != "completions SHELL" && call != "quit, exit");
    for call in &calls {
        assert!(manual.contains(&call.as_str()), "{call}");
    }
}
