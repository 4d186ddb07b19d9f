//! How it starts: the first line, the help, usage errors, reasons not to start.

use core::time::Duration;

use super::*;

#[test]
fn the_first_line_says_the_port_and_nothing_else_comes_on_standard_output() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &[]);
    assert!(serv.port() != 0);
    for addr in [serv.addr(), (Ipv6Addr::LOCALHOST, serv.port()).into()] {
        match TcpStream::connect(addr) {
            Ok(_) => {}
            Err(error) if addr.is_ipv6() && error.kind() == std::io::ErrorKind::AddrNotAvailable => {
                skip("the_first_line_says_the_port_and_nothing_else_comes_on_standard_output", "no IPv6 here");
            }
            Err(error) => panic!("{addr}: {error}"),
        }
    }
    assert_eq!(serv.connect().ask("ping"), "ok");
    let line = format!("port {}\n", serv.port());
    let ran = serv.stop();
    assert_eq!((ran.code, ran.out()), (Some(0), line.as_str()));
    // The rest is for humans.
    let mut lines = ran.err.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with("host-serv: serving ") && first.contains("127.0.0.1:"), "{first}");
    let second = lines.next().unwrap();
    assert!(second.contains("only this machine can connect") && second.contains("--bind 0.0.0.0"), "{second}");
    assert_eq!(lines.next(), None);
    assert!(names(root.path()).is_empty());
}

#[test]
fn it_serves_the_current_directory_unless_told_otherwise() {
    let root = tempdir().unwrap();
    fs::write(root.path().join("here"), "x").unwrap();
    let mut command = Command::new(program("host-serv"));
    let serv = Serv::launch(command.arg("0").current_dir(root.path()), "port ").unwrap();
    assert_eq!(serv.connect().read("here").unwrap(), b"x");
}

#[test]
fn the_help_has_examples_exit_codes_and_every_option() {
    let ran = refused(&["--help"]);
    let text = ran.ok();
    for part in [
        "Examples:\n  host-serv 50000 ",
        "Exit codes: 0 stopped by Ctrl-C, SIGTERM or SIGHUP, 1 could not start or failed, 2 usage error.",
        "--root <DIR>",
        "--bind <ADDR>",
        "--open",
        "--read-only",
        "--hidden",
        "--data-ports <LOW-HIGH>",
        "--max-clients <N>",
        "--idle <SECONDS>",
        "--min-rate <BYTES>",
        "--grace <SECONDS>",
        "--nocrc",
        "--reserve <SIZE>",
        "--stage-max <SIZE>",
        "--stage-age <HOURS>",
        "--threads <N>",
        "--metrics <ADDR>",
        "-v, --verbose",
        "--log-format <FORMAT>",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(refused(&["--version"]).ok().starts_with("host-serv "));
}

#[test]
fn metrics_count_what_clients_do_with_a_directory() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["--metrics", "127.0.0.1:0"]);
    let printed = || {
        let err = serv.running.err();
        err.lines().find_map(|line| line.strip_prefix("host-serv: metrics at http://")).map(str::to_owned)
    };
    assert!(eventually(|| printed().is_some()), "{}", serv.running.err());
    let addr = printed().unwrap().strip_suffix("/metrics").unwrap().to_owned();
    let get = |path: &str| {
        let mut http = TcpStream::connect(&addr).unwrap();
        http.write_all(format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n").as_bytes()).unwrap();
        String::from_utf8(read_to_end(&mut http).0).unwrap()
    };
    let mut client = serv.connect();
    assert_eq!(client.ask("mkdir d"), "ok");
    assert!(client.ask("rmdir other").starts_with("error not-found"));
    let text = get("/metrics");
    for line in ["skiff_sessions 1", "skiff_changes_total 2", "skiff_changes_failed_total 1", "skiff_staged_bytes 0"] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert!(get("/health").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn wrong_usage_ends_it_with_2() {
    for words in [
        &[][..],
        &["x"],
        &["70000"],
        &["-1"],
        &["0", "extra"],
        &["0", "--frob"],
        &["0", "--bind", "[::1"],
        &["0", "--bind", "[localhost]"],
        &["0", "--bind", "not a name"],
        &["0", "--bind", ""],
        &["0", "--data-ports", "9-3"],
        &["0", "--idle", "0"],
        &["0", "--threads", "0"],
        &["0", "--min-rate", "much"],
        &["0", "--grace", "9999999999"],
        &["0", "--max-clients", "x"],
        &["0", "--log-format", "xml"],
    ] {
        let ran = refused(words);
        assert_eq!((ran.code, ran.out()), (Some(2), ""), "{words:?}");
        assert!(ran.err.contains("--help"), "{}", ran.err);
        // Words in the messages of libraries.
        for text in ["digit", "too large", "not in", "target type", "parse"] {
            assert!(!ran.err.contains(text), "{words:?}: {}", ran.err);
        }
    }
}

#[test]
fn what_keeps_it_from_starting_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let ran = refused(&[&port.to_string()]);
    assert_eq!(ran.code, Some(1));
    let line = one_line(&ran);
    assert_eq!(line, format!("host-serv: can't listen on 127.0.0.1:{port}: Address already in use"));

    let root = tempdir().unwrap();
    fs::write(root.path().join("file"), "x").unwrap();
    for (name, why) in [("nothing", "No such file or directory"), ("file", "Not a directory")] {
        let path = root.path().join(name);
        let ran = refused(&["0", "--root", path.to_str().unwrap()]);
        assert_eq!(ran.code, Some(1));
        let line = one_line(&ran);
        assert!(line.starts_with(&format!("host-serv: can't serve {}: {why}", path.display())), "{line}");
        assert_eq!(line.matches(why).count(), 1, "{line}");
    }

    // An address that belongs to nobody (TEST-NET-1).
    let ran = refused(&["0", "--bind", "192.0.2.1"]);
    assert_eq!(ran.code, Some(1));
    assert!(one_line(&ran).starts_with("host-serv: can't listen on 192.0.2.1:0: "));

    for nowhere in ["fe80::1%nowhere", "[fe80::1%nowhere]", "skiff.invalid"] {
        let ran = refused(&["0", "--bind", nowhere]);
        assert_eq!(ran.code, Some(1));
        let line = one_line(&ran);
        let name = nowhere.trim_matches(['[', ']']);
        assert!(line.starts_with(&format!("host-serv: can't listen on {name}: failed to lookup address ")), "{line}");
    }

    let ran = refused(&[&port.to_string(), "--log-format", "json"]);
    assert_eq!(ran.code, Some(1));
    let object: serde_json::Value = serde_json::from_str(one_line(&ran)).unwrap();
    assert!(object["fields"]["message"].as_str().unwrap().starts_with("can't listen on "), "{object}");
}

#[test]
fn options_reach_the_server() {
    let root = tempdir().unwrap();
    fs::write(root.path().join(".hidden"), "secret").unwrap();
    let options = ["--hidden", "--nocrc", "--idle", "7", "--max-clients", "2", "--threads", "1", "--portable"];
    let serv = Serv::start(root.path(), &options);
    let mut first = serv.connect();
    let hello = first.ask("get /skiff/1");
    assert!(hello.starts_with("skiff/1 server=host-serv/") && hello.contains(" idle=7"), "{hello}");
    assert!(hello.contains(" nocrc=1"), "{hello}");
    assert_eq!(first.read(".hidden").unwrap(), b"secret");
    let mut second = serv.connect();
    assert_eq!(second.ask("ping"), "ok");
    assert_eq!(serv.connect().hear_end(), (Vec::new(), End::Closed));
    assert!(Serv::start(root.path(), &[]).connect().ask("stat .hidden").starts_with("error not-found"));
}

#[test]
fn the_port_comes_before_what_is_said() {
    let root = tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "exec 2>&1; exec \"$@\"", "sh"]).arg(program("host-serv")).arg("0").current_dir(root.path());
    let ran = Serv::launch(&mut command, "port ").unwrap().stop();
    let lines: Vec<_> = ran.out().lines().collect();
    assert!(lines[0].starts_with("port ") && lines[1].starts_with("host-serv: serving "), "{lines:?}");
}

#[test]
fn it_answers_as_soon_as_the_port_is_printed() {
    let root = tempdir().unwrap();
    let answer = || {
        let serv = Serv::start(root.path(), &[]);
        let begin = Instant::now();
        assert_eq!(serv.connect().ask("ping"), "ok");
        begin.elapsed()
    };
    // Several tries: the machine may be busy.
    assert!((0..20).any(|_| answer() < Duration::from_millis(90)));
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn the_programs_load_libc_but_neither_libgcc_nor_libm() {
    for name in ["host-serv", "host-cli"] {
        let listed = Command::new(program(name)).arg("--version").env("LD_TRACE_LOADED_OBJECTS", "1").output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains("libc.so") && !listed.contains("libgcc") && !listed.contains("libm."), "{listed}");
    }
}

#[test]
fn a_directory_is_no_secret() {
    let root = tempdir().unwrap();
    let secret = tempdir().unwrap();
    let ran = refused(&["0", "--root", root.path().to_str().unwrap(), "--secret", secret.path().to_str().unwrap()]);
    let text =
        format!("host-serv: {}: not a regular file; a file with a secret or key is needed", secret.path().display());
    assert!(ran.err.starts_with(&text), "{}", ran.err);
}
