//! Runs many threads.

use anyhow::{Result, anyhow};

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
