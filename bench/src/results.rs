//! The results of a run, with all measured values, so that any figure can be recomputed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measure::others::Others;
use crate::measure::pin::Placement;
use crate::measure::{Cpu, Sample, stats};

/// The command line as typed: without the path of the program and without options added inside the namespace.
pub(crate) fn command_line() -> Vec<String> {
    let words = std::env::args().skip(1).filter(|word| !word.starts_with("--inside"));
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
    /// The same with the guarantees of skiff: verified, durable, complete or absent.
    SkiffLimit,
}

/// A run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    /// When it began, UTC.
    pub(crate) date: String,
    pub(crate) command: Vec<String>,
    /// Its number among the runs of one command, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) run: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    pub(crate) machine: Machine,
    pub(crate) jobs: Vec<JobResult>,
}

/// A job's result.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct JobResult {
    pub(crate) job: String,
    /// Where server and client ran; `None`: wherever the scheduler put them, as for all jobs in older results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) placement: Option<Placement>,
    pub(crate) what: String,
    pub(crate) unit: Unit,
    pub(crate) contenders: Vec<ContenderResult>,
    pub(crate) goals: Vec<GoalResult>,
    /// The contenders that could not be measured, and why.
    pub(crate) skipped: Vec<String>,
    /// The load of other processes meanwhile; missing in older results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) others: Option<Others>,
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
    /// Processor seconds, user and system.
    pub(crate) server_cpu: Vec<f64>,
    pub(crate) client_cpu: Vec<f64>,
    /// The user and system parts of these; missing in older results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) server_user: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) client_user: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) server_system: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) client_system: Vec<f64>,
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

/// The result for a goal, or for a comparison without one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct GoalResult {
    pub(crate) what: String,
    pub(crate) measured: f64,
    /// The quartiles of the ratios, if `measured` is the median of the ratios of all rounds; missing in older results.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) spread: Option<(f64, f64)>,
    /// `None` for a comparison, which has no goal.
    #[serde(flatten)]
    pub(crate) bound: Option<Bound>,
    pub(crate) met: bool,
}

/// The bound of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Bound {
    Most(f64),
    Least(f64),
}

impl Bound {
    pub(crate) fn allows(self, measured: f64) -> bool {
        match self {
            Self::Most(most) => measured <= most,
            Self::Least(least) => measured >= least,
        }
    }
}

impl ContenderResult {
    pub(crate) fn new(name: &str, role: Role, samples: &[Sample], extra: Vec<Extra>) -> Self {
        let cpu =
            |of: fn(&Sample) -> Option<Cpu>, part: fn(Cpu) -> f64| samples.iter().filter_map(of).map(part).collect();
        let (server, client) = (|sample: &Sample| sample.server_cpu, |sample: &Sample| sample.client_cpu);
        Self {
            name: name.to_owned(),
            role,
            values: samples.iter().map(|sample| sample.value).collect(),
            server_cpu: cpu(server, Cpu::total),
            client_cpu: cpu(client, Cpu::total),
            server_user: cpu(server, |cpu| cpu.user),
            client_user: cpu(client, |cpu| cpu.user),
            server_system: cpu(server, |cpu| cpu.system),
            client_system: cpu(client, |cpu| cpu.system),
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
    /// Its name in tables.
    pub(crate) fn title(&self) -> String {
        match self.placement {
            Some(placement) => format!("{}, {}", self.job, placement.name()),
            None => self.job.clone(),
        }
    }

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

    /// The contender of a role that takes the least processor time.
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

    /// Writes them to `out`, or to the default place for results of a full run; the number of the run is added to the
    /// name.
    pub(crate) fn write(&self, out: Option<&Path>, kind: &str) -> Result<PathBuf> {
        let path = match out {
            Some(path) => path.to_owned(),
            None => {
                let date = self.date.get(..10).context("a date")?;
                Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(format!("{date}-{kind}.json"))
            }
        };
        let path = match self.run {
            Some(run) => {
                let stem = path.file_stem().context("--out: a file name")?.to_string_lossy();
                path.with_file_name(format!("{stem}-{run}.json"))
            }
            None => path,
        };
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }
}
