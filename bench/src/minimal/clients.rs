//! Many concurrent clients, each a thread with its own connection.

use core::time::Duration;
use std::sync::{Barrier, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, ensure};

use super::Word;
use super::connect::connect;
use super::sink::Sink;
use super::threads::all;

/// Fetches `name` with `count` connections at a time. Fails if any of them does.
pub(super) fn fetch(word: Word, port: u16, name: &str, size: u64, count: u32) -> Result<()> {
    let fetch = || -> Result<()> {
        let came = connect(word, port)?.fetch(name, &mut Sink::Nowhere)?;
        ensure!(came == size, "received {came} bytes instead of {size}");
        Ok(())
    };
    all(count, fetch)
}

/// Fetches `name` `count` times in each of `sessions` sessions at a time; returns how long that takes once all of them
/// are open and have been used.
pub(super) fn sessions(word: Word, port: u16, name: &str, size: u64, count: u32, sessions: u32) -> Result<Duration> {
    let gate = Barrier::new(sessions as usize);
    let begin = Mutex::new(None);
    let work = || -> Result<()> {
        let mut session = connect(word, port).and_then(|mut session| {
            session.fetch(name, &mut Sink::Nowhere)?;
            Ok(session)
        });
        // Also after a failure, because the others wait.
        gate.wait();
        begin.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(Instant::now);
        let session = session.as_mut().map_err(|error| anyhow!("{error:#}"))?;
        for _ in 0..count {
            let came = session.fetch(name, &mut Sink::Nowhere)?;
            ensure!(came == size, "received {came} bytes instead of {size}");
        }
        Ok(())
    };
    all(sessions, work)?;
    let begin = begin.into_inner().unwrap_or_else(PoisonError::into_inner);
    begin.map(|begin| begin.elapsed()).context("no session")
}
