//! The bytes of one stage. Complete parts are in a multipart upload; the bytes after them are in memory. If the upload
//! is slow or interrupted, the bytes after the parts are also saved in a separate object, the tail.

use core::mem;
use core::sync::atomic::Ordering;
use core::time::Duration;
use std::sync::Arc;

use bytes::Bytes;
use object_store::multipart::PartId;
use object_store::{Error, ObjectStoreExt as _, PutMultipartOptions, PutPayload};
use skiff_proto::crc::Crc32c;
use skiff_proto::store::Staging;
use skiff_proto::{ErrorCode, Refusal};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::lease::{LOST, Lease};
use super::record::State;
use super::request::{again, refuse};
use super::writers::Writer;
use super::{Inner, Objects};

/// How often a holder renews its lease while bytes arrive.
const RENEW: Duration = Duration::from_secs(1);

/// Unsaved bytes are saved when there are at least this many plus a quarter of the tail.
const UNSAVED: usize = 64 * 1024;

/// More bytes than one read from the socket returns.
const ROUGH: usize = 512 * 1024;

/// Maximum number of parts of a multipart upload.
const MOST_PARTS: u64 = 9_000;

/// A file that is being written.
#[derive(Debug)]
pub struct Stage {
    objects: Objects,
    /// The name, also for a classic `put`.
    pub(super) name: String,
    /// True for a classic `put`: the name may get a number, and nothing is kept for `resume`.
    pub(super) unnamed: bool,
    pub(super) size: u64,
    pub(super) mtime: Option<u64>,
    owner: Option<u64>,
    pub(super) writer: Arc<Writer>,
    crc: Crc32c,
    len: u64,
    part: usize,
    /// The CRC-32C up to the end of the next part.
    part_crc: u32,
    /// The bytes after the parts: up to one part, and the rest of one read from the socket.
    buffer: Vec<u8>,
    /// How many of these are in the tail.
    saved: usize,
    renewed: Instant,
    pub(super) saved_side: Arc<Mutex<Saved>>,
    /// The object that a `copy` copies, and its version.
    pub(super) source: Option<super::file::Version>,
    /// Committed or discarded.
    over: bool,
}

/// The state of a stage in the storage. Requests for it hold the lock, so they run one at a time.
#[derive(Debug, Default)]
pub(super) struct Saved {
    pub(super) lease: Option<Lease>,
    pub(super) failed: Option<Refusal>,
}

/// The data that a commit needs from a stage.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) name: String,
    pub(super) size: u64,
    pub(super) mtime: Option<u64>,
    pub(super) bytes: Bytes,
    /// Bytes of a part.
    pub(super) part: usize,
    pub(super) crc: u32,
    pub(super) writer: Arc<Writer>,
    pub(super) saved: Arc<Mutex<Saved>>,
    pub(super) owner: Option<u64>,
    pub(super) source: Option<super::file::Version>,
}

impl Stage {
    /// A stage without bytes.
    pub(super) fn new(objects: &Objects, staging: Staging<'_>, unnamed: bool, writer: Arc<Writer>) -> Self {
        let least = objects.inner().options.part;
        let part = (staging.size / MOST_PARTS).max(least as u64);
        Self {
            objects: objects.clone(),
            name: staging.name.as_str().to_owned(),
            unnamed,
            size: staging.size,
            mtime: staging.mtime,
            owner: staging.owner.number(),
            writer,
            crc: Crc32c::new(),
            len: 0,
            part: usize::try_from(part).unwrap_or(least),
            part_crc: 0,
            buffer: Vec::new(),
            saved: 0,
            renewed: Instant::now(),
            saved_side: Arc::default(),
            source: None,
            over: false,
        }
    }

    /// Resumes the upload staged under `lease`; `tail` holds the bytes after the parts.
    pub(super) fn resume(&mut self, lease: Lease, tail: Vec<u8>) {
        let staged = lease.record.staged.clone().unwrap_or_default();
        self.crc = Crc32c::from_value(staged.crc);
        self.len = staged.len;
        self.saved = tail.len();
        self.buffer = tail;
        self.saved_side = Arc::new(Mutex::new(Saved { lease: Some(lease), failed: None }));
    }

    /// The CRC-32C of all bytes so far.
    pub(super) const fn crc(&self) -> u32 {
        self.crc.value()
    }

    /// True if more bytes are accepted now; an error if they never will be.
    pub(super) fn check(&self) -> Result<bool, Refusal> {
        if self.writer.is_evicted() {
            return Err(LOST);
        }
        let free = match self.saved_side.try_lock() {
            Ok(saved) => saved.failed.map_or(Ok(true), Err)?,
            Err(_) => false,
        };
        Ok(free || self.buffer.len() < self.part)
    }

    /// Appends all of `bytes`. `ring` is called when a request has finished.
    pub(super) fn append(&mut self, bytes: &[u8], ring: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        let (first, rest) = bytes.split_at(bytes.len().min(self.part.saturating_sub(self.buffer.len())));
        self.crc.update(first);
        if !first.is_empty() && self.buffer.len() + first.len() == self.part {
            self.part_crc = self.crc.value();
        }
        self.crc.update(rest);
        if self.buffer.len() + bytes.len() > self.buffer.capacity() && self.buffer.len() >= ROUGH {
            // At once, instead of up to twice as much.
            self.buffer.reserve_exact((self.part + ROUGH).max(self.buffer.len() + bytes.len()) - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
        self.len += bytes.len() as u64;
        self.writer.set_len(self.len);
        self.writer.moved();
        if self.buffer.len() >= self.part && (self.unnamed || self.len < self.size) {
            self.cut(ring)?;
        } else if !self.unnamed && self.renewed.elapsed() >= RENEW {
            self.renew(ring);
        }
        Ok(())
    }

    /// Sends a part, if no other request is running. All parts but the last have the same size.
    fn cut(&mut self, ring: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        let Ok(mut saved) = Arc::clone(&self.saved_side).try_lock_owned() else { return Ok(()) };
        if let Some(failed) = saved.failed {
            return Err(failed);
        }
        let rest = self.buffer.split_off(self.part);
        let bytes = Bytes::from(mem::replace(&mut self.buffer, rest));
        self.saved = 0;
        self.renewed = Instant::now();
        let body = Body { crc: self.part_crc, ..self.body(bytes) };
        let (len, objects) = (self.len - self.buffer.len() as u64, self.objects.clone());
        self.spawn(ring, async move {
            saved.failed = objects.inner().save_part(&body, &mut saved, len).await.err();
            saved.failed
        });
        Ok(())
    }

    /// Renews the lease, and saves the bytes after the parts if there are many. Does nothing while another request
    /// runs.
    fn renew(&mut self, ring: impl FnOnce() + Send + 'static) {
        let Ok(mut saved) = Arc::clone(&self.saved_side).try_lock_owned() else { return };
        self.renewed = Instant::now();
        let unsaved = self.buffer.len() - self.saved;
        let bytes = if unsaved >= UNSAVED + self.saved / 4 {
            self.saved = self.buffer.len();
            Bytes::copy_from_slice(&self.buffer)
        } else {
            Bytes::new()
        };
        let body = self.body(bytes);
        let (len, objects) = (self.len, self.objects.clone());
        self.spawn(ring, async move {
            let inner = objects.inner();
            let renewed = if body.bytes.is_empty() {
                inner.renew(&body, &mut saved).await
            } else {
                inner.save_tail(&body, &mut saved, len, State::Open).await
            };
            saved.failed = renewed.err();
            saved.failed
        });
    }

    /// Runs a request. Until it finishes, the writer does not count as silent.
    fn spawn(
        &self,
        ring: impl FnOnce() + Send + 'static,
        request: impl Future<Output = Option<Refusal>> + Send + 'static,
    ) {
        let writer = Arc::clone(&self.writer);
        writer.busy.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(async move {
            let failed = request.await;
            writer.moved();
            writer.busy.fetch_sub(1, Ordering::AcqRel);
            if failed == Some(LOST) {
                writer.evict();
            }
            ring();
        });
    }

    fn body(&self, bytes: Bytes) -> Body {
        Body {
            name: self.name.clone(),
            size: self.size,
            mtime: self.mtime,
            bytes,
            part: self.part,
            crc: self.crc.value(),
            writer: Arc::clone(&self.writer),
            saved: Arc::clone(&self.saved_side),
            owner: self.owner,
            source: self.source.clone(),
        }
    }

    /// Ends the upload and returns the data for a commit. The caller must remove the writer.
    pub(super) fn finish(&mut self) -> Body {
        self.over = true;
        self.writer.end();
        let bytes = Bytes::from(mem::take(&mut self.buffer));
        Body { size: self.len, ..self.body(bytes) }
    }

    /// The same for a classic `put`, which may be repeated with another name.
    pub(super) fn finish_copy(&mut self) -> Body {
        self.over = true;
        Body { size: self.len, ..self.body(Bytes::copy_from_slice(&self.buffer)) }
    }

    pub(super) fn is_owned_by(&self, owner: Option<u64>) -> bool {
        self.owner == owner
    }

    /// Ends an upload that never began.
    pub(super) fn abandon(mut self: Box<Self>) {
        self.over = true;
        self.objects.inner().writers.leave(&self.name, &self.writer.token);
    }

    /// Drops the staged bytes.
    pub(super) fn discard(mut self) {
        self.over = true;
        self.writer.end();
        self.drop_saved();
    }

    fn drop_saved(&mut self) {
        let (objects, saved) = (self.objects.clone(), Arc::clone(&self.saved_side));
        let (name, writer, unnamed) = (mem::take(&mut self.name), Arc::clone(&self.writer), self.unnamed);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let mut saved = saved.lock().await;
            if let Some(lease) = &mut saved.lease
                && let Err(refusal) = objects.inner().clear(lease, State::Free).await
            {
                tracing::debug!(%refusal, name, "staged bytes remain");
            }
            if !unnamed {
                objects.inner().writers.leave(&name, &writer.token);
            }
        });
    }
}

/// The connection was lost: saves the bytes that have arrived for `resume`.
impl Drop for Stage {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        self.writer.end();
        if self.unnamed {
            self.drop_saved();
            return;
        }
        let unsaved = self.buffer.len() > self.saved;
        let bytes = Bytes::from(mem::take(&mut self.buffer));
        let body = self.body(bytes);
        let (objects, saved, len) = (self.objects.clone(), Arc::clone(&self.saved_side), self.len);
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let inner = objects.inner();
            let mut saved: OwnedMutexGuard<Saved> = saved.lock_owned().await;
            let kept = match (saved.failed, unsaved, &mut saved.lease) {
                (Some(failed), ..) => Err(failed),
                (None, true, _) => inner.save_tail(&body, &mut saved, len, State::Idle).await,
                (None, false, Some(lease)) => inner.update(lease, |record| record.state = State::Idle).await,
                (None, false, None) => Ok(()),
            };
            if let Err(refusal) = kept {
                tracing::warn!(name = body.name, %refusal, "can't save all of an interrupted upload");
            }
            inner.writers.leave(&body.name, &body.writer.token);
        });
    }
}

impl Inner {
    /// The lease of `body`'s writer; acquires it if necessary.
    pub(super) async fn hold<'s>(&self, body: &Body, saved: &'s mut Saved) -> Result<&'s mut Lease, Refusal> {
        if saved.lease.is_none() {
            let mut lease = self.acquire(&body.name, &body.writer.token).await?;
            // The first lease of an upload that began at 0.
            if lease.record.staged.is_some() {
                self.clear(&mut lease, State::Open).await?;
            }
            saved.lease = Some(lease);
        }
        saved.lease.as_mut().ok_or_else(|| ErrorCode::Io.into())
    }

    async fn renew(&self, body: &Body, saved: &mut Saved) -> Result<(), Refusal> {
        let lease = self.hold(body, saved).await?;
        self.update(lease, |_| {}).await
    }

    /// Sends a part, and records it.
    pub(super) async fn save_part(&self, body: &Body, saved: &mut Saved, len: u64) -> Result<(), Refusal> {
        let lease = self.hold(body, saved).await?;
        let staged = lease.record.staged.clone().unwrap_or_default();
        let upload = match &staged.upload {
            Some(id) => id.clone(),
            None => {
                let id = self.begin_parts(body).await?;
                // The record first: an instance that finds it can abort the upload.
                let begun = self.update(lease, |record| {
                    let staged = record.staged_mut();
                    (staged.owner, staged.size, staged.mtime) = (body.owner, body.size, body.mtime);
                    staged.upload = Some(id.clone());
                });
                begun.await?;
                id
            }
        };
        let part = self.put_part(body, &upload, staged.parts.len(), body.bytes.clone()).await?;
        let crc = body.crc;
        self.update(lease, |record| {
            let staged = record.staged_mut();
            (staged.len, staged.crc, staged.tail) = (len, crc, None);
            staged.parts.push(part);
        })
        .await?;
        if let Some(tail) = &staged.tail {
            self.delete_quietly(&self.keys.beside(&body.name, tail)?).await;
        }
        Ok(())
    }

    async fn begin_parts(&self, body: &Body) -> Result<String, Refusal> {
        let Some(multipart) = &self.storage.multipart else { return Ok(self.token()) };
        let path = self.keys.file(&body.name)?;
        // The CRC is not known yet.
        let options = || PutMultipartOptions { attributes: self.attributes(body.mtime, None), ..Default::default() };
        let begun = match again(|| multipart.create_multipart_opts(&path, options())).await {
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => {
                again(|| multipart.create_multipart(&path)).await
            }
            begun => begun,
        };
        begun.map_err(|error| refuse(&error))
    }

    pub(super) async fn put_part(
        &self,
        body: &Body,
        upload: &str,
        index: usize,
        bytes: Bytes,
    ) -> Result<String, Refusal> {
        let payload = PutPayload::from(bytes);
        let Some(multipart) = &self.storage.multipart else {
            let part = format!("part-{upload}-{index}");
            let path = self.keys.beside(&body.name, &part)?;
            again(|| self.storage.objects.put(&path, payload.clone())).await.map_err(|error| refuse(&error))?;
            return Ok(part);
        };
        let (path, id) = (self.keys.file(&body.name)?, upload.to_owned());
        match again(|| multipart.put_part(&path, &id, index, payload.clone())).await {
            Ok(PartId { content_id }) => Ok(content_id),
            // Another writer has taken over and aborted the upload.
            Err(Error::NotFound { .. }) => Err(LOST),
            Err(error) => Err(refuse(&error)),
        }
    }

    /// Saves the bytes after the parts, and records them.
    async fn save_tail(&self, body: &Body, saved: &mut Saved, len: u64, state: State) -> Result<(), Refusal> {
        let lease = self.hold(body, saved).await?;
        let tail = format!("tail-{}", self.token());
        let path = self.keys.beside(&body.name, &tail)?;
        let payload = PutPayload::from(body.bytes.clone());
        again(|| self.storage.objects.put(&path, payload.clone())).await.map_err(|error| refuse(&error))?;
        let before = lease.record.staged.as_ref().and_then(|staged| staged.tail.clone());
        let recorded = self.update(lease, |record| {
            let staged = record.staged_mut();
            (staged.owner, staged.size, staged.mtime) = (body.owner, body.size, body.mtime);
            (staged.len, staged.crc, staged.tail) = (len, body.crc, Some(tail));
            record.state = state;
        });
        let recorded = recorded.await;
        if recorded == Err(LOST) {
            self.delete_quietly(&path).await;
        } else if let (Ok(()), Some(before)) = (recorded, before) {
            self.delete_quietly(&self.keys.beside(&body.name, &before)?).await;
        }
        recorded
    }
}
