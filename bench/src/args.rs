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
  cargo run --release -p skiff-bench -- host --runs 3            three full runs, with the goals of all three
  cargo run --release -p skiff-bench -- host --peers nginx,vsftpd
  cargo run --release -p skiff-bench -- host --only sealed-get-discard,sealed-get-tmpfs,sealed-put-tmpfs,sealed-connect
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
    /// host-serv and host-cli against servers and clients from Debian packages
    Host(Host),
    /// device-serv behind a TAP, against smoltcp with its own driver
    Device(Device),
    /// Instructions of the protocol core, counted by valgrind
    Counts(Counts),
    /// Plots of saved results as SVG: bars beside peers, throughput by file size, instructions
    Plot(Plot),
    /// Tables of saved results, and the goals that they miss
    Tables {
        /// Files that `host` and `device` wrote
        #[arg(required = true, value_name = "RESULTS")]
        results: Vec<PathBuf>,
    },
    /// Run one of the bench's own clients
    #[command(hide = true)]
    Client(ClientArgs),
    /// Run one of the bench's clients for servers behind a TAP
    #[command(hide = true)]
    DeviceClient(DeviceClientArgs),
}

/// How `host` measures.
#[derive(Debug, Clone, Group)]
pub(crate) struct Host {
    /// Rounds per job; every contender runs once per round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Only these jobs
    #[arg(long, value_name = "JOB", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<JobName>,

    /// Only these servers beside skiff; `none` for only skiff
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    pub(crate) peers: Option<Vec<String>>,

    /// Size of the large file, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=8192))]
    pub(crate) size: u64,

    /// Number of files in the jobs with small files
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=9999))]
    pub(crate) files: u32,

    /// Directory on a disk. Default: the directory for temporary files
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,

    /// Directory on a tmpfs
    #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
    pub(crate) shm: PathBuf,

    /// Use the host-serv and host-cli in this directory instead of building them
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,

    /// Also measure an earlier build: the host-serv and host-cli in this directory
    #[arg(long, value_name = "DIR")]
    pub(crate) before: Option<PathBuf>,

    /// Also measure static programs, as in the release archive: the host-serv and host-cli in this directory
    #[arg(long = "static", value_name = "DIR")]
    pub(crate) linked: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) runs: Runs,

    /// Already inside a network namespace; FD is an open descriptor of the outer /proc
    #[arg(long, hide = true, value_name = "FD")]
    pub(crate) inside: Option<i32>,
}

/// How often to measure, and where the results go.
#[derive(Debug, Clone, Group)]
pub(crate) struct Runs {
    /// Number of full runs; each writes its own results file, and the goals of all runs are printed at the end
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=20))]
    pub(crate) runs: u32,

    /// Write the results to this file as JSON. Default: bench/results/DATE-host.json or DATE-device.json, if all jobs
    /// were measured. With --runs, the number of the run is added to the name: DATE-host-1.json
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,

    /// Remark to store with the results
    #[arg(long, value_name = "TEXT")]
    pub(crate) note: Option<String>,
}

/// How `device` measures.
#[derive(Debug, Clone, Group)]
pub(crate) struct Device {
    /// Rounds per job; every contender runs once per round
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,

    /// Only these jobs
    #[arg(long, value_name = "JOB", value_delimiter = ',', value_enum)]
    pub(crate) only: Vec<DeviceJob>,

    /// One short round: only checks that everything works
    #[arg(long)]
    pub(crate) quick: bool,

    /// Use the device-serv and host-cli in this directory instead of building them
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,

    /// Also measure lwIP, built from the sources in this directory (bench/README.md)
    #[arg(long, value_name = "DIR")]
    pub(crate) lwip: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) runs: Runs,

    /// Already inside a network namespace; FD is an open descriptor of the outer /proc
    #[arg(long, hide = true, value_name = "FD")]
    pub(crate) inside: Option<i32>,
}

/// The name of a job.
pub(crate) trait JobKind: Copy {
    /// Its name on the command line.
    fn name(self) -> String;

    /// True if it has two processes that wake each other, so that it is measured in each placement.
    fn is_pinned(self) -> bool;
}

/// A job of `device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum DeviceJob {
    /// Download from the server
    Get,
    /// Upload to the server
    Put,
    /// The same with buffers of 2 and 4 KiB
    SmallBuffersGet,
    /// The same with buffers of 2 and 4 KiB
    SmallBuffersPut,
    /// Small files in one session, pipelined and one by one
    Files,
    /// Latency of a small request
    RoundTrip,
    /// Wake-ups with one idle connection
    Idle,
    /// Wake-ups with occasional small messages
    Messages,
    /// Download over a link with loss and delay, with several sessions
    BadLine,
}

impl JobKind for DeviceJob {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn is_pinned(self) -> bool {
        matches!(self, Self::Get | Self::Put | Self::RoundTrip)
    }
}

/// A job of `host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum JobName {
    /// Download a large file, discard it
    GetDiscard,
    /// Download a large file to tmpfs
    GetTmpfs,
    /// Upload a large file to tmpfs
    PutTmpfs,
    /// Upload a large file to a disk: the cost of durability
    PutDisk,
    /// Download 512 MiB over protected connections, discard it
    SealedGetDiscard,
    /// Download 512 MiB over protected connections to tmpfs
    SealedGetTmpfs,
    /// Upload 512 MiB over protected connections to tmpfs
    SealedPutTmpfs,
    /// A new connection and its first answer, protected and not
    SealedConnect,
    /// Download many small files to tmpfs
    SmallGetTmpfs,
    /// Download many small files to a disk
    SmallGetDisk,
    /// Upload many small files to a disk
    SmallPutDisk,
    /// Compare a tree of small files that has not changed
    SyncUnchanged,
    /// Upload a tree of small files to a disk
    SyncCold,
    /// Download one tiny file, from client start to client exit
    Tiny,
    /// Download tiny files in one session, and each in a new session
    Session,
    /// Files of 1 KiB to 1 GiB in a session: throughput by file size
    FileSizes,
    /// Small files in 1 to 1,000 sessions at a time: throughput by their number
    Sessions,
    /// Many concurrent clients
    Clients,
    /// Memory of a server after its first answer
    ServerMemory,
    /// Memory added by each idle session
    SessionMemory,
    /// From the start of a server to its first answer
    Start,
}

impl JobKind for JobName {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn is_pinned(self) -> bool {
        matches!(self, Self::Tiny | Self::Session | Self::FileSizes)
    }
}
