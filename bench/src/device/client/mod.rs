//! Clients for servers behind a TAP: blocking, with one connection, and only the protocol. Each is a separate process,
//! measures itself from connect to the last byte, and prints the result as JSON.

mod files;
mod oneway;
mod pace;
mod session;

use core::net::SocketAddr;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};
use serde::Serialize;

use super::raw;
use super::relay::{self, RelayArgs};
use super::transfer::Way;
use pace::Ask;

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
    /// Reads this many bytes from an endless connection.
    Source {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        bytes: u64,
    },
    /// Writes this many bytes and waits until the other end has received them.
    Sink {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        bytes: u64,
    },
    /// Fetches a file of [`content`] repeatedly in one session, and verifies its checksum each time.
    Get {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long)]
        size: u64,
        #[arg(long)]
        times: u32,
    },
    /// Stores such a file repeatedly in one session.
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
        /// How often to transfer all of them
        #[arg(long)]
        times: u32,
        /// One command at a time, instead of all at once
        #[arg(long)]
        one_by_one: bool,
    },
    /// Sends a small message and waits for the answer, repeatedly.
    Latency {
        #[arg(long)]
        addr: SocketAddr,
        /// `ping`, instead of echoed bytes
        #[arg(long)]
        ping: bool,
        #[arg(long)]
        count: u32,
        /// Echoed bytes over UDP
        #[arg(long, conflicts_with = "ping")]
        datagram: bool,
        /// This many per second, instead of one right after the other
        #[arg(long)]
        rate: Option<u32>,
    },
    /// Opens a session and leaves it idle until standard input ends.
    Idle {
        #[arg(long)]
        addr: SocketAddr,
        /// Echoed bytes, instead of `ping`
        #[arg(long)]
        echo: bool,
    },
    /// The kernel's TCP at the other end: sends endlessly on every connection (`chargen`), discards all input
    /// (`discard`), or sends it back (`echo`).
    Serve {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long, value_enum)]
        service: Service,
        /// The congestion control of its connections
        #[arg(long)]
        congestion: Option<String>,
    },
    /// Serves frames on a raw TAP, without a TCP stack.
    RawServe { tap: String },
    /// Transfers bytes to or from `raw-serve`.
    RawTransfer {
        #[arg(long)]
        addr: SocketAddr,
        #[arg(long, value_enum)]
        way: Way,
        #[arg(long)]
        bytes: u64,
    },
    /// A lossy link between two TAPs.
    Relay(RelayArgs),
}

/// The behavior of the kernel's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    Chargen,
    Discard,
    Echo,
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
        Task::Latency { addr, ping, datagram, count, rate } => {
            let ask = match (ping, datagram) {
                (true, _) => Ask::Ping,
                (_, true) => Ask::Datagram,
                _ => Ask::Echo,
            };
            print(&pace::measure(*addr, ask, *count, *rate)?)
        }
        Task::Idle { addr, echo } => pace::idle(*addr, if *echo { Ask::Echo } else { Ask::Ping }),
        Task::Serve { addr, service, congestion } => oneway::serve(*addr, *service, congestion.as_deref()),
        Task::RawServe { tap } => raw::serve(tap),
        Task::RawTransfer { addr, way, bytes } => print(&raw::transfer(*addr, *way, *bytes)?),
        Task::Relay(args) => relay::run(args),
    }
}

fn print(value: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}
