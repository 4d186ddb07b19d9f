//! The bench's own clients: blocking, with one connection, and only the protocol. They measure a server without a
//! client program, and the lower bounds.
//!
//! They run as separate processes, like the programs that they are compared with.

mod clients;
mod connect;
mod fetch;
mod ftp;
mod http;
mod library;
mod limit;
mod seal;
mod session;
mod sink;
mod skiff;
mod threads;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand, ValueEnum};

use crate::peers::Scheme;
use crate::tools::Cipher;

pub(crate) use connect::connect;
pub(crate) use session::Latency;
pub(crate) use sink::Sink;

/// The protocol to use with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Word {
    /// skiff, inline, with the checksum of every body verified
    Skiff,
    /// skiff, inline, the checksum ignored
    SkiffUnverified,
    /// skiff, classic commands and data connections
    Classic,
    /// HTTP/1.1
    Http,
    /// FTP, passive
    Ftp,
    /// The server echoes its input: for the time of a round trip
    Echo,
}

/// The minimal client's name for a scheme.
pub(crate) const fn word(scheme: &Scheme) -> Option<&'static str> {
    match scheme {
        Scheme::Skiff => Some("skiff"),
        Scheme::Http => Some("http"),
        Scheme::Ftp => Some("ftp"),
        Scheme::Sealed { .. } | Scheme::Https { .. } | Scheme::Rsync | Scheme::Tftp | Scheme::Sftp { .. } => None,
    }
}

/// The command line of a client.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Clone, Subcommand)]
enum Task {
    /// Fetches one file.
    Get {
        #[command(flatten)]
        server: ServerArgs,
        name: String,
        /// Write to this file instead of discarding
        #[arg(long)]
        to: Option<PathBuf>,
        /// Prints length and CRC-32C
        #[arg(long)]
        sum: bool,
    },
    /// Fetches a file many times, in one session and in new ones; prints how long that takes.
    Session {
        #[command(flatten)]
        server: ServerArgs,
        name: String,
        #[arg(long)]
        size: u64,
        #[arg(long)]
        count: u32,
        /// A session for each
        #[arg(long)]
        new: bool,
    },
    /// Fetches a file with many connections at a time.
    Clients {
        #[command(flatten)]
        server: ServerArgs,
        name: String,
        #[arg(long)]
        size: u64,
        #[arg(long)]
        count: u32,
    },
    /// Sends a file to itself with sendfile and discards it, or writes it to a file with splice.
    LimitGet {
        from: PathBuf,
        #[arg(long)]
        to: Option<PathBuf>,
    },
    /// Sends a file to itself with sendfile over many connections at a time, and discards it.
    LimitClients {
        from: PathBuf,
        #[arg(long)]
        count: u32,
    },
    /// skiff's client library, as host-cli uses it.
    Library(library::Library),
    /// Seals bytes in memory and opens them, one record after the other.
    LimitSeal {
        #[arg(long)]
        size: u64,
        #[arg(long)]
        cipher: Cipher,
    },
    /// Echoes one byte at a time, forever.
    Echo {
        #[arg(long)]
        port: u16,
    },
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ServerArgs {
    #[arg(long, value_enum)]
    scheme: Word,
    #[arg(long)]
    port: u16,
}

/// Runs one of the clients.
pub(crate) fn run(args: &ClientArgs) -> Result<()> {
    match &args.task {
        Task::Get { server, name, to, sum } => connect::get(server.scheme, server.port, name, to.as_deref(), *sum),
        Task::Session { server, name, size, count, new } => {
            let latency = session::measure(server.scheme, server.port, name, *size, *count, *new)?;
            println!("{}", serde_json::to_string(&latency)?);
            Ok(())
        }
        Task::Clients { server, name, size, count } => clients::fetch(server.scheme, server.port, name, *size, *count),
        Task::LimitGet { from, to } => limit::get(from, to.as_deref()),
        Task::LimitClients { from, count } => limit::clients(from, *count),
        Task::Library(library) => library.run(),
        Task::LimitSeal { size, cipher } => seal::limit(*size, *cipher),
        Task::Echo { port } => limit::echo(*port),
    }
}
