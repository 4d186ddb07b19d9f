//! One command on many boards.

use std::fs;

use serde_json::{Value, json};
use skiff_tests::host::Host;
use skiff_tests::programs::{Ran, free_port, host_cli, on_a_terminal, python, run};
use tempfile::TempDir;

use crate::relay::{Fault, Relay};

/// Three servers, the last of which does not exist, and a directory for the client.
struct Boards {
    hosts: [Host; 2],
    names: [String; 3],
    here: TempDir,
}

impl Boards {
    fn new() -> Self {
        let hosts = [Host::start(), Host::start()];
        let closed = free_port();
        let [first, second] = [hosts[0].port(), hosts[1].port()];
        let names = [first, second, closed].map(|port| format!("127.0.0.1:{port}"));
        Self { hosts, names, here: tempfile::tempdir().unwrap() }
    }

    /// `host-cli --board ... WORDS`, on the first `count` boards.
    fn run(&self, count: usize, words: &[&str]) -> Ran {
        let mut command = host_cli(self.here.path());
        self.names[..count].iter().for_each(|name| _ = command.args(["--board", name]));
        run(command.args(words))
    }

    fn have(&self, name: &str, content: &str) {
        fs::write(self.here.path().join(name), content).unwrap();
    }
}

#[test]
fn a_file_goes_to_all_boards_and_a_table_says_how() {
    let boards = Boards::new();
    boards.have("f", "content");
    let out = boards.run(2, &["put", "f"]).ok();
    for (name, host) in boards.names.iter().zip(&boards.hosts) {
        assert!(out.contains(&format!("{name}: put f: 7 bytes, ")), "{out}");
        assert_eq!(host.content("f").unwrap(), b"content");
    }
    let table: Vec<_> = out.lines().skip(2).map(|line| line.split(',').next().unwrap().to_owned()).collect();
    assert_eq!(table, [0, 1].map(|at| format!("{}  done", boards.names[at])));

    let ran = boards.run(3, &["--json", "put", "f"]);
    assert_eq!(ran.code, Some(1));
    let objects: Vec<Value> = ran.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let results: Vec<_> = objects.iter().filter(|object| object["type"] == "board").collect();
    assert_eq!(objects.iter().filter(|object| object["type"] == "put" && object["board"].is_string()).count(), 2);
    let shown: Vec<_> = results.iter().map(|object| (&object["name"], &object["result"])).collect();
    let [first, second, third] = boards.names.each_ref().map(|name| json!(name));
    let [done, failed] = [json!("done"), json!("failed")];
    assert_eq!(shown, [(&first, &done), (&second, &done), (&third, &failed)]);
    assert!(results[2]["error"].as_str().unwrap().contains("can't connect"), "{results:?}");
    let error: Value = serde_json::from_str(&ran.err).unwrap();
    assert_eq!((&error["code"], &error["board"]), (&json!("connect"), &third));
}

#[test]
fn what_comes_from_each_board_has_a_directory_of_its_own() {
    let boards = Boards::new();
    boards.hosts[0].put("log", b"one");
    boards.hosts[1].put("log", b"two");
    _ = boards.run(2, &["-q", "get", "log"]).ok();
    _ = boards.run(2, &["-q", "get", "log", "-o", "all"]).ok();
    _ = boards.run(2, &["-q", "sync", "--pull", "copy"]).ok();
    for (name, content) in boards.names.iter().zip(["one", "two"]) {
        for dir in ["", "all", "copy"] {
            let path = boards.here.path().join(dir).join(name).join("log");
            assert_eq!(fs::read_to_string(&path).unwrap(), content, "{path:?}");
        }
    }
}

#[test]
fn a_get_that_fails_leaves_no_empty_directory() {
    let boards = Boards::new();
    boards.hosts[0].put("log", b"one");
    let ran = boards.run(3, &["-q", "get", "log", "-o", "all"]);
    assert_eq!(ran.code, Some(1));
    _ = boards.run(3, &["-q", "get", "none", "-o", "no/where"]);
    assert_eq!(
        crate::below(boards.here.path()),
        ["all/".into(), format!("all/{}/", boards.names[0]), format!("all/{}/log", boards.names[0])]
    );
}

#[test]
fn a_file_lists_the_boards() {
    let boards = Boards::new();
    boards.have("f", "content");
    let [first, second, _] = &boards.names;
    boards.have("lab", &format!("\u{feff}# the lab\n{first}\n\n  {second} # second\n{first}\n"));
    boards.have("none", "# nothing\n");
    let port = boards.hosts[0].port();
    boards.have("ports", &format!("127.0.0.1 {port}\n127.0.0.1\t{} # second\n", boards.hosts[1].port()));
    boards.have("one", &format!("{first}\n127.0.0.1 {port}\n{first}\n"));
    boards.have("bad", &format!("{first}\n\nlab 3 board\n"));
    boards.have("worse", &format!("{first}\n:x:\n"));
    let with = |words: &[&str]| run(host_cli(boards.here.path()).args(words));
    assert_eq!(with(&["--boards", "lab", "put", "f"]).ok().lines().count(), 4);
    assert!(boards.hosts.iter().all(|host| host.content("f").is_some()));
    let out = with(&["--boards", "ports", "df"]).ok();
    assert!(boards.names[..2].iter().all(|name| out.contains(&format!("\n{name}  done, "))), "{out}");
    // A list of one server works like --board.
    assert_eq!(with(&["--boards", "one", "cat", "f"]).ok(), "content");
    for (words, code, why) in [
        (&["--boards", "none", "ls"][..], 1, "none: no servers are listed in this file"),
        (&["--boards", "bad", "ls"], 2, "bad: line 3: too many words; expected HOST, HOST:PORT or HOST PORT"),
        (&["--boards", "worse", "ls"], 2, "worse: line 2: :x:: "),
        (&["--boards", "missing", "ls"], 1, "No such file"),
        (&["--boards", "lab"], 2, "a command is required with several servers"),
    ] {
        assert!(with(words).failed(code).contains(why), "{words:?}");
    }
}

#[test]
fn an_option_means_the_same_before_and_after_the_command() {
    let boards = Boards::new();
    boards.hosts.iter().for_each(|host| host.put("f", b""));
    for words in [["-q", "ls"], ["ls", "-q"]] {
        let out = boards.run(2, &words).ok();
        let mut lines: Vec<_> = out.lines().collect();
        lines.sort_unstable();
        let mut expected = [0, 1].map(|at| format!("{}: f", boards.names[at]));
        expected.sort_unstable();
        assert_eq!(lines, expected, "{words:?}");
    }
    let pings = boards.run(2, &["ping"]).ok();
    assert!(boards.names[..2].iter().all(|name| pings.matches(name).count() == 2), "once and in the table: {pings}");
}

#[test]
fn commands_for_one_board_are_refused() {
    let boards = Boards::new();
    for words in [&["cat", "f"][..], &["tail", "f"], &["edit", "f"], &["get", "f", "-o", "-"], &["put", "-", "-o", "x"]]
    {
        let ran = boards.run(2, words);
        assert_eq!(
            (ran.code, ran.err.matches("this works with one server only").count()),
            (Some(2), 2),
            "{words:?} {ran:?}"
        );
    }
}

#[test]
fn each_board_has_a_progress_line_at_a_terminal() {
    let boards = Boards::new();
    let test = "each_board_has_a_progress_line_at_a_terminal";
    let Some(python) = python(test) else { return };
    boards.hosts.iter().for_each(|host| host.put("big", &crate::content(1_500_000, 1)));
    let slow = Fault { slow: true, ..Fault::default() };
    let relays = boards.hosts.each_ref().map(|host| Relay::start(host.addr(), &[slow]));
    let names = relays.each_ref().map(|relay| format!("127.0.0.1:{}", relay.port()));
    let mut command = host_cli(boards.here.path());
    names.iter().for_each(|name| _ = command.args(["--board", name]));
    let ran = on_a_terminal(python, command.args(["get", "big"])).wait();
    let shown = String::from_utf8_lossy(&ran.bytes).into_owned();
    assert_eq!(ran.code, Some(0), "{shown}");
    for name in &names {
        // The bar, the result, the table.
        assert!(shown.contains(&format!("{name}: big ")), "{shown}");
        assert!(shown.contains(&format!("{name}: get big: 1500000 bytes, ")), "{shown}");
        assert!(shown.contains(&format!("{name}  done, ")), "{shown}");
    }
}

#[test]
fn what_needs_no_server_runs_once_and_a_usage_error_is_reported_once() {
    let boards = Boards::new();
    boards.have("f", "");
    assert_eq!(boards.run(3, &["lls"]).ok(), "f\n");
    _ = boards.run(3, &["config", "add", "lab", "h"]).ok();
    assert_eq!(boards.run(3, &["config", "list"]).ok(), "lab: h\n");
    let ran = boards.run(3, &["discover", "--timeout", "x"]);
    assert_eq!((ran.code, ran.err.lines().count(), ran.out()), (Some(2), 1, ""));
    let ran = boards.run(3, &["ls", "--frob"]);
    assert_eq!((ran.code, ran.err.lines().count(), ran.out()), (Some(2), 1, ""));
}
