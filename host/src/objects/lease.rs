//! The lease of a name: at most one writer holds its record, across all instances.

use chrono::{DateTime, Utc};
use core::time::Duration;
use object_store::{ObjectStoreExt as _, UpdateVersion};
use skiff_proto::{ErrorCode, Refusal};
use tokio::time::Instant;

use super::Inner;
use super::record::{Found, Record, Staged, State, Swap};
use super::request::{again, refuse};

/// How long a measurement of the storage's clock remains valid.
const CLOCK_AGE: Duration = Duration::from_secs(60);

/// The time of the storage at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    measured: Instant,
    at: DateTime<Utc>,
}

/// A record that this writer holds.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) record: Record,
    version: UpdateVersion,
}

/// The refusal for a writer that has lost its lease.
pub(super) const LOST: Refusal = Refusal::new(ErrorCode::Busy, "another client has taken over the upload");

impl Inner {
    /// The current time on the storage's clock, which all instances share.
    pub(super) async fn storage_time(&self) -> Result<DateTime<Utc>, Refusal> {
        let known = *self.clock();
        let clock = match known.filter(|clock| clock.measured.elapsed() < CLOCK_AGE) {
            Some(clock) => clock,
            None => {
                let path = self.keys.own(&format!("clock/{}", self.instance))?;
                self.put_own(&path, Vec::new()).await.map_err(|error| refuse(&error))?;
                let measured = Instant::now();
                let meta = again(|| self.storage.objects.head(&path)).await.map_err(|error| refuse(&error))?;
                let clock = Clock { measured, at: meta.last_modified };
                *self.clock() = Some(clock);
                clock
            }
        };
        let since = chrono::TimeDelta::from_std(clock.measured.elapsed()).unwrap_or_default();
        Ok(clock.at + since)
    }

    /// How long ago a record was written.
    pub(super) async fn age(&self, found: &Found) -> Result<Duration, Refusal> {
        let age = self.storage_time().await? - found.at;
        Ok(age.to_std().unwrap_or_default())
    }

    /// True if another writer may take over `found`.
    pub(super) async fn is_available(&self, found: &Found) -> Result<bool, Refusal> {
        let record = &found.record;
        let has_no_holder = || record.instance == self.instance && !self.writers.holds(&record.name, &record.token);
        if record.state != State::Open || !self.shared || has_no_holder() {
            return Ok(true);
        }
        Ok(self.age(found).await? >= self.options.takeover + self.options.margin)
    }

    /// Makes `token` the holder of `name`. Staged bytes stay.
    ///
    /// # Errors
    /// `busy` while another writer holds it.
    pub(super) async fn acquire(&self, name: &str, token: &str) -> Result<Lease, Refusal> {
        // Others may be faster a few times, but one of them then holds it.
        for _ in 0..5 {
            let found = self.read_record(name).await?;
            if let Some(found) = &found
                && found.record.token != token
                && !self.is_available(found).await?
            {
                break;
            }
            let mut record = found.as_ref().map_or_else(|| Record::new(name), |found| found.record.clone());
            record.state = State::Open;
            token.clone_into(&mut record.token);
            self.instance.clone_into(&mut record.instance);
            record.seq += 1;
            if let Swap::Done(version) = self.swap_record(&record, found.as_ref().map(|found| &found.version)).await? {
                return Ok(Lease { record, version });
            }
        }
        Err(ErrorCode::Busy.into())
    }

    /// Applies `change` to the record and writes it, which also renews the lease.
    ///
    /// # Errors
    /// [`LOST`] if another writer has taken over.
    pub(super) async fn update(&self, lease: &mut Lease, change: impl FnOnce(&mut Record)) -> Result<(), Refusal> {
        let mut record = lease.record.clone();
        change(&mut record);
        record.seq += 1;
        match self.swap_record(&record, Some(&lease.version)).await? {
            Swap::Done(version) => {
                *lease = Lease { record, version };
                Ok(())
            }
            Swap::Lost => Err(LOST),
        }
    }

    /// Drops the staged bytes; the writer keeps the lease.
    pub(super) async fn clear(&self, lease: &mut Lease, state: State) -> Result<(), Refusal> {
        let staged = lease.record.staged.clone();
        self.update(lease, |record| {
            record.staged = None;
            record.state = state;
        })
        .await?;
        if let Some(staged) = staged {
            self.drop_staged(&lease.record.name, &staged).await;
        }
        Ok(())
    }
}

impl Record {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: State::Free,
            instance: String::new(),
            token: String::new(),
            seq: 0,
            staged: None,
            stored: None,
        }
    }

    pub(super) fn staged_mut(&mut self) -> &mut Staged {
        self.staged.get_or_insert_default()
    }
}
