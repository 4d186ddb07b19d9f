//! `skiff-conformance`: checks a skiff server, and plays the server's part of the vectors to test a client.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io::{self, Write as _};
use std::net::{TcpListener, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use skiff_conformance::checks;
use skiff_conformance::conn::Verdict;
use skiff_conformance::play::Player;
use skiff_conformance::run::{Choice, run};
use skiff_conformance::scene::Target;
use skiff_kit::vector::load_all;

const EXAMPLES: &str = "\
Examples:
  skiff-conformance 192.168.69.1 50000                  check a server
  skiff-conformance board 50000 --key-file alice.key    check a server that requires a key
  skiff-conformance localhost 50000 --only resume       run some of the checks
  skiff-conformance serve 50000 write-read.txt          test a client with a vector

The checks store files whose names begin with `conf` and remove them. Checks that need something the server does not
offer are skipped, with the reason.

Exit codes: 0 no check failed, 1 a check failed or there is no server, 2 usage error.";

/// Checks a skiff server against docs/PROTOCOL.md, or plays the vectors to test a client.
#[derive(Debug, Parser)]
#[command(name = "skiff-conformance", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    check: Check,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// List all checks
    List,
    /// Test a client: play the server's part of vectors, one after another
    Serve(Serve),
}

#[derive(Debug, Args)]
struct Check {
    /// Name or address of the server
    #[arg(required = true)]
    host: Option<String>,
    /// Port of the server
    #[arg(required = true)]
    port: Option<u16>,
    /// File with this client's key (host-cli key grant)
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Skip the checks that take several seconds
    #[arg(long)]
    quick: bool,
    /// Run only checks whose name contains TEXT; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Fail a check after SECONDS without a reply
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

#[derive(Debug, Args)]
struct Serve {
    /// Port to listen on, on loopback; 0 picks a free one
    port: u16,
    /// Vectors to play, such as `write-read.txt`. Default: all, including those that only a broken client can match
    vectors: Vec<String>,
    /// Report a difference if the client sends nothing for SECONDS
    #[arg(long, value_name = "SECONDS", default_value = "15", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.mode {
        Some(Mode::List) => list(),
        Some(Mode::Serve(serve)) => self::serve(&serve),
        None => check(&cli.check),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // The reader of the output has closed it.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("skiff-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    for check in checks::all() {
        writeln!(out, "{:>2} {}: {}", check.section, check.id, check.rule)?;
    }
    Ok(true)
}

fn check(args: &Check) -> anyhow::Result<bool> {
    let (Some(host), Some(port)) = (&args.host, args.port) else {
        Cli::command().print_help().map(|()| false)?;
        return Ok(false);
    };
    let key = args.key_file.as_deref().map(skiff_keys::read_key).transpose()?;
    let mut addrs = (host.as_str(), port).to_socket_addrs().with_context(|| host.clone())?;
    // A name may have an address on which nothing listens.
    let addr = addrs.clone().find(|addr| std::net::TcpStream::connect_timeout(addr, Duration::from_secs(5)).is_ok());
    let Some(addr) = addr.or_else(|| addrs.next()) else { bail!("{host}: no address") };
    let target = Target { addr, key, timeout: Duration::from_secs(args.timeout) };
    let choice = Choice { quick: args.quick, only: args.only.clone() };
    let mut out = io::stdout().lock();
    let mut failed = Ok(());
    let report = run(&target, &choice, |entry| {
        if !args.json && failed.is_ok() {
            failed = entry.text(&mut out);
        }
    });
    failed?;
    match report {
        Ok(report) => {
            if args.json {
                report.json(&mut out)?;
            } else {
                report.summary(&mut out)?;
            }
            Ok(report.failed == 0)
        }
        Err(Verdict::Fail(why) | Verdict::Skip(why)) => bail!(why),
    }
}

fn serve(args: &Serve) -> anyhow::Result<bool> {
    let all = load_all()?;
    let mut vectors = Vec::new();
    for name in &args.vectors {
        let known = || {
            format!(
                "{name}: no such vector; the vectors are {}",
                all.iter().map(|v| v.file.as_str()).collect::<Vec<_>>().join(" ")
            )
        };
        vectors.push(all.iter().find(|vector| vector.file == *name).with_context(known)?);
    }
    if vectors.is_empty() {
        vectors.extend(&all);
    }
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).with_context(|| format!("port {}", args.port))?;
    let mut out = io::stdout().lock();
    writeln!(out, "port {}", listener.local_addr()?.port())?;
    let mut failed = 0;
    for vector in &vectors {
        writeln!(out, "next: {}", vector.file)?;
        out.flush()?;
        match Player::new(&listener, Duration::from_secs(args.timeout)).play(vector) {
            Ok(()) => writeln!(out, "ok {}", vector.file)?,
            Err(difference) => {
                failed += 1;
                writeln!(out, "FAILED {difference}")?;
            }
        }
    }
    writeln!(out, "{} played, {failed} failed", vectors.len())?;
    Ok(failed == 0)
}
