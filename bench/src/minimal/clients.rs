//! Many clients at a time, each a thread with a connection of its own.

use anyhow::{Result, anyhow, ensure};

use super::Word;
use super::fetch::connect;
use super::sink::Sink;

/// Fetches `name` with `count` connections at a time. Fails if any of them does.
pub(super) fn fetch(word: Word, port: u16, name: &str, size: u64, count: u32) -> Result<()> {
    let fetch = || -> Result<()> {
        let came = connect(word, port)?.fetch(name, &mut Sink::Nowhere)?;
        ensure!(came == size, "{came} bytes in place of {size}");
        Ok(())
    };
    all(count, fetch)
}

/// Does the same thing in many threads at a time.
pub(super) fn all(count: u32, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..count).map(|_| scope.spawn(&work)).collect();
        let results = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("a panic"))));
        let failed: Vec<_> = results.filter_map(Result::err).collect();
        match failed.first() {
            None => Ok(()),
            Some(first) => Err(anyhow!("{} of {count} failed, the first one: {first:#}", failed.len())),
        }
    })
}
