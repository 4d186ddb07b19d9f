//! The processors that a server and its client may use.
//!
//! Depending on where the scheduler puts them, two processes that wake each other differ in speed by a factor of two,
//! so their times have two modes. Jobs with such a pair run once in each placement.
//!
//! A process inherits the CPU affinity of the thread that starts it. Servers are started while a job is set up, clients
//! during its turns, both by the main thread, which changes its own affinity in between.

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::{Deserialize, Serialize};

/// Where the server and the client of a job run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Placement {
    /// Both on the same processor.
    OneProcessor,
    /// The server on one, the client on another.
    TwoProcessors,
}

impl Placement {
    pub(crate) const ALL: [Self; 2] = [Self::OneProcessor, Self::TwoProcessors];

    /// Its name in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OneProcessor => "one processor",
            Self::TwoProcessors => "two processors",
        }
    }

    /// The positions of server and client in the list of processors.
    const fn places(self) -> [usize; 2] {
        match self {
            Self::OneProcessor => [0, 0],
            Self::TwoProcessors => [0, 1],
        }
    }
}

/// The processors that this process may use.
#[derive(Debug)]
pub(crate) struct Processors {
    all: CpuSet,
}

impl Processors {
    pub(crate) fn look() -> Result<Self> {
        Ok(Self { all: sched_getaffinity(None).context("the processors of this process")? })
    }

    fn number(&self, place: usize) -> Option<usize> {
        (0..CpuSet::MAX_CPU).filter(|&number| self.all.is_set(number)).nth(place)
    }

    /// True if there are enough processors.
    pub(crate) fn allow(&self, placement: Placement) -> bool {
        placement.places().into_iter().all(|place| self.number(place).is_some())
    }

    /// Pins this thread as a server: what it starts from now on inherits that.
    pub(crate) fn for_servers(&self, placement: Option<Placement>) -> Result<()> {
        self.pin(placement.map(|placement| placement.places()[0]))
    }

    /// Pins this thread as a client: what it starts from now on inherits that.
    pub(crate) fn for_clients(&self, placement: Option<Placement>) -> Result<()> {
        self.pin(placement.map(|placement| placement.places()[1]))
    }

    fn pin(&self, place: Option<usize>) -> Result<()> {
        let one = place.and_then(|place| self.number(place)).map(|number| {
            let mut one = CpuSet::new();
            one.set(number);
            one
        });
        sched_setaffinity(None, one.as_ref().unwrap_or(&self.all)).context("sched_setaffinity")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn processes_run_where_they_are_pinned_and_the_thread_is_free_again_afterwards() {
        let processors = Processors::look().unwrap();
        let list = || {
            let status = Command::new("cat").arg("/proc/self/status").output().unwrap().stdout;
            let status = String::from_utf8(status).unwrap();
            status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap().trim().to_owned()
        };
        let free = list();
        for placement in Placement::ALL.into_iter().filter(|placement| processors.allow(*placement)) {
            processors.for_servers(Some(placement)).unwrap();
            let server = list();
            processors.for_clients(Some(placement)).unwrap();
            assert_eq!(list() == server, placement == Placement::OneProcessor);
            assert!(list().parse::<usize>().is_ok());
        }
        processors.for_clients(None).unwrap();
        assert_eq!(list(), free);
        let mut one = CpuSet::new();
        one.set(3);
        let one = Processors { all: one };
        assert!(one.allow(Placement::OneProcessor) && !one.allow(Placement::TwoProcessors));
    }
}
