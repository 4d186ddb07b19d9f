//! Throughput by the number of sessions: each fetches one small file after another, all at the same time. All servers
//! are measured with the bench's own client, whose sessions are threads of one process.

use std::process::Command;
use std::rc::Rc;

use anyhow::Result;

use super::{Bench, Contender, Job};
use crate::measure::{Sample, run};
use crate::peers::Server;
use crate::peers::skiff::Skiff;
use crate::results::{Role, Unit};
use crate::site::Medium;

const SESSIONS: [u32; 4] = [1, 10, 100, 1000];

/// Bytes of each file.
const SIZE: u64 = 1 << 10;

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    bench.site.file("small", SIZE, SIZE)?;
    let files = 10 * bench.args.files;
    let root = bench.site.served(Medium::Disk)?;
    let mut job = Job::new(format!("{files} x 1 KiB down, in sessions at the same time"), Unit::MbPerSecond);
    let mut servers = Vec::new();
    for (build, programs) in bench.builds() {
        // host-serv may still close the sessions of the contender before when those of the next connect.
        let skiff = Skiff::new(programs).max_clients(SESSIONS.iter().sum());
        servers.push((format!("skiff{build}"), "skiff", Role::SkiffServer, Rc::new(Server::start(&skiff, &root)?)));
    }
    // vsftpd does not finish with 100 sessions.
    if let Some(server) = bench.start(&mut job, "nginx", &root) {
        servers.push(("nginx".to_owned(), "http", Role::PeerServer, server));
    }
    for sessions in SESSIONS {
        let each = files.div_ceil(sessions);
        for (name, scheme, role, server) in &servers {
            let (server, scheme) = (Rc::clone(server), *scheme);
            job.add(Contender::new(format!("{name}, {sessions}"), *role, move || {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["client", "sessions", "--scheme", scheme, "--port", &server.endpoint.port.to_string()]);
                command.args(["small", "--size", &SIZE.to_string(), "--count", &each.to_string()]);
                command.args(["--sessions", &sessions.to_string()]);
                let (sample, said) = run::output(&mut command, Some(&*server))?;
                let seconds: f64 = serde_json::from_slice(&said)?;
                Ok(Sample { value: (SIZE * u64::from(each * sessions)) as f64 / 1e6 / seconds, ..sample })
            }));
        }
    }
    Ok(job)
}
