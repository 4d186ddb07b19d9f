//! Many concurrent clients download one file. They are threads of one process, so that the start of many programs is
//! not part of the measurement.

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::process::Command;
use std::rc::Rc;

use anyhow::Result;

use super::{Bench, Contender, Job, Measure};
use crate::measure::{process, run};
use crate::peers::Server;
use crate::results::{Extra, Role, Unit};
use crate::site::Medium;

const CLIENTS: u32 = 64;

const VERIFIED: &str = "limit: sendfile, CRC-32C";

const PEAK: &str = "MiB of memory at most";

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    let medium = bench.site.medium()?;
    let root = bench.site.served(Medium::Disk)?;
    let what = format!("{CLIENTS} clients at a time, {} MiB down to each", medium.size >> 20);
    let mut job = Job::new(what, Unit::Seconds);
    let mut servers = Vec::new();
    for (build, programs) in bench.builds() {
        let skiff = bench.start_skiff(programs, &root)?;
        // The first reader makes the checksum known.
        run::output(&mut command("skiff", skiff.endpoint.port, medium.size, 1)?, None)?;
        servers.push((format!("skiff, verified{build}"), "skiff", skiff.clone()));
        servers.push((format!("skiff, not verified{build}"), "skiff-unverified", skiff));
    }
    for (name, scheme) in [("nginx", "http"), ("vsftpd", "ftp"), ("pure-ftpd", "ftp"), ("pyftpdlib", "ftp")] {
        if let Some(server) = bench.start(&mut job, name, &root) {
            servers.push((name.to_owned(), scheme, server));
        }
    }
    for (name, scheme, server) in servers {
        let role = if name.starts_with("skiff") { Role::SkiffServer } else { Role::PeerServer };
        let (size, again) = (medium.size, Rc::clone(&server));
        let contender = Contender::new(name, role, move || {
            bench.site.medium()?.warm()?;
            run::timed(&mut command(scheme, server.endpoint.port, size, CLIENTS)?, Some(&*server))
        });
        job.add(contender.after(move || peak(&again, &mut command(scheme, again.endpoint.port, size, CLIENTS)?)));
    }
    for (name, role, verify) in [("limit: sendfile", Role::Limit, None), (VERIFIED, Role::SkiffLimit, Some("--verify"))]
    {
        job.add(Contender::new(name, role, move || {
            let medium = bench.site.medium()?;
            medium.warm()?;
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["client", "limit-clients"]).arg(&medium.path).args(["--count", &CLIENTS.to_string()]);
            run::timed(command.args(verify), None)
        }));
    }
    job.goal("skiff, verified", Measure::To("nginx".into()), 1.0);
    job.goal("skiff, not verified", Measure::To("nginx".into()), 1.1);
    job.goal("skiff, not verified", Measure::ServerCpuTo("nginx".into()), 1.1);
    for skiff in ["skiff, not verified", "skiff, not verified static"] {
        job.goal(skiff, Measure::Extra(PEAK), 5.0);
    }
    // Both processors are always busy, so processor time decides.
    job.goal("skiff, verified", Measure::CpuTo("nginx".into()), 1.0);
    job.compare("skiff, verified", Measure::To(VERIFIED.into()));
    job.compare(VERIFIED, Measure::To("nginx".into()));
    Ok(job)
}

fn command(scheme: &str, port: u16, size: u64, count: u32) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["client", "clients", "--scheme", scheme, "--port", &port.to_string(), "medium"]);
    command.args(["--size", &size.to_string(), "--count", &count.to_string()]);
    Ok(command)
}

/// The peak memory of a server: for a single process, the kernel's figure for its whole lifetime; for several
/// processes, sampled every few milliseconds in one more run, with shared pages counted once.
fn peak(server: &Server, command: &mut Command) -> Result<Vec<Extra>> {
    let (pid, done) = (server.pid(), AtomicBool::new(false));
    let seen = std::thread::scope(|scope| {
        let seen = scope.spawn(|| {
            let mut most = 0.0_f64;
            let mut processes = 1;
            while !done.load(Ordering::Relaxed) {
                processes = processes.max(process::tree(pid).len());
                most = most.max(process::tree_memory(pid));
                std::thread::sleep(Duration::from_millis(5));
            }
            (most, processes)
        });
        let ran = run::timed(command, None);
        done.store(true, Ordering::Relaxed);
        ran.map(|_| seen.join())
    });
    let Ok((most, processes)) = seen? else { anyhow::bail!("a panic") };
    let kib = if processes == 1 { process::peak(pid).unwrap_or(most) } else { most };
    Ok(vec![Extra { what: PEAK.to_owned(), value: kib / 1024.0 }])
}
