//! Sends mDNS questions on every interface of this machine.
//!
//! Each interface is a separate network, where a name may belong to a different server. The library merges the answers
//! from all its interfaces, so each interface gets its own instance of the library. When an interface comes up later,
//! the question is sent on it at once.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Instant;

use mdns_sd::{
    HostnameResolutionEvent, IfKind, IfPredicate, Receiver as Events, ResolvedService, ScopedIp, ServiceEvent,
};

use super::{Daemon, SERVICE, other};

/// How often to look for new interfaces and addresses.
const LOOK: Duration = Duration::from_millis(200);

/// A question.
#[derive(Debug, Clone, Default)]
pub(super) struct Question {
    /// The servers of the network.
    pub(super) servers: bool,
    /// The addresses of a host, with a dot at the end.
    pub(super) host: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// A server, or a change of its records.
    Server(Box<ResolvedService>),
    /// The full name of a server that has said goodbye.
    Gone(String),
    /// The addresses of the host.
    Addresses(HashSet<ScopedIp>),
}

/// A question on all interfaces.
#[derive(Debug)]
pub(super) struct Links {
    question: Question,
    asked: BTreeMap<u32, (BTreeSet<IpAddr>, Daemon)>,
    next_look: Instant,
    sender: Sender<(u32, Answer)>,
    answers: Receiver<(u32, Answer)>,
}

impl Links {
    /// Sends the question on all interfaces.
    ///
    /// # Errors
    /// No network is available.
    pub(super) fn ask(question: Question) -> io::Result<Self> {
        let (sender, answers) = mpsc::channel();
        let mut links = Self { question, asked: BTreeMap::new(), next_look: Instant::now(), sender, answers };
        links.look()?;
        Ok(links)
    }

    /// The next answer, with the number of its interface. `None`: no answer arrived before `end`.
    pub(super) fn next(&mut self, end: Instant) -> Option<(u32, Answer)> {
        loop {
            let now = Instant::now();
            if now >= self.next_look {
                // What could be asked before stays asked.
                _ = self.look();
            }
            let left = end.min(self.next_look).saturating_duration_since(now);
            if let Ok(answer) = self.answers.recv_timeout(left) {
                return Some(answer);
            }
            if now >= end {
                return None;
            }
        }
    }

    /// Sends the question on interfaces that are new or whose addresses have changed.
    fn look(&mut self) -> io::Result<()> {
        self.next_look = Instant::now() + LOOK;
        for (index, addresses) in interfaces()? {
            if self.asked.get(&index).is_some_and(|(asked, _)| *asked == addresses) {
                continue;
            }
            let daemon = Daemon::start()?;
            let others = IfPredicate::new(move |interface| interface.index != Some(index));
            daemon.0.disable_interface(IfKind::Predicate(others)).map_err(other)?;
            if self.question.servers {
                let events = daemon.0.browse(SERVICE).map_err(other)?;
                self.forward(index, events, |event| match event {
                    ServiceEvent::ServiceResolved(service) => Some(Answer::Server(service)),
                    ServiceEvent::ServiceRemoved(_, name) => Some(Answer::Gone(name)),
                    _ => None,
                })?;
            }
            if let Some(host) = &self.question.host {
                let events = daemon.0.resolve_hostname(host, None).map_err(other)?;
                self.forward(index, events, |event| match event {
                    HostnameResolutionEvent::AddressesFound(_, addresses) => Some(Answer::Addresses(addresses)),
                    _ => None,
                })?;
            }
            self.asked.insert(index, (addresses, daemon));
        }
        Ok(())
    }

    fn forward<E: Send + 'static>(
        &self,
        index: u32,
        events: Events<E>,
        answer: impl Fn(E) -> Option<Answer> + Send + 'static,
    ) -> io::Result<()> {
        let sender = self.sender.clone();
        forward(events, move |event| answer(event).is_none_or(|answer| sender.send((index, answer)).is_ok()))
    }
}

/// Forwards events, in a separate thread, until the library's thread ends or `pass` returns false.
pub(super) fn forward<E: Send + 'static>(
    events: Events<E>,
    pass: impl Fn(E) -> bool + Send + 'static,
) -> io::Result<()> {
    let work = move || _ = events.iter().all(pass);
    thread::Builder::new().name("mdns".to_owned()).spawn(work).map(drop)
}

/// The interfaces that are up, by number, with their addresses. Loopback is excluded: it reaches no other machine.
pub(super) fn interfaces() -> io::Result<BTreeMap<u32, BTreeSet<IpAddr>>> {
    let mut found = BTreeMap::<_, BTreeSet<_>>::new();
    for interface in if_addrs::get_if_addrs()? {
        if let Some(index) = interface.index.filter(|_| interface.is_oper_up() && !interface.is_loopback()) {
            found.entry(index).or_default().insert(interface.ip());
        }
    }
    Ok(found)
}
