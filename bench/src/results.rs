//! The results of a run, with all measured values, so that any figure can be recomputed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::{Sample, stats};

/// The command line as typed: without the path of the program and without options added inside the namespace.
pub(crate) fn command_line() -> Vec<String> {
    let words = std::env::args().skip(1).filter(|word| word != "--inside");
    core::iter::once("skiff-bench".into()).chain(words).collect()
}

/// The kind of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// skiff, as a user runs it.
    Skiff,
    /// skiff's server with the bench's own client.
    SkiffServer,
    /// Another program, as a user runs it.
    Peer,
    /// Another server with the bench's own client.
    PeerServer,
    /// A lower bound that no program can beat.
    Limit,
}

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When it began, UTC.
    pub(crate) date: String,
    pub(crate) command: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    pub(crate) machine: Machine,
    pub(crate) jobs: Vec<JobResult>,
}

/// A job's result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobResult {
    pub(crate) job: String,
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) contenders: Vec<ContenderResult>,
    pub(crate) goals: Vec<GoalResult>,
    /// The contenders that could not be measured, and why.
    pub(crate) skipped: Vec<String>,
}

/// The unit of the values of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Seconds,
    Microseconds,
    Kib,
    /// 10^6 bytes per second.
    MbPerSecond,
    PerSecond,
}

impl Unit {
    /// True if more is better.
    pub(crate) const fn is_rate(self) -> bool {
        matches!(self, Self::MbPerSecond)
    }
}

/// A contender's result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ContenderResult {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// Round by round.
    pub(crate) values: Vec<f64>,
    pub(crate) server_cpu: Vec<f64>,
    pub(crate) client_cpu: Vec<f64>,
    /// The peak memory of a client over all rounds, in KiB.
    pub(crate) client_memory: Option<f64>,
    /// Figures of other kinds, measured once after the rounds.
    pub(crate) extra: Vec<Extra>,
}

/// A figure of another kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Extra {
    pub(crate) what: String,
    pub(crate) value: f64,
}

/// The result for a goal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GoalResult {
    pub(crate) what: String,
    pub(crate) measured: f64,
    #[serde(flatten)]
    pub(crate) bound: Bound,
    pub(crate) met: bool,
}

/// The bound of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    Most(f64),
    Least(f64),
}

impl GoalResult {
    pub(crate) fn new(what: String, measured: f64, bound: Bound) -> Self {
        let met = match bound {
            Bound::Most(most) => measured <= most,
            Bound::Least(least) => measured >= least,
        };
        Self { what, measured, bound, met }
    }
}

impl ContenderResult {
    pub(crate) fn new(name: &str, role: Role, samples: &[Sample], extra: Vec<Extra>) -> Self {
        Self {
            name: name.to_owned(),
            role,
            values: samples.iter().map(|sample| sample.value).collect(),
            server_cpu: samples.iter().filter_map(|sample| sample.server_cpu).collect(),
            client_cpu: samples.iter().filter_map(|sample| sample.client_cpu).collect(),
            client_memory: samples.iter().filter_map(|sample| sample.client_memory).reduce(f64::max),
            extra,
        }
    }

    pub(crate) fn median(&self) -> f64 {
        stats::median(&self.values).unwrap_or(f64::NAN)
    }

    /// Processor time of server and client together, round by round; if there is no server, of the client. Empty if
    /// unknown.
    pub(crate) fn cpu(&self) -> Vec<f64> {
        match (&self.server_cpu[..], &self.client_cpu[..]) {
            ([], client) => client.to_vec(),
            (server, client) => server.iter().zip(client).map(|(server, client)| server + client).collect(),
        }
    }

    /// The figure of another kind with this name.
    pub(crate) fn extra(&self, what: &str) -> Option<f64> {
        self.extra.iter().find(|extra| extra.what == what).map(|extra| extra.value)
    }
}

impl JobResult {
    /// The contender of this name.
    pub(crate) fn contender(&self, name: &str) -> Option<&ContenderResult> {
        self.contenders.iter().find(|contender| contender.name == name)
    }

    /// The fastest of a role.
    pub(crate) fn best(&self, role: Role) -> Option<&ContenderResult> {
        let all = self.contenders.iter().filter(|contender| contender.role == role);
        all.min_by(|one, other| {
            let order = one.median().total_cmp(&other.median());
            if self.unit.is_rate() { order.reverse() } else { order }
        })
    }

    /// The one of a role that takes the least processor time.
    pub(crate) fn thriftiest(&self, role: Role) -> Option<&ContenderResult> {
        let all = self.contenders.iter().filter(|contender| contender.role == role);
        let known = all.filter_map(|contender| Some((stats::median(&contender.cpu())?, contender)));
        known.min_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, contender)| contender)
    }
}

impl Results {
    /// Reads the results of an earlier run.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| path.display().to_string())
    }

    /// Writes them to `out`, or to the default place for results of a whole run.
    pub(crate) fn write(&self, out: Option<&Path>, kind: &str) -> Result<PathBuf> {
        let path = match out {
            Some(path) => path.to_owned(),
            None => {
                let date = self.date.get(..10).context("a date")?;
                Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(format!("{date}-{kind}.json"))
            }
        };
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
