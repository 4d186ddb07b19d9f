//! Finishes the renames of dead instances every minute, and drops old stages every hour. Both also run at startup.

use core::time::Duration;
use std::collections::HashSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use object_store::ObjectMeta;
use skiff_proto::Refusal;
use tracing::{debug, info};

use super::change::Move;
use super::record::{Found, State};
use super::{Inner, Objects};

/// How often to look for unfinished renames.
const MOVES: Duration = Duration::from_secs(60);

/// Old stages are looked for once in this many rounds.
const STAGES: u32 = 60;

/// A rename that has been running for this long belongs to a dead instance.
const MOVE_AGE: Duration = Duration::from_secs(300);

/// Starts the sweep, which runs as long as a handle to `objects` exists.
pub(super) fn start(objects: &Objects) {
    if objects.inner().options.read_only {
        return;
    }
    let weak = Arc::downgrade(&objects.0);
    tokio::spawn(async move {
        for round in 0.. {
            let Some(inner) = weak.upgrade() else { return };
            let objects = Objects(inner);
            objects.sweep_moves().await;
            if round % STAGES == 0 {
                objects.sweep_stages().await;
            }
            drop(objects);
            tokio::time::sleep(MOVES).await;
        }
    });
}

impl Objects {
    /// Finishes renames of dead instances.
    pub async fn sweep_moves(&self) {
        let inner = self.inner();
        // If only one instance serves the store, every rename that is not its own belongs to a dead instance.
        let age = if inner.shared { MOVE_AGE } else { Duration::ZERO };
        self.finish_moves(age).await;
    }

    /// Finishes renames that are older than `age`.
    pub async fn finish_moves(&self, age: Duration) {
        let inner = self.inner();
        let Ok(folder) = inner.keys.moves() else { return };
        for meta in inner.list_own(&folder).await {
            if is_older(inner, &meta, age).await
                && let Err(refusal) = inner.finish_old_move(&meta).await
            {
                debug!(%refusal, "a rename could not be finished");
            }
        }
    }

    /// Drops stages older than [`Options::stage_age`](super::Options::stage_age), and objects that no record uses.
    pub async fn sweep_stages(&self) {
        let inner = self.inner();
        let Ok(folder) = inner.keys.stages() else { return };
        let all = inner.list_own(&folder).await;
        let mut used = HashSet::new();
        let mut others = Vec::new();
        for meta in all {
            let file = meta.location.filename().unwrap_or_default();
            let Some((_, beside)) = file.split_once('.') else {
                used.extend(inner.sweep_record(&meta).await);
                continue;
            };
            others.push((beside.to_owned(), meta));
        }
        for (beside, meta) in others {
            if !used.contains(&beside) && is_older(inner, &meta, inner.options.stage_age).await {
                inner.delete_quietly(&meta.location).await;
            }
        }
    }
}

async fn is_older(inner: &Inner, meta: &ObjectMeta, age: Duration) -> bool {
    let Ok(now) = inner.storage_time().await else { return false };
    age.is_zero() || elapsed(now, meta.last_modified) > age
}

fn elapsed(now: DateTime<Utc>, at: DateTime<Utc>) -> Duration {
    (now - at).to_std().unwrap_or_default()
}

impl Inner {
    /// Drops the staged bytes of a record if it is old. Returns the objects that the record uses.
    async fn sweep_record(&self, meta: &ObjectMeta) -> Vec<String> {
        let used = |found: &Found| {
            let staged = found.record.staged.iter();
            staged.flat_map(|staged| staged.parts.iter().chain(&staged.tail).cloned()).collect()
        };
        let Ok(bytes) = self.read_whole(&meta.location).await else { return Vec::new() };
        let Ok(record) = serde_json::from_slice::<super::record::Record>(&bytes) else { return Vec::new() };
        let Ok(Some(found)) = self.read_record(&record.name).await else { return Vec::new() };
        let old = match self.age(&found).await {
            Ok(age) => age > self.options.stage_age,
            Err(_) => false,
        };
        let idle = found.record.staged.is_some() && matches!(self.is_available(&found).await, Ok(true));
        if !old || !idle {
            return used(&found);
        }
        info!(name = found.record.name, "dropping an old unfinished upload");
        let token = self.token();
        if let Ok(mut lease) = self.acquire(&found.record.name, &token).await {
            _ = self.clear(&mut lease, State::Free).await;
        }
        Vec::new()
    }

    /// Finishes the rename of a dead instance, or abandons it if TO has been written since.
    async fn finish_old_move(&self, meta: &ObjectMeta) -> Result<(), Refusal> {
        let Ok(content) = serde_json::from_slice::<Move>(&self.read_whole(&meta.location).await?) else {
            return Ok(());
        };
        let Move { from, to, e_tag } = content;
        // The storage reports times in whole seconds: if in doubt, both files stay.
        let is_older = |at: DateTime<Utc>| at < meta.last_modified;
        match (self.find(&from).await?, self.find(&to).await?) {
            (Some(source), Some(target)) if source.e_tag == e_tag && target.is_same(&source) => {
                self.delete_if_same(&source).await?;
                info!(from, to, "finished the rename of a dead instance: deleted FROM");
            }
            (Some(source), target)
                if source.e_tag == e_tag && target.as_ref().is_none_or(|target| is_older(target.modified)) =>
            {
                self.finish_move(&source, &to).await?;
                info!(from, to, "finished the rename of a dead instance");
            }
            (None, Some(_)) => info!(from, to, "the rename of a dead instance was complete"),
            _ => info!(from, to, "abandoned the rename of a dead instance: FROM or TO has changed since"),
        }
        self.delete_quietly(&meta.location).await;
        Ok(())
    }
}
