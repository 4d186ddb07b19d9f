//! `device-serv`: the embedded server on a computer.

mod args;
#[cfg(target_os = "linux")]
mod network;

use std::io::Write;
use std::process::ExitCode;

use bytesize::ByteSize;
use clap::{CommandFactory as _, Parser as _};
use clap_mangen::roff::{Roff, roman};
use skiff_device::serv::listen::Listen;
use skiff_device::serv::options::{Options, Security};
use skiff_device::serv::say::{self, say};
use skiff_device::serv::{self, stop::Stop};
use skiff_keys::read_secret;

use args::Args;

fn main() -> ExitCode {
    if std::env::args_os().skip(1).eq(["man"]) {
        return manual(&mut std::io::stdout()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
    }
    let code = match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{}", say::without_number(&format!("{error:#}"))));
            ExitCode::FAILURE
        }
    };
    say::flush();
    code
}

/// Prints the manual page, generated from the definition of the options.
fn manual(out: &mut dyn Write) -> std::io::Result<()> {
    let command = Args::command();
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    clap_mangen::Man::new(command.after_help(None::<&'static str>)).render(out)?;
    let mut end = Roff::new();
    end.control("SH", ["EXAMPLES AND NOTES"]).control("nf", []);
    for line in notes.lines() {
        end.text([roman(line)]);
    }
    end.control("fi", []).to_writer(out)
}

/// Reports options that conflict, like clap's own errors, and ends the program with exit code 2.
fn usage(text: &str) -> ! {
    Args::command().error(clap::error::ErrorKind::ArgumentConflict, text).exit()
}

fn run(args: &Args) -> anyhow::Result<()> {
    let server = &args.server;
    let security = match &server.secret {
        Some(file) => Some(Security { secret: read_secret(file)?, min_generation: server.min_generation }),
        None => None,
    };
    let options = Options {
        sessions: server.sessions,
        buffer: server.buffer,
        store: server.store.clone(),
        preload: server.preload.clone(),
        data_ports: server.data_ports,
        name: server.name.clone(),
        security,
        verbose: args.verbose,
        ..Options::default()
    };
    if let (Some(range), Some(data)) = (options.data_ports, options.data_connections())
        && range.ports().len() < data
    {
        usage(&format!("--data-ports: {} sessions need {data} ports", options.sessions));
    }
    let ram = serv::ram(&options).unwrap_or(0);
    let told = format!(
        "{} in {} of RAM, and {}",
        say::count(options.sessions, "session"),
        ByteSize::b(ram as u64),
        serv::describe(&options.store)
    );
    if server.secret.is_some() {
        say(format_args!("clients need a key; host-cli key grant --secret FILE CLIENT creates one"));
    }
    let (stop, stopped) = Stop::new()?;
    stop.on_signals()?;
    if let Some(port) = args.listen {
        let server = Listen::bind(options, port)?;
        let port = server.port();
        server.run(&stopped, || announce(port, &told))?;
        return Ok(());
    }
    #[cfg(target_os = "linux")]
    if let Some(tap) = &args.tap {
        let link = network::link(args, tap);
        let port = link.port;
        let server = serv::network::Network::open(options, link)?;
        server.run(&stopped, || announce(port, &told))?;
        return Ok(());
    }
    anyhow::bail!("--tap needs Linux; --listen works everywhere")
}

/// Prints the one line on standard output, for programs that start this one. The server runs even if nobody reads the
/// line.
fn announce(port: u16, told: &str) {
    say::announce(format_args!("port {port}"));
    say(format_args!("{told}"));
}
