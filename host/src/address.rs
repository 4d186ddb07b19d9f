//! Hosts as users write them: names, addresses, brackets and scopes.

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
        let host = match text.strip_prefix('[') {
            Some(rest) => {
                let host = rest.strip_suffix(']').ok_or("missing `]`")?;
                let ip = host.split_once('%').map_or(host, |(ip, _)| ip);
                ip.parse::<Ipv6Addr>().map_err(|_| "only an IPv6 address may be in brackets")?;
                host
            }
            None => text,
        };
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
        for bad in ["", "[]", "[::1", "::1]", "[localhost]", "[192.0.2.7]", "a b", "a\n", "[::1]:50000", "http://a"] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
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
