//! `key`: secrets and keys in files, without a server.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};
use skiff_tests::programs::{Ran, host_cli, run};
use tempfile::TempDir;

/// A device secret of known bytes, and keys that follow from it.
const SECRET: &str = "skiff-secret-1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";

struct Keys(TempDir);

impl Keys {
    /// A directory with `device.secret`.
    fn new() -> Self {
        let keys = Self(tempfile::tempdir().unwrap());
        keys.have("device.secret", SECRET);
        keys
    }

    fn have(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
        self.set_mode(name, 0o600);
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.0.path().join(name), Permissions::from_mode(mode)).unwrap();
    }

    fn content(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.0.path().join(name)).unwrap().permissions().mode() & 0o7777
    }

    /// `host-cli key WORDS`
    fn key(&self, words: &[&str]) -> Ran {
        run(host_cli(self.0.path()).arg("key").args(words))
    }
}

#[test]
fn a_newcomer_makes_a_secret_and_keys_and_nobody_else_can_read_them() {
    let keys = Keys::new();
    for (words, out) in [
        ("new own", "own: device secret; keep it on the server\n"),
        (
            "grant --secret own --role rw laptop -o laptop.key",
            "laptop.key: key rw.laptop.1: client laptop may read and change files\n",
        ),
        (
            "grant --secret own ann --generation 4294967295 -o ann.key",
            "ann.key: key ro.ann.4294967295: client ann may read files\n",
        ),
        ("fleet --master own pump-7 -o pump-7.secret", "pump-7.secret: device secret; keep it on the server\n"),
        ("show own", "own: device secret; keep it on the server\n"),
        ("show laptop.key", "laptop.key: key rw.laptop.1: client laptop may read and change files\n"),
        ("-q new quiet", ""),
    ] {
        let words: Vec<_> = words.split(' ').collect();
        assert_eq!(keys.key(&words).ok(), out, "{words:?}");
    }
    for (name, begins) in
        [("own", "skiff-secret-1 "), ("laptop.key", "skiff-key-1 rw.laptop.1 "), ("pump-7.secret", "skiff-secret-1 ")]
    {
        assert_eq!(keys.mode(name), 0o600);
        let line = keys.content(name);
        assert!(line.starts_with(begins) && line.ends_with("=\n") && line.len() == begins.len() + 45, "{line}");
        // The output of `show` contains none of it.
        assert!(!keys.key(&["show", name]).ok().contains(&line[begins.len()..begins.len() + 20]));
    }
    assert_ne!(keys.content("own"), keys.content("quiet"));
}

#[test]
fn the_same_secret_gives_the_same_key_and_every_name_another_one() {
    let keys = Keys::new();
    let grant =
        |words: &str| keys.key(&["grant --secret device.secret", words].join(" ").split(' ').collect::<Vec<_>>()).ok();
    let first = grant("--role rw alice");
    assert_eq!(first, grant("--generation 1 alice --role rw"));
    let fleet = |host| keys.key(&["fleet", "--master", "device.secret", host]).ok();
    assert_eq!(fleet("a"), fleet("a"));
    let all = [
        first,
        grant("alice"),
        grant("--role rw bob"),
        grant("--role rw --generation 2 alice"),
        fleet("a"),
        fleet("b"),
    ];
    for (at, one) in all.iter().enumerate() {
        let of = |line: &str| line.trim_end().rsplit(' ').next().map(str::to_owned);
        assert!(all[..at].iter().all(|other| of(other) != of(one)), "{one}");
    }
    // The key of the protocol's test vector: the output is what a file contains.
    keys.have("printed.key", &all[0]);
    assert!(keys.key(&["show", "printed.key"]).ok().starts_with("printed.key: key rw.alice.1: "));
}

#[test]
fn what_does_not_make_sense_is_one_line_that_says_what_to_do_and_changes_nothing() {
    let keys = Keys::new();
    keys.have("alice.key", &keys.key(&["grant", "--secret", "device.secret", "alice"]).ok());
    keys.have("notes", "notes\n");
    keys.have("open", SECRET);
    keys.set_mode("open", 0o644);
    keys.have("it's open", SECRET);
    keys.set_mode("it's open", 0o640);
    for (words, code, line) in [
        (&["new", "notes"][..], 1, "key: notes: already exists; a secret or key is never overwritten"),
        (&["new", "no/where"], 1, "key: no/where: No such file or directory"),
        (&["show", "absent"], 1, "key: absent: No such file or directory"),
        (
            &["show", "notes"],
            1,
            "key: notes: holds neither a device secret (skiff-secret-1 ...) nor a client's key (skiff-key-1 ...)",
        ),
        (&["show", "open"], 1, "key: open: other users can read or change it; run: chmod 600 open"),
        (
            &["show", "it's open"],
            1,
            r"key: it's open: other users can read or change it; run: chmod 600 'it'\''s open'",
        ),
        (&["grant", "--secret", "open", "x"], 1, "key: open: other users can read or change it; run: chmod 600 open"),
        (
            &["grant", "--secret", "alice.key", "x"],
            1,
            "key: alice.key: a client's key, but a device secret is needed; `host-cli key new FILE` creates one",
        ),
        (
            &["fleet", "--master", "alice.key", "x"],
            1,
            "key: alice.key: a client's key, but a device secret is needed; `host-cli key new FILE` creates one",
        ),
        (
            &["grant", "--secret", "device.secret", "x", "-o", "notes"],
            1,
            "key: notes: already exists; a secret or key is never overwritten",
        ),
    ] {
        assert_eq!(keys.key(words).failed(code), line, "{words:?}");
    }
    for (words, part) in [
        (&["grant", "--secret", "device.secret", "Alice"][..], "1 to 16 of the characters 0-9, a-z and -"),
        (&["grant", "--secret", "device.secret", "a.b"], "1 to 16 of the characters"),
        (&["grant", "--secret", "device.secret", "x", "--role", "root"], "must be ro or rw"),
        (&["grant", "--secret", "device.secret", "x", "--generation", "0"], "must be a whole number, at least 1"),
        (&["grant", "x"], "--secret"),
        (&["fleet", "--master", "device.secret", "a b"], "without white space"),
        (&["frob"], "no such command 'frob'"),
        (&[], "new"),
    ] {
        let ran = keys.key(words);
        let line = ran.failed(2);
        assert!(line.contains(part), "{words:?}: {line}");
    }
    assert_eq!(keys.content("notes"), "notes\n");
}

#[test]
fn json_tells_what_was_made_and_the_text_only_if_it_is_printed() {
    let keys = Keys::new();
    let object = |words: &[&str]| -> Value { serde_json::from_str(&keys.key(words).ok()).unwrap() };
    let made = object(&["--json", "new", "own"]);
    assert_eq!(made, json!({"type": "key", "kind": "secret", "file": "own"}));
    let granted = object(&["grant", "--secret", "own", "ann", "-o", "ann.key", "--json"]);
    let id = json!({"type": "key", "kind": "key", "file": "ann.key", "role": "ro", "client": "ann", "generation": 1});
    assert_eq!(granted, id);
    assert_eq!(object(&["show", "ann.key", "--json"]), id);
    let printed = object(&["grant", "--secret", "own", "ann", "--json"]);
    assert_eq!(printed["text"], keys.content("ann.key").trim_end());
    assert_eq!(printed.get("file"), None);
}

#[test]
fn key_works_at_the_prompt_too_and_a_host_may_be_called_key() {
    let keys = Keys::new();
    let mut script = host_cli(keys.0.path());
    script.args(["127.0.0.1", "1"]);
    let ran = skiff_tests::programs::run_with(&mut script, "key show device.secret\n");
    assert_eq!(ran.ok(), "device.secret: device secret; keep it on the server\n");
    let ran = run(host_cli(keys.0.path()).args(["key", "1", "--retries", "0", "ls"]));
    assert!(ran.failed(1).contains("can't connect to key"), "{ran:?}");
    let help = run(host_cli(keys.0.path()).args(["key", "--help"])).ok();
    assert!(help.contains("grant") && help.contains("fleet"), "{help}");
    for (words, part) in [
        ("key grant --help", "--generation"),
        ("help key grant", "--generation"),
        ("config add --help", "ADDRESS"),
        ("-q config add --help", "ADDRESS"),
    ] {
        let help = run(host_cli(keys.0.path()).args(words.split(' '))).ok();
        assert!(help.contains(part), "{words}: {help}");
    }
}
