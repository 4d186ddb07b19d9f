//! Hostile servers: they can't write outside the directory, control the terminal, or use unlimited memory or time.

use core::net::Ipv4Addr;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use skiff_host::client::is_dangerous;
use skiff_proto::crc::crc32c;
use skiff_tests::programs::{Ran, on_a_terminal, python, run};
use skiff_tests::sans_io::{body, message};

use crate::{Scene, below};

const HELLO: &str = "skiff/1 server=evil/1 commands=ping,list,stat,read,resume,write,sum,remove,rename,mkdir,rmdir,space,quit \
                     name-max=255 idle=60";

/// A server that sends the hello, and answers everything else with the output of `answer`. An error closes the
/// connection.
fn serve(answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    serve_with(HELLO, answer)
}

fn serve_with(hello: &str, answer: impl Fn(&str, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let hello = hello.to_owned();
    let answer = std::sync::Arc::new(answer);
    // It ends with the process of the test.
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (hello, answer) = (hello.clone(), std::sync::Arc::clone(&answer));
            thread::spawn(move || -> io::Result<()> {
                loop {
                    let command = hear(&mut stream)?;
                    if command == "get /skiff/1" {
                        stream.write_all(&message(&hello))?;
                    } else if command.starts_with("tree") && !hello.contains(",tree,") {
                        stream.write_all(&message("error bad-command unknown"))?;
                    } else {
                        answer(&command, &mut stream)?;
                    }
                }
            });
        }
    });
    port
}

fn hear(stream: &mut TcpStream) -> io::Result<String> {
    let mut length = [0; 10];
    stream.read_exact(&mut length)?;
    let length = String::from_utf8_lossy(&length).parse().map_err(io::Error::other)?;
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok(String::from_utf8_lossy(&payload).into_owned())
}

/// A `list` reply with these lines.
fn listing(lines: &str) -> Vec<u8> {
    [message("ok"), body(lines.as_bytes(), crc32c(lines.as_bytes()))].concat()
}

/// A `read` reply: the announcement, the data as one message, the trailer.
fn reading(reply: &str, data: &[u8], trailer: &str) -> Vec<u8> {
    let mut bytes = message(reply);
    if !data.is_empty() {
        bytes.extend(message(data));
    }
    bytes.extend(message(""));
    bytes.extend(message(trailer));
    bytes
}

fn cli(scene: &Scene, port: u16, words: &[&str]) -> Ran {
    run(scene.command_to(port).args(["--retries", "0"]).args(words))
}

/// True if nothing in it could control a terminal; line ends are our own.
fn is_safe(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !is_dangerous(c))
}

/// Names of every bad kind, and `good`; also those that the protocol permits but that are not safe for a terminal.
const BAD_LISTING: &str = "1 - - ../x\n1 - - /etc/x\n1 - - a//b\n1 - - a\\b\n1 - - ..\n1 - - d/../../x\n\
                           0 - - ../\n0 - - ./\n1 - - esc\u{1b}[2J\n1 - - bell\u{7}\n1 - - c1\u{9b}31m\n1 - - cr\rx\n\
                           1 - - .skiff-stage-0\n1 - - d/inner\nnonsense\n-1 - - minus\n1 - zzzzzzzz crc\n\
                           1 - - txt.\u{202e}exe\n1 - - iso\u{2066}late\n1 - - zero\u{200b}width\n1 - - good\n";

fn liar() -> u16 {
    serve(|command, stream| match command.split(' ').next() {
        Some("list") => stream.write_all(&listing(BAD_LISTING)),
        Some("read") if command.starts_with("read 0 0 ") => {
            stream.write_all(&reading("ok 0 1 t", b"", "crc32c 00000000"))
        }
        Some("read") => stream.write_all(&reading("ok 1 1 t", b"x", &format!("crc32c {:08x}", crc32c(b"x")))),
        Some("stat") if command.ends_with("dir") => stream.write_all(&message("error is-directory it is one")),
        Some("stat") => stream.write_all(&message("ok 1 - -")),
        _ => stream.write_all(&message(
            "error denied \u{1b}]0;owned\u{7}\u{1b}[31mno\u{202e} \u{9b}2J\u{200f}\r\nhost-cli: all is well",
        )),
    })
}

#[test]
fn no_file_is_made_outside_the_directory() {
    let scene = Scene::new();
    std::fs::create_dir(scene.here.path().join("in")).unwrap();
    let port = liar();
    for words in [
        &["get", "-r", "."][..],
        &["get", "-r", ".", "-f"],
        &["get", "*"],
        &["get", "-r", "dir"],
        &["get", "-r", ".", "-o", "new"],
        &["get", "-rc", "/"],
    ] {
        let mut command = scene.command_to(port);
        command.current_dir(scene.here.path().join("in"));
        let ran = run(command.args(words));
        // The fault in the listing is reported, and the other entries are used.
        assert_eq!(ran.code, Some(1), "{words:?} {ran:?}");
        assert!(ran.err.lines().all(|line| line.starts_with("host-cli: get ")), "{}", ran.err);
        assert!(is_safe(&ran.err), "{:?}", ran.err);
    }
    let all = below(scene.here.path());
    assert!(all.iter().all(|name| name.starts_with("in/")), "{all:?}");
    assert!(all.contains(&"in/good".to_owned()) && all.contains(&"in/new/good".to_owned()), "{all:?}");
    assert!(
        !all.iter().any(|name| name.contains("inner") || name.contains("esc") || name.contains("skiff")),
        "{all:?}"
    );
    assert!(!std::path::Path::new("/etc/x").exists());
}

#[test]
fn another_kind_of_server_is_named_with_what_it_says() {
    let scene = Scene::new();
    scene.have(&["f"]);
    let long = [b"x".repeat(200), b"\r\n".to_vec()].concat();
    for (greeting, says) in [
        (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], r#" (it says "SSH-2.0-OpenSSH_9.6")"#),
        (b"220 mail \x1b[2J\xe2\x80\xae ESMTP\r\n250 more\r\n", r#" (it says "220 mail \x1b[2J\xe2\x80\xae ESMTP")"#),
        (b"\r\n", ""),
        (&long, &format!(r#" (it says "{}")"#, "x".repeat(60))),
    ] {
        let greeting = greeting.to_vec();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                _ = stream.write_all(&greeting);
                _ = io::copy(&mut stream, &mut io::sink());
            }
        });
        for (words, verb) in [(["put", "f"], "put f"), (["stat", "f"], "stat f")] {
            let line = format!("{verb}: 127.0.0.1:{port} answers, but is not a skiff server{says}");
            assert_eq!(run(scene.command_to(port).args(words)).failed(1), line);
        }
    }
}

#[test]
fn what_a_server_says_is_one_safe_line() {
    let scene = Scene::new();
    scene.have(&["f"]);
    let port = liar();
    for words in [
        &["rm", "f"][..],
        &["mv", "f", "g"],
        &["mkdir", "d"],
        &["rmdir", "d"],
        &["df"],
        &["ping"],
        &["sum", "f"],
        &["put", "f"],
        &["put", "-c", "f"],
    ] {
        let ran = cli(&scene, port, words);
        let line = ran.failed(1);
        assert!(is_safe(line) && ran.out().is_empty(), "{words:?} {line:?}");
        let ran = cli(&scene, port, &[words, &["--json"]].concat());
        assert!(ran.err.lines().count() == 1 && is_safe(&ran.err), "{:?}", ran.err);
        let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!(error["code"], "denied");
    }
    // An unknown code, with the same tricks.
    let port = serve(|_, stream| stream.write_all(&message("error \u{1b}[31mred \u{202e}text")));
    let ran = cli(&scene, port, &["rm", "f"]);
    assert!(is_safe(ran.failed(1)), "{ran:?}");
}

#[test]
fn a_listing_to_a_pipe_has_no_control_characters() {
    let scene = Scene::new();
    let port = liar();
    for words in [&["ls"][..], &["ls", "-l"], &["ls", "-R"], &["ls", "*"], &["stat", "*"]] {
        let ran = cli(&scene, port, words);
        assert_eq!(ran.code, Some(1));
        assert!(ran.out().chars().all(|c| c == '\n' || !c.is_control()), "{words:?} {:?}", ran.out());
        // A program gets the names back as they are.
        assert!(ran.out().contains("txt.\u{202e}exe") && ran.out().contains("good"), "{words:?} {:?}", ran.out());
        assert!(is_safe(&ran.err) && ran.err.lines().all(|line| line.starts_with("host-cli: ")), "{:?}", ran.err);
    }
    let ran = cli(&scene, port, &["ls", "--json"]);
    assert!(is_safe(ran.out()) && is_safe(&ran.err), "{ran:?}");
    for line in ran.out().lines().chain(ran.err.lines()) {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn a_terminal_gets_nothing_that_could_steer_it() {
    let test = "a_terminal_gets_nothing_that_could_steer_it";
    let Some(python) = python(test) else { return };
    let scene = Scene::new();
    scene.have(&["f"]);
    let port = liar();
    let evil = "line\u{1b}[2J \u{202e}override \u{9b}31m\r\n";
    let content = serve(move |command, stream| match command.split(' ').next() {
        Some("read") => {
            let reply = format!("ok {0} {0} t", evil.len());
            stream.write_all(&reading(&reply, evil.as_bytes(), &format!("crc32c {:08x}", crc32c(evil.as_bytes()))))
        }
        _ => stream.write_all(&message("error unsupported x")),
    });
    let hello = serve_with(
        "skiff/1 server=\u{202e}evil\u{200b}/\u{2066}1 commands=list name-max=255 \u{202e}key=1 idle=60",
        |_, stream| stream.write_all(&message("ok")),
    );
    for (port, words) in [
        (port, &["ls"][..]),
        (port, &["ls", "-l"]),
        (port, &["stat", "*"]),
        (port, &["get", "-r", "."]),
        (port, &["get", "-r", ".", "--json"]),
        (port, &["rm", "f"]),
        (port, &["put", "f"]),
        (content, &["cat", "f"]),
        (content, &["get", "f", "-o", "-"]),
        (hello, &["info"]),
    ] {
        let mut command = scene.command_to(port);
        command.args(["--retries", "0"]).args(words);
        let ran = on_a_terminal(python, &command).wait();
        // The terminal itself turns each LF into CR LF.
        let shown = ran.out().replace("\r\n", "\n");
        assert!(is_safe(&shown) && !shown.is_empty(), "{words:?} {shown:?}");
    }
}

#[test]
fn a_hello_can_not_steer_anything_either() {
    let scene = Scene::new();
    for hello in [
        "skiff/1 server=\u{1b}[31mred/1 commands=list name-max=255",
        "skiff/1 server=a\u{7}b commands=list\u{1b}[2J,ping name-max=255",
        "skiff/1 server=x name-max=99999999999999999999 idle=-1 commands=",
        "skiff/1 ",
        "skiff/1 = == server server= commands=,,,, name-max=0",
    ] {
        let port = serve_with(hello, |_, stream| stream.write_all(&message("ok")));
        let ran = cli(&scene, port, &["info"]);
        assert!(ran.out().chars().all(|c| c == '\n' || !c.is_control()), "{hello:?} {:?}", ran.out());
        assert!(is_safe(&ran.err) && matches!(ran.code, Some(0 | 1)), "{hello:?} {ran:?}");
    }
}

#[test]
fn what_does_not_arrive_as_announced_leaves_no_file() {
    let good = format!("crc32c {:08x}", crc32c(b"12345"));
    for (what, reply) in [
        ("a wrong checksum", reading("ok 5 5 t", b"12345", "crc32c 00000000")),
        ("a checksum that is none", reading("ok 5 5 t", b"12345", "crc32c xyz")),
        ("a trailer that is none", reading("ok 5 5 t", b"12345", "\u{1b}[2J")),
        ("too few bytes", reading("ok 5 5 t", b"1234", &format!("crc32c {:08x}", crc32c(b"1234")))),
        ("too many bytes", reading("ok 5 5 t", b"123456", &format!("crc32c {:08x}", crc32c(b"123456")))),
        ("a part of the file", reading("ok 5 9 t", b"12345", &good)),
        ("more than the file", reading("ok 5 3 t", b"12345", &good)),
        ("an abort", reading("ok 5 5 t", b"123", "abort io disk\u{1b}[2J on fire")),
        ("a reply that is none", message("ok five 5 t")),
        ("a reply that is too long", message("x".repeat(100_000))),
        ("another command's reply", message("ok")),
        ("a length that is none", b"00000000x5hello".to_vec()),
        ("something that is no skiff server", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ("binary", (0..=255).collect()),
        ("a tag that is none", reading("ok 5 5 ../../x", b"12345", &good)),
    ] {
        let scene = Scene::new();
        scene.have(&["kept"]);
        let port = serve(move |command, stream| {
            if command.starts_with("stat") {
                return stream.write_all(&message("ok 5 - -"));
            }
            stream.write_all(&reply)?;
            // Nothing more comes.
            Err(io::ErrorKind::Other.into())
        });
        let ran = cli(&scene, port, &["get", "f", "-o", "kept", "-f"]);
        let line = ran.failed(1);
        assert!(line.starts_with("get f: ") && is_safe(line) && ran.out().is_empty(), "{what}: {ran:?}");
        assert_eq!(scene.all_here(), ["kept"], "{what}");
        scene.is_here("kept", "kept");
    }
}

#[test]
fn a_connection_that_ends_anywhere_leaves_no_file() {
    let whole = reading("ok 5 5 t", b"12345", &format!("crc32c {:08x}", crc32c(b"12345")));
    let scene = Scene::new();
    for end in (0..whole.len()).step_by(7) {
        let reply = whole[..end].to_vec();
        let port = serve(move |command, stream| {
            if command.starts_with("stat") {
                return stream.write_all(&message("ok 5 - -"));
            }
            stream.write_all(&reply)?;
            Err(io::ErrorKind::Other.into())
        });
        let ran = cli(&scene, port, &["get", "f"]);
        assert!(ran.failed(1).starts_with("get f: "), "{end} {ran:?}");
        assert_eq!(scene.content("f"), None, "{end}");
    }
}

#[test]
fn a_length_that_is_a_lie_costs_neither_memory_nor_time() {
    let scene = Scene::new();
    for reply in [
        // A file of ten billion bytes, of which one arrives.
        [message("ok 9999999999 9999999999 t"), b"9999999999x".to_vec()].concat(),
        // More bytes than numbers can express.
        message("ok 18446744073709551615 18446744073709551615 t"),
        // A reply of ten billion bytes.
        b"9999999999".to_vec(),
        // A trailer of ten billion bytes.
        [message("ok 0 0 t"), message(""), b"9999999999".to_vec()].concat(),
    ] {
        let port = serve(move |command, stream| {
            if command.starts_with("stat") {
                return stream.write_all(&message("ok 5 - -"));
            }
            stream.write_all(&reply)
        });
        // The client waits for the rest within 1 GiB of address space for everything.
        let command = scene.command_to(port);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", r#"ulimit -v 1048576; exec "$@""#, "sh"]);
        shell.arg(command.get_program()).args(command.get_args()).current_dir(scene.here.path());
        let begin = Instant::now();
        let ran = run(shell.args(["--retries", "0", "--idle", "0.3", "get", "f"]));
        assert!(ran.failed(1).starts_with("get f: "), "{ran:?}");
        assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
        assert_eq!(scene.content("f"), None);
    }
}

#[test]
fn an_endless_listing_is_cut_off() {
    let scene = Scene::new();
    let port = serve(|command, stream| {
        if !command.starts_with("list") {
            return stream.write_all(&message("error not-found x"));
        }
        stream.write_all(&message("ok"))?;
        for number in 0_u64.. {
            let line = format!("1 - - {number:0250}\n");
            stream.write_all(&message(line.repeat(200)))?;
        }
        Ok(())
    });
    let ran = cli(&scene, port, &["get", "-r", "."]);
    assert!(!ran.failed(1).is_empty() && ran.out().is_empty(), "{:?}", ran.err);
    assert_eq!(scene.all_here(), Vec::<String>::new());
}

#[test]
fn a_directory_that_contains_itself_is_walked_once() {
    let scene = Scene::new();
    // Below each directory another one, as long as names permit.
    let port = serve(|command, stream| match command.strip_prefix("list") {
        Some(dir) => {
            let dir = dir.trim_start();
            let prefix = if dir.is_empty() { String::new() } else { format!("{dir}/") };
            stream.write_all(&listing(&format!("0 - - {prefix}d/\n0 - - {dir}/\n0 - - d/\n")))
        }
        None => stream.write_all(&message("error is-directory x")),
    });
    let ran = cli(&scene, port, &["ls", "-R"]);
    assert!(ran.out().lines().count() <= 256, "{}", ran.out().lines().count());
    assert!(is_safe(&ran.err) && ran.err.lines().count() < 1000, "{:?}", ran.err);
}

#[test]
fn a_server_that_takes_nothing_or_confirms_something_else_is_not_believed() {
    let scene = Scene::new();
    scene.write("f", &crate::content(20_000, 1));
    for reply in ["ok 5 00000000", "ok", "ok 20000 00000000", "skiff", "-1", "40000"] {
        let port = serve(move |command, stream| {
            if command.starts_with("write") {
                while !hear(stream)?.is_empty() {}
                hear(stream)?;
                return stream.write_all(&message(reply));
            }
            stream.write_all(&message("error unsupported x"))
        });
        let ran = cli(&scene, port, &["put", "f"]);
        assert!(ran.failed(1).starts_with("put f: ") && ran.out().is_empty(), "{reply} {ran:?}");
    }
    // It continues to read, or does not read at all.
    scene.write("big", &crate::content(20_000_000, 1));
    let deaf = serve(|command, stream| {
        if command.starts_with("write") {
            thread::sleep(core::time::Duration::from_secs(60));
        }
        stream.write_all(&message("error unsupported x"))
    });
    let ran = cli(&scene, deaf, &["put", "big", "--idle", "3"]);
    assert!(ran.failed(1).contains("made no progress"), "{ran:?}");
}

#[test]
fn a_classic_server_is_not_believed_either() {
    let scene = Scene::new();
    // `ls` with invalid names, and a data connection with an incomplete message.
    let data = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let data_port = data.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in data.incoming().flatten() {
            _ = stream.write_all(b"0000000009short");
        }
    });
    let port = serve_with("-1", move |command, stream| match command {
        "ls" => stream.write_all(&message("good\n../x\nesc\u{1b}[2J\n/etc/x\n\nd/x")),
        _ if command.starts_with("get ") => stream.write_all(&message(data_port.to_string())),
        _ => Ok(()),
    });
    let ran = cli(&scene, port, &["ls"]);
    assert!(ran.out() == "good\n" && ran.code == Some(1), "{ran:?}");
    assert!(is_safe(&ran.err) && ran.err.lines().all(|line| line.starts_with("host-cli: ls ")), "{:?}", ran.err);
    let ran = cli(&scene, port, &["get", "good"]);
    assert!(ran.failed(1).starts_with("get good: "), "{ran:?}");
    let ran = cli(&scene, port, &["get", "*"]);
    assert_eq!(ran.code, Some(1));
    assert_eq!(scene.all_here(), Vec::<String>::new());
    for reply in ["0", "65536", "-2", "\u{1b}[2J", "99999999999999999999", ""] {
        let port = serve_with("-1", move |_, stream| stream.write_all(&message(reply)));
        let ran = cli(&scene, port, &["get", "x"]);
        assert!(is_safe(ran.failed(1)), "{ran:?}");
    }
}

#[test]
fn names_that_a_listing_can_not_show_are_reported_as_a_failure() {
    let port = serve(|command, stream| match command {
        "list" => {
            let lines = "1 - - a\n0 - - d/\n";
            stream.write_all(&[message("ok 3"), body(lines.as_bytes(), crc32c(lines.as_bytes()))].concat())
        }
        "list d" => stream.write_all(&[message("ok 1 later"), body(b"", 0)].concat()),
        "rmdir d" => stream.write_all(&message("error not-empty there is something in it")),
        "stat d" => stream.write_all(&message("error is-directory x")),
        _ if command.starts_with("stat") => stream.write_all(&message("ok 1 - -")),
        _ if command.starts_with("read") => {
            let trailer = format!("crc32c {:08x}", crc32c(b"x"));
            stream.write_all(&reading("ok 1 1 t", b"x", &trailer))
        }
        _ => stream.write_all(&message("ok")),
    });
    const ROOT: &str = "/: the listing omits 3 entries whose names can't be listed";
    const BELOW: &str = "d/: the listing omits 1 entry whose name can't be listed";
    for (words, out, left_out) in [
        (&["get", "-r", "."][..], 1, &[ROOT, BELOW][..]),
        (&["get", "-rq", "d"], 0, &[BELOW]),
        (&["get", "*", "-o", "-"], 1, &[ROOT]),
        (&["ls"], 2, &[ROOT]),
        (&["ls", "-R"], 2, &[ROOT, BELOW]),
        (&["ls", "d"], 0, &[BELOW]),
        (&["stat", "*"], 2, &[ROOT]),
        (&["rm", "*"], 1, &[ROOT]),
        // Nothing was listed for these.
        (&["stat", "a"], 1, &[]),
    ] {
        let scene = Scene::new();
        let ran = cli(&scene, port, words);
        let expected: Vec<_> = left_out.iter().map(|line| format!("host-cli: {} {line}", words[0])).collect();
        assert_eq!(ran.err.lines().collect::<Vec<_>>(), expected, "{words:?}");
        assert_eq!(ran.code, Some(i32::from(!left_out.is_empty())), "{words:?}");
        assert_eq!(ran.out().lines().count(), out, "{words:?} {:?}", ran.out());
    }
    let scene = Scene::new();
    let ran = cli(&scene, port, &["ls", "d", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((&error["code"], &error["name"]), (&"omitted".into(), &"d/".into()), "{ran:?}");
    let line = cli(&scene, port, &["rmdir", "d"]);
    assert!(line.failed(1).contains("it contains 1 entry whose name can't be listed"), "{line:?}");
}

#[test]
fn a_server_that_says_nothing_is_waited_for_once() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    listener.set_nonblocking(true).unwrap();
    let scene = Scene::new();
    scene.have(&["f", "t/a"]);
    scene.write("big", &crate::content(200_000, 1));
    for words in [
        &["put", "f"][..],
        &["put", "f", "big", "-c"],
        &["put", "-r", "t"],
        &["get", "x", "y*"],
        &["get", "x*", "y"],
        &["get", "-r", "x", "y"],
        &["cat", "x*", "y"],
        &["ls", "x", "y"],
        &["stat", "x*", "y"],
        &["rm", "x*", "y"],
    ] {
        let ran = run(scene.command_to(port).args(["--idle", "0.1"]).args(words));
        let mut mute = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            mute.push(stream);
        }
        assert_eq!((mute.len(), ran.code), (1, Some(1)), "{words:?} {ran:?}");
        assert!(ran.err.contains("no response from"), "{words:?} {ran:?}");
    }
}

#[test]
fn a_server_that_closes_before_it_answers_may_have_no_free_session() {
    let scene = Scene::with(|setup| setup.server.max_clients = 1);
    let mut only = scene.host.connect();
    assert!(only.ask("get /skiff/1").starts_with("skiff/1 "));
    let ran = scene.run(&["get", "x", "--retries", "0"]);
    assert!(ran.failed(1).contains("it may have no free session"), "{ran:?}");
    // And servers made for this purpose, with either way to close.
    for reset in [false, true] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = std::sync::Arc::new(core::sync::atomic::AtomicUsize::new(0));
        let count = std::sync::Arc::clone(&accepted);
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
                if reset {
                    socket2::SockRef::from(&stream).set_linger(Some(core::time::Duration::ZERO)).unwrap();
                } else {
                    _ = stream.read(&mut [0; 1000]);
                }
            }
        });
        let scene = Scene::new();
        scene.have(&["f"]);
        for words in [&["ls"][..], &["get", "x"], &["put", "f"], &["stat", "x"], &["get", "-r", "."], &["ping"]] {
            accepted.store(0, core::sync::atomic::Ordering::Relaxed);
            let ran = cli(&scene, port, words);
            assert!(ran.failed(1).contains("it may have no free session"), "{words:?} {ran:?}");
            assert_eq!(accepted.load(core::sync::atomic::Ordering::Relaxed), 1, "{words:?}");
        }
    }
}

#[test]
fn a_slow_connect_shows_a_message_on_a_terminal() {
    const TEST: &str = "a_slow_connect_shows_a_message_on_a_terminal";
    // Nothing accepts connections, and beyond the backlog there is no answer.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&core::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let full: Vec<_> = (0..4)
        .map(|_| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            _ = socket.connect(&address);
            socket
        })
        .collect();
    let port = address.as_socket().unwrap().port();
    let scene = Scene::new();
    let ran = run(scene.command_to(port).args(["--connect-timeout", "1.3", "ls"]));
    assert!(ran.failed(1).contains("can't connect to"), "{ran:?}");
    if let Some(python) = python(TEST) {
        let mut command = scene.command_to(port);
        let terminal = on_a_terminal(python, command.args(["--connect-timeout", "5", "ls"]));
        terminal.hear(&format!("connecting to 127.0.0.1 port {port}..."), 0);
    }
    drop(full);
}
