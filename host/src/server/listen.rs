//! Addresses, and the sockets that listen on them.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::options::{BindError, Options};

/// How often a port that the system chose for one address may turn out to be taken on the next.
const TRIES: usize = 32;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on all addresses of `options`, on one port.
pub(super) fn bind(options: &Options) -> Result<Vec<TcpListener>, BindError> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let explicit = !options.bind.is_empty();
    let addrs = if explicit { &options.bind[..] } else { &loopback };
    // An IPv6 address takes IPv4 in as well, unless that has an address of its own.
    let only_v6 = addrs.iter().any(IpAddr::is_ipv4);
    let mut tries = 0;
    loop {
        tries += 1;
        match bind_all(addrs, options.port, explicit, only_v6) {
            Err(error) if options.port == 0 && tries < TRIES && error.source.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
}

fn bind_all(addrs: &[IpAddr], port: u16, explicit: bool, only_v6: bool) -> Result<Vec<TcpListener>, BindError> {
    let mut port = port;
    let mut listeners = Vec::with_capacity(addrs.len());
    let mut missing = None;
    for &ip in addrs {
        let addr = SocketAddr::new(ip, port);
        match listen(addr, only_v6, BACKLOG) {
            Ok(listener) => {
                if let Ok(local) = listener.local_addr() {
                    port = local.port();
                }
                listeners.push(listener);
            }
            // A machine without IPv6 (or without IPv4) is none that a default should stumble over.
            Err(source) if !explicit && source.kind() != io::ErrorKind::AddrInUse => {
                missing = Some(BindError { addr, source });
            }
            Err(source) => return Err(BindError { addr, source }),
        }
    }
    match missing {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
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
