//! Ports of this machine's loopback addresses.

use core::net::{Ipv4Addr, Ipv6Addr};
use std::io;
use std::net::TcpListener;

use super::options::PortRange;

/// How often to try another port if the one that the system chose for IPv4 is in use for IPv6.
const TRIES: usize = 16;

/// One port, on both loopback addresses if both exist.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) number: u16,
    pub(super) listeners: Vec<TcpListener>,
}

impl Port {
    /// `number` 0: any free port.
    pub(super) fn bind(number: u16) -> io::Result<Self> {
        let mut tries = 0;
        loop {
            tries += 1;
            let v4 = TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
            let port = v4.local_addr()?.port();
            let mut listeners = vec![v4];
            match TcpListener::bind((Ipv6Addr::LOCALHOST, port)) {
                Ok(v6) => listeners.push(v6),
                Err(error) if error.kind() != io::ErrorKind::AddrInUse => {}
                Err(_) if number == 0 && tries < TRIES => continue,
                Err(error) => return Err(error),
            }
            for listener in &listeners {
                listener.set_nonblocking(true)?;
            }
            return Ok(Self { number: port, listeners });
        }
    }

    /// `count` ports, from `range` if there is one.
    pub(super) fn bind_all(count: usize, range: Option<PortRange>) -> io::Result<Vec<Self>> {
        let Some(range) = range else {
            return (0..count).map(|_| Self::bind(0)).collect();
        };
        let mut ports = Vec::new();
        let mut last = io::Error::new(io::ErrorKind::AddrInUse, format!("{count} ports needed"));
        for number in range.ports() {
            if ports.len() == count {
                break;
            }
            match Self::bind(number) {
                Ok(port) => ports.push(port),
                Err(error) => last = error,
            }
        }
        if ports.len() == count { Ok(ports) } else { Err(last) }
    }
}
