//! Keys and encryption from end to end: the programs with secrets and keys, and the bytes on the wire between them.

use std::fs;
use std::path::Path;

use skiff_host::keys::{KeyFile, KeyId, Secret};
use skiff_host::server::Security;
use skiff_tests::host::Host;
use skiff_tests::programs::{Ran, Serv, host_cli, host_serv, run};
use tempfile::TempDir;

use crate::relay::{Fault, Relay};

const SECRET: [u8; 32] = [7; 32];

fn secret() -> Secret {
    Secret::new(SECRET)
}

/// A server with a secret, and a directory for its clients.
struct Scene {
    host: Host,
    here: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(Security::with_secret(secret(), 1))
    }

    fn with(security: Security) -> Self {
        let host = Host::with(|setup| setup.server.security = security);
        let here = tempfile::tempdir().unwrap();
        for id in ["rw.laptop.1", "rw.laptop.2", "rw.other.1", "ro.ann.1"] {
            let key = secret().key(KeyId::parse(id.as_bytes()).unwrap());
            KeyFile::Key(key).create(&here.path().join(id)).unwrap();
        }
        let stranger = Secret::new([8; 32]).key(KeyId::parse(b"rw.laptop.1").unwrap());
        KeyFile::Key(stranger).create(&here.path().join("stranger")).unwrap();
        Self { host, here }
    }

    /// A command with a key, or without one, to `port`.
    fn at(&self, port: u16, key: Option<&str>, words: &[&str]) -> Ran {
        let mut command = host_cli(self.here.path());
        command.args(["127.0.0.1", &port.to_string()]).args(words);
        if let Some(key) = key {
            command.args(["--key", key]);
        }
        run(&mut command)
    }

    fn run(&self, key: Option<&str>, words: &[&str]) -> Ran {
        self.at(self.host.port(), key, words)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.here.path().join(name)
    }
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn files_go_up_and_come_back_whole_and_nothing_of_them_can_be_read_on_the_wire() {
    let scene = Scene::new();
    let relay = Relay::start(scene.host.addr(), &[]);
    let port = relay.port();
    let line = b"the recipe of the house, line by line\n";
    let big: Vec<u8> = line.iter().copied().cycle().take(3_000_001).collect();
    fs::write(scene.path("recipe.txt"), &big).unwrap();
    fs::write(scene.path("empty"), b"").unwrap();
    let key = Some("rw.laptop.1");
    for words in [
        &["put", "recipe.txt", "empty", "-o", "secrets/"][..],
        &["get", "secrets/recipe.txt", "secrets/empty", "-o", "back/"],
    ] {
        assert!(scene.at(port, key, words).ok().contains("crc32c"), "{words:?}");
    }
    assert!(fs::read(scene.path("back/recipe.txt")).unwrap() == big);
    assert_eq!(fs::read(scene.path("back/empty")).unwrap(), b"");
    assert!(scene.host.content("secrets/recipe.txt").unwrap() == big);
    assert!(scene.at(port, key, &["ls", "secrets"]).ok().contains("secrets/recipe.txt"));
    assert_eq!(scene.at(port, key, &["cat", "secrets/recipe.txt"]).bytes.len(), big.len());
    _ = scene.at(port, key, &["mv", "secrets/empty", "secrets/moved"]).ok();
    let seen = relay.seen();
    assert!(seen.len() > 3 * big.len() && has(&seen, b"_BLAKE2s rw.laptop.1 "));
    for part in [&b"recipe"[..], b"secrets", b"moved", b"write ", b"read "] {
        assert!(!has(&seen, part), "{}", part.escape_ascii());
    }
}

#[test]
fn an_interrupted_get_resumes_with_the_same_key_and_a_put_with_any_key_of_the_client() {
    let scene = Scene::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(scene.path("up"), &bytes).unwrap();
    scene.host.put("down", &bytes);
    for (fault, words, key, continues) in [
        (Fault::down(2_000_000), ["get", "-c", "down"], "rw.laptop.2", false),
        (Fault::down(2_000_000), ["get", "-c", "down"], "rw.laptop.1", true),
        (Fault::up(2_000_000), ["put", "-c", "up"], "rw.laptop.2", true),
        (Fault::up(2_000_000), ["put", "-c", "up"], "rw.other.1", false),
    ] {
        let relay = Relay::start(scene.host.addr(), &[fault]);
        let broken = [words[0], words[2], "--retries", "0"];
        assert_eq!(scene.at(relay.port(), Some("rw.laptop.1"), &broken).code, Some(1));
        let out = scene.run(Some(key), &words).ok();
        assert_eq!(out.contains(", resumed at "), continues, "{words:?} {key}: {out}");
        let whole =
            if words[0] == "get" { fs::read(scene.path("down")).unwrap() } else { scene.host.content("up").unwrap() };
        assert!(whole == bytes, "{words:?} {key}");
        _ = fs::remove_file(scene.path("down"));
        _ = fs::remove_file(scene.host.root().join("up"));
    }
}

#[test]
fn an_altered_record_ends_a_get_and_none_of_its_bytes_is_kept() {
    let scene = Scene::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    scene.host.put("down", &bytes);
    let relay = Relay::start(scene.host.addr(), &[Fault { flip: Some(2_000_000), ..Fault::default() }]);
    let ran = scene.at(relay.port(), Some("rw.laptop.1"), &["get", "down", "--retries", "0"]);
    assert!(ran.failed(1).contains("a message was changed on the way"), "{ran:?}");
    assert!(!scene.path("down").exists());
    let entries = fs::read_dir(scene.here.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut entries = entries.filter(|path| path.to_str().unwrap().ends_with(".skiff-part"));
    let part = entries.next().unwrap();
    let kept = fs::read(part).unwrap();
    assert!(kept.len() > 1_000_000 && kept.len() < 2_000_000 && bytes.starts_with(&kept), "{}", kept.len());
    assert!(scene.run(Some("rw.laptop.1"), &["get", "-c", "down"]).ok().contains(", resumed at "));
    assert!(fs::read(scene.path("down")).unwrap() == bytes);
}

#[test]
fn a_read_only_key_reads_and_changes_nothing() {
    let scene = Scene::new();
    scene.host.put("notes", b"notes");
    fs::write(scene.path("new"), b"new").unwrap();
    let key = Some("ro.ann.1");
    assert_eq!(scene.run(key, &["cat", "notes"]).ok(), "notes");
    assert_eq!(scene.run(key, &["ls"]).ok(), "notes\n");
    for words in [
        &["put", "new"][..],
        &["rm", "notes"],
        &["mv", "notes", "x"],
        &["mkdir", "d"],
        &["rmdir", "d"],
        &["put", "-c", "new"],
    ] {
        let ran = scene.run(key, words);
        assert!(ran.failed(1).contains("this key may only read"), "{words:?}: {ran:?}");
    }
    assert_eq!(scene.run(key, &["ls"]).ok(), "notes\n");
}

#[test]
fn a_refused_client_gets_advice_in_one_line() {
    let scene = Scene::with(Security::with_secret(secret(), 2));
    scene.host.put("notes", b"notes");
    let open = Host::start();
    let relay = Relay::start(open.addr(), &[]);
    let open_relay = relay.port();
    let here = format!("127.0.0.1:{}", scene.host.port());
    let refused = |key| {
        format!(
            "{here} rejected the key {key}: it belongs to another server or was revoked; ask the server's owner for a new one"
        )
    };
    for words in
        [&["ls"][..], &["get", "notes"], &["rm", "notes"], &["put", "rw.laptop.1", "-o", "x"], &["info"], &["ping"]]
    {
        for (port, key, line) in [
            (scene.host.port(), None, format!("{here} requires a key; give one with --key FILE or SKIFF_KEY")),
            (scene.host.port(), Some("stranger"), refused("rw.laptop.1")),
            (scene.host.port(), Some("rw.laptop.1"), refused("rw.laptop.1")),
            (scene.host.port(), Some("ro.ann.1"), refused("ro.ann.1")),
            (
                open_relay,
                Some("rw.laptop.2"),
                format!(
                    "127.0.0.1:{open_relay} does not encrypt, so nothing was sent; start it with --secret, or omit the key"
                ),
            ),
        ] {
            let ran = scene.at(port, key, words);
            assert!(ran.failed(1).ends_with(&line), "{words:?} {key:?}: {ran:?}");
        }
    }
    // To a server that does not encrypt, a client with a key has sent nothing but the hello.
    let hello = b"0000000012get /skiff/1";
    let up = relay.sent();
    assert!(up.chunks(hello.len()).all(|message| message == hello), "{}", up.escape_ascii());
    assert!(scene.host.content("x").is_none() && scene.host.content("notes").is_some());
    let info = scene.run(Some("rw.laptop.2"), &["info"]).ok();
    assert!(info.contains("protection: encrypted, with the key rw.laptop.2\n"), "{info}");
    let info = scene.at(open.port(), None, &["info"]).ok();
    assert!(info.contains("protection: none\n"), "{info}");
}

#[test]
fn a_key_comes_from_the_environment_too_and_one_that_others_can_read_is_not_used() {
    let scene = Scene::new();
    let with = |key: &Path| {
        let mut command = host_cli(scene.here.path());
        run(command.args(["127.0.0.1", &scene.host.port().to_string(), "info", "--json"]).env("SKIFF_KEY", key))
    };
    assert!(with(&scene.path("ro.ann.1")).ok().contains(r#""key":"ro.ann.1""#));
    let exposed = scene.path("exposed");
    fs::copy(scene.path("ro.ann.1"), &exposed).unwrap();
    fs::set_permissions(&exposed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ran = with(&exposed);
    assert!(ran.code == Some(1) && ran.err.contains("chmod 600 "), "{ran:?}");
}

#[test]
fn a_newcomer_makes_a_secret_and_keys_serves_and_revokes_one() {
    let (root, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = |words: &str| run(host_cli(here.path()).arg("key").args(words.split(' '))).ok();
    key("new board.secret");
    key("grant --secret board.secret --role rw laptop -o laptop.key");
    key("grant --secret board.secret ann -o ann.key");
    key("grant --secret board.secret --role rw --generation 2 laptop -o laptop-2.key");
    fs::write(here.path().join("notes"), b"notes").unwrap();
    let secret = here.path().join("board.secret");
    let exposed = run(host_serv(here.path()).arg("--secret").arg(&secret));
    assert!(exposed.code == Some(1) && exposed.err.contains("board.secret: move it out of "), "{exposed:?}");
    let link = here.path().join("link");
    fs::hard_link(&secret, &link).unwrap();
    let linked = run(host_serv(root.path()).arg("--secret").arg(&secret));
    assert!(linked.code == Some(1) && linked.err.contains("has another name"), "{linked:?}");
    fs::remove_file(link).unwrap();
    let serve = |generation: &str| {
        Serv::start(root.path(), &["--secret", secret.to_str().unwrap(), "--min-generation", generation, "-v"])
    };
    let cli = |serv: &Serv, key: &str, words: &[&str]| {
        run(host_cli(here.path()).args(["127.0.0.1", &serv.port().to_string(), "--key", key]).args(words))
    };
    let serv = serve("1");
    _ = cli(&serv, "laptop.key", &["put", "notes"]).ok();
    assert_eq!(cli(&serv, "ann.key", &["cat", "notes"]).ok(), "notes");
    let ran = serv.stop();
    assert!(ran.err.contains("write peer=laptop@127.0.0.1:"), "{}", ran.err);
    assert!(ran.err.contains("key=ro.ann.1"), "{}", ran.err);
    let serv = serve("2");
    assert!(cli(&serv, "laptop.key", &["ls"]).failed(1).contains("rejected the key rw.laptop.1"));
    assert!(cli(&serv, "ann.key", &["ls"]).failed(1).contains("rejected the key ro.ann.1"));
    assert_eq!(cli(&serv, "laptop-2.key", &["ls"]).ok(), "notes\n");
}

#[test]
fn the_key_of_an_alias_is_used_and_wins_over_the_environment() {
    let scene = Scene::new();
    let address = format!("127.0.0.1:{}", scene.host.port());
    let alone = |words: &[&str]| run(host_cli(scene.here.path()).env("SKIFF_KEY", "stranger").args(words));
    _ = alone(&["config", "add", "lab", &address, "--key", "ro.ann.1"]).ok();
    assert!(alone(&["lab", "info"]).ok().contains("ro.ann.1"));
    assert_eq!(alone(&[&address, "info"]).code, Some(1));
    assert!(alone(&["--key", "rw.other.1", "lab", "info"]).ok().contains("rw.other.1"));
}
