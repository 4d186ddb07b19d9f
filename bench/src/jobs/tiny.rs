//! One tiny file, everything included: the client starts, connects, downloads, writes a local file and exits.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow};

use super::{Bench, Contender, Job, Measure, pair};
use crate::measure::{Cpu, Sample, run, stats};
use crate::peers::Server;
use crate::peers::skiff::small;
use crate::results::{Role, Unit};
use crate::site::Medium;
use crate::tools::{Task, Tool};

/// Clients per turn; the value of the turn is their median.
const REPEATS: usize = 25;

/// A small program that does nothing else.
const SMALL: &str = "limit: a small program";

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    let tiny = bench.site.tiny()?;
    let root = bench.site.served(Medium::Disk)?;
    let mut job = Job::new(format!("{} bytes down, from the start of the client to its end", tiny.size), Unit::Seconds);
    let mut pairs = Vec::new();
    for (build, programs) in bench.builds() {
        let skiff = bench.start_skiff(programs, &root)?;
        pairs.push((format!("skiff{build}"), skiff.clone(), Tool::skiff(programs), Role::Skiff));
        pairs.push((format!("skiff server{build}"), skiff, Tool::Minimal, Role::SkiffServer));
    }
    let peers: [(&str, &[Tool]); 5] = [
        ("atftpd", &[Tool::Atftp]),
        ("nginx", &[Tool::Wget, Tool::Curl]),
        ("vsftpd", &[Tool::Curl]),
        ("rsync", &[Tool::Rsync]),
        ("sshd", &[Tool::Sftp]),
    ];
    let peers = bench.pairs(&mut job, &root, &peers).into_iter();
    pairs.extend(peers.map(|(server, tool)| (pair(&server, &tool), server, tool, Role::Peer)));
    for (name, server, tool, role) in pairs {
        // The slow ones are not worth the time.
        let repeats = if matches!(tool, Tool::Sftp | Tool::Rsync) { REPEATS.div_ceil(8) } else { REPEATS };
        job.add(Contender::new(name, role, move || repeat(repeats, || get(bench, &server, &tool))));
    }
    job.add(Contender::new("limit: /bin/true", Role::Limit, || {
        repeat(REPEATS, || run::timed(&mut Command::new("/bin/true"), None))
    }));
    let small = small();
    let server = bench.start_skiff(&bench.programs, &root)?;
    job.add(Contender::new(SMALL, Role::SkiffLimit, move || {
        let small = small.as_ref().map_err(|error| anyhow!("{error:#}"))?;
        repeat(REPEATS, || {
            let (mut command, port) = (Command::new(small), server.endpoint.port.to_string());
            fetch(bench, command.args(["get", &port, "tiny"]).arg(target(bench)), &server)
        })
    }));
    for skiff in ["skiff", "skiff static"] {
        job.goal(skiff, Measure::To("atftp".into()), 1.0);
    }
    job.compare("skiff", Measure::To(SMALL.into()));
    job.compare(SMALL, Measure::To("atftp".into()));
    Ok(job)
}

fn get(bench: &Bench, server: &Server, tool: &Tool) -> Result<Sample> {
    let to = target(bench);
    let task = Task::Get { name: "tiny", to: &to };
    let command = tool.command(&server.endpoint, task, bench.site.path(Medium::Memory))?;
    fetch(bench, &mut command.context("not installed")?, server)
}

fn target(bench: &Bench) -> PathBuf {
    bench.site.path(Medium::Memory).join("got-tiny")
}

/// Runs a client that writes the target.
fn fetch(bench: &Bench, command: &mut Command, server: &Server) -> Result<Sample> {
    let sample = run::timed(command.stdout(Stdio::null()), Some(server))?;
    let to = target(bench);
    bench.site.tiny()?.check(&to)?;
    fs::remove_file(&to)?;
    Ok(sample)
}

/// The median of several runs.
pub(super) fn repeat(count: usize, mut run: impl FnMut() -> Result<Sample>) -> Result<Sample> {
    let samples = (0..count).map(|_| run()).collect::<Result<Vec<_>>>()?;
    let median = |field: &dyn Fn(&Sample) -> Option<f64>| {
        let values: Vec<_> = samples.iter().filter_map(field).collect();
        stats::median(&values)
    };
    // The mean, because the kernel counts one short run entirely as user or as system time.
    let cpu = |field: &dyn Fn(&Sample) -> Option<Cpu>| {
        let all: Vec<_> = samples.iter().filter_map(field).collect();
        (!all.is_empty()).then(|| all.iter().fold(Cpu::default(), |sum, one| sum + *one) / all.len() as f64)
    };
    Ok(Sample {
        value: median(&|sample| Some(sample.value)).unwrap_or(f64::NAN),
        server_cpu: cpu(&|sample| sample.server_cpu),
        client_cpu: cpu(&|sample| sample.client_cpu),
        client_memory: median(&|sample| sample.client_memory),
    })
}
