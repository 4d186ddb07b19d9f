//! Many small files, down and up.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;

use anyhow::{Context as _, Result};

use super::large::beside;
use super::{Bench, Contender, Job, Measure, pair};
use crate::measure::{Sample, run};
use crate::peers::skiff::{Skiff, Traced};
use crate::peers::{Peer, Server, find};
use crate::results::{Extra, Role, Unit};
use crate::site::Medium;
use crate::tools::{Task, Tool};

/// Down. Nothing is made durable.
pub(super) fn get(bench: &Bench, medium: Medium) -> Result<Job<'_>> {
    let many = bench.site.many(medium)?;
    let root = bench.site.served(medium)?;
    let (place, goal) = match medium {
        Medium::Memory => ("tmpfs to tmpfs", 0.5),
        Medium::Disk => ("disk to disk", 0.9),
    };
    let mut job = Job::new(format!("{} x 1 KiB down, {place}", many.files.len()), Unit::Seconds);
    let mut pairs = Vec::new();
    for (build, programs) in bench.builds() {
        let skiff = bench.start_skiff(programs, &root)?;
        pairs.push((format!("skiff{build}"), skiff, Tool::skiff(programs), Role::Skiff));
    }
    let peers: [(&str, &[Tool]); 4] =
        [("rsync", &[Tool::Rsync]), ("nginx", &[Tool::Curl]), ("vsftpd", &[Tool::Lftp]), ("sshd", &[Tool::Sftp])];
    let peers = bench.pairs(&mut job, &root, &peers).into_iter();
    pairs.extend(peers.map(|(server, tool)| (pair(&server, &tool), server, tool, Role::Peer)));
    for (name, server, tool, role) in pairs {
        job.add(Contender::new(name, role, move || {
            let to = bench.site.directory(medium, "got-many")?;
            let task = Task::GetMany { dir: "many", to: &to, count: bench.args.files };
            let command = tool.command(&server.endpoint, task, bench.site.path(Medium::Memory))?;
            turn(bench, medium, &mut command.context("not installed")?, Some(&server), &to)
        }));
    }
    job.add(Contender::new("limit: cp -r", Role::Limit, move || {
        let to = bench.site.directory(medium, "got-many")?;
        fs::remove_dir(&to)?;
        let mut command = Command::new("cp");
        turn(bench, medium, command.arg("-r").arg(&many.dir).arg(&to), None, &to)
    }));
    job.goal("skiff", Measure::Best(Role::Peer), goal);
    Ok(job)
}

/// Up, to a disk. host-serv makes the files durable, the others do not.
pub(super) fn put_disk(bench: &Bench) -> Result<Job<'_>> {
    let medium = Medium::Disk;
    let many = bench.site.many(medium)?;
    let mut job = Job::new(format!("{} x 1 KiB up, to a disk", many.files.len()), Unit::Seconds);
    let mut pairs = Vec::new();
    for (build, programs) in bench.builds() {
        let root = bench.site.directory(medium, &format!("put-skiff{build}"))?;
        let skiff = bench.start_skiff(programs, &root)?;
        pairs.push((format!("skiff{build}"), skiff, Tool::skiff(programs), Role::Skiff, root));
    }
    for (name, tool) in [("rsync", Tool::Rsync), ("vsftpd", Tool::Lftp), ("nginx", Tool::Curl), ("sshd", Tool::Sftp)] {
        let root = bench.site.directory(medium, &format!("put-{name}"))?;
        if let Some(server) = bench.start(&mut job, name, &root) {
            pairs.push((pair(&server, &tool), server, tool, Role::Peer, root));
        }
    }
    for (name, server, tool, role, root) in pairs {
        let ours = name == "skiff";
        let contender = Contender::new(name, role, move || put(bench, &server, &tool, &root));
        job.add(if ours { contender.after(|| sync_calls(bench)) } else { contender });
    }
    job.add(Contender::new("limit: cp -r", Role::Limit, move || {
        let to = bench.site.path(medium).join("copied-many");
        let mut command = Command::new("cp");
        turn(bench, medium, command.arg("-r").arg(&many.dir).arg(&to), None, &to)
    }));
    job.add(Contender::new(DURABLE, Role::SkiffLimit, move || {
        let to = bench.site.path(medium).join("limit-many");
        let mut command = Command::new(std::env::current_exe()?);
        turn(bench, medium, command.args(["client", "limit-put-many"]).arg(&many.dir).arg(&to), None, &to)
    }));
    job.goal("skiff", Measure::Best(Role::Peer), 0.5);
    job.goal("skiff", Measure::Extra(SYNC_CALLS), 100.0);
    beside(&mut job, &["skiff"], &[DURABLE]);
    Ok(job)
}

/// Files arrive over a connection and are verified, written, synced in batches and renamed.
const DURABLE: &str = "limit: create, write, rename, batches synced";

const SYNC_CALLS: &str = "sync calls";

fn put(bench: &Bench, server: &Rc<Server>, tool: &Tool, root: &Path) -> Result<Sample> {
    let many = bench.site.many(Medium::Disk)?;
    let task = Task::PutMany { from: &many.dir, dir: "many", count: bench.args.files };
    let command = tool.command(&server.endpoint, task, bench.site.path(Medium::Memory))?;
    let mut command = command.context("not installed")?;
    turn(bench, Medium::Disk, &mut command, Some(server), &root.join("many"))
}

/// Runs a command that makes a copy of the small files at `to`, from a clean start, and moves the copy out of the
/// way.
fn turn(bench: &Bench, medium: Medium, command: &mut Command, server: Option<&Server>, to: &Path) -> Result<Sample> {
    let many = bench.site.many(medium)?;
    many.warm()?;
    // What others have left to be written must not be this one's burden.
    rustix::fs::syncfs(File::open(bench.site.path(medium))?)?;
    let sample = run::timed(command.stdout(Stdio::null()), server.map(|server| server as _))?;
    many.check(to)?;
    bench.site.put_away(medium, to)?;
    Ok(sample)
}

/// How often host-serv waits for the disk, counted by strace in a separate run.
fn sync_calls(bench: &Bench) -> Result<Vec<Extra>> {
    if find("strace").is_none() {
        eprintln!("SKIPPED: sync calls: strace is not installed");
        return Ok(Vec::new());
    }
    let traced = Traced::new(&Skiff::new(&bench.programs), bench.site.path(Medium::Memory).join("strace"));
    let root = bench.site.directory(Medium::Disk, "put-traced")?;
    let server = Rc::new(Server::start(&traced as &dyn Peer, &root)?);
    put(bench, &server, &Tool::skiff(&bench.programs), &root)?;
    drop(server);
    let calls = traced.calls()?;
    let mut extra = vec![Extra { what: SYNC_CALLS.to_owned(), value: calls.values().sum::<u32>().into() }];
    extra.extend(calls.into_iter().map(|(what, count)| Extra { what, value: count.into() }));
    Ok(extra)
}
