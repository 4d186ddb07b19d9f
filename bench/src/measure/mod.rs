//! Time, processor time and memory of processes, pinning, the load of other processes, and statistics.

use core::ops::{Add, Div, Sub};

pub(crate) mod others;
pub(crate) mod pin;
pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod stats;

/// Processor seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }
}

impl Sub for Cpu {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { user: self.user - other.user, system: self.system - other.system }
    }
}

impl Div<f64> for Cpu {
    type Output = Self;

    fn div(self, by: f64) -> Self {
        Self { user: self.user / by, system: self.system / by }
    }
}

/// The measurements of one turn of a contender.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    /// In the unit of the job; by default, elapsed seconds.
    pub(crate) value: f64,
    /// Processor time of the server during the turn, if known.
    pub(crate) server_cpu: Option<Cpu>,
    /// Processor time of the client, from its start to its end.
    pub(crate) client_cpu: Option<Cpu>,
    /// The peak memory of the client, in KiB.
    pub(crate) client_memory: Option<f64>,
}
