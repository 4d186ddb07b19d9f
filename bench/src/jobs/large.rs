//! One large file, down and up.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::{Bench, Contender, Job, Measure, pair};
use crate::content::Content;
use crate::measure::{Sample, run};
use crate::peers::Server;
use crate::peers::skiff::Skiff;
use crate::results::{Role, Unit};
use crate::site::Medium;
use crate::tools::{Task, Tool};

/// Limits for programs that verify: they receive, compute the checksum and, except for the first, write and rename.
const VERIFIED: &str = "limit: sendfile, CRC-32C";
const STORED: &str = "limit: sendfile, CRC-32C, write, rename";
const STORED_ASIDE: &str = "limit: the same, writing in a thread";

/// Modes of the bench's own client: ignore the checksum.
const UNVERIFIED: &str = "skiff-unverified";

/// Download, discarded. Standard output goes to /dev/null; before the rounds it is read once and compared.
pub(super) fn get_discard(bench: &Bench) -> Result<Job<'_>> {
    let big = bench.site.big()?;
    let root = bench.site.served(Medium::Disk)?;
    let mut job = Job::new(format!("{} down, discarded", mib(big.size)), Unit::Seconds);
    let cat = Task::Cat { name: "big" };

    for (build, programs) in bench.builds() {
        let known = bench.start_skiff(programs, &root)?;
        let command = get_command(bench, &known, &Tool::skiff(programs), cat);
        check_output(big, &mut command()?)?;
        let server = Rc::clone(&known);
        job.add(Contender::new(format!("skiff, checksum known{build}"), Role::Skiff, move || {
            discard(big, &mut command()?, &server)
        }));
        let root = root.clone();
        job.add(Contender::new(format!("skiff, checksum new{build}"), Role::Skiff, move || {
            // A server that has never read the file has to compute it.
            forget_checksums(&root)?;
            let server = Server::start(&Skiff::new(programs), &root)?;
            let command = get_command(bench, &server, &Tool::skiff(programs), cat);
            discard(big, &mut command()?, &server)
        }));
        let kept = bench.site.directory(Medium::Disk, &format!("kept{build}"))?;
        // The checksum of an upload outlives this server.
        let first = Server::start(&Skiff::new(programs), &kept)?;
        let put = Task::Put { from: &big.path, name: "big" };
        run::timed(get_command(bench, &first, &Tool::skiff(programs), put)()?.stdout(Stdio::null()), None)?;
        drop(first);
        job.add(Contender::new(format!("skiff, known before a restart{build}"), Role::Skiff, move || {
            let server = Server::start(&Skiff::new(programs), &kept)?;
            let command = get_command(bench, &server, &Tool::skiff(programs), cat);
            discard(big, &mut command()?, &server)
        }));
        for (name, scheme) in [("skiff server, verified", "skiff"), ("skiff server, not verified", UNVERIFIED)] {
            let server = Rc::clone(&known);
            job.add(Contender::new(format!("{name}{build}"), Role::SkiffServer, move || {
                discard(big, &mut minimal(&server, scheme, "big")?, &server)
            }));
        }
    }
    let pairs: [(&str, &[Tool]); 4] = [
        ("vsftpd", &[Tool::Curl, Tool::Lftp]),
        ("nginx", &[Tool::Curl, Tool::Wget, Tool::Minimal]),
        ("pure-ftpd", &[Tool::Curl]),
        ("pyftpdlib", &[Tool::Curl]),
    ];
    for (server, tool) in bench.pairs(&mut job, &root, &pairs) {
        let role = if tool == Tool::Minimal { Role::PeerServer } else { Role::Peer };
        let command = get_command(bench, &server, &tool, cat);
        if tool != Tool::Minimal {
            check_output(big, &mut command()?)?;
        }
        job.add(Contender::new(pair(&server, &tool), role, move || discard(big, &mut command()?, &server)));
    }
    for (name, role, options) in
        [("limit: sendfile", Role::Limit, &[][..]), (VERIFIED, Role::SkiffLimit, &["--verify"])]
    {
        job.add(Contender::new(name, role, move || {
            bench.site.big()?.warm()?;
            run::timed(&mut limit(&bench.site.big()?.path, None, options)?, None)
        }));
    }
    job.goal("skiff, checksum known", Measure::Best(Role::Peer), 0.85);
    job.goal("skiff, checksum new", Measure::Best(Role::Peer), 0.85);
    job.goal("skiff server, not verified", Measure::To("nginx + minimal".into()), 1.05);
    beside(&mut job, &["skiff, checksum known", "skiff, checksum new"], &[VERIFIED]);
    Ok(job)
}

/// Down, to a tmpfs.
pub(super) fn get_tmpfs(bench: &Bench) -> Result<Job<'_>> {
    let big = bench.site.big()?;
    let root = bench.site.served(Medium::Disk)?;
    let to = bench.site.path(Medium::Memory).join("got");
    let mut job = Job::new(format!("{} down, to tmpfs", mib(big.size)), Unit::Seconds);
    for (build, programs) in bench.builds() {
        let known = bench.start_skiff(programs, &root)?;
        check_output(big, &mut get_command(bench, &known, &Tool::skiff(programs), Task::Cat { name: "big" })()?)?;
        let (server, target) = (Rc::clone(&known), to.clone());
        job.add(Contender::new(format!("skiff, checksum known{build}"), Role::Skiff, move || {
            get_file(bench, big, &server, &Tool::skiff(programs), &target)
        }));
        let (root, target) = (root.clone(), to.clone());
        job.add(Contender::new(format!("skiff, checksum new{build}"), Role::Skiff, move || {
            forget_checksums(&root)?;
            let server = Server::start(&Skiff::new(programs), &root)?;
            get_file(bench, big, &server, &Tool::skiff(programs), &target)
        }));
        let target = to.clone();
        job.add(Contender::new(format!("skiff server, verified{build}"), Role::SkiffServer, move || {
            get_file(bench, big, &known, &Tool::Minimal, &target)
        }));
    }
    let pairs: [(&str, &[Tool]); 5] = [
        ("vsftpd", &[Tool::Curl, Tool::Lftp]),
        ("nginx", &[Tool::Curl, Tool::Minimal]),
        ("pure-ftpd", &[Tool::Curl]),
        ("rsync", &[Tool::Rsync]),
        ("sshd", &[Tool::Sftp]),
    ];
    for (server, tool) in bench.pairs(&mut job, &root, &pairs) {
        let role = if tool == Tool::Minimal { Role::PeerServer } else { Role::Peer };
        let target = to.clone();
        job.add(Contender::new(pair(&server, &tool), role, move || get_file(bench, big, &server, &tool, &target)));
    }
    add_limits(bench, &mut job, &to);
    job.goal("skiff, checksum known", Measure::Best(Role::Peer), 0.75);
    job.goal("skiff, checksum new", Measure::Best(Role::Peer), 0.85);
    beside(&mut job, &["skiff, checksum known", "skiff, checksum new"], &[STORED, STORED_ASIDE]);
    Ok(job)
}

/// Limits for moving the large file over loopback into the file `to`: the kernel alone, and a program that verifies the
/// file and renames it when it is complete.
fn add_limits<'b>(bench: &'b Bench, job: &mut Job<'b>, to: &Path) {
    for (name, role, options) in [
        ("limit: sendfile, splice", Role::Limit, &[][..]),
        (STORED, Role::SkiffLimit, &["--verify"]),
        (STORED_ASIDE, Role::SkiffLimit, &["--verify", "--aside"]),
    ] {
        let to = to.to_owned();
        job.add(Contender::new(name, role, move || {
            let big = bench.site.big()?;
            big.warm()?;
            let sample = run::timed(&mut limit(&big.path, Some(&to), options)?, None)?;
            big.check(&to)?;
            fs::remove_file(&to)?;
            Ok(sample)
        }));
    }
}

/// Removes the checksums that a server has saved for the next one.
fn forget_checksums(root: &Path) -> Result<()> {
    for entry in fs::read_dir(root)? {
        let saved = entry?.path().join("checksums");
        if saved.exists() {
            fs::remove_file(saved)?;
        }
    }
    Ok(())
}

/// Reports how far skiff is from each limit, and each limit from the best peer.
pub(super) fn beside(job: &mut Job<'_>, ours: &[&str], limits: &[&str]) {
    for limit in limits {
        for one in ours {
            job.compare(one, Measure::To((*limit).to_owned()));
        }
        job.compare(limit, Measure::Best(Role::Peer));
    }
}

/// Up, to a tmpfs.
pub(super) fn put_tmpfs(bench: &Bench) -> Result<Job<'_>> {
    let big = bench.site.big()?;
    let mut job = Job::new(format!("{} up, to tmpfs", mib(big.size)), Unit::Seconds);
    put_contenders(bench, &mut job, Medium::Memory, &["vsftpd", "pure-ftpd", "nginx", "rsync", "sshd"])?;
    let to = bench.site.path(Medium::Memory).join("limit");
    add_limits(bench, &mut job, &to);
    job.goal("skiff", Measure::Best(Role::Peer), 0.9);
    beside(&mut job, &["skiff"], &[STORED, STORED_ASIDE]);
    Ok(job)
}

/// Up, to a disk. host-serv makes the file durable before it reports success; for the others, at most the bench does.
pub(super) fn put_disk(bench: &Bench) -> Result<Job<'_>> {
    let big = bench.site.big()?;
    let mut job = Job::new(format!("{} up, to a disk", mib(big.size)), Unit::Seconds);
    put_contenders(bench, &mut job, Medium::Disk, &["vsftpd"])?;
    let root = bench.site.directory(Medium::Disk, "put-synced")?;
    if let Some(server) = bench.start(&mut job, "vsftpd", &root) {
        job.add(Contender::new("vsftpd + curl, then fsync", Role::Peer, move || {
            put_file(bench, big, &server, &Tool::Curl, &root, Sync::Afterwards)
        }));
    }
    Ok(job)
}

/// skiff and these peers, each with its own directory.
fn put_contenders<'a>(bench: &'a Bench, job: &mut Job<'a>, medium: Medium, peers: &[&str]) -> Result<()> {
    let big = bench.site.big()?;
    for (build, programs) in bench.builds() {
        let root = bench.site.directory(medium, &format!("put-skiff{build}"))?;
        let server = bench.start_skiff(programs, &root)?;
        job.add(Contender::new(format!("skiff{build}"), Role::Skiff, move || {
            put_file(bench, big, &server, &Tool::skiff(programs), &root, Sync::No)
        }));
    }
    for name in peers {
        let tools: &[Tool] = match *name {
            "rsync" => &[Tool::Rsync],
            "sshd" => &[Tool::Sftp],
            "vsftpd" if medium == Medium::Memory => &[Tool::Curl, Tool::Lftp],
            _ => &[Tool::Curl],
        };
        let root = bench.site.directory(medium, &format!("put-{name}"))?;
        for (server, tool) in bench.pairs(job, &root, &[(name, tools)]) {
            let root = root.clone();
            job.add(Contender::new(pair(&server, &tool), Role::Peer, move || {
                put_file(bench, big, &server, &tool, &root, Sync::No)
            }));
        }
    }
    Ok(())
}

/// Fetches a file into the local file `to`.
pub(super) fn get_file(bench: &Bench, file: &Content, server: &Server, tool: &Tool, to: &Path) -> Result<Sample> {
    file.warm()?;
    let mut command = get_command(bench, server, tool, Task::Get { name: file.name(), to })()?;
    let sample = run::timed(command.stdout(Stdio::null()), Some(server))?;
    file.check(to)?;
    fs::remove_file(to)?;
    Ok(sample)
}

/// Whether the bench makes a file durable that a server does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    No,
    Afterwards,
}

/// Sends a file to a server of `root`.
pub(super) fn put_file(
    bench: &Bench,
    file: &Content,
    server: &Server,
    tool: &Tool,
    root: &Path,
    sync: Sync,
) -> Result<Sample> {
    file.warm()?;
    let to = root.join("up");
    let mut command = get_command(bench, server, tool, Task::Put { from: &file.path, name: "up" })()?;
    let mut sample = run::timed(command.stdout(Stdio::null()), Some(server))?;
    if sync == Sync::Afterwards {
        let begin = Instant::now();
        File::open(&to)?.sync_all()?;
        sample.value += begin.elapsed().as_secs_f64();
    }
    file.check(&to)?;
    fs::remove_file(&to)?;
    // What this one has left to be written must not be the next one's burden.
    rustix::fs::syncfs(File::open(root)?)?;
    Ok(sample)
}

/// Creates the command for a task, for each turn.
pub(super) fn get_command<'a>(
    bench: &'a Bench,
    server: &Server,
    tool: &Tool,
    task: Task<'a>,
) -> impl Fn() -> Result<Command> + use<'a> {
    let (endpoint, tool) = (server.endpoint.clone(), tool.clone());
    move || {
        let command = tool.command(&endpoint, task, bench.site.path(Medium::Memory))?;
        command.ok_or_else(|| anyhow::anyhow!("{} is not installed", tool.name()))
    }
}

/// Runs a command that writes a file to standard output, and discards the output.
pub(super) fn discard(file: &Content, command: &mut Command, server: &Server) -> Result<Sample> {
    file.warm()?;
    run::timed(command.stdout(Stdio::null()), Some(server))
}

/// Compares the output of a command with a file.
pub(super) fn check_output(file: &Content, command: &mut Command) -> Result<()> {
    let (size, crc) = run::summed(command)?;
    ensure!((size, crc) == (file.size, file.crc), "{command:?}: {size} bytes, checksum {crc:08x}");
    Ok(())
}

/// The bench's own client, with a scheme that no endpoint has.
fn minimal(server: &Server, scheme: &str, name: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["client", "get", "--scheme", scheme, "--port", &server.endpoint.port.to_string(), name]);
    Ok(command)
}

fn limit(from: &Path, to: Option<&Path>, options: &[&str]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["client", "limit-get"]).args(options).arg(from);
    if let Some(to) = to {
        command.arg("--to").arg(to);
    }
    Ok(command)
}

pub(super) fn mib(size: u64) -> String {
    format!("{} MiB", size >> 20)
}
