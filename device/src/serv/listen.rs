//! The embedded server behind ports of this machine: without a TAP, privileges, or anything specific to Linux.

use core::time::Duration;
use std::io;
use std::os::fd::AsFd as _;

use anyhow::{Context as _, bail};
use rustix::event::{PollFd, PollFlags};
use skiff_proto::store::Store;

use super::embedded::{Address, Embedded, Report, Run, choose};
use super::forward::{Forwarder, GATEWAY, PREFIX, SERVER};
use super::link::{End, cable};
use super::made::Made;
use super::options::Options;
use super::ports::Port;
use super::stop::Stopped;
use super::wait::wait;
use crate::config::{Ipv4, Ipv6};

/// Connections that are forwarded in addition to those that are served, so that they find out that they are refused.
const MORE: usize = 16;

/// How long to wait after a failed accept before the next attempt.
const STARVED: Duration = Duration::from_millis(100);

/// A server whose ports are bound.
#[derive(Debug)]
pub struct Listen {
    options: Options,
    control: Port,
    data: Vec<Port>,
}

impl Listen {
    /// Binds `port` (0 for any free one) and the data ports, on both loopback addresses.
    ///
    /// # Errors
    /// A port is taken or not permitted, or there are too many sessions.
    pub fn bind(options: Options, port: u16) -> anyhow::Result<Self> {
        let Some(data) = options.data_connections() else {
            bail!("--sessions: must be 1, 2, 4 or 8");
        };
        let control = Port::bind(port).with_context(|| format!("port {port}"))?;
        let data = Port::bind_all(data, options.data_ports).context("--data-ports")?;
        Ok(Self { options, control, data })
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

    /// Serves until `stopped`; calls `ready` once it can serve. The memory of the server is not freed.
    ///
    /// # Errors
    /// The files of `--preload` can't be loaded, or the system fails.
    pub fn run(self, stopped: &Stopped, ready: impl FnOnce()) -> anyhow::Result<Report> {
        choose(&self.options, Serve { listen: &self, stopped, ready })
    }

    fn serve<S: Store + 'static>(
        &self,
        store: S,
        made: Made,
        stopped: &Stopped,
        ready: impl FnOnce(),
    ) -> anyhow::Result<Report> {
        let (mut end, other) = cable();
        let ipv4 = Ipv4::Static { address: SERVER.0, prefix: PREFIX.0, gateway: Some(GATEWAY.0) };
        let ipv6 = Ipv6::Static { address: SERVER.1, prefix: PREFIX.1, gateway: Some(GATEWAY.1) };
        let address = Address { mac: [2, 0, 0, 0, 0, 2], ipv4, ipv6, port: self.control.number };
        let data_ports: Vec<u16> = self.data_ports().collect();
        let mut server = Embedded::new(&self.options, address, &data_ports, store, &mut end)?;
        let connections = self.options.sessions + data_ports.len() + MORE;
        let mut forwarder = Forwarder::new(other, connections, self.options.idle, server.clock().now());
        made.keep();
        ready();
        loop {
            let starved = self.accept(&mut forwarder);
            let delay = settle(&mut server, &mut forwarder, &mut end);
            if self.sleep(&forwarder, stopped, starved, delay)? {
                return Ok(server.report());
            }
        }
    }

    /// True if a client is waiting that can't be accepted now.
    fn accept(&self, forwarder: &mut Forwarder) -> bool {
        let mut starved = false;
        for port in [&self.control].into_iter().chain(&self.data) {
            for listener in &port.listeners {
                while forwarder.has_room() {
                    match listener.accept() {
                        // It fails if the connection is gone again.
                        Ok((stream, client)) => _ = forwarder.connect(stream, client.ip(), port.number),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                        // There are no descriptors left, most likely. Others will end.
                        Err(_) => {
                            starved = true;
                            break;
                        }
                    }
                }
            }
        }
        starved
    }

    /// Sleeps until something happens; true if the server has to end.
    fn sleep(
        &self,
        forwarder: &Forwarder,
        stopped: &Stopped,
        starved: bool,
        delay: Option<Duration>,
    ) -> io::Result<bool> {
        let mut watched = vec![PollFd::from_borrowed_fd(stopped.as_fd(), PollFlags::IN)];
        // A client that can't be accepted would wake the loop at once, repeatedly.
        if forwarder.has_room() && !starved {
            let listeners = [&self.control].into_iter().chain(&self.data).flat_map(|port| &port.listeners);
            watched.extend(listeners.map(|listener| PollFd::new(listener, PollFlags::IN)));
        }
        watched.extend(forwarder.interests());
        wait(&mut watched, delay.into_iter().chain(starved.then_some(STARVED)).min())?;
        Ok(!watched[0].revents().is_empty())
    }
}

struct Serve<'a, R> {
    listen: &'a Listen,
    stopped: &'a Stopped,
    ready: R,
}

impl<R: FnOnce()> Run for Serve<'_, R> {
    fn run<S: Store + 'static>(self, store: S, made: Made) -> anyhow::Result<Report> {
        self.listen.serve(store, made, self.stopped, self.ready)
    }
}

/// Polls both stacks until neither has anything to send; returns the time until one will.
fn settle<S: Store + 'static>(server: &mut Embedded<S>, forwarder: &mut Forwarder, end: &mut End) -> Option<Duration> {
    // Bounded: new connections wait meanwhile.
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
