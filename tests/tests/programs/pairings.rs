//! Ours and theirs: host-serv and host-cli with each other and with stand-ins of the original Python programs, whose
//! only commands are `get`, `put`, `ls` and `quit`.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::path::Path;

use skiff_tests::programs::{Ran, Serv, classic_cli, classic_serv, host_cli, python, run, run_with};
use skiff_tests::sans_io::message;
use skiff_tests::wire::{End, eventually, read_to_end};
use tempfile::TempDir;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    Theirs,
}

use Whose::{Ours, Theirs};

const PAIRINGS: [(Whose, Whose); 4] = [(Ours, Ours), (Ours, Theirs), (Theirs, Ours), (Theirs, Theirs)];

/// A server and a client, each with its own directory.
struct Pair {
    server: Whose,
    client: Whose,
    serv: Serv,
    there: TempDir,
    here: TempDir,
    python: &'static str,
}

impl Pair {
    fn new(test: &str, (server, client): (Whose, Whose)) -> Option<Self> {
        // Ours with ours needs no Python.
        let python =
            if (server, client) == (Ours, Ours) { "" } else { python(&format!("{test} {server:?}-{client:?}"))? };
        let (there, here) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let serv = match server {
            Ours => Serv::start(there.path(), &[]),
            Theirs => classic_serv(python, there.path()),
        };
        Some(Self { server, client, serv, there, here, python })
    }

    /// Executes commands, one per line, in one session.
    fn session(&self, commands: &str) -> Ran {
        match self.client {
            Ours => {
                let port = self.serv.port().to_string();
                run_with(host_cli(self.here.path()).args(["127.0.0.1", &port]), commands)
            }
            Theirs => classic_cli(self.python, self.here.path(), self.serv.port(), commands),
        }
    }

    /// The output of the session, after it succeeded.
    #[track_caller]
    fn done(&self, commands: &str) -> String {
        let ran = self.session(commands);
        assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{self} {}", ran.out());
        ran.out().to_owned()
    }

    #[track_caller]
    fn is_here(&self, name: &str, content: &[u8]) {
        let got = fs::read(self.here.path().join(name));
        assert!(got.as_deref().is_ok_and(|got| got == content), "{self} {name} {:?}", names(self.here.path()));
    }

    /// Waits until the file is on the server: a classic server may finish after its client.
    #[track_caller]
    fn comes_there(&self, name: &str, content: &[u8]) {
        let path = self.there.path().join(name);
        let come = eventually(|| fs::read(&path).is_ok_and(|got| got == content));
        assert!(come, "{self} {name} {:?}", names(self.there.path()));
    }
}

impl core::fmt::Display for Pair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?} server, {:?} client:", self.server, self.client)
    }
}

/// The names in a directory, staging left out, sorted.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| !name.starts_with(".skiff-")).collect();
    names.sort();
    names
}

/// Text that the original programs can carry: in any length, and with characters of one to four bytes.
fn texts() -> [(&'static str, Vec<u8>); 4] {
    let line = "olá, coração, 日本, 😀 and plain text to the end of the line\n";
    [
        ("ascii.txt", b"plain text\r\nin two lines\n".to_vec()),
        ("empty.txt", Vec::new()),
        ("accents.txt", "olá, coração, 日本, 😀\n".into()),
        ("long.txt", line.repeat(5_000_000 / line.len() + 1).into_bytes()),
    ]
}

fn all_pairings(test: &str, check: impl Fn(&Pair)) {
    for pairing in PAIRINGS {
        if let Some(pair) = Pair::new(test, pairing) {
            check(&pair);
        }
    }
}

#[test]
fn text_goes_both_ways_in_every_pairing() {
    all_pairings("text_goes_both_ways_in_every_pairing", |pair| {
        let texts = texts();
        let mut script = String::new();
        for (name, content) in &texts {
            fs::write(pair.there.path().join(format!("down-{name}")), content).unwrap();
            fs::write(pair.here.path().join(format!("up-{name}")), content).unwrap();
            script += &format!("get down-{name}\nput up-{name}\n");
        }
        pair.done(&(script + "quit\n"));
        for (name, content) in &texts {
            pair.is_here(&format!("down-{name}"), content);
            pair.comes_there(&format!("up-{name}"), content);
        }
        assert_eq!(names(pair.here.path()).len(), 2 * texts.len(), "{pair}");
        assert_eq!(names(pair.there.path()).len(), 2 * texts.len(), "{pair}");
    });
}

#[test]
fn what_went_up_comes_back_in_every_pairing() {
    all_pairings("what_went_up_comes_back_in_every_pairing", |pair| {
        let content = "olá\n".repeat(1000);
        fs::write(pair.here.path().join("x.txt"), &content).unwrap();
        pair.done("put x.txt\n");
        pair.comes_there("x.txt", content.as_bytes());
        fs::remove_file(pair.here.path().join("x.txt")).unwrap();
        pair.done("get x.txt\n");
        pair.is_here("x.txt", content.as_bytes());
    });
}

#[test]
fn ls_shows_the_files_in_every_pairing() {
    all_pairings("ls_shows_the_files_in_every_pairing", |pair| {
        // Theirs prints a prompt before each command.
        let shown = |out: &str| {
            let mut names: Vec<String> =
                out.replace("> ", "").lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            names.sort();
            names
        };
        assert_eq!(shown(&pair.done("ls\n")), Vec::<String>::new(), "{pair}");
        for name in ["b.txt", "a.txt", "c"] {
            fs::write(pair.there.path().join(name), name).unwrap();
        }
        assert_eq!(shown(&pair.done("ls\nquit\n")), ["a.txt", "b.txt", "c"], "{pair}");
        assert_eq!(shown(&pair.done("ls\nls\n")).len(), 6, "{pair}");
    });
}

#[test]
fn a_path_is_stored_and_saved_under_its_last_part_in_every_pairing() {
    all_pairings("a_path_is_stored_and_saved_under_its_last_part_in_every_pairing", |pair| {
        fs::create_dir(pair.here.path().join("docs")).unwrap();
        fs::create_dir(pair.there.path().join("d")).unwrap();
        fs::write(pair.here.path().join("docs/teste.txt"), "up").unwrap();
        fs::write(pair.there.path().join("d/down.txt"), "down").unwrap();
        pair.done("put docs/teste.txt\nget d/down.txt\n");
        pair.comes_there("teste.txt", b"up");
        pair.is_here("down.txt", b"down");
        // As the original client sends it: with the path that was typed.
        fs::create_dir(pair.here.path().join("sub")).unwrap();
        fs::write(pair.here.path().join("other.txt"), "other").unwrap();
        pair.done("put sub/../other.txt\n");
        pair.comes_there("other.txt", b"other");
        assert_eq!(names(pair.there.path()), ["d", "other.txt", "teste.txt"], "{pair}");
    });
}

#[test]
fn existing_names_are_numbered_on_both_sides() {
    all_pairings("existing_names_are_numbered_on_both_sides", |pair| {
        for name in ["down.txt", "down.tar.gz", "down"] {
            fs::write(pair.there.path().join(name), format!("there: {name}")).unwrap();
            fs::write(pair.here.path().join(name), format!("here: {name}")).unwrap();
        }
        pair.done("get down.txt\nget down.tar.gz\nget down\nget down.txt\n");
        for (name, content) in [
            ("down.txt", "here: down.txt"),
            ("down(1).txt", "there: down.txt"),
            ("down(2).txt", "there: down.txt"),
            ("down.tar.gz", "here: down.tar.gz"),
            ("down.tar(1).gz", "there: down.tar.gz"),
            ("down", "here: down"),
            ("down(1)", "there: down"),
        ] {
            pair.is_here(name, content.as_bytes());
        }

        fs::write(pair.here.path().join("up.txt"), "first").unwrap();
        pair.done("put up.txt\n");
        pair.comes_there("up.txt", b"first");
        fs::write(pair.here.path().join("up.txt"), "second").unwrap();
        pair.done("put up.txt\n");
        if (pair.server, pair.client) == (Ours, Ours) {
            // The extended `write` replaces.
            pair.comes_there("up.txt", b"second");
        } else {
            pair.comes_there("up(1).txt", b"second");
            pair.comes_there("up.txt", b"first");
        }
    });
}

#[test]
fn a_missing_file_is_told_and_nothing_is_made_of_it_in_every_pairing() {
    all_pairings("a_missing_file_is_told_and_nothing_is_made_of_it_in_every_pairing", |pair| {
        for (command, theirs, ours) in [
            ("get nothing.txt", "file not found: nothing.txt", "line 1: get nothing.txt: "),
            ("put nothing.txt", "file not found: nothing.txt", "line 1: put nothing.txt: No such file or directory"),
        ] {
            let ran = pair.session(&format!("{command}\n"));
            match pair.client {
                Theirs => assert!(ran.out().contains(theirs), "{pair} {ran:?}"),
                Ours => assert!(ran.failed(1).starts_with(ours), "{pair} {ran:?}"),
            }
        }
        assert!(names(pair.here.path()).is_empty() && names(pair.there.path()).is_empty(), "{pair}");
        // Nothing was harmed by it.
        fs::write(pair.there.path().join("there.txt"), "there").unwrap();
        pair.done("get there.txt\n");
        pair.is_here("there.txt", b"there");
    });
}

#[test]
fn our_client_says_that_a_classic_server_refused() {
    let Some(pair) = Pair::new("our_client_says_that_a_classic_server_refused", (Theirs, Ours)) else { return };
    let ran = pair.session("get nothing.txt\n");
    assert_eq!(ran.failed(1), "line 1: get nothing.txt: the server refused (a classic server gives no reason)");
}

/// Every byte value, which is not UTF-8.
fn binary() -> Vec<u8> {
    (0..=255_u8).rev().cycle().take(300_000).collect()
}

#[test]
fn binary_files_arrive_as_they_are_between_ours() {
    let pair = Pair::new("binary_files_arrive_as_they_are_between_ours", (Ours, Ours)).unwrap();
    let content = binary();
    fs::write(pair.here.path().join("up.bin"), &content).unwrap();
    fs::write(pair.there.path().join("down.bin"), &content).unwrap();
    pair.done("put up.bin\nget down.bin\n");
    pair.comes_there("up.bin", &content);
    pair.is_here("down.bin", &content);

    // The same by the classic commands, which the client above had no need of.
    let mut wire = pair.serv.connect();
    let port = wire.ask("put dir/classic.bin");
    let mut data = wire.data(&port);
    data.write_all(&message(&content)).unwrap();
    data.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed));
    pair.comes_there("classic.bin", &content);
    let port = wire.ask("get classic.bin");
    let (received, end) = read_to_end(&mut wire.data(&port));
    assert!(end == End::Closed && received == message(&content));
}

#[test]
fn binary_files_are_refused_for_a_classic_server_unless_they_are_wanted_there() {
    let test = "binary_files_are_refused_for_a_classic_server_unless_they_are_wanted_there";
    let Some(pair) = Pair::new(test, (Theirs, Ours)) else { return };
    fs::write(pair.here.path().join("x.bin"), binary()).unwrap();
    let ran = pair.session("put x.bin\n");
    assert_eq!(
        ran.failed(1),
        "line 1: put x.bin: not UTF-8 text; a classic server may corrupt it (-f sends it anyway)"
    );
    assert!(names(pair.there.path()).is_empty());
    // It is sent then, and this server drops it: which it can't tell, if it has taken it whole before it looked at it.
    fs::write(pair.here.path().join("x.bin"), [0xff; 100]).unwrap();
    let out = pair.done("put -f x.bin\n");
    assert!(out.contains("sent (this server does not confirm)"), "{out}");
    assert!(names(pair.there.path()).is_empty());
    // A file of theirs that they can't send is none that came.
    fs::write(pair.there.path().join("y.bin"), binary()).unwrap();
    let ran = pair.session("get y.bin\n");
    assert!(ran.failed(1).starts_with("line 1: get y.bin: "), "{ran:?}");
    assert_eq!(names(pair.here.path()), ["x.bin"]);
}

#[test]
fn a_classic_client_that_meets_a_binary_file_harms_nobody() {
    for server in [Ours, Theirs] {
        let test = "a_classic_client_that_meets_a_binary_file_harms_nobody";
        let Some(pair) = Pair::new(test, (server, Theirs)) else { return };
        fs::write(pair.here.path().join("x.bin"), binary()).unwrap();
        fs::write(pair.there.path().join("y.bin"), binary()).unwrap();
        let ran = pair.session("put x.bin\n");
        assert!(ran.code == Some(1) && ran.err.contains("UnicodeDecodeError"), "{pair} {ran:?}");
        let ran = pair.session("get y.bin\n");
        if server == Ours {
            assert!(ran.code == Some(1) && ran.err.contains("UnicodeDecodeError"), "{pair} {ran:?}");
        } else {
            assert!(ran.out().contains("nothing received: y.bin"), "{pair} {ran:?}");
        }
        assert_eq!(names(pair.here.path()), ["x.bin"], "{pair}");
        fs::write(pair.here.path().join("z.txt"), "olá").unwrap();
        pair.done("put z.txt\n");
        pair.comes_there("z.txt", "olá".as_bytes());
        assert_eq!(names(pair.there.path()), ["y.bin", "z.txt"], "{pair}");
    }
}

#[test]
fn several_commands_of_a_classic_client_share_one_connection_with_ours() {
    let test = "several_commands_of_a_classic_client_share_one_connection_with_ours";
    let Some(pair) = Pair::new(test, (Ours, Theirs)) else { return };
    let mut script = String::new();
    for i in 0..20 {
        fs::write(pair.here.path().join(format!("{i}.txt")), format!("número {i}")).unwrap();
        script += &format!("put {i}.txt\nls\nGET {i}.txt\n");
    }
    // `GET` is no command of theirs, and said so by their client, not by our server.
    let out = pair.done(&script);
    assert_eq!(out.matches("commands: get NAME").count(), 20, "{out}");
    for i in 0..20 {
        pair.comes_there(&format!("{i}.txt"), format!("número {i}").as_bytes());
    }
}

#[test]
fn our_client_says_of_a_classic_server_what_it_can_not_do() {
    let Some(pair) = Pair::new("our_client_says_of_a_classic_server_what_it_can_not_do", (Theirs, Ours)) else {
        return;
    };
    fs::write(pair.there.path().join("a.txt"), "there").unwrap();
    fs::create_dir(pair.here.path().join("d")).unwrap();
    fs::write(pair.here.path().join("d/b.txt"), "here").unwrap();
    let port = pair.serv.port().to_string();
    let cli = |words: &[&str]| run(host_cli(pair.here.path()).args(["127.0.0.1", &port]).args(words));
    for (words, what) in [
        (&["stat", "a.txt"][..], "stat"),
        (&["sum", "a.txt"], "sum"),
        (&["rm", "a.txt"], "rm"),
        (&["mv", "a.txt", "c.txt"], "mv"),
        (&["mkdir", "x"], "mkdir"),
        (&["mkdir", "-p", "x/y"], "mkdir"),
        (&["rmdir", "x"], "rmdir"),
        (&["df"], "df"),
        (&["ping"], "ping"),
        (&["cat", "a.txt"], "cat"),
        (&["ls", "-l"], "ls -l"),
        (&["ls", "-R"], "ls -R"),
        (&["ls", "d"], "ls of a directory"),
        (&["get", "-r", "d"], "get -r"),
        (&["put", "-r", "d"], "put -r"),
    ] {
        let ran = cli(words);
        let line = ran.failed(1);
        let told = format!("{what} needs a server with the extended commands; this one is classic");
        assert!(line.contains(&told), "{words:?}: {line}");
        let ran = cli(&[&["--json"], words].concat());
        let error: serde_json::Value = serde_json::from_str(&ran.err).unwrap();
        assert_eq!((ran.code, &error["code"]), (Some(1), &"needs-extended".into()), "{words:?}: {error}");
    }
    assert_eq!(names(pair.here.path()), ["d"]);
    assert_eq!(names(pair.there.path()), ["a.txt"]);

    assert_eq!(cli(&["ls"]).ok(), "a.txt\n");
    let info = cli(&["info"]).ok();
    assert!(info.contains("protocol: classic\n") && info.contains("commands: get put ls quit\n"), "{info}");
    let info: serde_json::Value = serde_json::from_str(&cli(&["info", "--json"]).ok()).unwrap();
    assert_eq!((&info["protocol"], &info["server"]), (&"classic".into(), &serde_json::Value::Null), "{info}");
    assert_eq!(cli(&["quit"]).ok(), "");

    let out = cli(&["put", "d/b.txt"]).ok();
    assert!(
        out.starts_with("put d/b.txt: 4 bytes, ") && out.contains(", sent (this server does not confirm)"),
        "{out}"
    );
    pair.comes_there("b.txt", b"here");
    let sent: serde_json::Value = serde_json::from_str(&cli(&["put", "--json", "d/b.txt"]).ok()).unwrap();
    assert_eq!((&sent["confirmed"], &sent["crc32c"]), (&false.into(), &serde_json::Value::Null), "{sent}");
    let out = cli(&["get", "a.txt"]).ok();
    assert!(out.contains(", not verified (this server sends no checksum)"), "{out}");
    let got: serde_json::Value = serde_json::from_str(&cli(&["get", "a.txt", "--json", "-f"]).ok()).unwrap();
    assert_eq!((&got["verified"], &got["size"]), (&false.into(), &5.into()), "{got}");
    // What needs no more than those commands works: globs, standard input and output.
    pair.comes_there("b(1).txt", b"here");
    assert_eq!(cli(&["get", "[ab].txt", "-o", "-"]).ok(), "therehere");
    let put = run_with(host_cli(pair.here.path()).args(["127.0.0.1", &port, "put", "-", "-o", "in.txt"]), "olá");
    assert!(put.ok().contains("sent (this server does not confirm)"));
    pair.comes_there("in.txt", "olá".as_bytes());
}

#[test]
fn names_that_a_classic_server_could_not_read_are_not_sent_to_it() {
    let Some(pair) = Pair::new("names_that_a_classic_server_could_not_read_are_not_sent_to_it", (Theirs, Ours)) else {
        return;
    };
    for name in ["a b.txt", "olá.txt"] {
        fs::write(pair.here.path().join(name), "x").unwrap();
        for verb in ["put", "get"] {
            let ran = pair.session(&format!("{verb} '{name}'\n"));
            let line = ran.failed(1);
            assert!(line.ends_with("a classic server accepts only ASCII names without white space"), "{line}");
        }
        pair.done(&format!("put '{name}' -o plain.txt\n"));
    }
    pair.comes_there("plain.txt", b"x");
    pair.comes_there("plain(1).txt", b"x");
}

#[test]
fn a_session_of_ours_with_a_classic_server_can_mix_commands() {
    let test = "a_session_of_ours_with_a_classic_server_can_mix_commands";
    let Some(pair) = Pair::new(test, (Theirs, Ours)) else { return };
    fs::write(pair.here.path().join("a.txt"), "olá").unwrap();
    fs::write(pair.there.path().join("b.txt"), "olé").unwrap();
    let out = pair.done("info\nget b.txt\nls\nput a.txt\nget b.txt -o c.txt\nlls\nquit\n");
    assert!(out.contains("protocol: classic"), "{out}");
    pair.is_here("b.txt", "olé".as_bytes());
    pair.is_here("c.txt", "olé".as_bytes());
    pair.comes_there("a.txt", "olá".as_bytes());
}
