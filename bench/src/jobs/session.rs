//! Latency of tiny files: in one session, and each in a new session. All servers are measured with the bench's own
//! client.

use core::cell::RefCell;
use std::path::Path;
use std::process::Command;
use std::rc::Rc;

use anyhow::{Result, ensure};

use super::{Bench, Contender, Job, Measure};
use crate::measure::{Sample, run, stats};
use crate::minimal::Latency;
use crate::peers::{Endpoint, Peer, Scheme, Server, free_port};
use crate::results::{Extra, Role, Unit};
use crate::site::Medium;

/// Files in a session of one turn, and sessions of one turn.
const FILES: u32 = 2000;
const SESSIONS: u32 = 200;

/// A server that does only what a classic `get` needs.
const CLASSIC: &str = "limit: classic, two connections";

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    let size = bench.site.tiny()?.size;
    let root = bench.site.served(Medium::Disk)?;
    let mut job = Job::new(format!("{size} bytes down, in an open session and in a new one"), Unit::Microseconds);
    let mut servers = Vec::new();
    for (build, programs) in bench.builds() {
        for (name, scheme) in [("skiff", "skiff"), ("skiff classic", "classic")] {
            let server = bench.start_skiff(programs, &root)?;
            servers.push((format!("{name}{build}"), scheme, Role::SkiffServer, server));
        }
    }
    for (name, scheme) in [("nginx", "http"), ("pure-ftpd", "ftp"), ("vsftpd", "ftp"), ("pyftpdlib", "ftp")] {
        if let Some(server) = bench.start(&mut job, name, &root) {
            servers.push((name.to_owned(), scheme, Role::PeerServer, server));
        }
    }
    for new in [false, true] {
        for (name, scheme, role, server) in &servers {
            let (scheme, server) = (*scheme, Rc::clone(server));
            let name = if new { format!("{name}, new session") } else { name.clone() };
            let tail = Rc::new(RefCell::new(Vec::new()));
            let p99 = Rc::clone(&tail);
            let contender = Contender::new(name, *role, move || {
                let count = if new { SESSIONS } else { FILES };
                let latency = latency(scheme, server.endpoint.port, "tiny", size, count, new, Some(&*server))?;
                p99.borrow_mut().push(latency.1.p99);
                Ok(latency.0)
            });
            job.add(contender.after(move || Ok(p99_of(&tail.borrow()))));
        }
    }
    let echo = Server::start(&Limit::Echo, &root)?;
    job.add(Contender::new("limit: a byte there and back", Role::Limit, move || {
        Ok(latency("echo", echo.endpoint.port, "x", 1, FILES, false, Some(&echo))?.0)
    }));
    let classic = Server::start(&Limit::Classic, &root)?;
    job.add(Contender::new(CLASSIC, Role::Limit, move || {
        Ok(latency("classic", classic.endpoint.port, "tiny", size, FILES, false, Some(&classic))?.0)
    }));
    job.goal("skiff", Measure::To("nginx".into()), 1.2);
    job.goal("skiff classic", Measure::To("pure-ftpd".into()), 0.5);
    job.compare("skiff classic", Measure::To(CLASSIC.into()));
    job.compare(CLASSIC, Measure::To("pure-ftpd".into()));
    Ok(job)
}

fn p99_of(tail: &[f64]) -> Vec<Extra> {
    stats::median(tail).map(|value| Extra { what: "us at the 99th percentile".to_owned(), value }).into_iter().collect()
}

/// Fetches a file `count` times with the bench's own client; the value is the median in microseconds.
pub(super) fn latency(
    scheme: &str,
    port: u16,
    name: &str,
    size: u64,
    count: u32,
    new: bool,
    server: Option<&dyn run::Timed>,
) -> Result<(Sample, Latency)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["client", "session", "--scheme", scheme, "--port", &port.to_string(), name]);
    command.args(["--size", &size.to_string(), "--count", &count.to_string()]);
    if new {
        command.arg("--new");
    }
    let (sample, said) = run::output(&mut command, server)?;
    let latency: Latency = serde_json::from_slice(&said)?;
    ensure!(latency.p50 > 0.0, "measured 0 µs");
    Ok((Sample { value: latency.p50, ..sample }, latency))
}

/// The server of a limit: a separate process, like the real ones.
enum Limit {
    Echo,
    Classic,
}

impl Peer for Limit {
    fn name(&self) -> &'static str {
        "limit"
    }

    fn program(&self) -> &'static str {
        "skiff-bench"
    }

    fn version(&self) -> String {
        concat!("skiff-bench ", env!("CARGO_PKG_VERSION")).to_owned()
    }

    fn command(&self, root: &Path, _config: &Path) -> Result<(Command, Endpoint)> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        match self {
            Self::Echo => command.args(["client", "echo"]),
            Self::Classic => command.args(["client", "limit-classic"]).arg(root),
        };
        command.args(["--port", &port.to_string()]);
        Ok((command, Endpoint { scheme: Scheme::Skiff, port }))
    }
}
