//! The embedded server behind ports of this machine: no TAP, no privilege, nothing that only Linux has.

use core::net::Ipv4Addr;
use core::time::Duration;
use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::embedded::{Address, Embedded, Report};
use super::forward::Forwarder;
use super::link::{End, cable};
use super::options::Options;
use super::ports::Port;
use super::stop::Stopped;
use super::store::Medium;
use crate::config::{Ipv4, Ipv6};

/// The two ends of the cable.
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const FORWARDER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Connections that are carried beyond those that are served: they find out that they are refused.
const MORE: usize = 16;

/// A server whose ports are bound.
#[derive(Debug)]
pub struct Listen {
    options: Options,
    /// Until it runs.
    medium: Option<Medium>,
    control: Port,
    data: Vec<Port>,
}

impl Listen {
    /// Binds `port`, 0 for any that is free, and the data ports, on both loopback addresses.
    ///
    /// # Errors
    /// A port is taken or not permitted; there can't be so many sessions; the flash image can't be used.
    pub fn bind(options: Options, port: u16) -> anyhow::Result<Self> {
        let Some(lines) = options.lines() else {
            bail!("--sessions: 1, 2, 4 or 8");
        };
        let medium = Medium::open(&options.store)?;
        let control = Port::bind(port).with_context(|| format!("port {port}"))?;
        let data = Port::bind_all(lines, options.data_ports).context("data ports")?;
        Ok(Self { options, medium: Some(medium), control, data })
    }

    /// The port of control connections.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.control.number
    }

    /// The ports of data connections.
    pub fn data_ports(&self) -> impl Iterator<Item = u16> {
        self.data.iter().map(|port| port.number)
    }

    /// Serves until `stopped` says so. The memory of the server is not given back.
    ///
    /// # Errors
    /// The files to be loaded first can't be, or the system fails.
    pub fn run(self, stopped: &Stopped) -> anyhow::Result<Report> {
        match self.options.sessions {
            1 => self.serve::<1, 1>(stopped),
            2 => self.serve::<2, 1>(stopped),
            4 => self.serve::<4, 2>(stopped),
            _ => self.serve::<8, 4>(stopped),
        }
    }

    fn serve<const SESSIONS: usize, const DATA: usize>(mut self, stopped: &Stopped) -> anyhow::Result<Report> {
        let (mut end, other) = cable();
        let ipv4 = Ipv4::Static { address: SERVER, prefix: 24, gateway: None };
        let address = Address { mac: [2, 0, 0, 0, 0, 2], ipv4, ipv6: Ipv6::Off, port: self.control.number };
        let data_ports: Vec<u16> = self.data_ports().collect();
        let mut server =
            Embedded::<SESSIONS, DATA>::new(&self.options, self.medium.take(), address, &data_ports, &mut end)?;
        let connections = SESSIONS + DATA + MORE;
        let mut forwarder = Forwarder::new(other, FORWARDER, SERVER, connections, server.clock().now());
        loop {
            self.accept(&mut forwarder)?;
            let delay = settle(&mut server, &mut forwarder, &mut end);
            if self.wait(&forwarder, stopped, delay)? {
                return Ok(server.report());
            }
        }
    }

    fn accept(&self, forwarder: &mut Forwarder) -> io::Result<()> {
        for port in [&self.control].into_iter().chain(&self.data) {
            for listener in &port.listeners {
                while forwarder.has_room() {
                    match listener.accept() {
                        Ok((stream, _)) => forwarder.connect(stream, port.number)?,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        // That connection is gone again; or there are no descriptors left, and others will end.
                        Err(_) => break,
                    }
                }
            }
        }
        Ok(())
    }

    /// Sleeps until something happens; true if the server is to end.
    fn wait(&self, forwarder: &Forwarder, stopped: &Stopped, delay: Option<Duration>) -> io::Result<bool> {
        let mut watched = vec![PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN)];
        if forwarder.has_room() {
            let listeners = [&self.control].into_iter().chain(&self.data).flat_map(|port| &port.listeners);
            watched.extend(listeners.map(|listener| PollFd::new(listener, PollFlags::IN)));
        }
        watched.extend(forwarder.interests());
        let timeout = delay.map(|delay| Timespec {
            tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: delay.subsec_nanos().into(),
        });
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(!watched[0].revents().is_empty()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Lets both stacks work until they have nothing more to say to each other; after what time they will have.
fn settle<const SESSIONS: usize, const DATA: usize>(
    server: &mut Embedded<SESSIONS, DATA>,
    forwarder: &mut Forwarder,
    end: &mut End,
) -> Option<Duration> {
    // Not for ever: new connections wait meanwhile.
    for _ in 0..256 {
        let now = server.clock().now();
        let moved = forwarder.poll(now);
        let delay = server.poll(end);
        if moved || delay == Some(Duration::ZERO) || end.has_frames() || forwarder.has_frames() {
            continue;
        }
        return delay.into_iter().chain(forwarder.delay(now)).min();
    }
    Some(Duration::ZERO)
}
