//! Time, processor time and memory of processes, and statistics.

pub(crate) mod process;
pub(crate) mod run;
pub(crate) mod stats;

/// The measurements of one turn of a contender.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Sample {
    /// In the unit of the job; by default, elapsed seconds.
    pub(crate) value: f64,
    /// Processor seconds of the server during the turn, if known.
    pub(crate) server_cpu: Option<f64>,
    /// Processor seconds of the client.
    pub(crate) client_cpu: Option<f64>,
    /// The peak memory of the client, in KiB.
    pub(crate) client_memory: Option<f64>,
}
