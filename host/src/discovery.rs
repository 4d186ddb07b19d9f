//! Finds and announces servers on this network, by multicast DNS (RFC 6762, RFC 6763, PROTOCOL section 11).
//!
//! Everything here blocks. Anyone on the network can answer with any name and address: a name proves nothing, a key
//! does.

use core::cmp::Reverse;
use core::net::{IpAddr, SocketAddr, SocketAddrV6};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use mdns_sd::{
    Error, HostnameResolutionEvent, IfKind, ResolvedService, ScopedIp, ServiceDaemon, ServiceEvent, ServiceInfo,
};

/// The service.
const SERVICE: &str = "_skiff._tcp.local.";

/// Timeout for finding an address.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long to wait for the library's thread at the end.
const FAREWELL: Duration = Duration::from_millis(500);

/// How often [`discover`] asks whether to stop.
const TURN: Duration = Duration::from_millis(100);

/// Maximum number of servers to collect: more are certainly forged.
const MOST: usize = 1000;

/// A server that has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name of the service. Like all texts here, not safe for a terminal.
    pub name: String,
    /// The name of the host, such as `lab3.local`.
    pub host: String,
    /// Its addresses: IPv4 first, link-local ones last. At least one.
    pub addresses: Vec<SocketAddr>,
    /// Product and version of the server, if it announces them.
    pub server: Option<String>,
}

/// Collects servers for `limit`, or until `is_stopped`, sorted by name.
///
/// # Errors
/// If no network is available.
pub fn discover(limit: Duration, is_stopped: impl Fn() -> bool) -> io::Result<Vec<Found>> {
    let daemon = Daemon::start()?;
    let events = daemon.0.browse(SERVICE).map_err(other)?;
    let end = Instant::now() + limit;
    let mut found = BTreeMap::new();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || is_stopped() {
            break;
        }
        match events.recv_timeout(left.min(TURN)) {
            Ok(ServiceEvent::ServiceResolved(service)) if found.len() < MOST => {
                if let Some(server) = server(&service) {
                    found.insert(service.fullname, server);
                }
            }
            Ok(ServiceEvent::ServiceRemoved(_, name)) => _ = found.remove(&name),
            _ => {}
        }
    }
    Ok(found.into_values().collect())
}

/// The addresses of a host whose name ends in `.local`.
///
/// # Errors
/// If no host answers within 3 s.
pub fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let daemon = Daemon::start()?;
    let name = format!("{}.", host.trim_end_matches('.'));
    let limit = u64::try_from(PATIENCE.as_millis()).ok();
    let events = daemon.0.resolve_hostname(&name, limit).map_err(other)?;
    let end = Instant::now() + PATIENCE;
    while let Ok(event) = events.recv_deadline(end) {
        match event {
            HostnameResolutionEvent::AddressesFound(_, addresses) => {
                let addresses = sorted(&addresses, port);
                if !addresses.is_empty() {
                    return Ok(addresses);
                }
            }
            HostnameResolutionEvent::SearchTimeout(_) => break,
            _ => {}
        }
    }
    let text = format!("no host on this network answers to this name (mDNS, {} s)", PATIENCE.as_secs());
    Err(io::Error::new(io::ErrorKind::NotFound, text))
}

/// True for a name that mDNS is responsible for.
#[must_use]
pub fn is_local(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).as_bytes();
    host.len() > 6 && host[host.len() - 6..].eq_ignore_ascii_case(b".local")
}

/// A server that is announced until this is dropped.
#[derive(Debug)]
pub struct Announcement {
    daemon: Daemon,
    name: String,
}

impl Announcement {
    /// Announces a server that listens on `addresses`, all of one port, as NAME.local; an unspecified address means all
    /// of its family. If the name is taken, a number is appended. `server` is its product and version.
    ///
    /// # Errors
    /// If no network is available, or the name is not valid.
    pub fn start(name: &str, addresses: &[SocketAddr], server: &str) -> io::Result<Self> {
        let port = addresses.first().map_or(0, SocketAddr::port);
        let is_open =
            |v4: bool| addresses.iter().any(|address| address.is_ipv4() == v4 && address.ip().is_unspecified());
        let daemon = Daemon::start()?;
        let own: Vec<IpAddr> =
            addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect();
        // A server that listens only on `::` accepts IPv4 as well.
        let has_v4 = is_open(true) || is_open(false) || own.iter().any(IpAddr::is_ipv4);
        let has_v6 = is_open(false) || own.iter().any(IpAddr::is_ipv6);
        for (has, kind) in [(has_v4, IfKind::IPv4), (has_v6, IfKind::IPv6)] {
            if !has {
                daemon.0.disable_interface(kind).map_err(other)?;
            }
        }
        let texts = [("txtvers", "1"), ("server", server)];
        let host = format!("{name}.local.");
        let service = ServiceInfo::new(SERVICE, name, &host, &own[..], port, &texts[..]).map_err(other)?;
        let service = if is_open(true) || is_open(false) { service.enable_addr_auto() } else { service };
        let name = service.get_fullname().to_owned();
        daemon.0.register(service).map_err(other)?;
        Ok(Self { daemon, name })
    }
}

impl Drop for Announcement {
    /// Sends a goodbye.
    fn drop(&mut self) {
        if let Ok(done) = self.daemon.0.unregister(&self.name) {
            _ = done.recv_timeout(FAREWELL);
        }
    }
}

/// The library's thread, which ends with this.
struct Daemon(ServiceDaemon);

impl Daemon {
    fn start() -> io::Result<Self> {
        ServiceDaemon::new().map(Self).map_err(other)
    }
}

impl core::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Daemon")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Ok(ended) = self.0.shutdown() {
            _ = ended.recv_timeout(FAREWELL);
        }
    }
}

fn other(error: Error) -> io::Error {
    io::Error::other(format!("mDNS: {error}"))
}

/// `None` if it has no address.
fn server(service: &ResolvedService) -> Option<Found> {
    let addresses = sorted(&service.addresses, service.port);
    let name = service.fullname.strip_suffix(&format!(".{}", service.ty_domain)).unwrap_or(&service.fullname);
    let server = service.get_property_val_str("server").filter(|server| !server.is_empty());
    let found = Found {
        name: name.to_owned(),
        host: service.host.trim_end_matches('.').to_owned(),
        addresses,
        server: server.map(str::to_owned),
    };
    (!found.addresses.is_empty() && service.port != 0).then_some(found)
}

fn sorted<'a>(addresses: impl IntoIterator<Item = &'a ScopedIp>, port: u16) -> Vec<SocketAddr> {
    let is_near = |address: &SocketAddr| matches!(address, SocketAddr::V6(v6) if v6.ip().is_unicast_link_local());
    let mut addresses: Vec<_> = addresses.into_iter().map(|address| with_scope(address, port)).collect();
    addresses.sort_by_key(|address| (is_near(address), Reverse(address.is_ipv4()), *address));
    addresses.dedup();
    addresses
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

    #[test]
    fn names_that_end_in_local_are_local() {
        for name in ["lab3.local", "LAB3.Local.", "a.b.local"] {
            assert!(is_local(name), "{name}");
        }
        for name in ["", "local", ".local", "lab3.locale", "lab3.local.net", "lab3local", "192.168.69.1"] {
            assert!(!is_local(name), "{name}");
        }
    }

    #[test]
    fn ipv4_comes_first_and_link_local_last() {
        let addresses = ["fe80::1", "192.168.69.1", "fd00::1", "192.168.69.1"]
            .map(|ip| ScopedIp::from(ip.parse::<IpAddr>().unwrap()));
        let sorted: Vec<_> = sorted(&addresses, 7).iter().map(ToString::to_string).collect();
        assert_eq!(sorted, ["192.168.69.1:7", "[fd00::1]:7", "[fe80::1]:7"]);
    }
}
