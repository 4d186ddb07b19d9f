//! Time, processor time and memory of processes, and statistics.

pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod stats;

/// What one turn of a contender took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    /// In the unit of the job; seconds on the clock unless it says otherwise.
    pub(crate) value: f64,
    /// Seconds of processor time that the server used meanwhile, if that is known.
    pub(crate) server_cpu: Option<f64>,
    /// Seconds of processor that the client took.
    pub(crate) client_cpu: Option<f64>,
    /// The most memory that the client had, in KiB.
    pub(crate) client_memory: Option<f64>,
}
