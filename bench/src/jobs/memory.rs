//! Memory of a server after its first answer, and memory added by each idle session. Kernel memory is not counted;
//! for sessions, nor are pages of files, whose share changes when another process maps the same program.

use std::path::Path;

use anyhow::Result;

use super::{Bench, Contender, Job, Measure};
use crate::measure::{Sample, process};
use crate::minimal::{Sink, Word, connect};
use crate::peers::skiff::Skiff;
use crate::peers::{Peer, Server};
use crate::results::{Role, Unit};
use crate::site::Medium;

/// Sessions open at a time.
const SESSIONS: usize = 400;

/// The memory of a server that has answered once.
pub(super) fn server(bench: &Bench) -> Result<Job<'_>> {
    let mut job = job(bench, "memory of a server that has answered once".to_owned(), 0)?;
    for skiff in ["skiff", "skiff static"] {
        job.goal(skiff, Measure::Value, 4096.0);
    }
    Ok(job)
}

/// The memory of each of many sessions.
pub(super) fn session(bench: &Bench) -> Result<Job<'_>> {
    let mut job = job(bench, format!("memory that each of {SESSIONS} idle sessions adds"), SESSIONS)?;
    job.goal("skiff", Measure::Value, 2.0);
    Ok(job)
}

fn job(bench: &Bench, what: String, sessions: usize) -> Result<Job<'_>> {
    bench.site.tiny()?;
    let root = bench.site.served(Medium::Disk)?;
    let mut job = Job::new(what, Unit::Kib);
    for (build, programs) in bench.builds() {
        let (skiff, root) = (Skiff::new(programs), root.clone());
        let turn = move || measure(&skiff, &root, Word::Skiff, sessions);
        job.add(Contender::new(format!("skiff{build}"), Role::SkiffServer, turn));
    }
    let all = [("nginx", Word::Http), ("vsftpd", Word::Ftp), ("pure-ftpd", Word::Ftp), ("pyftpdlib", Word::Ftp)];
    for (name, word) in all {
        let Some(peer) = bench.peer(name) else { continue };
        let root = root.clone();
        job.add(Contender::new(name, Role::PeerServer, move || measure(peer, &root, word, sessions)));
    }
    Ok(job)
}

/// The KiB of a new server that has answered once; with `sessions`, the KiB of each session.
fn measure(peer: &dyn Peer, root: &Path, word: Word, sessions: usize) -> Result<Sample> {
    let server = Server::start(peer, root)?;
    let port = server.endpoint.port;
    let mut first = connect(word, port)?;
    first.fetch("tiny", &mut Sink::Nowhere)?;
    if sessions == 0 {
        // Of several processes, what they share counts once.
        let several = process::tree(server.pid()).len() > 1;
        let alone = if several { None } else { process::resident(server.pid()) };
        let value = alone.unwrap_or_else(|| process::tree_memory(server.pid()));
        return Ok(Sample { value, ..Sample::default() });
    }
    let before = process::tree_anonymous(server.pid());
    let mut open = Vec::new();
    for _ in 0..sessions {
        // Each has been used: a session that was never spoken to may have no memory yet.
        let mut session = connect(word, port)?;
        session.fetch("tiny", &mut Sink::Nowhere)?;
        open.push(session);
    }
    let value = (process::tree_anonymous(server.pid()) - before) / sessions as f64;
    Ok(Sample { value, ..Sample::default() })
}
