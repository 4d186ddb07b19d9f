//! The command line.

use std::path::PathBuf;

use clap::{Args as Group, Parser, Subcommand, ValueEnum};

use crate::counts::Counts;
use crate::device::client::DeviceClientArgs;
use crate::minimal::ClientArgs;
use crate::plot::Plot;

const EXAMPLES: &str = "\
Examples:
  cargo run --release -p skiff-bench -- host                     everything, 5 rounds
  cargo run --release -p skiff-bench -- host --only session --rounds 3
  cargo run --release -p skiff-bench -- host --peers nginx,vsftpd
  cargo run --release -p skiff-bench -- device                   device-serv behind a TAP, 5 rounds
  cargo run --release -p skiff-bench -- counts                   instructions of the protocol core
  cargo run -p skiff-bench -- plot bench/results/2026-11-2*.json
  cargo run -p skiff-bench -- tables bench/results/2026-11-28-host.json

Exit codes: 0 measured, 1 could not start or a result was wrong, 2 usage.";

/// Measures skiff against other ways to move files, on this machine.
#[derive(Debug, Parser)]
#[command(name = "skiff-bench", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) mode: Mode,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Mode {
    /// host-serv and host-cli against servers and clients of Debian's packages
    Host(Host),
    /// device-serv behind a TAP, against smoltcp with its own driver
    Device(Device),
    /// Instructions that the protocol core takes, counted by valgrind
    Counts(Counts),
    /// Plots of kept results as SVG: bars beside peers, throughput by file size, instructions
    Plot(Plot),
    /// Tables of kept results, and which goals they miss
    Tables {
        /// Files that `host` and `device` wrote
        #[arg(required = true, value_name = "RESULTS")]
        results: Vec<PathBuf>,
    },
    /// One of the bench's own clients, as a process of its own
    #[command(hide = true)]
    Client(ClientArgs),
    /// The same for servers behind a TAP
    #[command(hide = true)]
    DeviceClient(DeviceClientArgs),
}

/// How `host` measures.
#[derive(Debug, Clone, Group)]
pub(crate) struct Host {
    /// Rounds of each job; in each one all contenders take their turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Only these jobs
    #[arg(long, value_name = "JOB", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<JobName>,

    /// Only these servers beside skiff; `none` for skiff alone
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    pub(crate) peers: Option<Vec<String>>,

    /// Bytes of the large file, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=8192))]
    pub(crate) size: u64,

    /// How many files the jobs with small ones move
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub(crate) files: u32,

    /// Where files lie that belong on a disk. Default: the directory for temporary files
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// A tmpfs
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) shm: PathBuf,

    /// Use host-serv and host-cli of this directory, in place of building them
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,

    /// host-serv and host-cli of an earlier build, in this directory, take their turns too
    #[arg(long, value_name = "DIR")]
    pub(crate) before: Option<PathBuf>,

    /// A file for the results as JSON. Default: bench/results/DATE-host.json, if all jobs were measured
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// A word on the circumstances, kept with the results
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,

    /// Already inside a network of its own
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

/// How `device` measures.
#[derive(Debug, Clone, Group)]
pub(crate) struct Device {
    /// Rounds of each job; in each one all contenders take their turn
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Only these jobs
    #[arg(long, value_name = "JOB", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<DeviceJob>,

    /// One round of very little: whether it works, not how fast
    #[arg(long)]
    pub(crate) quick: bool,

    /// Use device-serv and host-cli of this directory, in place of those that are built
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,

    /// lwIP, built from its sources in this directory, takes its turns too; bench/README.md says how to get them
    #[arg(long, value_name = "DIR")]
    pub(crate) lwip: Option<PathBuf>,

    /// A file for the results as JSON. Default: bench/results/DATE-device.json, if all jobs were measured
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// A word on the circumstances, kept with the results
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,

    /// Already inside a network of its own
    #[arg(long, hide = true)]
    pub(crate) inside: bool,
}

/// A job of `device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum DeviceJob {
    /// Bytes from the server to this machine
    Get,
    /// Bytes from this machine to the server
    Put,
    /// The same with buffers of 2 and 4 KiB
    SmallBuffersGet,
    /// The same with buffers of 2 and 4 KiB
    SmallBuffersPut,
    /// Small files in one session, at once and one by one
    Files,
    /// The time from a question to its answer
    RoundTrip,
    /// Wake-ups with one idle connection
    Idle,
    /// Wake-ups with a small message now and then
    Messages,
    /// A file over a line with loss and delay, by several sessions
    BadLine,
}

impl DeviceJob {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// A job of `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum JobName {
    /// A large file down, and thrown away
    GetDiscard,
    /// A large file down, to tmpfs
    GetTmpfs,
    /// A large file up, to tmpfs
    PutTmpfs,
    /// A large file up, to a disk: what durability costs
    PutDisk,
    /// Many small files down, to tmpfs
    SmallGetTmpfs,
    /// Many small files down, to a disk
    SmallGetDisk,
    /// Many small files up, to a disk
    SmallPutDisk,
    /// One tiny file, with everything from the start of the client to its end
    Tiny,
    /// Tiny files one after the other in a session, and in sessions of their own
    Session,
    /// Files of 1 KiB to 64 MiB in a session: throughput by file size
    FileSizes,
    /// Many clients at a time
    Clients,
    /// Memory of a server that has answered once
    ServerMemory,
    /// Memory that a session adds which is open and idle
    SessionMemory,
    /// From the start of a server to its first answer
    Start,
}

impl JobName {
    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
