//! The direction of a transfer, and its result.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The direction of the transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Get,
    Put,
}

impl Way {
    /// Its name on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Put => "put",
        }
    }
}

/// How long something took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
}
