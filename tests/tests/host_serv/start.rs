//! How it starts: the first line, the help, usage errors, reasons not to start.

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
    // The rest is for people.
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
        "-v, --verbose",
        "--log-format <FORMAT>",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(refused(&["--version"]).ok().starts_with("host-serv "));
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
        &["0", "--log-format", "xml"],
    ] {
        let ran = refused(words);
        assert_eq!((ran.code, ran.out()), (Some(2), ""), "{words:?}");
        assert!(ran.err.contains("--help"), "{}", ran.err);
    }
}

#[test]
fn what_keeps_it_from_starting_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let ran = refused(&[&port.to_string()]);
    assert_eq!(ran.code, Some(1));
    let line = one_line(&ran);
    assert_eq!(line, format!("host-serv: can't listen on 127.0.0.1:{port}: Address already in use (os error 98)"));

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

    // An address of nobody's (TEST-NET-1).
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
