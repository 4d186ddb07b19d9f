//! Hosts and addresses of servers as users write them: names, IP addresses, brackets, scopes and ports.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;
use std::io;
use std::net::ToSocketAddrs as _;

/// A name or an address: `localhost`, `192.0.2.7`, `::1`, `[::1]`, `fe80::1%eth0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host(String);

impl Host {
    /// The host without brackets, as the resolver expects it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its addresses with `port`. Unless this is an address or `localhost`, it may block on the resolver.
    ///
    /// # Errors
    /// The error of the resolver.
    pub fn resolve(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        // RFC 6761: it needs no resolver.
        if self.0.eq_ignore_ascii_case("localhost") {
            return Ok(vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]);
        }
        Ok((self.0.as_str(), port).to_socket_addrs()?.map(canonical).collect())
    }
}

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const ERROR: &str = "not a host name or address";
        if text.contains("]:") || text.matches(':').count() == 1 {
            return Err("only a host name or address, without a port");
        }
        let host = match text.strip_prefix('[') {
            Some(rest) => {
                let host = rest.strip_suffix(']').ok_or("missing `]`")?;
                let ip = host.split_once('%').map_or(host, |(ip, _)| ip);
                ip.parse::<Ipv6Addr>().map_err(|_| "only an IPv6 address may be in brackets")?;
                host
            }
            None => text,
        };
        if host.parse::<Ipv6Addr>().is_ok_and(|ip| ip.is_unicast_link_local()) {
            return Err("a link-local address needs its network interface, as in fe80::1%eth0");
        }
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '[' | ']' | '/');
        if host.is_empty() || host.contains(is_odd) { Err(ERROR) } else { Ok(Self(host.to_owned())) }
    }
}

impl From<IpAddr> for Host {
    fn from(ip: IpAddr) -> Self {
        Self(ip.to_string())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The port of a server that is named without one.
pub const DEFAULT_PORT: u16 = 50000;

/// A host, and the port if it is given: `board-7`, `board-7:50001`, `192.0.2.7:50001`, `::1`, `[::1]:50001`,
/// `fe80::1%eth0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The host.
    pub host: Host,
    /// The port, if it is given.
    pub port: Option<u16>,
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if host.ends_with(']') || !host.contains(':') => (host, Some(parse_port(port)?)),
            _ => (text, None),
        };
        let host: Host = host.parse()?;
        let ip = host.0.split_once('%').map_or(host.as_str(), |(ip, _)| ip);
        if ip.contains(':') && ip.parse::<Ipv6Addr>().is_err() {
            return Err("not an IPv6 address; with a port it needs brackets, as in [::1]:50000");
        }
        Ok(Self { host, port })
    }
}

/// A serial port: `serial:/dev/ttyACM0`, `serial:/dev/ttyUSB0:9600`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialPort {
    /// The device file.
    pub path: String,
    /// Bits a second, not 0.
    pub baud: u32,
}

impl SerialPort {
    /// The prefix of the text form.
    const PREFIX: &str = "serial:";
    /// The speed that is used if none is given.
    pub const DEFAULT_BAUD: u32 = 115_200;
}

impl FromStr for SerialPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix(Self::PREFIX).filter(|rest| rest.starts_with('/'));
        let rest = rest.ok_or("a serial port is written serial:/dev/ttyUSB0 or serial:/dev/ttyUSB0:115200")?;
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let (path, baud) = match rest.rsplit_once(':') {
            // The paths in /dev/serial/by-path and by-id contain colons.
            Some((_, end)) if rest.starts_with("/dev/serial/") && !is_number(end) => (rest, Self::DEFAULT_BAUD),
            Some((path, baud)) => {
                let baud = Some(baud).filter(|baud| is_number(baud)).and_then(|baud| baud.parse().ok());
                (path, baud.filter(|baud| *baud > 0).ok_or("BAUD must be a number of bits a second, such as 115200")?)
            }
            None => (rest, Self::DEFAULT_BAUD),
        };
        Ok(Self { path: path.to_owned(), baud })
    }
}

impl fmt::Display for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}:{}", Self::PREFIX, self.path, self.baud)
    }
}

/// The location of a server: on the network or at the other end of a serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// A host, and the port if it is given.
    Network(Address),
    /// A serial port.
    Serial(SerialPort),
}

impl FromStr for Server {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix(SerialPort::PREFIX) {
            // A host may be called `serial`.
            Some(rest) if parse_port(rest).is_err() => Ok(Self::Serial(text.parse()?)),
            _ => Ok(Self::Network(text.parse()?)),
        }
    }
}

/// Parses a port: 1 to 65535.
///
/// # Errors
/// It is not one.
pub fn parse_port(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port > 0).ok_or("the port must be a number from 1 to 65535")
}

/// The canonical form of an address: an IPv4-mapped IPv6 address becomes IPv4. A link-local address keeps its scope.
#[must_use]
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => {
            core::net::SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        _ => SocketAddr::new(addr.ip().to_canonical(), addr.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_brackets_and_scopes_are_hosts() {
        for (text, host) in [
            ("localhost", "localhost"),
            ("192.0.2.7", "192.0.2.7"),
            ("::1", "::1"),
            ("[::1]", "::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("[fe80::1%eth0]", "fe80::1%eth0"),
            ("board-7.local", "board-7.local"),
        ] {
            assert_eq!(text.parse::<Host>().unwrap().as_str(), host);
        }
        for bad in
            ["fe80::1", "[fe80::1]", "", "[]", "[::1", "::1]", "[localhost]", "[192.0.2.7]", "a b", "a\n", "http://a"]
        {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
        for with_port in ["[::1]:50000", "board-7:50000"] {
            assert!(with_port.parse::<Host>().unwrap_err().contains("without a port"), "{with_port}");
        }
    }

    #[test]
    fn a_port_follows_the_last_colon_unless_that_belongs_to_an_ipv6_address() {
        for (text, host, port) in [
            ("board-7", "board-7", None),
            ("board-7:50001", "board-7", Some(50001)),
            ("192.0.2.7:1", "192.0.2.7", Some(1)),
            ("::1", "::1", None),
            ("::1:5000", "::1:5000", None),
            ("[::1]", "::1", None),
            ("[::1]:65535", "::1", Some(65535)),
            ("fe80::1%eth0", "fe80::1%eth0", None),
            ("[fe80::1%eth0]:7", "fe80::1%eth0", Some(7)),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
        }
        for bad in [
            "",
            ":7",
            "a:",
            "a:0",
            "a:65536",
            "a:x",
            "a:b:7",
            "::1:50000",
            "fe80::1%eth0:x]",
            "[::1]x",
            "[a]:7",
            "::1]:7",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_serial_port_has_a_path_and_maybe_a_speed() {
        for (text, path, baud) in [
            ("serial:/dev/ttyACM0", "/dev/ttyACM0", 115_200),
            ("serial:/dev/ttyUSB0:9600", "/dev/ttyUSB0", 9600),
            ("serial:/dev/my:board:9600", "/dev/my:board", 9600),
            (
                "serial:/dev/serial/by-id/usb-Espressif_7C:DF:A1-if00",
                "/dev/serial/by-id/usb-Espressif_7C:DF:A1-if00",
                115_200,
            ),
            (
                "serial:/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0",
                "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0",
                115_200,
            ),
        ] {
            assert_eq!(text.parse(), Ok(Server::Serial(SerialPort { path: path.to_owned(), baud })));
        }
        for bad in [
            "serial:",
            "serial:ttyACM0",
            "serial:/dev/ttyACM0:",
            "serial:/dev/ttyACM0:0",
            "serial:x:7",
            "serial:/dev/x:abc",
        ] {
            assert!(bad.parse::<Server>().is_err(), "{bad}");
        }
        assert!(matches!("serial:7".parse(), Ok(Server::Network(Address { port: Some(7), .. }))));
    }

    #[test]
    fn an_address_has_one_form_and_keeps_its_scope() {
        for (text, form) in [
            ("[::ffff:127.0.0.1]:7", "127.0.0.1:7"),
            ("127.0.0.1:7", "127.0.0.1:7"),
            ("[::1]:7", "[::1]:7"),
            ("[fe80::1%3]:7", "[fe80::1%3]:7"),
        ] {
            assert_eq!(canonical(text.parse().unwrap()).to_string(), form);
        }
    }
}
