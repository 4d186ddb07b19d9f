//! Ways to specify a server: HOST and PORT, one word, an alias in the configuration, `--board`, the environment.

use std::fs;

use serde_json::{Value, json};
use skiff_tests::programs::{Ran, free_port, host_cli, run};

use crate::Scene;

impl Scene {
    /// `host-cli WORDS`, without a server before them.
    fn bare(&self, words: &[&str]) -> Ran {
        run(host_cli(self.here.path()).args(words))
    }

    /// The same with `SKIFF_BOARD`.
    fn bare_with(&self, board: &str, words: &[&str]) -> Ran {
        run(host_cli(self.here.path()).env("SKIFF_BOARD", board).args(words))
    }

    /// The configuration file.
    fn config(&self) -> std::path::PathBuf {
        self.here.path().join(".config-of-test/skiff/config.toml")
    }
}

#[test]
fn a_server_is_named_in_many_ways() {
    let scene = Scene::new();
    scene.serve(&["f"]);
    let port = scene.host.port().to_string();
    let word = |host: &str| format!("{host}:{port}");
    for words in [
        &["127.0.0.1", &port, "ls"][..],
        &[&word("127.0.0.1"), "ls"],
        &[&word("localhost"), "ls"],
        &["[::ffff:127.0.0.1]", &port, "ls"],
        &[&word("[::ffff:127.0.0.1]"), "ls"],
        &["-q", "localhost", "--retries", "0", &port, "ls"],
        &["--board", &word("localhost"), "ls"],
    ] {
        assert_eq!(scene.bare(words).ok(), "f\n", "{words:?}");
        // The board in the environment is not asked.
        assert_eq!(scene.bare_with("192.0.2.1:9", words).ok(), "f\n", "{words:?}");
    }
    assert_eq!(scene.bare_with(&word("localhost"), &["ls"]).ok(), "f\n");
    assert_eq!(scene.bare_with(&word("localhost"), &["--json", "sum", "f"]).ok().lines().count(), 1);
    assert!(scene.bare_with(&word("localhost"), &["lss"]).failed(2).starts_with("no such command 'lss'"));
    assert!(
        scene.bare_with(&word("localhost"), &["localhost", "ls"]).failed(2).contains("SKIFF_BOARD is set, so HOST")
    );
    assert!(scene.bare_with("", &["ls"]).failed(2).starts_with("no server given"));
    for (address, why) in [
        ("fe80::1", "needs its network interface, as in fe80::1%eth0"),
        ("[fe80::1]:7", "needs its network interface"),
        ("serial:/dev/x:abc", "BAUD must be a number of bits a second"),
    ] {
        assert!(scene.bare(&[address, "ls"]).failed(2).contains(why), "{address}");
    }
}

#[test]
fn the_port_is_50000_unless_it_is_given() {
    let scene = Scene::new();
    for words in [&["127.9.8.7", "ls"][..], &["--board", "127.9.8.7", "ls"]] {
        let ran = scene.bare(words);
        assert!(ran.failed(1).ends_with("can't connect to 127.9.8.7:50000: Connection refused"), "{ran:?}");
    }
    let failed = scene.bare(&["--connect-timeout", "1", "[fe80::1%no-such-link]", "ls"]);
    assert!(failed.failed(1).contains("can't connect to [fe80::1%no-such-link]:50000"), "{failed:?}");
}

#[test]
fn an_alias_stands_for_an_address() {
    let scene = Scene::new();
    scene.serve(&["f"]);
    let address = format!("localhost:{}", scene.host.port());
    assert_eq!(scene.bare(&["config", "list"]).ok(), "");
    assert_eq!(scene.bare(&["config", "add", "lab3", &address]).ok(), format!("config lab3: {address}\n"));
    _ = scene.bare(&["config", "add", "other", "192.0.2.1"]).ok();
    let replaced = scene.bare(&["config", "add", "other", "192.0.2.2"]).ok();
    assert_eq!(replaced, "config other: 192.0.2.2, in place of 192.0.2.1\n");
    _ = scene.bare(&["config", "remove", "other"]).ok();
    assert_eq!(scene.bare(&["lab3", "ls"]).ok(), "f\n");
    assert_eq!(scene.bare(&["--board", "lab3", "ls"]).ok(), "f\n");
    assert_eq!(scene.bare_with("lab3", &["ls"]).ok(), "f\n");
    // PORT of the command line wins if there is one.
    let closed = free_port();
    let failed = scene.bare(&["lab3", &closed.to_string(), "ls"]);
    assert!(failed.failed(1).contains(&format!("localhost:{closed}")), "{failed:?}");
    let failed = scene.bare(&[&format!("lab3:{closed}"), "ls"]);
    assert!(failed.failed(1).contains(&format!("localhost:{closed}")), "{failed:?}");

    scene.have(&["laptop.key"]);
    _ = scene.bare(&["-q", "config", "add", "pump", "192.0.2.7", "--key", "laptop.key"]).ok();
    let key = fs::canonicalize(scene.here.path()).unwrap().join("laptop.key");
    let listed = scene.bare(&["config", "list", "--json"]).ok();
    let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        listed,
        [
            json!({"type": "alias", "name": "lab3", "address": address, "key": null}),
            json!({"type": "alias", "name": "pump", "address": "192.0.2.7", "key": key}),
        ]
    );
    assert_eq!(scene.bare(&["config", "remove", "lab3"]).ok(), "config lab3: removed\n");
    // RFC 6761: no resolver knows it.
    let unknown = scene.bare(&["invalid", "ls"]);
    assert!(unknown.failed(1).ends_with("; it is not an alias either (see host-cli config list)"), "{unknown:?}");
    assert_eq!(scene.bare(&["config", "remove", "lab3"]).failed(1), "config lab3: no such alias");
    assert_eq!(scene.bare(&["config", "list"]).ok(), format!("pump: 192.0.2.7, key {}\n", key.display()));
}

#[test]
fn an_invalid_configuration_is_reported_and_kept() {
    let scene = Scene::new();
    fs::create_dir_all(scene.config().parent().unwrap()).unwrap();
    let text = "[board.a]\naddress = 1\n\n[board\n";
    fs::write(scene.config(), text).unwrap();
    let path = scene.config();
    for words in [&["a", "ls"][..], &["config", "list"], &["config", "add", "b", "h"], &["config", "remove", "a"]] {
        let ran = scene.bare(words);
        let failed = ran.failed(1);
        assert!(failed.contains(&format!("{}: line 4: ", path.display())), "{failed}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    fs::write(&path, "# mine\n[board.a]\naddress = 1\n").unwrap();
    assert!(scene.bare(&["a", "ls"]).failed(1).ends_with("board.a: `address` is missing"));
    for (text, why) in [
        ("[boards.a]\naddress = \"h\"\n", "unknown entry `boards`; an alias is `[board.NAME]`"),
        ("[board.a]\naddress = \"h\"\nkeey = \"k\"\n", "board.a: unknown key `keey`; the keys are `address` and `key`"),
    ] {
        fs::write(&path, text).unwrap();
        for words in [&["a", "ls"][..], &["config", "list"]] {
            assert!(scene.bare(words).failed(1).ends_with(why), "{text}");
        }
    }
    fs::write(&path, "# mine\n[board.a]\naddress = 1\n").unwrap();
    for (words, why) in [
        (&["config", "add", "b", "b"][..], "an alias can't stand for itself"),
        (&["config", "add", "ls", "h"], "an alias can't have the name of a command"),
        (&["config", "add", "10.0.0.1", "h"], "an alias must not look like an address or a port"),
        (&["config", "add", "b", "h:0"], "the port must be a number from 1 to 65535"),
    ] {
        assert!(scene.bare(words).failed(2).contains(why), "{words:?}");
    }
    assert!(scene.bare(&["config", "add", "b", "h", "--key", "none"]).failed(1).contains("No such file"));
    _ = scene.bare(&["config", "add", "a", "h"]).ok();
    assert_eq!(fs::read_to_string(&path).unwrap(), "# mine\n[board.a]\naddress = \"h\"\n");
}
