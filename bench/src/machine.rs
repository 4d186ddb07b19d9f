//! The machine of a run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::namespace;
use crate::peers::{self, Peer};
use crate::tools::Tool;

/// The machine of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory_mib: u64,
    /// Congestion control of the network.
    pub(crate) congestion: String,
    /// The file system of the disk, and that of the tmpfs.
    pub(crate) disk: String,
    pub(crate) tmpfs: String,
    /// The load when the run began: running tasks, averaged over the last minute.
    pub(crate) load: f64,
    pub(crate) rustc: String,
    /// The commit of skiff's sources; `+` after it means with changes.
    pub(crate) commit: String,
    pub(crate) programs: BTreeMap<String, String>,
}

impl Machine {
    pub(crate) fn look(peers: &[Box<dyn Peer>], disk: &Path, tmpfs: &Path) -> Self {
        let mut programs = BTreeMap::new();
        for peer in peers {
            programs.insert(peer.name().to_owned(), peer.version());
        }
        for tool in Tool::PEERS.iter().filter(|tool| peers::find(tool.name()).is_some()) {
            programs.insert(tool.name().to_owned(), first_line(tool.name(), &[tool.version_option()]));
        }
        Self {
            kernel: first_line("uname", &["-srm"]),
            processor: value("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            processors: std::thread::available_parallelism().map_or(0, Into::into),
            memory_mib: memory(),
            congestion: namespace::congestion(),
            disk: file_system(disk),
            tmpfs: file_system(tmpfs),
            load: load(),
            rustc: first_line("rustc", &["--version"]),
            commit: commit(),
            programs,
        }
    }
}

/// The commit that skiff was built from.
fn commit() -> String {
    let git = |args: &[&str]| first_line("git", &[&["-C", env!("CARGO_MANIFEST_DIR")], args].concat());
    let changes = git(&["status", "--porcelain", "--untracked-files=no"]);
    let head = git(&["rev-parse", "--short=10", "HEAD"]);
    if head.is_empty() {
        return "unknown".to_owned();
    }
    format!("{head}{}", if changes.is_empty() { "" } else { "+" })
}

fn file_system(path: &Path) -> String {
    first_line("stat", &["--file-system", "--format=%T", &path.to_string_lossy()])
}

fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0)
}

fn memory() -> u64 {
    let total = value("/proc/meminfo", "MemTotal").unwrap_or_default();
    total.trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}

fn value(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim_start_matches(['\t', ' ', ':']).trim().to_owned())
}

/// The first line of a program's output; empty if it fails or prints nothing.
fn first_line(program: &str, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).stdin(Stdio::null()).output() else { return String::new() };
    if !output.status.success() {
        return String::new();
    }
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().trim().to_owned()
}
