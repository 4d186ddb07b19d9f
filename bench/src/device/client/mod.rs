//! Clients for servers behind a TAP: blocking, one connection, nothing but the protocol. Each is a separate process,
//! measures itself from connect to the last byte, and prints the result as JSON.

mod files;
mod oneway;
mod pace;
mod session;

use core::net::SocketAddr;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::relay::{self, RelayArgs};

pub(crate) use files::{LARGE, content};
pub(crate) use pace::Latency;

/// The command line of a client.
#[derive(Debug, Clone, Args)]
pub(crate) struct DeviceClientArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Clone, Subcommand)]
enum Task {
    /// Reads so many bytes of an endless connection.
    Source {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        bytes: u64,
    },
    /// Writes so many bytes and waits until the peer has taken them.
    Sink {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        bytes: u64,
    },
    /// Fetches a file of [`content`] again and again in one session; its checksum is computed and compared each time.
    Get {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        size: u64,
        #[arg(long)]
        times: u32,
    },
    /// Stores such a file again and again in one session.
    Put {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        size: u64,
        #[arg(long)]
        times: u32,
    },
    /// Stores small files, or fetches them and compares.
    Many {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long, value_enum)]
        way: Way,
        #[arg(long)]
        count: u32,
        /// All of them so often
        #[arg(long)]
        times: u32,
        /// One command at a time, in place of all at once
        #[arg(long)]
        one_by_one: bool,
    },
    /// Sends a small message and waits for the answer, again and again.
    Latency {
        #[arg(long)]
        addr: SocketAddr,
        /// `ping`, in place of bytes that come back
        #[arg(long)]
        ping: bool,
        #[arg(long)]
        count: u32,
        /// So many a second, in place of one right behind the other
        #[arg(long)]
        rate: Option<u32>,
    },
    /// Opens a session and leaves it idle until standard input ends.
    Idle {
        #[arg(long)]
        addr: SocketAddr,
        /// Bytes that come back, in place of `ping`
        #[arg(long)]
        echo: bool,
    },
    /// The kernel's TCP at the other end: sends without end on every connection (`chargen`), takes what comes (`discard`), or
    /// sends it back (`echo`).
    Serve {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long, value_enum)]
        service: Service,
        /// The congestion control of its connections
        #[arg(long)]
        congestion: Option<String>,
    },
    /// A lossy link between two TAPs.
    Relay(RelayArgs),
}

/// Which way files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    Get,
    Put,
}

/// What the kernel's end does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    Chargen,
    Discard,
    Echo,
}

/// How long something took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Took {
    pub(crate) seconds: f64,
}

/// Runs one of the clients.
pub(crate) fn run(args: &DeviceClientArgs) -> Result<()> {
    match &args.task {
        Task::Source { addr, bytes } => print(&oneway::source(*addr, *bytes)?),
        Task::Sink { addr, bytes } => print(&oneway::sink(*addr, *bytes)?),
        Task::Get { addr, size, times } => print(&files::get(*addr, *size, *times)?),
        Task::Put { addr, size, times } => print(&files::put(*addr, *size, *times)?),
        Task::Many { addr, way, count, times, one_by_one } => {
            print(&files::many(*addr, *way, *count, *times, !one_by_one)?)
        }
        Task::Latency { addr, ping, count, rate } => print(&pace::measure(*addr, *ping, *count, *rate)?),
        Task::Idle { addr, echo } => pace::idle(*addr, !echo),
        Task::Serve { addr, service, congestion } => oneway::serve(*addr, *service, congestion.as_deref()),
        Task::Relay(args) => relay::run(args),
    }
}

fn print(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
