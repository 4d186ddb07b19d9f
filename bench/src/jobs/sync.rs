//! A tree of small files, 20 to a directory: compared when nothing has changed, and sent to an empty target.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::{Bench, Contender, Job, Measure};
use crate::measure::{Sample, run};
use crate::peers::rsync::MODULE;
use crate::peers::{Programs, Server, find};
use crate::results::{Role, Unit};
use crate::site::Medium;

/// Files in one directory of the tree.
const TOGETHER: u32 = 20;

/// Bytes of a file.
const SIZE: u32 = 1024;

/// Nothing has changed. rsync compares size and time, and with `-c` the content, as host-cli always does.
pub(super) fn unchanged(bench: &Bench) -> Result<Job<'_>> {
    let from = tree(bench)?;
    let mut job = Job::new(format!("sync of {} unchanged files", bench.args.files), Unit::Seconds);
    for (build, programs) in bench.builds() {
        let root = bench.site.directory(Medium::Disk, &format!("synced-skiff{build}"))?;
        let server = bench.start_skiff(programs, &root)?;
        done(&mut skiff(programs, &server, &["sync"], &from, &["tree"]))?;
        let from = from.clone();
        job.add(Contender::new(format!("skiff{build}"), Role::Skiff, move || {
            let mut command = skiff(programs, &server, &["sync"], &from, &["tree"]);
            run::timed(command.stdout(Stdio::null()), Some(&*server))
        }));
    }
    let root = bench.site.directory(Medium::Disk, "synced-rsync")?;
    if let Some(server) = bench.start(&mut job, "rsync", &root) {
        done(&mut rsync(&server, "-a", &from)?)?;
        for (name, options) in [("rsync", "-a"), ("rsync -c", "-ac")] {
            let (server, from) = (server.clone(), from.clone());
            job.add(Contender::new(name, Role::Peer, move || {
                run::timed(&mut rsync(&server, options, &from)?, Some(&*server))
            }));
        }
    }
    job.goal("skiff", Measure::To("rsync".to_owned()), 1.0);
    job.goal("skiff", Measure::To("rsync -c".to_owned()), 1.0);
    Ok(job)
}

/// The target is empty. host-serv makes the files durable, rsync does not.
pub(super) fn cold(bench: &Bench) -> Result<Job<'_>> {
    let from = tree(bench)?;
    let mut job = Job::new(format!("{} x 1 KiB up, to a disk, as a tree", bench.args.files), Unit::Seconds);
    for (build, programs) in bench.builds() {
        let root = bench.site.directory(Medium::Disk, &format!("cold-skiff{build}"))?;
        let server = bench.start_skiff(programs, &root)?;
        for (name, before, after) in [("sync", &["sync"][..], "tree"), ("put -r", &["put", "-r"], "")] {
            let (server, root, from) = (server.clone(), root.clone(), from.clone());
            job.add(Contender::new(format!("skiff {name}{build}"), Role::Skiff, move || {
                let after = if after.is_empty() { &["-o", "/"][..] } else { &["tree"] };
                turn(bench, skiff(programs, &server, before, &from, after), &server, &root)
            }));
        }
    }
    let root = bench.site.directory(Medium::Disk, "cold-rsync")?;
    if let Some(server) = bench.start(&mut job, "rsync", &root) {
        job.add(Contender::new("rsync", Role::Peer, move || turn(bench, rsync(&server, "-a", &from)?, &server, &root)));
    }
    job.goal("skiff sync", Measure::To("skiff put -r".to_owned()), 1.05);
    Ok(job)
}

/// Runs a command that makes the tree in `root`, from a clean start, and moves it out of the way.
fn turn(bench: &Bench, mut command: Command, server: &Server, root: &Path) -> Result<Sample> {
    rustix::fs::syncfs(File::open(bench.site.path(Medium::Disk))?)?;
    let sample = run::timed(command.stdout(Stdio::null()), Some(server))?;
    let tree = root.join("tree");
    let mut files = 0;
    for dir in fs::read_dir(&tree)? {
        files += fs::read_dir(dir?.path())?.count();
    }
    ensure!(files == bench.args.files as usize, "{files} files have arrived");
    bench.site.put_away(Medium::Disk, &tree)?;
    Ok(sample)
}

/// The tree, made when it is first needed.
fn tree(bench: &Bench) -> Result<PathBuf> {
    let root = bench.site.directory(Medium::Disk, "source")?.join("tree");
    if root.exists() {
        return Ok(root);
    }
    for number in 0..bench.args.files {
        let dir = root.join(format!("d{:03}", number / TOGETHER));
        fs::create_dir_all(&dir)?;
        let content: Vec<u8> = (0..SIZE / 4).flat_map(|at| (number ^ (at * 0x9e37)).to_le_bytes()).collect();
        fs::write(dir.join(format!("f{number:04}")), content)?;
    }
    rustix::fs::syncfs(File::open(&root)?)?;
    Ok(root)
}

fn skiff(programs: &Programs, server: &Server, before: &[&str], from: &Path, after: &[&str]) -> Command {
    let mut command = Command::new(&programs.cli);
    command.args(["127.0.0.1", &server.endpoint.port.to_string()]).args(before).arg(from).args(after);
    command
}

fn rsync(server: &Server, options: &str, from: &Path) -> Result<Command> {
    let mut command = Command::new(find("rsync").context("not installed")?);
    command.arg(options).arg(from).arg(format!("rsync://127.0.0.1:{}/{MODULE}/", server.endpoint.port));
    Ok(command)
}

/// Runs it, unmeasured.
fn done(command: &mut Command) -> Result<()> {
    let status = command.stdout(Stdio::null()).status()?;
    ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}
