//! Faults that host-serv and its clients are exposed to, with the guarantees that are checked meanwhile.
//!
//! | module | faults |
//! |---|---|
//! | [`kill`] | SIGKILL at any moment of uploads, and a restart |
//! | [`links`] | another process swaps files and directories for symbolic links that lead outside |
//! | [`crowd`] | a thousand idle connections and two hundred busy ones |
//! | [`slow`] | hundreds of clients that send or read a byte now and then |
//! | [`soak`] | transfers over a link that drops, delays and duplicates frames, or corrupts them so that TCP can't tell |
//! | [`order`] | the power fails: the order of what is written, synced, named and answered |
//! | [`content`] | files whose content shows whether they are complete |
//!
//! Each is a struct of counts with a `run`, which panics at the first broken guarantee and otherwise returns what it
//! did. The tests run short ones; the program `ordeal` runs long ones.

pub mod content;
pub mod crowd;
pub mod kill;
pub mod links;
pub mod order;
pub mod slow;
pub mod soak;

use core::time::Duration;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use tempfile::TempDir;

use crate::sans_io::message;

/// Sends one message; an error if the peer is gone.
fn say(mut stream: &TcpStream, payload: impl AsRef<[u8]>) -> io::Result<()> {
    stream.write_all(&message(payload))
}

/// Receives one message; an error if the peer is gone.
fn hear(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 10];
    stream.read_exact(&mut length)?;
    let length = core::str::from_utf8(&length).ok().and_then(|digits| digits.parse().ok());
    let mut payload = vec![0; length.ok_or(io::ErrorKind::InvalidData)?];
    stream.read_exact(&mut payload)?;
    Ok(payload)
}

/// Receives one message that is text.
fn hear_text(stream: &TcpStream) -> io::Result<String> {
    String::from_utf8(hear(stream)?).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A directory in memory if possible, so that the disk is not part of the measurement.
///
/// # Panics
/// If there is none on the disk either.
#[must_use]
pub fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory")
}

/// Descriptors that process `pid` has open.
fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Memory that process `pid` has in use, in KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

/// Waits until `condition` holds; false if it does not within `limit`.
fn within(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while !condition() {
        if start.elapsed() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

/// The names of the files below `root`, without the server's own.
fn files(root: &Path) -> Vec<String> {
    fn walk(dir: &Path, prefix: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let entry = entry.expect("an entry");
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if name.starts_with(".skiff-") {
                continue;
            }
            if entry.file_type().expect("its kind").is_dir() {
                walk(&entry.path(), &format!("{name}/"), found);
            } else {
                found.push(name);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, "", &mut found);
    found.sort();
    found
}
