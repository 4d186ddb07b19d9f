//! Options of a server.

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use core::time::Duration;
use std::io;

use skiff_proto::MinRate;
use skiff_proto::command::Verbs;
use skiff_proto::server::Limits;
use skiff_proto::takeover::TAKEOVER;

use super::security::Security;
use crate::address::Host;

/// Options of a server.
#[derive(Debug, Clone)]
pub struct Options {
    /// The port of all addresses; 0 lets the system choose.
    pub port: u16,
    /// Addresses to listen on. Empty: loopback, IPv4 and IPv6, as far as available.
    pub bind: Vec<Host>,
    /// The ports of classic data connections. Default: any free ports.
    pub data_ports: Option<PortRange>,
    /// Maximum number of control connections; more are closed at once. Default: 1000.
    pub max_clients: usize,
    /// Idle timeout: a connection without progress is closed. Default: 300 s.
    pub idle: Duration,
    /// Minimum transfer rate while a body is outstanding. Default: 1 KiB in 30 s.
    pub min_rate: MinRate,
    /// A writer that has received nothing for this long yields to another of the same name (PROTOCOL §7).
    /// Default: 5 s.
    pub takeover: Duration,
    /// How long running transfers may continue after shutdown began. Default: 10 s.
    pub grace: Duration,
    /// Accept bodies without a checksum. Default: false.
    pub nocrc: bool,
    /// Who may connect. Default: everybody.
    pub security: Security,
    /// Use only portable system calls. Default: false.
    pub portable: bool,
    /// Where to serve metrics and health checks over HTTP. Default: nowhere.
    pub metrics: Option<SocketAddr>,
}

impl Options {
    /// The defaults on `port`.
    #[must_use]
    pub fn new(port: u16) -> Self {
        Self {
            port,
            bind: Vec::new(),
            data_ports: None,
            max_clients: 1000,
            idle: Duration::from_secs(300),
            min_rate: MinRate::DEFAULT,
            takeover: TAKEOVER,
            grace: Duration::from_secs(10),
            nocrc: false,
            security: Security::default(),
            portable: false,
            metrics: None,
        }
    }

    /// The limits of a session.
    pub(crate) const fn limits(&self) -> Limits {
        Limits {
            name_max: 255,
            server: concat!("host-serv/", env!("CARGO_PKG_VERSION")),
            host: None,
            verbs: Verbs::ALL,
            idle: self.idle,
            min_rate: self.min_rate,
            nocrc: self.nocrc,
            // A file that shrinks while it is sent must be filled up to the end of its message.
            data_max: 16 * 1024 * 1024,
        }
    }
}

/// Ports from `low` to `high`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    low: u16,
    high: u16,
}

impl PortRange {
    /// `None` if the range is empty or includes port 0.
    #[must_use]
    pub const fn new(low: u16, high: u16) -> Option<Self> {
        if low == 0 || low > high { None } else { Some(Self { low, high }) }
    }

    /// The ports.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.low..=self.high
    }
}

impl FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ERROR: &str = "two ports, LOW-HIGH, from 1 to 65535";
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.parse().map_err(|_| ERROR);
        Self::new(port(low)?, port(high)?).ok_or(ERROR)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

/// An address that can't be bound.
#[derive(Debug, thiserror::Error)]
#[error("can't listen on {addr}")]
pub struct BindError {
    /// The address, or the name that has no address.
    pub addr: String,
    /// The error of the system.
    pub source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_low_to_high() {
        let range: PortRange = "5000-5002".parse().unwrap();
        assert_eq!(range.iter().collect::<Vec<_>>(), [5000, 5001, 5002]);
        assert_eq!("62346-62346".parse::<PortRange>().unwrap().iter().count(), 1);
        assert_eq!("62346".parse::<PortRange>().unwrap().to_string(), "62346-62346");
        for bad in ["", "-", "0-5", "6-5", "1-65536", "a-b", "1-2-3"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}
