//! Stores staged bytes as an object, and checks for name conflicts.

use core::time::Duration;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::{
    CopyMode, CopyOptions, Error, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, WriteMultipart,
};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::store::Stat;
use skiff_proto::{ErrorCode, Refusal};
use tokio::sync::RwLockReadGuard;
use tokio::time::Instant;

use super::Inner;
use super::lease::{LOST, Lease};
use super::record::{Staged, State, Stored};
use super::request::{again, found, refuse};
use super::upload::{Body, Saved};

/// How long a directory is assumed to exist after it was last seen.
const SEEN: Duration = Duration::from_secs(30);

/// Maximum number of directories that are remembered.
const MOST_SEEN: usize = 10_000;

/// Directories that exist, and when they were last seen.
#[derive(Debug, Default)]
pub(super) struct Parents(Mutex<HashMap<String, Instant>>);

impl Parents {
    fn has(&self, dir: &str) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(dir).is_some_and(|at| at.elapsed() < SEEN)
    }

    fn add(&self, dir: &str) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= MOST_SEEN {
            seen.clear();
        }
        seen.insert(dir.to_owned(), Instant::now());
    }

    pub(super) fn forget(&self, dir: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(dir);
    }
}

impl Inner {
    /// Replaces the file with the bytes of `body`.
    ///
    /// # Errors
    /// The file could not be stored; the old file is unchanged.
    pub(super) async fn commit(&self, body: Body, crc: Option<u32>) -> Result<Stat, Refusal> {
        let replacing = self.replacing().await;
        let stored = self.commit_held(&body, crc).await;
        drop(replacing);
        self.writers.leave(&body.name, &body.writer.token);
        stored
    }

    async fn commit_held(&self, body: &Body, crc: Option<u32>) -> Result<Stat, Refusal> {
        self.check_change()?;
        let mut saved = body.saved.lock().await;
        if let Some(failed) = saved.failed {
            return Err(failed);
        }
        let stat = Stat { size: body.size, mtime: body.mtime, crc };
        if let Some(source) = &body.source {
            if saved.lease.is_none() {
                self.enter(body, &mut saved).await?;
            }
            let stat = self.copy_version(source, &body.name).await?;
            if let Some(lease) = &mut saved.lease {
                self.note_copy(lease, &body.name, source.stat).await;
            }
            self.release(&mut saved).await;
            return Ok(stat);
        }
        if saved.lease.is_none() {
            self.enter(body, &mut saved).await?;
        } else if let Some(lease) = &mut saved.lease {
            // Nobody has taken over.
            self.update(lease, |_| {}).await?;
        }
        self.check_path(&body.name).await?;
        let in_parts = |lease: &Lease| lease.record.staged.as_ref().is_some_and(|staged| staged.upload.is_some());
        if saved.lease.as_ref().is_some_and(in_parts) {
            self.complete(body, &mut saved, crc).await?;
            return Ok(stat);
        }
        let path = self.keys.file(&body.name)?;
        let payload = PutPayload::from(body.bytes.clone());
        let attributes = self.attributes(body.mtime, crc);
        let options = || PutOptions { attributes: attributes.clone(), ..PutOptions::default() };
        again(|| self.storage.objects.put_opts(&path, payload.clone(), options()))
            .await
            .map_err(|error| refuse(&error))?;
        self.release(&mut saved).await;
        Ok(stat)
    }

    /// The read half of the lock `replacing`, for a change that may replace a file; `None` if conditional writes make
    /// it unnecessary.
    pub(super) async fn replacing(&self) -> Option<RwLockReadGuard<'_, ()>> {
        if self.shared { None } else { Some(self.replacing.read().await) }
    }

    /// Checks that a writer without a lease may replace the file. If something is staged, acquires the lease to drop
    /// it.
    async fn enter(&self, body: &Body, saved: &mut Saved) -> Result<(), Refusal> {
        let Some(found) = self.read_record(&body.name).await? else { return Ok(()) };
        if found.record.state != State::Free {
            self.hold(body, saved).await?;
        }
        Ok(())
    }

    /// Releases the lease after the file is stored. If that fails, the lease expires.
    async fn release(&self, saved: &mut Saved) {
        if let Some(lease) = &mut saved.lease
            && let Err(refusal) = self.clear(lease, State::Free).await
        {
            tracing::debug!(%refusal, "a lease could not be released");
        }
    }

    /// Sends the last part and joins the parts into one object.
    async fn complete(&self, body: &Body, saved: &mut Saved, crc: Option<u32>) -> Result<(), Refusal> {
        let Some(lease) = &mut saved.lease else { return Err(ErrorCode::Io.into()) };
        let mut staged = lease.record.staged.clone().unwrap_or_default();
        let upload = staged.upload.clone().ok_or(ErrorCode::Io)?;
        let mut rest = body.bytes.clone();
        while !rest.is_empty() {
            let bytes = rest.split_to(rest.len().min(body.part));
            staged.parts.push(self.put_part(body, &upload, staged.parts.len(), bytes).await?);
        }
        let e_tag = match self.join(body, &staged).await {
            Ok(e_tag) => e_tag,
            Err(refusal) => {
                // What is staged can't be completed: the client starts again.
                if refusal == LOST {
                    self.clear(lease, State::Free).await?;
                }
                return Err(refusal);
            }
        };
        let stored = e_tag.map(|e_tag| Stored { e_tag, crc, mtime: body.mtime });
        // The file is stored. If this fails, only its CRC is not known, and the record expires.
        let noted = self.update(lease, |record| {
            record.staged = None;
            record.state = State::Free;
            record.stored = stored;
        });
        if let Err(refusal) = noted.await {
            tracing::debug!(%refusal, name = body.name, "the checksum of a file could not be recorded");
        }
        if self.storage.multipart.is_none() {
            self.drop_staged(&body.name, &staged).await;
        }
        Ok(())
    }

    /// Returns the tag of the object.
    async fn join(&self, body: &Body, staged: &Staged) -> Result<Option<String>, Refusal> {
        let path = self.keys.file(&body.name)?;
        let (Some(multipart), Some(id)) = (&self.storage.multipart, &staged.upload) else {
            return self.join_objects(body, staged).await;
        };
        let parts = || staged.parts.iter().map(|id| PartId { content_id: id.clone() }).collect();
        match again(|| multipart.complete_multipart(&path, id, parts())).await {
            Ok(result) => Ok(result.e_tag),
            // An attempt whose answer was lost may have succeeded, or another writer has aborted the upload.
            Err(Error::NotFound { .. }) => Err(LOST),
            Err(error) => Err(refuse(&error)),
        }
    }

    /// For storage without resumable multipart uploads: writes the parts, one after the other, into one object.
    async fn join_objects(&self, body: &Body, staged: &Staged) -> Result<Option<String>, Refusal> {
        let path = self.keys.file(&body.name)?;
        let refused = |error| refuse(&error);
        let mut upload = WriteMultipart::new(self.storage.objects.put_multipart(&path).await.map_err(refused)?);
        for part in &staged.parts {
            let part = self.keys.beside(&body.name, part)?;
            let bytes = self.read_whole(&part).await?;
            upload.wait_for_capacity(1).await.map_err(refused)?;
            upload.put(bytes);
        }
        Ok(upload.finish().await.map_err(refused)?.e_tag)
    }

    /// All bytes of a small object.
    pub(super) async fn read_whole(&self, path: &object_store::path::Path) -> Result<Bytes, Refusal> {
        let read = || async { self.storage.objects.get(path).await?.bytes().await };
        again(read).await.map_err(|error| refuse(&error))
    }

    /// Stores a classic `put` under `name`, which must not exist.
    pub(super) async fn commit_new(&self, body: &Body, name: Name<'_>) -> Result<(), Refusal> {
        self.check_change()?;
        match self.check_path(name.as_str()).await {
            // A numbered name is free.
            Err(refusal) if refusal.code == ErrorCode::IsDirectory => return Err(ErrorCode::Exists.into()),
            checked => checked?,
        }
        let mut saved = body.saved.lock().await;
        if let Some(failed) = saved.failed {
            return Err(failed);
        }
        let to = self.keys.file(name.as_str())?;
        let is_taken = async || found(again(|| self.storage.objects.head(&to)).await).map(|meta| meta.is_some());
        let _creating = if self.shared { None } else { Some(self.replacing.write().await) };
        if !self.shared && is_taken().await? {
            return Err(ErrorCode::Exists.into());
        }
        if let Some(temporary) = self.complete_put(body, &mut saved).await? {
            let options = || CopyOptions::new().with_mode(CopyMode::Create);
            let copied = match again(|| self.storage.objects.copy_opts(&temporary, &to, options())).await {
                Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                    if is_taken().await? {
                        return Err(ErrorCode::Exists.into());
                    }
                    again(|| self.storage.objects.copy(&temporary, &to)).await
                }
                copied => copied,
            };
            copied.map_err(|error| refuse(&error))?;
            self.delete_quietly(&temporary).await;
            return Ok(());
        }
        let payload = PutPayload::from(body.bytes.clone());
        let attributes = self.attributes(None, Some(body.crc));
        let options = || PutOptions { mode: PutMode::Create, attributes: attributes.clone(), ..PutOptions::default() };
        // If an attempt succeeds but its answer is lost, a second copy gets the next number, which is better than none.
        let stored = again(|| self.storage.objects.put_opts(&to, payload.clone(), options())).await;
        stored.map(drop).map_err(|error| refuse(&error))
    }

    /// The key with all bytes of a `put` that was too large for one request.
    async fn complete_put(&self, body: &Body, saved: &mut Saved) -> Result<Option<object_store::path::Path>, Refusal> {
        if saved.lease.is_none() {
            return Ok(None);
        }
        // Its stage has a name of its own, which is never served.
        let key = self.keys.file(&body.name)?;
        if found(again(|| self.storage.objects.head(&key)).await)?.is_none() {
            self.complete(body, saved, Some(body.crc)).await?;
        }
        Ok(Some(key))
    }

    /// Checks that the name is not a directory and that no parent is a file, and creates missing parents.
    pub(super) async fn check_path(&self, name: &str) -> Result<(), Refusal> {
        let directory = self.keys.directory(name)?;
        if found(again(|| self.storage.objects.head(&directory)).await)?.is_some() {
            return Err(ErrorCode::IsDirectory.into());
        }
        self.parents.forget(name);
        let parsed = Name::parse(name.as_bytes(), MAX_NAME);
        let mut parent = parsed.ok().and_then(|name| name.parent());
        let mut missing = Vec::new();
        while let Some(dir) = parent {
            if self.parents.has(dir.as_str()) {
                break;
            }
            let marker = self.keys.directory(dir.as_str())?;
            if found(again(|| self.storage.objects.head(&marker)).await)?.is_some() {
                self.parents.add(dir.as_str());
                break;
            }
            let file = self.keys.file(dir.as_str())?;
            if found(again(|| self.storage.objects.head(&file)).await)?.is_some() {
                return Err(ErrorCode::Exists.into());
            }
            missing.push(dir.as_str().to_owned());
            parent = dir.parent();
        }
        for dir in missing.into_iter().rev() {
            let path = self.keys.directory(&dir)?;
            self.put_own(&path, Vec::new()).await.map_err(|error| refuse(&error))?;
            self.parents.add(&dir);
        }
        Ok(())
    }
}
