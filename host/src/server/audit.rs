//! The audit trail: with `-v`, one log line for each change that a client requested, with its outcome.

use skiff_proto::{Name, Refusal};

use super::who::Who;
use super::work::{Change, KeptName};
use crate::store::Stage;

/// A change whose outcome is not known yet.
#[derive(Debug)]
pub(crate) struct Entry {
    peer: Who,
    verb: &'static str,
    name: String,
    to: Option<String>,
    size: Option<u64>,
}

/// Boxed, because most servers have none.
pub(crate) type Pending = Option<Box<Entry>>;

impl Entry {
    /// A `write` whose body has been received; `None` if that is not logged.
    pub(super) fn write(peer: Who, stage: &Stage) -> Pending {
        let name = || stage.name().map_or("", Name::as_str).to_owned();
        Self::new(|| Self { peer, verb: "write", name: name(), to: None, size: Some(stage.size()) })
    }

    /// A change to names; `None` if that is not logged.
    pub(crate) fn change(peer: Who, change: &Change) -> Pending {
        Self::new(|| {
            let (verb, name, to) = match change {
                Change::Remove(name) => ("remove", name, None),
                Change::Rename(from, to) => ("rename", from, Some(to)),
                Change::Mkdir(name) => ("mkdir", name, None),
                Change::Rmdir(name) => ("rmdir", name, None),
            };
            let text = |name: &KeptName| name.as_name().as_str().to_owned();
            Self { peer, verb, name: text(name), to: to.map(text), size: None }
        })
    }

    fn new(make: impl FnOnce() -> Self) -> Pending {
        tracing::enabled!(tracing::Level::INFO).then(|| Box::new(make()))
    }

    /// Logs the outcome.
    pub(crate) fn end<T>(&self, done: &Result<T, Refusal>) {
        let Self { peer, verb, name, to, size } = self;
        log(*peer, verb, name, to.as_deref(), *size, outcome(done));
    }
}

/// `ok`, or the code of the refusal.
pub(crate) const fn outcome<T>(done: &Result<T, Refusal>) -> &'static str {
    match done {
        Ok(_) => "ok",
        Err(refusal) => refusal.code.as_str(),
    }
}

/// Logs how an upload ended: `ok`, an error code, or why its body is incomplete.
pub(crate) fn upload(peer: impl Into<Who>, verb: &str, name: &str, size: Option<u64>, outcome: &str) {
    log(peer.into(), verb, name, None, size, outcome);
}

/// Logs how a change ended.
#[cfg(feature = "objects")]
pub(crate) fn change<T>(
    peer: Who,
    verb: &str,
    name: &str,
    to: Option<&str>,
    size: Option<u64>,
    done: &Result<T, Refusal>,
) {
    log(peer, verb, name, to, size, outcome(done));
}

fn log(peer: Who, verb: &str, name: &str, to: Option<&str>, size: Option<u64>, outcome: &str) {
    tracing::info!(%peer, name, to, size, %outcome, "{verb}");
}
