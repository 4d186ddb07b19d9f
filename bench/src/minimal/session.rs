//! Latency of a tiny file.

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::Word;
use super::connect::connect;
use super::sink::Sink;
use crate::measure::stats::quantile;

/// Questions before the clock runs, if that many are measured.
const WARM: u32 = 50;

/// How long it takes, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Fetches `name` `count` times, in one session or (`new`) each time with connect and close.
pub(super) fn measure(word: Word, port: u16, name: &str, size: u64, count: u32, new: bool) -> Result<Latency> {
    let mut times = Vec::new();
    let mut session = None;
    let warm = WARM.min(count);
    for turn in 0..warm + count {
        let begin = Instant::now();
        let mut current = match session.take() {
            Some(session) => session,
            None => connect(word, port)?,
        };
        let came = current.fetch(name, &mut Sink::Nowhere)?;
        if !new {
            session = Some(current);
        }
        if turn >= warm {
            times.push(begin.elapsed().as_secs_f64() * 1e6);
        }
        ensure!(came == size, "received {came} bytes instead of {size}");
    }
    let at = |part| quantile(&times, part).unwrap_or_default();
    Ok(Latency { p50: at(0.5), p99: at(0.99) })
}
