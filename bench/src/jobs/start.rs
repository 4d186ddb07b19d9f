//! Time from the start of a server to its first answer.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};

use super::tiny::repeat;
use super::{Bench, Contender, Job, Measure};
use crate::measure::Sample;
use crate::minimal::{Sink, Word, connect};
use crate::peers::skiff::{Skiff, Small};
use crate::peers::{Peer, Server};
use crate::results::{Role, Unit};
use crate::site::Medium;

/// Starts per turn; the value of the turn is their median.
const REPEATS: usize = 5;

/// How long a server may take.
const LIMIT_SECONDS: u64 = 10;

/// A server that does nothing else.
const LIMIT: &str = "limit: bind, accept, answer";

pub(super) fn job(bench: &Bench) -> Result<Job<'_>> {
    bench.site.tiny()?;
    let root = bench.site.served(Medium::Disk)?;
    let mut job = Job::new("from the start of a server to its first answer", Unit::Seconds);
    for (build, programs) in bench.builds() {
        let (skiff, root) = (Skiff::new(programs), root.clone());
        let turn = move || repeat(REPEATS, || start(&skiff, &root, Word::Skiff));
        job.add(Contender::new(format!("skiff{build}"), Role::SkiffServer, turn));
    }
    let all = [("nginx", Word::Http), ("vsftpd", Word::Ftp), ("pure-ftpd", Word::Ftp), ("pyftpdlib", Word::Ftp)];
    for (name, word) in all {
        let Some(peer) = bench.peer(name) else { continue };
        let root = root.clone();
        job.add(Contender::new(name, Role::PeerServer, move || repeat(REPEATS, || start(peer, &root, word))));
    }
    let turn = move || repeat(REPEATS, || start(&Small, &root, Word::Echo));
    job.add(Contender::new(LIMIT, Role::SkiffLimit, turn));
    for skiff in ["skiff", "skiff static"] {
        job.goal(skiff, Measure::Value, 0.0015);
    }
    job.compare("skiff", Measure::To(LIMIT.into()));
    job.compare(LIMIT, Measure::Value);
    Ok(job)
}

fn start(peer: &dyn Peer, root: &Path, word: Word) -> Result<Sample> {
    let begin = Instant::now();
    let server = Server::spawn(peer, root)?;
    loop {
        let answer =
            connect(word, server.endpoint.port).and_then(|mut session| session.fetch("tiny", &mut Sink::Nowhere));
        if answer.is_ok() {
            return Ok(Sample { value: begin.elapsed().as_secs_f64(), ..Sample::default() });
        }
        ensure!(begin.elapsed().as_secs() < LIMIT_SECONDS, "{} does not respond", peer.name());
        std::thread::yield_now();
    }
}
