//! Measures one host-serv on object storage, for the section on capacity in docs/FLEET.md.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::Ipv4Addr;
use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream;
use skiff_objects_tests::program::{Program, free_port, host_serv};
use skiff_objects_tests::wire::{ask, message, reply, write};
use skiff_objects_tests::{S3, block_on, pattern};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// The number of connections, first idle and then uploading.
const SESSIONS: usize = 900;

/// The number of files stored one after another on each of 50 connections.
const FILES: usize = 40;

/// Bytes of a file.
const SIZE: usize = 10_000;

/// `cargo test --release ... --test capacity -- --ignored --nocapture`, as docs/FLEET.md says.
#[test]
#[ignore = "measures"]
fn memory_processor_time_and_requests_of_an_instance() {
    block_on(async {
        let server = S3::start();
        let (port, metrics) = (free_port(), free_port());
        let dir = tempfile::tempdir().unwrap();
        let mut command = host_serv(env!("CARGO_BIN_EXE_host-serv"), &server, (port, metrics));
        let mut program = Program::start(&mut command, &dir.path().join("log"));
        program.listens(metrics);
        let connect = async || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        // The first uploads fill the caches, connect to the storage and create the directories.
        uploads(&(0..50).collect::<Vec<_>>(), port, 4).await;
        let empty = resident(&program);
        println!("{empty} KiB without connections");
        let mut idle = Vec::new();
        for _ in 0..SESSIONS {
            let mut stream = connect().await;
            assert_eq!(ask(&mut stream, "ping").await.unwrap(), "ok");
            idle.push(stream);
        }
        let with = resident(&program);
        println!("{SESSIONS} idle connections: {:.1} KiB each", per(with, empty));
        // Each connection sends 100,000 of 200,000 bytes and then waits.
        for (number, stream) in idle.iter_mut().enumerate() {
            stream.write_all(&message(format!("write 0 200000 - up/f{number}").as_bytes())).await.unwrap();
            stream.write_all(&message(&pattern(1, 100_000))).await.unwrap();
        }
        let begun = Instant::now();
        while staged(metrics).await < SESSIONS as u64 * 100_000 {
            assert!(begun.elapsed().as_secs() < 60);
        }
        println!("{SESSIONS} uploads with 100 KB received: {:.1} KiB each", per(resident(&program), with));
        drop(idle);
        while staged(metrics).await > 0 {
            assert!(begun.elapsed().as_secs() < 300);
        }
        _ = server.take_requests();
        let (before, begun) = (processor(&program), Instant::now());
        let boards: Vec<_> = (0..50).collect();
        uploads(&boards, port, FILES).await;
        let (time, count) = (begun.elapsed(), boards.len() * FILES);
        let used = (processor(&program) - before) / count as f64;
        println!("{count} uploads of {SIZE} bytes in {time:.1?}: {:.0} us of processor time each", used * 1e6);
        show(&server.take_requests(), count);
        // The same names again, on one connection per file, as boards do that wake up for each upload.
        let before = processor(&program);
        let boards: Vec<_> = (0..count).collect();
        uploads(&boards, port, 1).await;
        let used = (processor(&program) - before) / count as f64;
        println!("{count} uploads with a connection each: {:.0} us of processor time each", used * 1e6);
        show(&server.take_requests(), count);
    });
}

/// Stores `files` files for each of `boards`, 50 boards at a time.
async fn uploads(boards: &[usize], port: u16, files: usize) {
    let content = pattern(2, SIZE);
    let board = async |number: &usize| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
        for file in 0..files {
            stream.write_all(&write(&format!("board-{}/f{file}", number % 50), 0, &content)).await.unwrap();
            let reply = reply(&mut stream).await.unwrap();
            assert!(reply.starts_with("ok "), "{reply}");
        }
    };
    stream::iter(boards).map(board).buffer_unordered(50).collect::<()>().await;
}

fn show(requests: &BTreeMap<&'static str, u64>, count: usize) {
    for (kind, number) in requests {
        println!("  {kind}: {:.3} requests for each", *number as f64 / count as f64);
    }
}

fn per(with: u64, without: u64) -> f64 {
    with.saturating_sub(without) as f64 / SESSIONS as f64
}

/// Resident memory in KiB.
fn resident(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Processor time in seconds: of the program, and of the system on its behalf.
fn processor(program: &Program) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", program.id())).unwrap();
    let words: Vec<_> = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().collect();
    let ticks: u64 = words[11..13].iter().map(|word| word.parse::<u64>().unwrap()).sum();
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// The value of `skiff_staged_bytes`.
async fn staged(metrics: u16) -> u64 {
    use tokio::io::AsyncReadExt as _;
    let mut http = TcpStream::connect((Ipv4Addr::LOCALHOST, metrics)).await.unwrap();
    http.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.unwrap();
    let mut text = String::new();
    http.read_to_string(&mut text).await.unwrap();
    text.lines().find_map(|line| line.strip_prefix("skiff_staged_bytes ")).unwrap().parse().unwrap()
}
