//! Latency of a small read.

use core::time::Duration;
use std::time::Instant;

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::Word;
use super::connect::connect;
use super::sink::Sink;
use crate::measure::stats::quantile;

/// Requests before the clock starts, if at least that many are measured.
pub(super) const WARM: u32 = 50;

/// The latency in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// Fetches per second, including the time between them.
    pub(crate) per_second: f64,
}

impl Latency {
    /// Computes it from the time of each fetch and of all together.
    pub(super) fn of(times: &[Duration], all: Duration) -> Self {
        let micros: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
        let at = |part| quantile(&micros, part).unwrap_or_default();
        Self { p50: at(0.5), p99: at(0.99), per_second: times.len() as f64 / all.as_secs_f64() }
    }
}

/// Fetches `name` `count` times, in one session or (`new`) each time with connect and close.
pub(super) fn measure(word: Word, port: u16, name: &str, size: u64, count: u32, new: bool) -> Result<Latency> {
    let (mut times, mut begun) = (Vec::new(), Instant::now());
    let mut session = None;
    let warm = WARM.min(count);
    for turn in 0..warm + count {
        if turn == warm {
            begun = Instant::now();
        }
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
            times.push(begin.elapsed());
        }
        ensure!(came == size, "received {came} bytes instead of {size}");
    }
    Ok(Latency::of(&times, begun.elapsed()))
}
