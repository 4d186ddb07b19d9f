//! Finds the servers on this network, and the addresses of one server.

use core::cmp::Reverse;
use core::net::{IpAddr, SocketAddr, SocketAddrV6};
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Instant;

use mdns_sd::{ResolvedService, ScopedIp};

use super::links::{Answer, Links, Question, interfaces};
use crate::address::DEFAULT_PORT;

/// Timeout for finding an address.
const PATIENCE: Duration = Duration::from_secs(3);

/// Timeout for the announcement of a host that has answered. A server repeats an answer after a second at the earliest.
const ANNOUNCED: Duration = Duration::from_millis(1500);

/// How long to wait for another server of the same host: the longest delay of an answer (RFC 6762 section 6).
const ANOTHER: Duration = Duration::from_millis(130);

/// How often [`discover`] checks whether to stop.
const TURN: Duration = Duration::from_millis(100);

/// Maximum number of servers to collect: a larger number must be forged.
const MOST: usize = 1000;

/// A server that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name of the service. This and the other strings here are untrusted: sanitize them before printing.
    pub name: String,
    /// The name of the host, such as `lab3.local`.
    pub host: String,
    /// Its addresses, all with the same port: IPv4 first, link-local ones last. At least one.
    pub addresses: Vec<SocketAddr>,
    /// Product and version of the server, if it announces them.
    pub server: Option<String>,
}

impl Found {
    /// Returns `None` if the server has no address.
    pub(super) fn new(service: &ResolvedService) -> Option<Self> {
        let addresses = sorted(&service.addresses, service.port);
        let name = service.fullname.strip_suffix(&format!(".{}", service.ty_domain)).unwrap_or(&service.fullname);
        let server = service.get_property_val_str("server").filter(|server| !server.is_empty());
        let found = Self {
            name: name.to_owned(),
            host: service.host.trim_end_matches('.').to_owned(),
            addresses,
            server: server.map(str::to_owned),
        };
        (!found.addresses.is_empty() && service.port != 0).then_some(found)
    }

    /// The port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// Its addresses, without their scopes.
    pub(super) fn ips(&self) -> BTreeSet<IpAddr> {
        self.addresses.iter().map(SocketAddr::ip).collect()
    }

    /// True if both are the same server, found on two interfaces: they have the same addresses, or both are on this
    /// machine, whose addresses are `own`.
    fn is(&self, other: &Self, own: &BTreeSet<IpAddr>) -> bool {
        let (ips, others) = (self.ips(), other.ips());
        (&self.name, &self.host, self.port()) == (&other.name, &other.host, other.port())
            && (ips == others || (ips.is_subset(own) && others.is_subset(own)))
    }
}

/// Collects servers for the duration `limit`, or until `is_stopped` returns true, and sorts them by name. Servers with
/// the same name on different networks are different servers.
///
/// # Errors
/// If no network is available.
pub fn discover(limit: Duration, is_stopped: impl Fn() -> bool) -> io::Result<Vec<Found>> {
    let mut links = Links::ask(Question { servers: true, host: None })?;
    let end = Instant::now() + limit;
    let mut found = BTreeMap::new();
    while Instant::now() < end && !is_stopped() {
        match links.next(end.min(Instant::now() + TURN)) {
            Some((link, Answer::Server(service))) if found.len() < MOST => {
                if let Some(server) = Found::new(&service) {
                    found.insert((link, service.fullname), server);
                }
            }
            Some((link, Answer::Gone(name))) => _ = found.remove(&(link, name)),
            _ => {}
        }
    }
    let own = interfaces()?.into_values().flatten().collect();
    Ok(distinct(found.into_values(), &own))
}

/// The servers without duplicates, sorted.
fn distinct(found: impl Iterator<Item = Found>, own: &BTreeSet<IpAddr>) -> Vec<Found> {
    let mut servers = Vec::<Found>::new();
    for server in found {
        match servers.iter_mut().find(|other| other.is(&server, own)) {
            Some(other) => {
                other.addresses.extend(server.addresses);
                sort(&mut other.addresses);
            }
            None => servers.push(server),
        }
    }
    servers.sort_by(|a, b| (&a.name, &a.host, &a.addresses).cmp(&(&b.name, &b.host, &b.addresses)));
    servers
}

/// The addresses of a host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Its addresses, all with the same port: IPv4 first, link-local ones last. At least one.
    pub addresses: Vec<SocketAddr>,
    /// One address of each other host with this name, on other networks.
    pub namesakes: Vec<SocketAddr>,
}

/// Finds the addresses of a host whose name ends in `.local`. Without a port, this uses the port of the server that the
/// host announces, or [`DEFAULT_PORT`] if the host announces none or several; finding that out takes longer.
///
/// # Errors
/// No host answers within 3 s.
pub fn resolve(host: &str, port: Option<u16>) -> io::Result<Resolved> {
    let host = host.trim_end_matches('.');
    let mut links = Links::ask(Question { servers: port.is_none(), host: Some(format!("{host}.")) })?;
    let mut end = Instant::now() + PATIENCE;
    // The host of each network: its addresses, and the ports of its servers.
    let mut hosts = BTreeMap::<u32, (Vec<SocketAddr>, BTreeSet<u16>)>::new();
    while let Some((link, answer)) = links.next(end) {
        let (addresses, ports) = match answer {
            Answer::Addresses(addresses) => (sorted(&addresses, 0), None),
            Answer::Server(service) => match Found::new(&service) {
                Some(found) if found.host.eq_ignore_ascii_case(host) => (found.addresses, Some(service.port)),
                _ => continue,
            },
            Answer::Gone(_) => continue,
        };
        if addresses.is_empty() {
            continue;
        }
        let entry = hosts.entry(link).or_default();
        entry.1.extend(ports);
        entry.0.extend(addresses);
        // Another network may have another host with this name.
        let wait = if port.is_none() && entry.1.is_empty() { ANNOUNCED } else { ANOTHER };
        end = end.min(Instant::now() + wait);
    }
    let own = interfaces()?.into_values().flatten().collect();
    resolved(hosts.into_values(), port, &own).ok_or_else(|| {
        let text = format!("no host on this network answers to this name (mDNS, {} s)", PATIENCE.as_secs());
        io::Error::new(io::ErrorKind::NotFound, text)
    })
}

/// Chooses one host: the networks may have different hosts with the same name. Prefers one that announces a server.
/// `own`: the addresses of this machine.
fn resolved(
    hosts: impl Iterator<Item = (Vec<SocketAddr>, BTreeSet<u16>)>,
    port: Option<u16>,
    own: &BTreeSet<IpAddr>,
) -> Option<Resolved> {
    let mut hosts: Vec<_> = hosts.collect();
    hosts.sort_by_key(|(_, ports)| ports.is_empty());
    let with_port = |(mut addresses, ports): (Vec<SocketAddr>, BTreeSet<u16>)| {
        let announced = ports.first().copied().filter(|_| ports.len() == 1);
        let port = port.or(announced).unwrap_or(DEFAULT_PORT);
        addresses.iter_mut().for_each(|address| address.set_port(port));
        sort(&mut addresses);
        addresses
    };
    let mut hosts = hosts.into_iter().map(with_port);
    let addresses = hosts.next()?;
    let used = addresses.first()?.ip();
    let is_other = |other: &SocketAddr| other.ip() != used && !(own.contains(&other.ip()) && own.contains(&used));
    let mut namesakes: Vec<_> = hosts.filter_map(|host| host.first().copied()).filter(is_other).collect();
    sort(&mut namesakes);
    Some(Resolved { addresses, namesakes })
}

fn sorted<'a>(addresses: impl IntoIterator<Item = &'a ScopedIp>, port: u16) -> Vec<SocketAddr> {
    let mut addresses: Vec<_> = addresses.into_iter().map(|address| with_scope(address, port)).collect();
    sort(&mut addresses);
    addresses
}

fn sort(addresses: &mut Vec<SocketAddr>) {
    let is_near = |address: &SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local());
    addresses.sort_by_key(|address| (is_near(address), Reverse(address.is_ipv4()), *address));
    addresses.dedup();
}

fn with_scope(address: &ScopedIp, port: u16) -> SocketAddr {
    match (address, address.to_ip_addr()) {
        (ScopedIp::V6(scoped), IpAddr::V6(v6)) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, scoped.scope_id().index).into()
        }
        (_, ip) => SocketAddr::new(ip, port),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(addresses: &[&str]) -> Found {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Found { name: "lab3".to_owned(), host: "lab3.local".to_owned(), addresses, server: None }
    }

    #[test]
    fn ipv4_comes_first_and_link_local_last() {
        let addresses = ["fe80::1", "192.168.69.1", "fd00::1", "192.168.69.1"]
            .map(|ip| ScopedIp::from(ip.parse::<IpAddr>().unwrap()));
        let sorted: Vec<_> = sorted(&addresses, 7).iter().map(ToString::to_string).collect();
        assert_eq!(sorted, ["192.168.69.1:7", "[fd00::1]:7", "[fe80::1]:7"]);
    }

    #[test]
    fn another_host_of_the_name_is_known_with_its_port() {
        let own = ["192.168.1.9", "10.0.0.9"].map(|ip| ip.parse().unwrap()).into();
        let host = |address: &str, ports: &[u16]| (vec![address.parse().unwrap()], ports.iter().copied().collect());
        for (one, other, port, used, namesakes) in [
            (host("1.1.1.1:0", &[7]), host("1.1.1.2:0", &[8]), None, "1.1.1.1:7", &["1.1.1.2:8"][..]),
            (host("1.1.1.1:0", &[]), host("1.1.1.2:0", &[8, 9]), None, "1.1.1.2:50000", &["1.1.1.1:50000"]),
            (host("1.1.1.1:0", &[]), host("1.1.1.2:0", &[]), Some(5), "1.1.1.1:5", &["1.1.1.2:5"]),
            (host("1.1.1.1:0", &[7]), host("1.1.1.1:0", &[7]), None, "1.1.1.1:7", &[]),
            (host("192.168.1.9:0", &[7]), host("10.0.0.9:0", &[7]), None, "192.168.1.9:7", &[]),
        ] {
            let found = resolved([one, other].into_iter(), port, &own).unwrap();
            let shown = |addresses: &[SocketAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(shown(&found.addresses), [used]);
            assert_eq!(shown(&found.namesakes), namesakes);
        }
        assert_eq!(resolved([].into_iter(), None, &own), None);
    }

    #[test]
    fn a_server_that_is_reached_in_two_ways_is_listed_once() {
        let own = ["192.168.1.9", "10.0.0.9"].map(|ip| ip.parse().unwrap()).into();
        for (text, one, other, count) in [
            ("the same network twice", &["1.1.1.1:7", "[fe80::1%2]:7"][..], &["1.1.1.1:7", "[fe80::1%3]:7"][..], 1),
            ("boards with the same address", &["1.1.1.1:7", "[fe80::1%2]:7"], &["1.1.1.1:7", "[fe80::2%3]:7"], 2),
            ("another port", &["1.1.1.1:7"], &["1.1.1.1:8"], 2),
            ("another address", &["1.1.1.1:7"], &["1.1.1.2:7"], 2),
            ("this machine", &["192.168.1.9:7"], &["10.0.0.9:7"], 1),
            ("this machine, two servers", &["192.168.1.9:7"], &["10.0.0.9:8"], 2),
            ("this machine and another one", &["192.168.1.9:7"], &["10.0.0.8:7"], 2),
        ] {
            let servers = distinct([found(one), found(other)].into_iter(), &own);
            assert_eq!(servers.len(), count, "{text}");
            let addresses: BTreeSet<_> = servers.iter().flat_map(|server| &server.addresses).collect();
            assert_eq!(addresses.len(), one.iter().chain(other).collect::<BTreeSet<_>>().len(), "{text}");
        }
    }
}
