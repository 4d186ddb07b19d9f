//! Addresses, and the sockets that listen on them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::options::{BindError, Options};
use crate::address::Host;

/// How often to try again if the port that the system chose for one address is in use on the next.
const TRIES: usize = 32;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on all addresses of `options`, on one port.
pub(super) fn bind(options: &Options) -> Result<Vec<TcpListener>, BindError> {
    let resolve =
        |host: &Host| host.resolve(options.port).map_err(|source| BindError { addr: host.to_string(), source });
    let mut hosts: Vec<_> = options.bind.iter().map(resolve).collect::<Result<_, _>>()?;
    if hosts.is_empty() {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        hosts.push(loopback.map(|ip| SocketAddr::new(ip, options.port)).to_vec());
    }
    // The addresses that take in others come first: after those it would be taken.
    hosts.sort_by_key(|host| !host.iter().any(|addr| addr.ip().is_unspecified()));
    // An IPv6 address takes IPv4 in as well, unless that has an address of its own.
    let only_v6 = hosts.iter().flatten().any(SocketAddr::is_ipv4);
    let mut tries = 0;
    loop {
        tries += 1;
        match bind_all(&hosts, only_v6) {
            Err(error) if options.port == 0 && tries < TRIES && error.source.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
}

/// Listens on the addresses of each host.
fn bind_all(hosts: &[Vec<SocketAddr>], only_v6: bool) -> Result<Vec<TcpListener>, BindError> {
    let mut port = None;
    let mut bound = Vec::new();
    let mut listeners = Vec::new();
    for host in hosts {
        let mut missing = None;
        for addr in host {
            // The unspecified address of a family takes in all others of it.
            let covers = |bound: &SocketAddr| {
                bound == addr || (bound.ip().is_unspecified() && bound.is_ipv4() == addr.is_ipv4())
            };
            if bound.iter().any(covers) {
                continue;
            }
            let mut at = *addr;
            at.set_port(port.unwrap_or(at.port()));
            match listen(at, only_v6, BACKLOG) {
                Ok(listener) => {
                    port = listener.local_addr().ok().map(|local| local.port()).or(port);
                    bound.push(*addr);
                    listeners.push(listener);
                }
                // On a machine without IPv6 (or without IPv4), the default and host names must still work.
                Err(source) if host.len() > 1 && source.kind() != io::ErrorKind::AddrInUse => {
                    missing = Some(BindError { addr: at.to_string(), source });
                }
                Err(source) => return Err(BindError { addr: at.to_string(), source }),
            }
        }
        if let Some(error) = missing.filter(|_| !host.iter().any(|addr| bound.contains(addr))) {
            return Err(error);
        }
    }
    Ok(listeners)
}

/// Listens on one address.
pub(super) fn listen(addr: SocketAddr, only_v6: bool, backlog: i32) -> io::Result<TcpListener> {
    #[cfg(target_os = "linux")]
    let kind = Type::STREAM.nonblocking();
    #[cfg(not(target_os = "linux"))]
    let kind = Type::STREAM;
    let socket = Socket::new(Domain::for_address(addr), kind, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(only_v6)?;
    }
    // Or a server could not be started again while connections of the last one linger.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    #[cfg(not(target_os = "linux"))]
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(backlog)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_another_one_takes_in_is_not_bound_again() {
        if std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            return;
        }
        for (hosts, count) in [(["::", "localhost"], 2), (["localhost", "::"], 2), (["0.0.0.0", "127.0.0.1"], 1)] {
            let bind = hosts.map(|host| host.parse().unwrap()).to_vec();
            let listeners = super::bind(&Options { bind, ..Options::new(0) }).unwrap();
            assert_eq!(listeners.len(), count, "{hosts:?}");
        }
    }
}
