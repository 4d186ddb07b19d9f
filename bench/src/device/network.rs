//! TAPs and networks inside the network namespace of the bench.
//!
//! | network | members |
//! |---|---|
//! | 10.77.N.0/24 | server N behind a TAP (1), this machine (254) |
//! | 10.78.0.0/24 | this machine (254), and the far network (1) behind a bad line or a veth |
//! | 10.78.N.0/24 | server N behind a TAP in the far network |

use core::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use super::running::Running;

/// The location of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// 77 or 78.
    net: u8,
    number: u8,
}

impl Place {
    /// Next to this machine.
    pub(super) const fn near(number: u8) -> Self {
        Self { net: 77, number }
    }

    /// In the far network.
    pub(super) const fn far(number: u8) -> Self {
        Self { net: 78, number }
    }

    /// The name of its TAP.
    pub(super) fn tap(self) -> String {
        format!("bench{}-{}", self.net, self.number)
    }

    /// The server's own address, with the bits of the network.
    pub(super) fn cidr(self) -> String {
        format!("{}/24", self.ip())
    }

    const fn ip(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, self.number, 1)
    }

    pub(super) fn addr(self, port: u16) -> SocketAddr {
        (self.ip(), port).into()
    }

    /// The other end of the TAP.
    pub(super) const fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, self.number, 254)
    }
}

/// Another network namespace with its own processes.
#[derive(Debug)]
pub(super) struct Far {
    holder: Running,
}

/// How the far network is reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Line {
    /// By a cable.
    Veth,
    /// By a line that loses this percentage of packets and has this delay in milliseconds, each way.
    Bad { drop: f64, delay: u64 },
}

impl Far {
    /// Creates it, and the line to it. Keep the line's process, if there is one.
    pub(super) fn new(line: Line) -> Result<(Self, Option<Running>)> {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sh", "-c", "echo ready; exec sleep 3600"]);
        let far = Self { holder: Running::start("a far network", &mut unshare)? };
        let (near_end, far_end) = ("near0", "far0");
        let relay = match line {
            Line::Veth => {
                ip(&["link", "add", near_end, "type", "veth", "peer", "name", far_end])?;
                None
            }
            Line::Bad { drop, delay } => {
                for name in [near_end, far_end] {
                    ip(&["tuntap", "add", "dev", name, "mode", "tap"])?;
                }
                let mut relay = Command::new(std::env::current_exe()?);
                relay.args(["device-client", "relay", "--one", near_end, "--other", far_end]);
                relay.args(["--drop", &drop.to_string(), "--delay", &delay.to_string()]);
                Some(Running::start("the line", &mut relay)?)
            }
        };
        ip(&["link", "set", far_end, "netns", &far.holder.pid().to_string()])?;
        ip(&["addr", "replace", "10.78.0.254/24", "dev", near_end])?;
        ip(&["link", "set", near_end, "up"])?;
        ip(&["route", "replace", "10.78.0.0/16", "via", "10.78.0.1"])?;
        far.run(&["ip", "link", "set", "lo", "up"])?;
        far.run(&["ip", "addr", "add", "10.78.0.1/24", "dev", far_end])?;
        far.run(&["ip", "link", "set", far_end, "up"])?;
        far.run(&["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        Ok((far, relay))
    }

    /// The command, run in the far network.
    pub(super) fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg(format!("--net=/proc/{}/ns/net", self.holder.pid())).arg("--");
        inside.arg(command.get_program()).args(command.get_args());
        inside
    }

    /// Creates and configures a TAP there, for a server that does not do so itself.
    pub(super) fn make_tap(&self, place: Place) -> Result<()> {
        set_up(place).iter().try_for_each(|words| self.run(&words.iter().map(String::as_str).collect::<Vec<_>>()))
    }

    fn run(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        run(&mut self.command(&command))
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        // Those of a veth go in pairs; the other one of a line stays with its process.
        _ = ip(&["link", "del", "near0"]);
    }
}

/// Creates and configures a TAP, for a server that does not do so itself.
pub(super) fn make_tap(place: Place) -> Result<()> {
    set_up(place).iter().try_for_each(|words| run(Command::new(&words[0]).args(&words[1..])))
}

fn set_up(place: Place) -> [Vec<String>; 3] {
    let (name, address) = (place.tap(), format!("{}/24", place.gateway()));
    [
        format!("ip tuntap add dev {name} mode tap"),
        format!("ip addr add {address} dev {name}"),
        format!("ip link set {name} up"),
    ]
    .map(|line| line.split(' ').map(str::to_owned).collect())
}

pub(super) fn remove_tap(place: Place) -> Result<()> {
    ip(&["link", "del", &place.tap()])
}

/// Runs `ip` of iproute2.
fn ip(words: &[&str]) -> Result<()> {
    run(Command::new("ip").args(words))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
