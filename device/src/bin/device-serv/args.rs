//! The command line.

use core::net::IpAddr;
use std::path::PathBuf;

use clap::Parser;
use skiff_device::serv::faults::Chance;
use skiff_device::serv::options::{PortRange, StoreChoice, number, parse_size};

const EXAMPLES: &str = "\
Examples:
  device-serv --listen 50000               listen on loopback port 50000; needs no privileges
  device-serv --listen 0 --preload docs    use a free port and print it on stdout: \"port 40213\"
  device-serv --listen 50000 --store flash:chip.img:4MiB
                                           keep files in a flash image; they survive kill -9
  device-serv --tap tap0                   serve on 192.168.69.1 port 50000, attached to tap0
  device-serv --tap tap0 --dhcp --name lab3
                                           with DHCP; clients find it as lab3.local
  device-serv man | man -l -               read the manual page

The store holds at most 256 files, with names of at most 64 bytes and no directories. Files in
memory are lost when the server ends.

An existing TAP is used as is. A missing one is created and given an address, if the system permits
that. Otherwise create it once, as root:
  ip tuntap add dev tap0 mode tap user $(id -un)
  ip addr add 192.168.69.254/24 dev tap0 && ip link set tap0 up

Exit codes: 0 stopped by a signal, 1 could not start or failed, 2 usage error.";

/// Runs the microcontroller server, with its embedded TCP stack and memory limits, on this computer.
#[derive(Debug, Parser)]
#[command(name = "device-serv", version, after_help = EXAMPLES)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["listen", "tap"]))]
pub(crate) struct Args {
    /// Listen on this loopback port; 0 picks a free one. Needs no privileges
    #[arg(long, value_name = "PORT", value_parser = number::<u16>(0, u16::MAX.into()))]
    pub(crate) listen: Option<u16>,

    /// Serve on the network attached to this TAP (Linux)
    #[arg(long, value_name = "NAME", value_parser = tap)]
    pub(crate) tap: Option<String>,

    /// Log events to stderr
    #[arg(short, long)]
    pub(crate) verbose: bool,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    #[command(flatten)]
    pub(crate) network: NetworkArgs,

    #[command(flatten)]
    pub(crate) faults: FaultArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Server options")]
pub(crate) struct ServerArgs {
    /// Where to keep files: in memory, or in an image file of a flash chip, which is created if missing. SIZE is 1MiB
    /// by default
    #[arg(long, value_name = "ram[:SIZE]|flash:IMAGE[:SIZE]", default_value = "ram")]
    pub(crate) store: StoreChoice,

    /// At startup, load the files of this directory; subdirectories and links that lead out of it are skipped
    #[arg(long, value_name = "DIR")]
    pub(crate) preload: Option<PathBuf>,

    /// Maximum number of concurrent clients: 1, 2, 4 or 8, with 1, 1, 2 or 4 classic data connections; further clients
    /// are refused
    #[arg(long, value_name = "N", default_value = "4", value_parser = sessions)]
    pub(crate) sessions: usize,

    /// Ports for classic data connections. Default: those after the control port; with --listen, any free ports
    #[arg(long, value_name = "LOW-HIGH")]
    pub(crate) data_ports: Option<PortRange>,

    /// Size of each socket buffer, 512 bytes to 1MiB, which limits the data in flight per connection
    #[arg(long, aliases = ["buffers", "ring"], value_name = "SIZE", default_value = "2KiB", value_parser = buffer)]
    pub(crate) buffer: usize,

    /// Require a client key and encrypt: file with the device secret (`host-cli key new FILE`). Nonces and ephemeral
    /// secrets come from the system's random numbers, whatever the store
    #[arg(long, value_name = "FILE")]
    pub(crate) secret: Option<PathBuf>,

    /// Refuse keys below generation N, which revokes them
    #[arg(long, value_name = "N", requires = "secret", default_value_t = 1, hide_default_value = true,
        value_parser = number::<u32>(1, u32::MAX.into()))]
    pub(crate) min_generation: u32,

    /// Name that the server reports to clients: 1 to 32 bytes, no spaces. On a TAP it is also announced by mDNS as
    /// NAME.local [default on a TAP: skiff- and the end of the MAC address, such as skiff-000001]
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    pub(crate) name: Option<String>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network options (with --tap)")]
pub(crate) struct NetworkArgs {
    /// The server's address; repeat for one IPv4 and one IPv6 address. A link-local IPv6 address is always added
    /// [default: 192.168.69.1/24, even if only an IPv6 address is given]
    #[arg(long, value_name = "ADDR/BITS", conflicts_with = "listen")]
    pub(crate) ip: Vec<Cidr>,

    /// Get an IPv4 address from DHCP
    #[arg(long, conflicts_with = "listen")]
    pub(crate) dhcp: bool,

    /// Gateway to other networks; repeat for one IPv4 and one IPv6 address
    #[arg(long, value_name = "ADDR", conflicts_with = "listen", value_parser = own)]
    pub(crate) gateway: Vec<IpAddr>,

    /// This machine's address on a TAP that device-serv creates; repeat for one IPv4 and one IPv6 address [default: the
    /// gateway's, or the last one of the network]
    #[arg(long, value_name = "ADDR", conflicts_with = "listen", value_parser = own)]
    pub(crate) host_ip: Vec<IpAddr>,

    /// The server's MAC address [default: 02:00:00:00:00:01]
    #[arg(long, value_name = "MAC", conflicts_with = "listen", value_parser = mac)]
    pub(crate) mac: Option<[u8; 6]>,

    /// Port for control connections [default: 50000]
    #[arg(long, value_name = "PORT", conflicts_with = "listen", value_parser = number::<u16>(1, u16::MAX.into()))]
    pub(crate) port: Option<u16>,

    /// Don't announce the server by mDNS, and don't answer `host-cli discover`
    #[arg(long, conflicts_with = "listen")]
    pub(crate) no_announce: bool,

    /// auto: offload checksums and TCP segmentation to the kernel where it supports that. off: frames are exactly as on
    /// a wire; implied by --pcap and the options that simulate a bad link
    #[arg(long, value_name = "auto|off", conflicts_with = "listen", default_value = "auto", value_parser = offload,
        action = clap::ArgAction::Set)]
    pub(crate) offload: bool,

    /// Longest IP packet, 576 to 65521 bytes [default: the MTU of the TAP; 1500 if device-serv creates it]
    #[arg(long, value_name = "BYTES", conflicts_with = "listen", value_parser = number::<u16>(576, 65_521))]
    pub(crate) mtu: Option<u16>,

    /// Write every frame that crosses the TAP to a file or FIFO, for Wireshark or tcpdump. Frames that arrive faster
    /// than they can be written are dropped and counted
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    pub(crate) pcap: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Simulate a bad link (with --tap): percent of the frames, in each direction")]
pub(crate) struct FaultArgs {
    /// Drop frames
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    pub(crate) drop: Chance,

    /// Change one byte of frames
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    pub(crate) corrupt: Chance,

    /// Deliver frames out of order
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    pub(crate) reorder: Chance,

    /// Deliver frames twice
    #[arg(long, value_name = "PERCENT", conflicts_with = "listen", default_value = "0", hide_default_value = true)]
    pub(crate) duplicate: Chance,

    /// Delay all frames, in milliseconds, up to 60000
    #[arg(long, value_name = "MS", conflicts_with = "listen", default_value_t = 0, hide_default_value = true,
        value_parser = number::<u64>(0, 60_000))]
    pub(crate) delay: u64,

    /// Seed of the random faults: the same seed and the same frames give the same faults
    #[arg(long, value_name = "NUMBER", conflicts_with = "listen", default_value_t = 0, hide_default_value = true,
        value_parser = number::<u64>(0, u64::MAX))]
    pub(crate) seed: u64,
}

/// An address with its prefix length.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are no TAPs"))]
pub(crate) struct Cidr {
    pub(crate) address: IpAddr,
    pub(crate) prefix: u8,
}

impl core::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr =
            address.parse().map_err(|_| "must be an address with a prefix length, such as 192.168.69.1/24")?;
        let (usual, most) = if address.is_ipv4() { (24, 32) } else { (64, 128) };
        let prefix = if prefix.is_empty() { Some(usual) } else { prefix.parse().ok() };
        let prefix =
            prefix.filter(|prefix| *prefix <= most).ok_or_else(|| format!("the prefix length must be 0 to {most}"))?;
        // The network's own address, and that for all of it.
        let taken = matches!(address, IpAddr::V4(v4) if prefix < 31 && {
            let host = u32::MAX >> prefix;
            [0, host].contains(&(v4.to_bits() & host))
        });
        if taken { Err(nobodys(address)) } else { check_own(address).map(|address| Self { address, prefix }) }
    }
}

fn nobodys(address: IpAddr) -> String {
    format!("{address} can't be the address of a host")
}

fn check_own(address: IpAddr) -> Result<IpAddr, String> {
    let unusable = match address {
        IpAddr::V4(v4) => v4.is_broadcast() || v4.is_multicast() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_multicast() || v6.is_unspecified(),
    };
    if unusable { Err(nobodys(address)) } else { Ok(address) }
}

fn own(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "must be an address, such as 192.168.69.254".to_owned()).and_then(check_own)
}

fn tap(text: &str) -> Result<String, String> {
    let fits = (1..=15).contains(&text.len()) && !text.contains(|c: char| c == '/' || c.is_whitespace());
    if fits { Ok(text.to_owned()) } else { Err("must be an interface name of 1 to 15 bytes".into()) }
}

fn sessions(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|sessions| [1, 2, 4, 8].contains(sessions)).ok_or_else(|| "must be 1, 2, 4 or 8".into())
}

fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> = text.split([':', '-']).map(|byte| u8::from_str_radix(byte, 16)).collect();
    let mac = bytes.ok().and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
    mac.filter(|mac| mac[0] & 1 == 0 && *mac != [0; 6])
        .ok_or_else(|| "must be a unicast address, such as 02:00:00:00:00:01".into())
}

fn buffer(text: &str) -> Result<usize, String> {
    let bytes = parse_size(text)?;
    let bytes = usize::try_from(bytes).ok().filter(|bytes| (512..=1 << 20).contains(bytes));
    bytes.ok_or_else(|| "must be 512 bytes to 1MiB".into())
}

/// True for `auto`.
fn offload(text: &str) -> Result<bool, String> {
    match text {
        "auto" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be auto or off".into()),
    }
}

fn host_name(text: &str) -> Result<String, String> {
    let fits = (1..=skiff_proto::reply::MAX_HOST).contains(&text.len());
    let plain = !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if fits && plain { Ok(text.to_owned()) } else { Err("must be 1 to 32 bytes without spaces".into()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_options_fit_together() {
        super::Args::command().debug_assert();
    }
}
