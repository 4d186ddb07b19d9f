//! The host server: byte by byte in this process, and host-serv as a program.
//!
//! | module | subject |
//! |---|---|
//! | `start` | the first line, the help, wrong usage, options |
//! | `addresses` | who can reach it, and the ports of classic data connections |
//! | `clients` | the effect of options on clients |
//! | `end` | signals and the grace period |
//! | `log` | what it logs |
//! | `disk` | its disk usage, even after a kill or on a full disk |
//! | `wire` | the server in this process, byte by byte over loopback |

#![expect(clippy::unwrap_used, reason = "these are tests")]

mod addresses;
mod clients;
mod disk;
mod end;
mod log;
mod start;
mod wire;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::fs;
use std::io::Write as _;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use skiff_proto::crc::crc32c;
use skiff_tests::namespace::{inside, ip};
use skiff_tests::programs::{Ran, Serv, Signal, free_port, host_cli, host_serv, program, run, skip};
use skiff_tests::sans_io::{body, message};
use skiff_tests::wire::{End, Wire, connect_from, eventually, read_to_end};
use tempfile::tempdir;

/// Bytes that don't repeat soon.
fn content(len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 4);
    let mut number = 0_u32;
    while bytes.len() < len {
        bytes.extend_from_slice(&number.wrapping_mul(2_654_435_761).to_le_bytes());
        number += 1;
    }
    bytes.truncate(len);
    bytes
}

/// Runs host-serv with these arguments, which must not make it serve.
fn refused(words: &[&str]) -> Ran {
    run(Command::new(program("host-serv")).args(words))
}

/// The one line that it prints on standard error.
#[track_caller]
fn one_line(ran: &Ran) -> &str {
    assert_eq!((ran.out(), ran.err.lines().count()), ("", 1), "{ran:?}");
    ran.err.trim_end()
}

/// Waits until no server listens there any more.
#[track_caller]
fn closes(addr: SocketAddr) {
    assert!(eventually(|| TcpStream::connect(addr).is_err()), "it still accepts");
}

/// The number of bytes in staging directories below `root`.
fn staged(root: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(root) else { return 0 };
    let stages = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(".skiff-"));
    let files = stages.filter_map(|stage| fs::read_dir(stage.path()).ok()).flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
}

/// All names in `root`, sorted.
fn names(root: &Path) -> Vec<String> {
    let entries = fs::read_dir(root).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
