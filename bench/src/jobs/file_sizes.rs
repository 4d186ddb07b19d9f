//! Throughput by file size: files of one size, one after the other in one session. All servers are measured with the
//! bench's own client.

use std::rc::Rc;

use anyhow::Result;

use super::session::latency;
use super::{Bench, Contender, Job};
use crate::measure::Sample;
use crate::results::{Role, Unit};
use crate::site::Medium;

const SIZES: [(&str, u64); 6] = [
    ("1 KiB", 1 << 10),
    ("16 KiB", 16 << 10),
    ("256 KiB", 256 << 10),
    ("4 MiB", 4 << 20),
    ("64 MiB", 64 << 20),
    ("1 GiB", 1 << 30),
];

/// Bytes of one turn, and the maximum number of fetches in it.
const TURN: u64 = 256 << 20;
const TIMES: core::ops::RangeInclusive<u64> = 2..=2000;

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    let root = bench.site.served(Medium::Disk)?;
    let mut job = Job::new("download of one size after another, discarded", Unit::MbPerSecond);
    let mut servers = Vec::new();
    for (build, programs) in bench.builds() {
        servers.push((format!("skiff{build}"), "skiff", Role::SkiffServer, bench.start_skiff(programs, &root)?));
    }
    for (name, scheme) in [("nginx", "http"), ("vsftpd", "ftp"), ("pure-ftpd", "ftp")] {
        if let Some(server) = bench.start(&mut job, name, &root) {
            servers.push((name.to_owned(), scheme, Role::PeerServer, server));
        }
    }
    for (label, size) in SIZES.into_iter().filter(|(_, size)| *size <= bench.args.size << 20) {
        let file = label.replace(' ', "-");
        let content = Rc::new(bench.site.file(&file, size, size)?);
        let count = u32::try_from((TURN / size).clamp(*TIMES.start(), *TIMES.end()))?;
        for (name, scheme, role, server) in &servers {
            let (file, content, server, scheme) = (file.clone(), Rc::clone(&content), Rc::clone(server), *scheme);
            job.add(Contender::new(format!("{name}, {label}"), *role, move || {
                content.warm()?;
                let (sample, each) = latency(scheme, server.endpoint.port, &file, size, count, false, Some(&*server))?;
                // Bytes a microsecond are MB a second.
                Ok(Sample { value: size as f64 / each.p50, ..sample })
            }));
        }
    }
    Ok(job)
}
