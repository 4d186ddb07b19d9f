//! `device-serv`: the embedded server on a computer.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use skiff_device::serv::listen::Listen;
use skiff_device::serv::options::{Options, Place, PortRange, Ring};
use skiff_device::serv::{self, stop::Stop};

const EXAMPLES: &str = "\
Examples:
  device-serv --listen 50000               the embedded server behind port 50000 of this machine
  device-serv --listen 0 --preload docs    a free port; the first line on stdout says which: \"port 40213\"
  device-serv --listen 50000 --store flash:chip.img:4MiB
                                           files on an image of a flash chip, which survives kill -9

Exit codes: 0 ended, 1 could not start or failed, 2 usage.";

/// Runs the server of a microcontroller, with its TCP stack and its memory, on this computer.
#[derive(Debug, Parser)]
#[command(name = "device-serv", version, after_help = EXAMPLES)]
struct Args {
    /// Serve behind this port of the loopback addresses; 0 for any that is free. Needs no privilege
    #[arg(long, value_name = "PORT")]
    listen: u16,

    /// Where files are kept: in memory, or on a file that stands for a flash chip and is made if it is not there; 1MiB
    /// unless said otherwise
    #[arg(long, value_name = "ram[:SIZE]|flash:IMAGE[:SIZE]", default_value = "ram")]
    store: Place,

    /// Begin with the files of this directory
    #[arg(long, value_name = "DIR")]
    preload: Option<PathBuf>,

    /// Clients at a time: 1, 2, 4 or 8, with 1, 1, 2 or 4 classic data connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    sessions: usize,

    /// Ports of classic data connections. Default: any that are free
    #[arg(long, value_name = "LOW-HIGH")]
    data_ports: Option<PortRange>,

    /// Size of each socket ring: 2K, 16K or 64K
    #[arg(long, value_name = "SIZE", default_value = "2K")]
    ring: Ring,

    /// Say on stderr what happens
    #[arg(short, long)]
    verbose: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("device-serv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let options = Options {
        sessions: args.sessions,
        ring: args.ring,
        store: args.store.clone(),
        preload: args.preload.clone(),
        data_ports: args.data_ports,
        verbose: args.verbose,
        ..Options::default()
    };
    let ram = serv::ram(&options);
    let server = Listen::bind(options, args.listen)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "port {}", server.port()).and_then(|()| out.flush()).context("stdout")?;
    drop(out);
    if let Some(ram) = ram {
        let files = serv::describe(&args.store);
        eprintln!("device-serv: {} sessions in {ram} bytes of RAM, and {files}", args.sessions);
    }
    // Kept to the end of the program: whoever ends it ends the server.
    let (_stop, stopped) = Stop::new()?;
    server.run(&stopped)?;
    Ok(())
}
