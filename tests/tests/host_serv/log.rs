//! The log of the server.

use super::*;

#[test]
fn every_line_of_a_json_log_is_an_object() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["-vv", "--log-format", "json"]);
    let mut wire = serv.connect();
    assert!(wire.write("olá \"b\".txt", b"content").starts_with("ok 7 "));
    assert_eq!(wire.read("olá \"b\".txt").unwrap(), b"content");
    assert!(wire.ask("frob").starts_with("error bad-command "));
    let port = wire.ask("put x");
    let mut data = wire.data(&port);
    data.write_all(b"nonsense..").unwrap();
    // The reset may have arrived already.
    _ = data.shutdown(Shutdown::Write);
    assert_eq!(read_to_end(&mut data).1, End::Reset);
    wire.say("quit");
    assert_eq!(wire.hear_end(), (Vec::new(), End::Closed));
    let ran = serv.stop();
    assert_eq!(ran.code, Some(0));
    let objects: Vec<serde_json::Value> =
        ran.err.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect();
    for object in &objects {
        assert!(object["timestamp"].is_string() && object["level"].is_string(), "{object}");
        assert!(object["fields"]["message"].is_string(), "{object}");
    }
    let said = |message: &str| objects.iter().find(|object| object["fields"]["message"] == message);
    assert_eq!(said("write").unwrap()["fields"]["name"], "olá \"b\".txt");
    assert_eq!(said("write").unwrap()["fields"]["size"], 7);
    assert!(said("data connection reset").is_some());
    assert!(objects[0]["fields"]["message"].as_str().unwrap().starts_with("serving "));
}

#[test]
fn each_change_is_one_line_of_the_log_with_its_outcome() {
    let root = tempdir().unwrap();
    let serv = Serv::start(root.path(), &["-v", "--log-format", "json"]);
    let mut wire = serv.connect();
    assert!(wire.write("f", b"content").starts_with("ok 7 "));
    let mut bytes = message("write 0 3 - bad");
    bytes.extend(body(b"bad", 1));
    wire.send_bytes(&bytes);
    assert!(wire.hear_text().starts_with("error mismatch "));
    let mut bytes = message("write 5 9 - f");
    bytes.extend(body(b"more", 1));
    wire.send_bytes(&bytes);
    assert!(wire.hear_text().starts_with("error "));
    for command in ["mkdir d", "mkdir d", "rename f\nd/g", "remove f", "rmdir d", "remove d/g", "rmdir d"] {
        wire.say(command);
    }
    for _ in 0..7 {
        _ = wire.hear();
    }
    let local = wire.stream.local_addr().unwrap().to_string();
    for (name, content) in [("p", &message("classic")[..]), ("p", &message("classic")), ("q", b"nonsense..")] {
        let port = wire.ask(format!("put {name}"));
        let mut data = wire.data(&port);
        data.write_all(content).unwrap();
        // The reset may have arrived already.
        _ = data.shutdown(Shutdown::Write);
        _ = read_to_end(&mut data);
    }
    assert_eq!(wire.ask("put .x"), "-1");
    let mut other = serv.connect();
    other.send_bytes(&[message("write 0 4 - half"), message("ha")].concat());
    drop(other);
    assert!(eventually(|| serv.running.err().contains("interrupted")));
    // The client does not wait for the answer; the file is stored anyway.
    wire.send_write("last", b"last");
    drop(wire);
    assert!(eventually(|| serv.running.err().contains("\"last\"")));
    let ran = serv.stop();
    let lines = ran.err.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let changes: Vec<_> = lines.map(|line| line["fields"].clone()).filter(|line| line["outcome"].is_string()).collect();
    let shown = |change: &serde_json::Value| {
        let by = if change["peer"] == local.as_str() { "" } else { "another's " };
        let words = ["message", "name", "to", "size", "outcome"].map(|field| &change[field]);
        let words = words.into_iter().filter(|word| !word.is_null());
        let words = words.map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned));
        by.to_owned() + &words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        changes.iter().map(shown).collect::<Vec<_>>(),
        [
            "write f 7 ok",
            "write bad 3 discarded",
            "write f mismatch",
            "mkdir d ok",
            "mkdir d exists",
            "rename f d/g ok",
            "remove f not-found",
            "rmdir d not-empty",
            "remove d/g ok",
            "rmdir d ok",
            "put p 7 ok",
            "put p(1) 7 ok",
            "put q discarded",
            "put .x denied",
            "another's write half 4 interrupted",
            "write last 4 ok",
        ]
    );
}

#[test]
fn names_that_can_not_be_sent_are_logged() {
    let root = tempdir().unwrap();
    fs::create_dir(root.path().join("d")).unwrap();
    fs::create_dir(root.path().join("many")).unwrap();
    (0..2500).for_each(|number| fs::write(root.path().join(format!("many/{number}")), "").unwrap());
    for name in [b"d/caf\xe9".as_slice(), b"d/two\nlines", b"top\xff", b"many/\xfe"] {
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(name)), "").unwrap();
    }
    for verbose in [false, true] {
        let mut command = host_serv(root.path());
        if verbose {
            command.arg("-v");
        }
        let serv = Serv::launch(&mut command, "port ").unwrap();
        let mut wire = serv.connect();
        assert_eq!(wire.ask("list d"), "ok 2");
        assert_eq!(wire.hear_body().0, b"");
        // Many are counted in intervals.
        assert_eq!(wire.ask("list many"), "ok 1");
        assert_eq!(wire.hear_body().0.split(|&byte| byte == b'\n').count(), 2501);
        assert!(wire.ask("rmdir d").starts_with("error not-empty "));
        assert_eq!(wire.ask("ls"), "");
        drop(wire);
        let err = serv.stop().err;
        // The same warning again within 10 s is counted.
        assert!(err.contains("can't be sent (") && err.contains("(3 more times)"), "{err}");
        assert_eq!(err.contains(r"caf\xe9"), verbose, "{err}");
        assert_eq!(err.contains(r"two\nlines"), verbose, "{err}");
    }
}
