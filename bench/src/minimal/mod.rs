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
    /// Fetches a file `count` times in each of several sessions at a time; prints the seconds.
    Sessions {
        #[command(flatten)]
        server: ServerArgs,
        name: String,
        #[arg(long)]
        size: u64,
        #[arg(long)]
        count: u32,
        #[arg(long)]
        sessions: u32,
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
        #[command(flatten)]
        care: CareArgs,
    },
    /// Sends a file to itself with sendfile over many connections at a time, and discards it.
    LimitClients {
        from: PathBuf,
        #[arg(long)]
        count: u32,
        #[command(flatten)]
        care: CareArgs,
    },
    /// Sends small files to itself and makes them durable in batches.
    LimitPutMany { from: PathBuf, to: PathBuf },
    /// Serves classic `get`, forever.
    LimitClassic {
        #[arg(long)]
        port: u16,
        root: PathBuf,
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

/// What a limit does with its input.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CareArgs {
    /// Computes the checksum
    #[arg(long)]
    verify: bool,
    /// Writes in a second thread
    #[arg(long, requires = "verify")]
    aside: bool,
}

impl CareArgs {
    const fn care(self) -> limit::Care {
        match self {
            Self { verify: false, .. } => limit::Care::None,
            Self { aside: false, .. } => limit::Care::Verify,
            Self { .. } => limit::Care::VerifyAside,
        }
    }
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
        Task::Sessions { server, name, size, count, sessions } => {
            let time = clients::sessions(server.scheme, server.port, name, *size, *count, *sessions)?;
            println!("{}", time.as_secs_f64());
            Ok(())
        }
        Task::Clients { server, name, size, count } => clients::fetch(server.scheme, server.port, name, *size, *count),
        Task::LimitGet { from, to, care } => limit::get(from, to.as_deref(), care.care()),
        Task::LimitClients { from, count, care } => limit::clients(from, *count, care.care()),
        Task::LimitPutMany { from, to } => limit::put_many(from, to),
        Task::LimitClassic { port, root } => limit::classic(*port, root),
        Task::Library(library) => library.run(),
        Task::LimitSeal { size, cipher } => seal::limit(*size, *cipher),
        Task::Echo { port } => limit::echo(*port),
    }
}
