//! Many concurrent clients, each a thread with its own connection.

use anyhow::{Result, ensure};

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
