//! Changes to names: remove, rename, mkdir, rmdir.

use std::sync::Arc;

use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use serde::{Deserialize, Serialize};
use skiff_proto::name::Name;
use skiff_proto::store::Stat;
use skiff_proto::{ErrorCode, Refusal};

use super::Inner;
use super::file::Version;
use super::lease::Lease;
use super::record::{State, Stored};
use super::request::{again, found, refuse};
use super::writers::{Presence, Writer};
use crate::store::Change;

/// A rename in progress. If its instance dies, another instance finishes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Move {
    pub(super) from: String,
    pub(super) to: String,
    /// The version of FROM.
    pub(super) e_tag: Option<String>,
}

impl Inner {
    /// Executes a change.
    pub(super) async fn change(&self, change: Change<Name<'_>>) -> Result<(), Refusal> {
        self.check_change()?;
        match change {
            Change::Remove(name) => self.remove(name.as_str()).await,
            Change::Rename(from, to) => self.rename(from.as_str(), to.as_str()).await,
            Change::Mkdir(name) => self.mkdir(name).await,
            Change::Rmdir(name) => self.rmdir(name.as_str()).await,
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Refusal> {
        let version = self.version(name).await?;
        self.delete(&version).await
    }

    async fn delete(&self, version: &Version) -> Result<(), Refusal> {
        match again(|| self.storage.objects.delete(&version.path)).await {
            // An earlier attempt has succeeded.
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(refuse(&error)),
        }
    }

    /// Copies FROM to TO, then deletes FROM. Until the copy is complete, TO is the old file. After that, both names
    /// exist until FROM is deleted.
    async fn rename(&self, from: &str, to: &str) -> Result<(), Refusal> {
        let version = self.version(from).await?;
        if from == to {
            return Ok(());
        }
        // Writers of either name wait meanwhile, as far as they have a lease.
        let first = self.hold_name(from).await?;
        let mut second = match self.hold_name(to).await {
            Ok(second) => second,
            Err(refusal) => {
                self.give_back(from, first).await;
                return Err(refusal);
            }
        };
        let renamed = self.rename_held(&version, to).await;
        if renamed.is_ok()
            && let Some((_, lease)) = &mut second
        {
            self.note_copy(lease, to, version.stat).await;
        }
        self.give_back(to, second).await;
        self.give_back(from, first).await;
        renamed
    }

    /// Acquires the lease of a name. `None`: a writer holds it. That is no problem, because open stages keep their
    /// names (PROTOCOL §5).
    async fn hold_name(&self, name: &str) -> Result<Option<(Arc<Writer>, Lease)>, Refusal> {
        let writer = Writer::new(self.token(), None);
        writer.end();
        if self.writers.enter(name, &writer) != Presence::Free {
            return Ok(None);
        }
        match self.acquire(name, &writer.token).await {
            Ok(lease) => Ok(Some((writer, lease))),
            Err(refusal) => {
                self.writers.leave(name, &writer.token);
                if refusal.code == ErrorCode::Busy { Ok(None) } else { Err(refusal) }
            }
        }
    }

    async fn give_back(&self, name: &str, held: Option<(Arc<Writer>, Lease)>) {
        let Some((writer, mut lease)) = held else { return };
        let state = if lease.record.staged.is_some() { State::Idle } else { State::Free };
        if let Err(refusal) = self.update(&mut lease, |record| record.state = state).await {
            tracing::debug!(%refusal, "a lease could not be released");
        }
        self.writers.leave(name, &writer.token);
    }

    /// Records the checksum of a copy if its metadata does not contain it.
    pub(super) async fn note_copy(&self, lease: &mut Lease, to: &str, stat: Stat) {
        let Ok(Some(copy)) = self.find(to).await else { return };
        if copy.stat.crc.is_some() || stat.crc.is_none() || copy.stat.size != stat.size {
            return;
        }
        let stored = copy.e_tag.map(|e_tag| Stored { e_tag, crc: stat.crc, mtime: stat.mtime });
        if let Err(refusal) = self.update(lease, |record| record.stored = stored).await {
            tracing::debug!(%refusal, to, "the checksum of a copy could not be recorded");
        }
    }

    async fn rename_held(&self, version: &Version, to: &str) -> Result<(), Refusal> {
        let record = self.keys.moving(&version.name)?;
        let content = Move { from: version.name.clone(), to: to.to_owned(), e_tag: version.e_tag.clone() };
        let bytes = serde_json::to_vec(&content).map_err(|_| ErrorCode::Io)?;
        self.put_own(&record, bytes).await.map_err(|error| refuse(&error))?;
        let moved = self.finish_move(version, to).await;
        if moved.is_ok() || moved.is_err_and(|refusal| refusal.code != ErrorCode::Io) {
            self.delete_quietly(&record).await;
        }
        moved
    }

    /// Copies `version`, then deletes it unless it has been replaced.
    pub(super) async fn finish_move(&self, version: &Version, to: &str) -> Result<(), Refusal> {
        let replacing = self.replacing().await;
        self.copy_version(version, to).await?;
        drop(replacing);
        self.delete_if_same(version).await
    }

    /// Deletes `version` unless it has been replaced.
    pub(super) async fn delete_if_same(&self, version: &Version) -> Result<(), Refusal> {
        match self.find(&version.name).await? {
            Some(now) if now.e_tag == version.e_tag => self.delete(version).await,
            _ => Ok(()),
        }
    }

    async fn mkdir(&self, name: Name<'_>) -> Result<(), Refusal> {
        if self.find(name.as_str()).await?.is_some() {
            return Err(ErrorCode::Exists.into());
        }
        if let Some(parent) = name.parent()
            && !self.is_directory(parent.as_str()).await?
        {
            let is_file = self.find(parent.as_str()).await?.is_some();
            return Err(if is_file { ErrorCode::Exists } else { ErrorCode::NotFound }.into());
        }
        if self.is_directory(name.as_str()).await? {
            return Err(ErrorCode::Exists.into());
        }
        let path = self.keys.directory(name.as_str())?;
        let create = || {
            let options = PutOptions::from(if self.shared { PutMode::Create } else { PutMode::Overwrite });
            self.storage.objects.put_opts(&path, PutPayload::default(), options)
        };
        again(create).await.map(drop).map_err(|error| refuse(&error))
    }

    async fn rmdir(&self, name: &str) -> Result<(), Refusal> {
        let marker = self.keys.directory(name)?;
        let is_marked = found(again(|| self.storage.objects.head(&marker)).await)?.is_some();
        if !self.is_empty(name).await? {
            return Err(ErrorCode::NotEmpty.into());
        }
        if !is_marked {
            return Err(ErrorCode::NotFound.into());
        }
        self.parents.forget(name);
        match again(|| self.storage.objects.delete(&marker)).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(refuse(&error)),
        }
    }
}
