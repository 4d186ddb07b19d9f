//! The commands that host-cli sends, to current and to older servers: a relay in front of host-serv records each
//! command, and can hide commands that older servers lack.

use core::net::Ipv4Addr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use skiff_tests::programs::{Ran, run};
use skiff_tests::sans_io::message;

use crate::Scene;

/// The version of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// The current server.
    Now,
    /// One without `tree` and `copy`, which does not rename directories.
    Older,
}

/// A relay; it ends with the process of the test.
struct Between {
    port: u16,
    commands: Arc<Mutex<Vec<String>>>,
}

impl Between {
    fn new(scene: &Scene, age: Age) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let commands = Arc::new(Mutex::new(Vec::new()));
        let (upstream, root, said) = (scene.host.port(), scene.host.root().to_owned(), Arc::clone(&commands));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).unwrap();
                let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                thread::spawn(move || {
                    _ = io::copy(&mut from, &mut to);
                    _ = to.shutdown(Shutdown::Write);
                });
                let (root, said) = (root.clone(), Arc::clone(&said));
                thread::spawn(move || {
                    _ = forward(client, &server, age, &root, &said);
                    _ = server.shutdown(Shutdown::Write);
                });
            }
        });
        Self { port, commands }
    }

    fn run(&self, scene: &Scene, words: &[&str]) -> Ran {
        run(scene.command_to(self.port).args(words))
    }

    /// The commands since the last call, without the last one, which may arrive late.
    fn take(&self) -> Vec<String> {
        let mut commands = core::mem::take(&mut *self.commands.lock().unwrap());
        commands.retain(|command| command != "quit");
        commands
    }
}

/// Passes messages on until the client ends.
fn forward(
    mut client: TcpStream,
    mut server: &TcpStream,
    age: Age,
    root: &Path,
    said: &Mutex<Vec<String>>,
) -> io::Result<()> {
    loop {
        let command = hear(&mut client)?;
        let text = String::from_utf8_lossy(&command).into_owned();
        said.lock().unwrap().push(text.clone());
        let hidden = match text.split_once(' ') {
            _ if age == Age::Now => None,
            Some(("tree" | "copy", _)) => Some("unknown".to_owned()),
            None if text == "tree" => Some("unknown".to_owned()),
            // Answered `is-directory`.
            Some(("rename", names)) => {
                let from = names.split('\n').next().unwrap();
                root.join(from).is_dir().then(|| format!("stat {from}"))
            }
            _ => None,
        };
        server.write_all(&hidden.map_or_else(|| message(&command), message))?;
        if text.starts_with("write ") {
            while {
                let data = hear(&mut client)?;
                server.write_all(&message(&data))?;
                !data.is_empty()
            } {}
            server.write_all(&message(hear(&mut client)?))?;
        }
    }
}

fn hear(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 10];
    stream.read_exact(&mut length)?;
    let mut payload = vec![0; String::from_utf8_lossy(&length).parse().map_err(io::Error::other)?];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

#[test]
fn a_sync_of_an_unchanged_tree_is_one_command_and_sends_nothing() {
    let scene = Scene::new();
    let names: Vec<_> = (0..3000).map(|number| format!("site/d{}/e{}/{number}", number % 7, number % 40)).collect();
    scene.have(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let between = Between::new(&scene, Age::Now);
    assert!(between.run(&scene, &["sync", "site", "www"]).ok().contains("3000 sent, "));
    between.take();
    let out = between.run(&scene, &["sync", "--delete", "site", "www"]).ok();
    assert!(out.starts_with("0 sent, 0 deleted, 3000 unchanged, 0 B in ") && out.lines().count() == 1, "{out}");
    assert_eq!(between.take(), ["get /skiff/1", "tree www"]);
    // The other way round likewise.
    let out = between.run(&scene, &["sync", "--pull", "site", "www"]).ok();
    assert!(out.starts_with("0 fetched, 0 deleted, 3000 unchanged, 0 B in "), "{out}");
    assert_eq!(between.take(), ["get /skiff/1", "tree www"]);
    for words in [&["tree", "www"][..], &["du", "www"]] {
        _ = between.run(&scene, words).ok();
        assert_eq!(between.take(), ["get /skiff/1", "tree www"]);
    }
}

#[test]
fn a_directory_is_renamed_and_a_file_copied_by_one_command() {
    let scene = Scene::new();
    scene.serve(&["t/a", "t/d/b", "t/d/.hid"]);
    let between = Between::new(&scene, Age::Now);
    assert_eq!(between.run(&scene, &["mv", "t", "new/u"]).ok(), "mv t: renamed to new/u\n");
    assert_eq!(between.take(), ["get /skiff/1", "rename t\nnew/u"]);
    assert_eq!(scene.all_there(), ["new/", "new/u/", "new/u/a", "new/u/d/", "new/u/d/.hid", "new/u/d/b"]);
    assert_eq!(between.run(&scene, &["cp", "new/u/a", "x/copy"]).ok(), "cp new/u/a: copied to x/copy\n");
    assert_eq!(between.take(), ["get /skiff/1", "copy new/u/a\nx/copy"]);
    scene.is_there("x/copy", "t/a");
}

#[test]
fn an_older_server_is_asked_for_each_directory_and_file() {
    let scene = Scene::new();
    scene.have(&["site/a", "site/d/b", "site/d/e/c"]);
    let older = Between::new(&scene, Age::Older);
    assert!(older.run(&scene, &["sync", "site", "www"]).ok().contains("3 sent, 0 deleted, 0 unchanged, "));
    older.take();
    assert!(
        older.run(&scene, &["sync", "--delete", "site", "www"]).ok().starts_with("0 sent, 0 deleted, 3 unchanged, ")
    );
    assert_eq!(older.take(), ["get /skiff/1", "tree www", "list www", "list www/d", "list www/d/e"]);
    assert_eq!(older.run(&scene, &["cp", "www/a", "copy"]).ok(), "cp www/a: copied to copy\n");
    scene.is_there("copy", "site/a");
    assert_eq!(older.run(&scene, &["mv", "www", "new/u"]).ok(), "mv www: renamed to new/u\n");
    let moved = ["copy", "new/", "new/u/", "new/u/a", "new/u/d/", "new/u/d/b", "new/u/d/e/", "new/u/d/e/c"];
    assert_eq!(scene.all_there(), moved);
    assert!(older.run(&scene, &["mv", "new/u", "copy"]).failed(1).ends_with("copy exists on the server and is a file"));
    // Entries that the server does not list stay, and are reported.
    fs::write(scene.host.root().join("new/u/d/.hid"), "x").unwrap();
    let left = "something that the server does not list is left in this directory";
    assert_eq!(older.run(&scene, &["mv", "new/u", "v"]).failed(1), format!("mv new/u/d: 3 files moved to v; {left}"));
}

#[test]
fn an_incomplete_tree_is_listed_directory_by_directory() {
    use std::os::unix::ffi::OsStrExt as _;
    let scene = Scene::new();
    scene.serve(&["t/d/a", "t/e/b"]);
    scene.have(&["t/d/a", "t/e/b"]);
    let between = Between::new(&scene, Age::Now);
    fs::write(scene.host.root().join("t/e").join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
    let ran = between.run(&scene, &["sync", "--delete", "t", "t"]);
    assert!(ran.err.contains("sync t/e/: skipped: the listing omits 1 entry whose name can't be listed"), "{ran:?}");
    assert_eq!(between.take()[..5], ["get /skiff/1", "tree t", "list t", "list t/d", "list t/e"]);
    // More directories than the server has memory for.
    for number in 0..2500 {
        fs::create_dir(scene.host.root().join(format!("t/d/{number}{}", "x".repeat(100)))).unwrap();
    }
    fs::remove_file(scene.host.root().join("t/e").join(std::ffi::OsStr::from_bytes(b"\xff"))).unwrap();
    let out = between.run(&scene, &["du", "t"]).ok();
    assert_eq!(out.lines().count(), 2503);
    assert_eq!(between.take().iter().filter(|command| command.starts_with("list ")).count(), 2503);
}
