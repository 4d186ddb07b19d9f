//! Commands against a server: the real one, a classic one and a hostile one.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use skiff_proto::crc::crc32c;
use tempfile::TempDir;

use super::output::Outcome;
use super::output::testing::output;
use super::run;
use crate::server::{Options, Server};
use crate::store::{self, DirStore};

// Without a server.

fn outcome(words: &[&str]) -> (Outcome, String, String) {
    let (to, out, err) = output(false);
    let words = [&["host-cli"], words].concat();
    let outcome = run(words.into_iter().map(OsString::from).collect(), to);
    (outcome, out.take(), err.take())
}

#[test]
fn help_goes_to_standard_output_and_needs_no_server() {
    for words in [
        &["--help"][..],
        &["help"],
        &["help", "get"],
        &["localhost", "1", "help"],
        &["localhost", "1", "get", "--help"],
        &["localhost", "1", "help", "get"],
        &["--version"],
    ] {
        let (ended, out, err) = outcome(words);
        assert_eq!((ended, err.as_str()), (Outcome::Done, ""), "{words:?}");
        assert!(!out.is_empty(), "{words:?}");
    }
    assert!(outcome(&["--help"]).1.contains("Exit codes: 0 done"));
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    for words in [&[][..], &["ls"], &["h", "x"], &["h", "1", "frob"], &["h", "1", "get"], &["h", "1", "get", "-x"]] {
        let (ended, out, err) = outcome(words);
        assert_eq!((ended, out.as_str()), (Outcome::Usage, ""), "{words:?}");
        assert!(err.starts_with("host-cli: ") && err.lines().count() == 1, "{err}");
    }
    let (_, _, err) = outcome(&["h", "1", "get", "--json"]);
    assert!(err.starts_with("{\"type\":\"error\",") && err.contains("\"code\":\"usage\""), "{err}");
}

#[test]
fn a_server_that_is_not_there_is_a_failure() {
    let (_socket, address) = crate::client::tests::refusing();
    let (ended, _, err) = outcome(&["127.0.0.1", &address.port().to_string(), "df", "--json", "--retries", "0"]);
    assert_eq!(ended, Outcome::Failed);
    assert!(err.contains("\"code\":\"connect\""), "{err}");
}

#[test]
fn local_commands_need_no_server() {
    let (ended, out, _) = outcome(&["nowhere.invalid", "1", "lpwd"]);
    assert_eq!((ended, out.lines().count()), (Outcome::Done, 1));
    assert_eq!(outcome(&["nowhere.invalid", "1", "quit"]).0, Outcome::Done);
}

// With one.

/// What a command did.
struct Ran {
    outcome: Outcome,
    out: String,
    err: String,
}

impl Ran {
    /// Its results, if it did what it should.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.outcome, self.err.as_str()), (Outcome::Done, ""), "{}", self.out);
        self.out
    }

    /// Its errors, if it failed.
    #[track_caller]
    fn failed(self) -> String {
        assert_eq!(self.outcome, Outcome::Failed, "{}{}", self.out, self.err);
        self.err
    }
}

/// Runs `host-cli` as on a terminal, or not.
fn host_cli(port: u16, terminal: bool, words: &[&str]) -> Ran {
    let (to, out, err) = output(terminal);
    let port = port.to_string();
    let words = [&["host-cli", "--retries", "0", "127.0.0.1", &port], words].concat();
    let outcome = run(words.into_iter().map(OsString::from).collect(), to);
    Ran { outcome, out: out.take(), err: err.take() }
}

/// A server of a directory, and another directory where its client is.
struct Scene {
    served: TempDir,
    here: TempDir,
    port: u16,
}

impl Scene {
    fn new() -> Self {
        let served = tempfile::tempdir().unwrap();
        let root = served.path().to_owned();
        let (tell, port) = std::sync::mpsc::channel();
        // It ends with the test's process.
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let store = DirStore::new(store::Options::new(root)).unwrap();
                let server = Server::bind(Options::new(0), store).unwrap();
                tell.send(server.port()).unwrap();
                server.run(core::future::pending()).await;
            });
        });
        Self { served, here: tempfile::tempdir().unwrap(), port: port.recv().unwrap() }
    }

    fn run(&self, words: &[&str]) -> Ran {
        host_cli(self.port, false, words)
    }

    /// A local path.
    fn at(&self, name: &str) -> String {
        self.here.path().join(name).to_str().unwrap().to_owned()
    }

    fn write(dir: &TempDir, name: &str, content: &str) {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn serve(&self, files: &[&str]) {
        files.iter().for_each(|name| Self::write(&self.served, name, name));
    }

    fn have(&self, files: &[&str]) {
        files.iter().for_each(|name| Self::write(&self.here, name, name));
    }
}

/// Everything below `dir`, directories with a `/`.
fn below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![dir.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            let is_dir = fs::symlink_metadata(&path).unwrap().is_dir();
            if name.starts_with(".skiff-") {
                continue;
            }
            found.push(if is_dir { format!("{name}/") } else { name });
            if is_dir {
                waiting.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_file_goes_up_and_comes_back() {
    let scene = Scene::new();
    scene.have(&["notes.txt"]);
    let out = scene.run(&["put", &scene.at("notes.txt")]).ok();
    assert!(out.starts_with("put ") && out.ends_with(", stored as notes.txt\n"), "{out}");
    assert_eq!(scene.run(&["ls"]).ok(), "notes.txt\n");
    let out = scene.run(&["get", "notes.txt", "-o", &scene.at("copy.txt")]).ok();
    let crc = format!("crc32c {:08x}", crc32c(b"notes.txt"));
    assert!(out.starts_with("get notes.txt: 9 bytes, ") && out.contains(&crc), "{out}");
    assert_eq!(fs::read(scene.at("copy.txt")).unwrap(), b"notes.txt");
    let modified = |path: String| fs::metadata(path).unwrap().modified().unwrap();
    let age = modified(scene.at("copy.txt")).duration_since(modified(scene.at("notes.txt"))).unwrap_or_default();
    assert!(age.as_secs() < 2, "the time has travelled both ways");
    assert_eq!(scene.run(&["sum", "notes.txt"]).ok(), format!("{:08x} 9 notes.txt\n", crc32c(b"notes.txt")));
}

#[test]
fn a_local_file_is_kept_unless_told_otherwise() {
    let scene = Scene::new();
    scene.serve(&["n.txt"]);
    let dir = scene.at("");
    Scene::write(&scene.here, "n.txt", "mine");
    let out = scene.run(&["get", "n.txt", "-o", &dir]).ok();
    assert!(out.contains("n(1).txt since") && out.contains("-f replaces it"), "{out}");
    assert_eq!(fs::read(scene.at("n.txt")).unwrap(), b"mine");
    assert_eq!(fs::read(scene.at("n(1).txt")).unwrap(), b"n.txt");
    scene.run(&["get", "-f", "n.txt", "-o", &dir]).ok();
    assert_eq!(fs::read(scene.at("n.txt")).unwrap(), b"n.txt");
    assert_eq!(below(scene.here.path()), ["n(1).txt", "n.txt"]);
}

#[test]
fn one_name_that_fails_does_not_stop_the_others() {
    let scene = Scene::new();
    scene.serve(&["a", "b", "d/x"]);
    let ran = scene.run(&["get", "a", "none", "d", "b", "*.zip", "-o", &scene.at("")]);
    assert_eq!(ran.out.lines().count(), 2);
    let err = ran.failed();
    assert!(err.contains("host-cli: get none: no such file on the server\n"), "{err}");
    assert!(err.contains("host-cli: get d: is a directory on the server (-r downloads it)\n"), "{err}");
    assert!(err.contains("host-cli: get *.zip: matches nothing on the server\n"), "{err}");
    assert_eq!(below(scene.here.path()), ["a", "b"]);
    let err = scene.run(&["rm", "a", "none", "b"]).failed();
    assert_eq!(err, "host-cli: rm none: no such file on the server\n");
    assert_eq!(below(scene.served.path()), ["d/", "d/x"]);
}

#[test]
fn trees_go_up_and_come_back() {
    let scene = Scene::new();
    scene.have(&["t/1", "t/sub/2", "t/sub/deep/3"]);
    fs::create_dir_all(scene.at("t/empty/too")).unwrap();
    scene.run(&["put", "-r", &scene.at("t")]).ok();
    assert_eq!(below(scene.served.path()), below(scene.here.path()));
    scene.run(&["get", "-r", "t", "-o", &scene.at("back")]).ok();
    assert_eq!(below(&scene.here.path().join("back")), below(&scene.here.path().join("t")));
    scene.run(&["get", "-r", ".", "-o", &scene.at("all/")]).ok();
    assert_eq!(below(&scene.here.path().join("all/t")), below(&scene.here.path().join("t")));
    assert_eq!(scene.run(&["ls", "-R", "t/sub"]).ok(), "t/sub/2\nt/sub/deep/\nt/sub/deep/3\n");
}

#[test]
#[cfg(unix)]
fn a_tree_is_not_fetched_through_a_local_link() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/sub/b"]);
    let outside = tempfile::tempdir().unwrap();
    fs::create_dir(scene.at("t")).unwrap();
    std::os::unix::fs::symlink(outside.path(), scene.at("t/sub")).unwrap();
    let err = scene.run(&["get", "-r", "t", "-o", &scene.at("")]).failed();
    assert!(err.contains("is a symbolic link here"), "{err}");
    assert_eq!(fs::read(scene.at("t/a")).unwrap(), b"t/a");
    assert!(below(outside.path()).is_empty());
}

#[test]
fn globs_choose_here_and_there() {
    let scene = Scene::new();
    scene.have(&["a.bin", "b.bin", "c.txt"]);
    scene.run(&["put", &scene.at("*.bin"), "-o", "data/"]).ok();
    assert_eq!(scene.run(&["ls", "data"]).ok(), "data/a.bin\ndata/b.bin\n");
    assert_eq!(scene.run(&["ls", "d*/[b-z].*"]).ok(), "data/b.bin\n");
    scene.run(&["rm", "data/*", "data/a.bin"]).ok();
    scene.run(&["rmdir", "d*"]).ok();
    assert_eq!(scene.run(&["ls"]).ok(), "");
}

#[test]
fn names_may_begin_with_a_dash_and_contain_spaces() {
    let scene = Scene::new();
    scene.have(&["-x", "a b"]);
    scene.run(&["put", "--", &scene.at("-x"), &scene.at("a b")]).ok();
    assert_eq!(scene.run(&["ls"]).ok(), "-x\na b\n");
    scene.run(&["rm", "--", "-x"]).ok();
    scene.run(&["mv", "a b", "c d"]).ok();
    assert_eq!(scene.run(&["ls"]).ok(), "c d\n");
}

#[test]
fn directories_are_made_moved_and_removed() {
    let scene = Scene::new();
    scene.serve(&["f"]);
    assert_eq!(scene.run(&["mkdir", "d"]).ok(), "mkdir d: created\n");
    assert!(scene.run(&["mkdir", "d"]).failed().contains("exists"));
    scene.run(&["mkdir", "-p", "d", "d/e/f"]).ok();
    assert!(scene.run(&["mkdir", "-p", "f"]).failed().contains("a file on the server has this name"));
    assert_eq!(scene.run(&["mv", "f", "d/"]).ok(), "mv f: renamed to d/f\n");
    assert_eq!(below(scene.served.path()), ["d/", "d/e/", "d/e/f/", "d/f"]);
    assert!(scene.run(&["rmdir", "d"]).failed().contains("not empty"));
    scene.run(&["rmdir", "d/e/f", "d/e"]).ok();
    assert_eq!(below(scene.served.path()), ["d/", "d/f"]);
}

#[test]
fn json_is_one_object_a_line() {
    let scene = Scene::new();
    scene.serve(&["a", "d/b"]);
    let dir = scene.at("");
    for (words, kinds) in [
        (&["ls"][..], &["entry", "entry"][..]),
        (&["ls", "-l", "-R"], &["entry", "entry", "entry"]),
        (&["stat", "a", "d"], &["entry", "entry"]),
        (&["sum", "a"], &["sum"]),
        (&["df"], &["space"]),
        (&["info"], &["info"]),
        (&["ping", "-n", "2"], &["ping", "ping"]),
        (&["get", "a", "d/b", "-o", &dir], &["get", "get"]),
        (&["put", &scene.at("a")], &["put"]),
        (&["mkdir", "e"], &["done"]),
    ] {
        let out = scene.run(&[words, &["--json"]].concat()).ok();
        let found: Vec<_> = out
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(found, kinds, "{words:?}");
    }
    let ran = scene.run(&["--json", "rm", "none"]);
    let error: serde_json::Value = serde_json::from_str(&ran.failed()).unwrap();
    assert_eq!((error["code"].as_str(), error["name"].as_str()), (Some("not-found"), Some("none")));
}

#[test]
fn quiet_leaves_out_what_was_not_asked_for() {
    let scene = Scene::new();
    scene.serve(&["a"]);
    assert_eq!(scene.run(&["-q", "get", "a", "-o", &scene.at("")]).ok(), "");
    assert_eq!(scene.run(&["-q", "mkdir", "d"]).ok(), "");
    assert_eq!(scene.run(&["ls", "-q"]).ok(), "a\nd/\n");
}

// Servers with scripted replies.

fn message(payload: &[u8]) -> Vec<u8> {
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

/// A body of one data message.
fn body(data: &[u8]) -> Vec<u8> {
    let trailer = format!("crc32c {:08x}", crc32c(data));
    [message(data), message(b""), message(trailer.as_bytes())].concat()
}

fn receive(stream: &mut TcpStream) -> Option<String> {
    let mut head = [0; 10];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; core::str::from_utf8(&head).ok()?.parse().ok()?];
    stream.read_exact(&mut payload).ok()?;
    String::from_utf8(payload).ok()
}

/// A server that answers each command as `answer` says; `None` sends nothing.
fn scripted(answer: impl Fn(&str) -> Option<Vec<u8>> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            while let Some(command) = receive(&mut stream) {
                if let Some(reply) = answer(&command)
                    && stream.write_all(&reply).is_err()
                {
                    break;
                }
            }
        }
    });
    port
}

/// An extended server whose names and texts are meant to do harm.
fn hostile() -> u16 {
    scripted(|command| {
        Some(match command {
            "get /skiff/1" => message("skiff/1 server=evil\u{1b}[2J\u{202e}/1 name-max=255".as_bytes()),
            "list" => {
                let lines = "1 - - good\n1 - - ../outside\n1 - - /etc/outside\n1 - - a\u{1b}[31mb\n1 - - rtl\u{202e}gpj\n\
                             1 - - d/elsewhere\n";
                [message(b"ok"), body(lines.as_bytes())].concat()
            }
            _ if command.starts_with("stat ") => message("error io it \u{1b}]0;broke\u{202e}\u{7}".as_bytes()),
            _ if command.starts_with("read ") => [message(b"ok 1 1 t1"), body(b"x")].concat(),
            _ => message(b"error unsupported no"),
        })
    })
}

fn is_safe(text: &str) -> bool {
    text.chars().all(|c| c == '\n' || !crate::client::is_dangerous(c))
}

#[test]
fn nothing_a_server_says_steers_the_terminal() {
    let port = hostile();
    for words in
        [&["ls"][..], &["ls", "-l"], &["info"], &["stat", "x"], &["df"], &["info", "--json"], &["ls", "--json"]]
    {
        let ran = host_cli(port, true, words);
        assert!(!ran.out.is_empty() || !ran.err.is_empty());
        assert!(is_safe(&ran.out) && is_safe(&ran.err), "{words:?}: {} {}", ran.out, ran.err);
    }
    // Elsewhere names are as the server has them, one a line.
    let ran = host_cli(port, false, &["ls"]);
    assert_eq!(ran.out, "good\nrtl\u{202e}gpj\n");
    assert!(is_safe(&ran.err));
    assert_eq!(ran.failed().lines().count(), 4, "each name that was left out is told");
}

#[test]
fn a_server_can_not_write_outside_the_directory() {
    let port = hostile();
    let dir = tempfile::tempdir().unwrap();
    let target: PathBuf = dir.path().join("in/target");
    let ran = host_cli(port, false, &["get", "-r", ".", "-o", &format!("{}/", target.display())]);
    assert!(!ran.failed().is_empty());
    assert_eq!(below(dir.path()), ["in/", "in/target/", "in/target/good", "in/target/rtl\u{202e}gpj"]);
}

#[test]
fn a_classic_server_is_found_out() {
    let port = scripted(|command| match command {
        "get /skiff/1" => Some(message(b"-1")),
        "ls" => Some(message(b"a.txt\nb.txt")),
        _ => None,
    });
    assert_eq!(host_cli(port, false, &["ls"]).ok(), "a.txt\nb.txt\n");
    let out = host_cli(port, false, &["info"]).ok();
    assert!(out.contains("protocol: classic"), "{out}");
    for words in [
        &["rm", "a", "b"][..],
        &["df"],
        &["stat", "a"],
        &["cat", "a"],
        &["mkdir", "a"],
        &["ls", "-l"],
        &["ls", "d"],
        &["sum", "a"],
        &["put", "-r", "."],
    ] {
        let ran = host_cli(port, false, words);
        assert_eq!(ran.out, "", "{words:?}");
        let err = ran.failed();
        assert!(
            err.contains("needs a server with the extended commands; this one is classic") && err.lines().count() == 1,
            "{err}"
        );
    }
}
