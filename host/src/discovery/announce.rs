//! Announces a server under a name that no other server has.
//!
//! | step | what happens | next |
//! |---|---|---|
//! | look | finds the servers on all networks, and picks the first free name of NAME, NAME-2, NAME-3 | register |
//! | register | the library probes for the name (RFC 6762 section 8) and announces it | watch |
//! | watch | listens for other servers with this name, because two networks may have been joined | look |
//!
//! If a name is taken, the library renames the service and its host, separately on each interface. Here the name must
//! be the same everywhere: if the library changes one, this module registers the server again as NAME-2.

use core::net::{IpAddr, SocketAddr};
use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use mdns_sd::{DaemonEvent, IfKind, ServiceEvent, ServiceInfo};

use super::find::{Found, discover};
use super::links::{forward, interfaces};
use super::{Daemon, FAREWELL, SERVICE, other};

/// How long to look for other servers. A server repeats an answer after a second at the earliest.
const LOOK: Duration = Duration::from_millis(1500);

/// After this many conflicts, each further one is followed by a pause (RFC 6762 section 8.1).
const CONFLICTS: u32 = 15;
const PAUSE: Duration = Duration::from_secs(5);

/// Maximum length of NAME: a DNS label has at most 63 bytes, and `-` and three digits may be appended.
const LABEL: usize = 63 - 4;
const NUMBERS: u32 = 999;

/// The announcement of a server. Dropping it ends the announcement.
#[derive(Debug)]
pub struct Announcement {
    stop: Arc<AtomicBool>,
    events: Sender<Numbered>,
    thread: Option<JoinHandle<()>>,
}

impl Announcement {
    /// Announces a server that listens on `addresses`, all with the same port, as NAME.local. An unspecified address
    /// means all addresses of its family. If the name is taken, a number is appended. `server` is its product and
    /// version. `announced` is called with the announced name, without `.local`: first after a few seconds, then
    /// whenever the name changes.
    ///
    /// # Errors
    /// No network is available, or the name is not valid.
    pub fn start(
        name: &str,
        addresses: &[SocketAddr],
        server: &'static str,
        announced: impl FnMut(&str) + Send + 'static,
    ) -> io::Result<Self> {
        let plan = Plan { name: name.to_owned(), addresses: addresses.to_vec(), server };
        plan.service(name)?;
        drop(Daemon::start()?);
        let (events, received) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let work = Work { plan, stop: Arc::clone(&stop), sender: events.clone(), events: received };
        let thread = thread::Builder::new().name("announce".to_owned()).spawn(move || work.run(announced))?;
        Ok(Self { stop, events, thread: Some(thread) })
    }
}

impl Drop for Announcement {
    /// Sends a goodbye.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        _ = self.events.send((0, Event::Stop));
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// An event, with the number of the registration.
type Numbered = (u32, Event);

/// Events that the thread waits for.
#[derive(Debug)]
enum Event {
    /// The service is announced.
    Announced,
    /// The library has found that the name is taken.
    Taken,
    /// A server.
    Found(Found),
    /// The announcement ends.
    Stop,
}

/// Why a registration ended.
enum End {
    Conflict,
    Stopped,
}

/// What is announced.
#[derive(Debug)]
struct Plan {
    name: String,
    addresses: Vec<SocketAddr>,
    server: &'static str,
}

impl Plan {
    fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }

    /// The addresses to announce. Empty: all.
    fn own(&self) -> BTreeSet<IpAddr> {
        self.addresses.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect()
    }

    /// True if the server listens on all addresses of the family.
    fn is_open(&self, v4: bool) -> bool {
        self.addresses.iter().any(|address| address.is_ipv4() == v4 && address.ip().is_unspecified())
    }

    /// NAME, NAME-2, NAME-3 and so on.
    fn label(&self, number: u32) -> String {
        match number {
            1 => self.name.clone(),
            _ => format!("{}-{number}", &self.name[..self.name.floor_char_boundary(LABEL)]),
        }
    }

    fn service(&self, label: &str) -> io::Result<ServiceInfo> {
        let texts = [("txtvers", "1"), ("server", self.server)];
        let own: Vec<_> = self.own().into_iter().collect();
        let service = ServiceInfo::new(SERVICE, label, &format!("{label}.local."), &own[..], self.port(), &texts[..]);
        let service = service.map_err(other)?;
        Ok(if self.is_open(true) || self.is_open(false) { service.enable_addr_auto() } else { service })
    }

    /// The library, restricted to the interfaces of the server.
    fn daemon(&self) -> io::Result<Daemon> {
        let daemon = Daemon::start()?;
        let own = self.own();
        // A server that listens only on `::` accepts IPv4 as well.
        let has_v4 = self.is_open(true) || self.is_open(false) || own.iter().any(IpAddr::is_ipv4);
        let has_v6 = self.is_open(false) || own.iter().any(IpAddr::is_ipv6);
        let loopback = [(false, IfKind::LoopbackV4), (false, IfKind::LoopbackV6)];
        for (has, kind) in [(has_v4, IfKind::IPv4), (has_v6, IfKind::IPv6)].into_iter().chain(loopback) {
            if !has {
                daemon.0.disable_interface(kind).map_err(other)?;
            }
        }
        Ok(daemon)
    }

    /// True if `found` is another server with this name.
    fn is_rival(&self, found: &Found, label: &str) -> bool {
        let own = match self.own() {
            own if !own.is_empty() && !self.is_open(true) && !self.is_open(false) => own,
            _ => interfaces().unwrap_or_default().into_values().flatten().collect(),
        };
        let is_name = found.name.eq_ignore_ascii_case(label);
        let is_host = found.host.eq_ignore_ascii_case(&format!("{label}.local"));
        // Another server of this machine may share the name of the host.
        let is_here = found.ips().is_subset(&own);
        if is_here { is_name && (found.port() != self.port() || !is_host) } else { is_name || is_host }
    }
}

/// The thread that announces a server.
struct Work {
    plan: Plan,
    stop: Arc<AtomicBool>,
    sender: Sender<Numbered>,
    events: Receiver<Numbered>,
}

impl Work {
    fn run(self, mut announced: impl FnMut(&str)) {
        // The library sometimes finds a server that the look has not found.
        let mut lowest = 1;
        let mut conflicts = 0_u32;
        let mut last = String::new();
        loop {
            let found = discover(LOOK, || self.is_stopped()).unwrap_or_default();
            let is_free =
                |number: &u32| !found.iter().any(|found| self.plan.is_rival(found, &self.plan.label(*number)));
            let number = (lowest..=NUMBERS).find(is_free).unwrap_or(1);
            if self.is_stopped() {
                return;
            }
            let mut is_announced = false;
            let ended = self.register(conflicts, &self.plan.label(number), |name| {
                is_announced = true;
                if last != name {
                    last = name.to_owned();
                    announced(name);
                }
            });
            if matches!(ended, Ok(End::Stopped)) {
                return;
            }
            // After an announcement, try the lowest number first: the other server may have changed its name.
            lowest = if is_announced || ended.is_err() { 1 } else { number % NUMBERS + 1 };
            conflicts = conflicts.wrapping_add(1);
            if (conflicts > CONFLICTS || ended.is_err()) && self.pause() {
                return;
            }
        }
    }

    /// Announces the server until another one has the name.
    fn register(&self, registration: u32, label: &str, mut announced: impl FnMut(&str)) -> io::Result<End> {
        let daemon = self.plan.daemon()?;
        let service = self.plan.service(label)?;
        let name = service.get_fullname().to_owned();
        let own = name.clone();
        self.forward(registration, daemon.0.monitor().map_err(other)?, move |event| match event {
            DaemonEvent::NameChange(_) => Some(Event::Taken),
            DaemonEvent::Announce(name, _) => name.eq_ignore_ascii_case(&own).then_some(Event::Announced),
            _ => None,
        })?;
        self.forward(registration, daemon.0.browse(SERVICE).map_err(other)?, |event| match event {
            ServiceEvent::ServiceResolved(service) => Found::new(&service).map(Event::Found),
            _ => None,
        })?;
        daemon.0.register(service).map_err(other)?;
        let mut is_announced = false;
        let end = loop {
            match self.events.recv() {
                Ok((_, Event::Stop)) | Err(_) => break End::Stopped,
                // Of an earlier registration.
                Ok((of, _)) if of != registration => {}
                Ok((_, Event::Announced)) if !is_announced => {
                    is_announced = true;
                    announced(label);
                }
                Ok((_, Event::Found(found))) if self.plan.is_rival(&found, label) => break End::Conflict,
                Ok((_, Event::Taken)) => break End::Conflict,
                Ok((_, Event::Announced | Event::Found(_))) => {}
            }
        };
        if let Ok(done) = daemon.0.unregister(&name) {
            _ = done.recv_timeout(FAREWELL);
        }
        Ok(end)
    }

    fn forward<E: Send + 'static>(
        &self,
        registration: u32,
        events: mdns_sd::Receiver<E>,
        event: impl Fn(E) -> Option<Event> + Send + 'static,
    ) -> io::Result<()> {
        let sender = self.sender.clone();
        forward(events, move |of| event(of).is_none_or(|event| sender.send((registration, event)).is_ok()))
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits; true if the announcement ends.
    fn pause(&self) -> bool {
        let end = Instant::now() + PAUSE;
        while !self.is_stopped() {
            let left = end.saturating_duration_since(Instant::now());
            if self.events.recv_timeout(left).is_err() {
                break;
            }
        }
        self.is_stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(name: &str) -> Plan {
        Plan { name: name.to_owned(), addresses: vec!["192.0.2.1:7".parse().unwrap()], server: "skiff/0.1" }
    }

    #[test]
    fn another_server_of_the_name_or_of_the_host_is_a_rival() {
        for (name, host, address, is_rival) in [
            ("lab3", "lab3.local", "192.0.2.1:7", false),
            ("LAB3", "LAB3.local", "192.0.2.1:7", false),
            ("lab3", "lab3.local", "192.0.2.1:8", true),
            ("lab3", "lab3.local", "192.0.2.2:7", true),
            ("Lab3", "Lab3.local", "192.0.2.2:7", true),
            ("lab3", "pc.local", "192.0.2.1:7", true),
            // Other servers of the host.
            ("files", "lab3.local", "192.0.2.1:8", false),
            ("files", "lab3.local", "192.0.2.2:7", true),
            ("lab3-2", "lab3-2.local", "192.0.2.2:7", false),
        ] {
            let addresses = vec![address.parse().unwrap()];
            let found = Found { name: name.to_owned(), host: host.to_owned(), addresses, server: None };
            assert_eq!(plan("lab3").is_rival(&found, "lab3"), is_rival, "{name} {host} {address}");
        }
    }

    #[test]
    fn a_name_with_a_number_is_a_valid_label() {
        assert_eq!([1, 2, 30].map(|number| plan("lab3").label(number)), ["lab3", "lab3-2", "lab3-30"]);
        let long = plan(&"x".repeat(63));
        assert_eq!([1, 2, NUMBERS].map(|number| long.label(number).len()), [63, 61, 63]);
    }
}
