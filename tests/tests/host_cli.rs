//! host-cli as a program: every command of docs/CLI.md, against our server and against hostile ones.

#![expect(clippy::unwrap_used, reason = "these are tests")]

#[path = "host_cli/addresses.rs"]
mod addresses;
#[path = "host_cli/color.rs"]
mod color;
#[path = "host_cli/commands.rs"]
mod commands;
#[path = "host_cli/cwd.rs"]
mod cwd;
#[path = "host_cli/everyday.rs"]
mod everyday;
#[path = "host_cli/hostile.rs"]
mod hostile;
#[path = "host_cli/interrupt.rs"]
mod interrupt;
#[path = "host_cli/json.rs"]
mod json;
#[path = "host_cli/key.rs"]
mod key;
#[path = "host_cli/letter_case.rs"]
mod letter_case;
#[path = "host_cli/many.rs"]
mod many;
#[path = "host_cli/older.rs"]
mod older;
#[path = "host_cli/prompt.rs"]
mod prompt;
#[path = "host_cli/relay.rs"]
mod relay;
#[path = "host_cli/resume.rs"]
mod resume;
#[path = "host_cli/scripts.rs"]
mod scripts;
#[path = "host_cli/secure.rs"]
mod secure;
#[path = "host_cli/shells.rs"]
mod shells;
#[path = "host_cli/sync.rs"]
mod sync;
#[path = "host_cli/transfers.rs"]
mod transfers;
#[path = "host_cli/trees.rs"]
mod trees;

use core::time::Duration;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use skiff_tests::host::{Host, Setup};
use skiff_tests::programs::{Ran, host_cli, run, run_with};
use tempfile::TempDir;

/// A server with its own directory, and another directory for the client.
struct Scene {
    host: Host,
    here: TempDir,
}

impl Scene {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Setup)) -> Self {
        Self { host: Host::with(change), here: tempfile::tempdir().unwrap() }
    }

    /// `host-cli` in this scene, up to PORT.
    fn command(&self) -> Command {
        self.command_to(self.host.port())
    }

    /// The same with another port.
    fn command_to(&self, port: u16) -> Command {
        let mut command = host_cli(self.here.path());
        command.args(["127.0.0.1", &port.to_string()]);
        command
    }

    /// One command.
    fn run(&self, words: &[&str]) -> Ran {
        run(self.command().args(words))
    }

    /// One command that succeeds.
    #[track_caller]
    fn done(&self, words: &[&str]) {
        _ = self.run(words).ok();
    }

    /// A script.
    fn script(&self, text: &str) -> Ran {
        run_with(&mut self.command(), text)
    }

    /// Creates local files, each with its name as its content.
    fn have(&self, names: &[&str]) {
        names.iter().for_each(|name| self.write(name, name.as_bytes()));
    }

    /// Creates files on the server likewise.
    fn serve(&self, names: &[&str]) {
        names.iter().for_each(|name| self.host.put(name, name.as_bytes()));
    }

    fn write(&self, name: &str, content: &[u8]) {
        let path = self.here.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// A local file.
    fn content(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.here.path().join(name)).ok()
    }

    /// A local file that was made with [`Scene::have`] or [`Scene::serve`] under the name `of`.
    #[track_caller]
    fn is_here(&self, name: &str, of: &str) {
        assert_eq!(self.content(name).as_deref(), Some(of.as_bytes()), "{name} {:?}", below(self.here.path()));
    }

    #[track_caller]
    fn is_there(&self, name: &str, of: &str) {
        assert_eq!(self.host.content(name).as_deref(), Some(of.as_bytes()), "{name} {:?}", below(self.host.root()));
    }

    /// Everything in the local directory.
    fn all_here(&self) -> Vec<String> {
        below(self.here.path())
    }

    /// Everything on the server, without staging directories.
    fn all_there(&self) -> Vec<String> {
        below(self.host.root())
    }
}

/// Files and directories in `dir`, the latter with a `/`, sorted, without staging directories.
fn below(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if name.starts_with(".skiff-stage") {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                found.push(format!("{name}/"));
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push(name);
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, "", &mut found);
    found.sort();
    found
}

/// 2023-11-14 22:13:20 UTC.
const THEN: u64 = 1_700_000_000;

fn set_time(path: &Path, seconds: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn time_of(path: &Path) -> u64 {
    let time = fs::metadata(path).unwrap().modified().unwrap();
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

/// Bytes that don't repeat soon, and differ for another `seed`.
fn content(len: usize, seed: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 4);
    let mut number = seed;
    while bytes.len() < len {
        bytes.extend_from_slice(&number.wrapping_mul(2_654_435_761).to_le_bytes());
        number += 1;
    }
    bytes.truncate(len);
    bytes
}

/// `line` without the duration, which differs each time.
fn timeless(line: &str) -> String {
    let pieces: Vec<_> = line.split(", ").filter(|piece| !piece.ends_with(" s")).collect();
    pieces.join(", ")
}
