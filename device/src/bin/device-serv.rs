//! `device-serv`: the embedded server on a computer.

use core::net::{IpAddr, Ipv4Addr};
use core::time::Duration;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use clap::Parser;
use skiff_device::serv::faults::Chance;
use skiff_device::serv::listen::Listen;
use skiff_device::serv::options::{Options, PortRange, StoreChoice};
use skiff_device::serv::say::say;
use skiff_device::serv::{self, stop::Stop};

const EXAMPLES: &str = "\
Examples:
  device-serv --listen 50000               behind port 50000 of this machine, without any privilege
  device-serv --listen 0 --preload docs    a free port; the first line on stdout says which: \"port 40213\"
  device-serv --tap tap0                   on a network: 192.168.69.1 port 50000, behind tap0
  device-serv --tap tap0 --dhcp --name lab-3

A TAP that is there is used as it is. One that is not is made, set up and given this machine's address, if that is
permitted; or make it yours once, as root:
  ip tuntap add dev tap0 mode tap user $(id -un)
  ip addr add 192.168.69.254/24 dev tap0 && ip link set tap0 up

Exit codes: 0 ended, 1 could not start or failed, 2 usage.";

/// Runs the server of a microcontroller, with its TCP stack and its memory, on this computer.
#[derive(Debug, Parser)]
#[command(name = "device-serv", version, after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["listen", "tap"]))]
struct Args {
    /// Serve behind this port of the loopback addresses; 0 for any that is free. Needs no privilege
    #[arg(long, value_name = "PORT")]
    listen: Option<u16>,

    /// Serve on the network behind this TAP (Linux)
    #[arg(long, value_name = "NAME")]
    tap: Option<String>,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    network: NetworkArgs,

    #[command(flatten)]
    faults: FaultArgs,

    /// Say on stderr what happens
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "The server")]
struct ServerArgs {
    /// Where files are kept: in memory, by default 1MiB
    #[arg(long, value_name = "ram[:SIZE]", default_value = "ram")]
    store: StoreChoice,

    /// Begin with the files of this directory
    #[arg(long, value_name = "DIR")]
    preload: Option<PathBuf>,

    /// Clients at a time: 1, 2, 4 or 8, with 1, 1, 2 or 4 classic data connections
    #[arg(long, value_name = "N", default_value_t = 4)]
    sessions: usize,

    /// Ports of classic data connections. Default: those behind the control port; with --listen any that are free
    #[arg(long, value_name = "LOW-HIGH")]
    data_ports: Option<PortRange>,

    /// Size of each socket ring, 512 bytes to 1MiB; the spare connection has half of one that is small
    #[arg(long, alias = "buffers", value_name = "SIZE", default_value = "2KiB", value_parser = ring)]
    ring: usize,

    /// What the server calls itself, for clients that ask which one it is: 1 to 32 characters, no spaces
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "On a network (with --tap)")]
struct NetworkArgs {
    /// The server's address, IPv4 or IPv6, or one of each; there is always a link-local IPv6 one [default: 192.168.69.1/24]
    #[arg(long, value_name = "ADDR/BITS", conflicts_with = "listen")]
    ip: Vec<Cidr>,

    /// An IPv4 address by DHCP
    #[arg(long, conflicts_with = "listen")]
    dhcp: bool,

    /// The way to other networks, IPv4 or IPv6, or one of each
    #[arg(long, value_name = "ADDR", conflicts_with = "listen", value_parser = own)]
    gateway: Vec<IpAddr>,

    /// This machine's own address on a TAP that is made here [default: the gateway's, or the last of the network]
    #[arg(long, value_name = "ADDR", conflicts_with = "listen")]
    host_ip: Option<Ipv4Addr>,

    /// The server's hardware address [default: 02:00:00:00:00:01]
    #[arg(long, value_name = "MAC", conflicts_with = "listen", value_parser = mac)]
    mac: Option<[u8; 6]>,

    /// The port of control connections [default: 50000]
    #[arg(long, value_name = "PORT", conflicts_with = "listen", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// Write every frame that crosses the TAP to a file, for Wireshark or tcpdump
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    pcap: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "A bad link (with --tap), each way, in percent of the frames")]
struct FaultArgs {
    /// Lose some
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    drop: Chance,

    /// Change a byte of some
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    corrupt: Chance,

    /// Let others overtake some
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    reorder: Chance,

    /// Deliver some twice
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    duplicate: Chance,

    /// Deliver all so much later, in milliseconds, up to a minute
    #[arg(long, value_name = "MS", conflicts_with = "listen", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u64).range(..=60_000))]
    delay: u64,

    /// The same number and the same frames make the same faults
    #[arg(long, value_name = "NUMBER", conflicts_with = "listen", default_value_t = 0, hide_default_value = true)]
    seed: u64,
}

/// An address, and how many of its bits are the network's.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no TAPs"))]
struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl core::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| "an address and its network's bits, as 192.168.69.1/24")?;
        let (usual, most) = if address.is_ipv4() { (24, 32) } else { (64, 128) };
        let prefix = if prefix.is_empty() { Some(usual) } else { prefix.parse().ok() };
        let prefix = prefix.filter(|prefix| *prefix <= most).ok_or_else(|| format!("0 to {most} bits"))?;
        check_own(address).map(|address| Self { address, prefix })
    }
}

fn check_own(address: IpAddr) -> Result<IpAddr, String> {
    let unusable = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
    };
    if unusable { Err(format!("{address} can't be anybody's own")) } else { Ok(address) }
}

fn own(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "an address, as 192.168.69.254".to_owned()).and_then(check_own)
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> = text.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16)).collect();
    let mac = bytes.ok().and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6]).ok_or_else(|| "a unicast address, as 02:00:00:00:00:01".into())
}

fn ring(text: &str) -> Result<usize, String> {
    let bytes = text.parse::<ByteSize>()?.as_u64();
    let bytes = usize::try_from(bytes).ok().filter(|bytes| (512..=1 << 20).contains(bytes));
    bytes.ok_or_else(|| "512 bytes to 1MiB".into())
}

fn host_name(text: &str) -> Result<String, String> {
    let fits = (1..=skiff_proto::reply::MAX_HOST).contains(&text.len());
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if fits && plain { Ok(text.to_owned()) } else { Err("1 to 32 bytes, no spaces".into()) }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let server = &args.server;
    let options = Options {
        sessions: server.sessions,
        ring: server.ring,
        store: server.store.clone(),
        preload: server.preload.clone(),
        data_ports: server.data_ports,
        name: server.name.clone(),
        verbose: args.verbose,
        ..Options::default()
    };
    let ram = serv::ram(&options).context("--sessions: 1, 2, 4 or 8")?;
    let StoreChoice::Ram { size } = options.store;
    let told = format!(
        "{} sessions in {} of RAM, and {} for files",
        options.sessions,
        ByteSize::b(ram as u64),
        ByteSize::b(size)
    );
    let (stop, stopped) = Stop::new()?;
    stop.on_signals()?;
    match (args.listen, &args.tap) {
        (Some(port), _) => {
            let server = Listen::bind(options, port)?;
            let port = server.port();
            server.run_and_tell(&stopped, || announce(port, &told))?;
        }
        (None, Some(tap)) => network(args, options, tap, &told, &stopped)?,
        (None, None) => bail!("--listen or --tap"),
    }
    Ok(())
}

/// The one line on standard output, for programs that start this one.
fn announce(port: u16, told: &str) -> anyhow::Result<()> {
    say(format_args!("{told}"));
    let mut out = std::io::stdout().lock();
    writeln!(out, "port {port}").and_then(|()| out.flush()).context("stdout")
}

#[cfg(target_os = "linux")]
fn network(args: &Args, options: Options, tap: &str, told: &str, stopped: &serv::stop::Stopped) -> anyhow::Result<()> {
    use skiff_device::config::{Ipv4, Ipv6};
    use skiff_device::serv::faults::Faults;
    use skiff_device::serv::network::{DEFAULT_ADDRESS, DEFAULT_MAC, Link, Network};

    let NetworkArgs { ip, dhcp, gateway, host_ip, mac, port, pcap } = &args.network;
    let FaultArgs { drop, corrupt, reorder, duplicate, delay, seed } = args.faults;
    let (address_v4, address_v6) = by_family(ip.iter().map(|cidr| (cidr.address, cidr.prefix)), "--ip")?;
    let (gateway_v4, gateway_v6) = by_family(gateway.iter().map(|address| (*address, ())), "--gateway")?;
    let (gateway_v4, gateway_v6) = (gateway_v4.map(|(address, ())| address), gateway_v6.map(|(address, ())| address));
    let ipv4 = match (dhcp, address_v4) {
        (true, Some(_)) => bail!("--dhcp or --ip with an IPv4 address"),
        (true, None) if gateway_v4.is_some() => bail!("--gateway: DHCP says which"),
        (true, None) => Ipv4::Dhcp,
        (false, address) => {
            let (address, prefix) = address.unwrap_or(DEFAULT_ADDRESS);
            Ipv4::Static { address, prefix, gateway: gateway_v4 }
        }
    };
    let ipv6 = match address_v6 {
        Some((address, prefix)) => Ipv6::Static { address, prefix, gateway: gateway_v6 },
        None if gateway_v6.is_some() => bail!("--gateway: IPv6 needs an --ip of its own"),
        None => Ipv6::LinkLocal,
    };
    let link = Link {
        mac: mac.unwrap_or(DEFAULT_MAC),
        ipv4,
        ipv6,
        host: *host_ip,
        port: port.unwrap_or(50_000),
        faults: Faults { drop, corrupt, reorder, duplicate, delay: Duration::from_millis(delay) },
        seed,
        pcap: pcap.clone(),
        ..Link::new(tap)
    };
    let port = link.port;
    let server = Network::open(options, link)?;
    server.run_and_tell(stopped, || announce(port, told))?;
    Ok(())
}

/// The address of each family, with what belongs to it.
#[cfg(target_os = "linux")]
#[expect(clippy::type_complexity, reason = "it is taken apart at once")]
fn by_family<T>(
    all: impl Iterator<Item = (IpAddr, T)>,
    option: &str,
) -> anyhow::Result<(Option<(Ipv4Addr, T)>, Option<(core::net::Ipv6Addr, T)>)> {
    let (mut v4, mut v6) = (None, None);
    for (address, more) in all {
        let again = match address {
            IpAddr::V4(address) => v4.replace((address, more)).is_some(),
            IpAddr::V6(address) => v6.replace((address, more)).is_some(),
        };
        if again {
            bail!("{option}: one for IPv4 and one for IPv6 at most");
        }
    }
    Ok((v4, v6))
}

#[cfg(not(target_os = "linux"))]
fn network(_: &Args, _: Options, _: &str, _: &str, _: &serv::stop::Stopped) -> anyhow::Result<()> {
    _ = Duration::ZERO;
    bail!("--tap needs Linux; --listen works everywhere")
}
