//! The record of the stage of one name: an object that changes only by compare-and-swap.

use chrono::{DateTime, Utc};
use object_store::{Error, GetResult, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, UpdateVersion};
use serde::{Deserialize, Serialize};
use skiff_proto::{ErrorCode, Refusal};

use super::request::{again, found, refuse};
use super::{Inner, request};

/// The content of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The name of the file.
    pub(super) name: String,
    pub(super) state: State,
    /// The instance of the holder.
    pub(super) instance: String,
    /// The holder.
    pub(super) token: String,
    /// Increases with each version, so no two versions are equal.
    pub(super) seq: u64,
    /// What is staged.
    pub(super) staged: Option<Staged>,
    /// CRC and time of an object that a multipart upload created: its metadata was sent before its CRC was known.
    pub(super) stored: Option<Stored>,
}

/// Who may use a record, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum State {
    /// Its holder.
    Open,
    /// The next writer: the last one was interrupted.
    Idle,
    /// The next writer: nothing is staged.
    Free,
}

/// Staged bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Staged {
    /// The client that wrote them.
    pub(super) owner: Option<u64>,
    pub(super) size: u64,
    pub(super) mtime: Option<u64>,
    /// Bytes in parts and tail, and their CRC-32C.
    pub(super) len: u64,
    pub(super) crc: u32,
    /// The multipart upload.
    pub(super) upload: Option<String>,
    pub(super) parts: Vec<String>,
    /// The key of the object with the bytes after the parts.
    pub(super) tail: Option<String>,
}

/// One version of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stored {
    pub(super) e_tag: String,
    pub(super) crc: Option<u32>,
    pub(super) mtime: Option<u64>,
}

/// A record as read from the storage.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) record: Record,
    pub(super) version: UpdateVersion,
    /// When it was written, by the storage's clock.
    pub(super) at: DateTime<Utc>,
}

/// The result of a compare-and-swap.
#[derive(Debug)]
pub(super) enum Swap {
    Done(UpdateVersion),
    /// Another writer was faster.
    Lost,
}

impl Inner {
    /// The record of `name`.
    pub(super) async fn read_record(&self, name: &str) -> Result<Option<Found>, Refusal> {
        let path = self.keys.record(name)?;
        let read = || async {
            let result: GetResult = self.storage.objects.get(&path).await?;
            let meta = result.meta.clone();
            Ok((meta, result.bytes().await?))
        };
        let Some((meta, bytes)) = found(again(read).await)? else { return Ok(None) };
        let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
            tracing::warn!(%error, key = %path, "the record of a stage is damaged");
            Refusal::new(ErrorCode::Io, "the record of the stage is damaged")
        })?;
        if record.name != name {
            return Err(Refusal::new(ErrorCode::Io, "the record of the stage belongs to another name"));
        }
        let version = UpdateVersion { e_tag: meta.e_tag, version: meta.version };
        Ok(Some(Found { record, version, at: meta.last_modified }))
    }

    /// Writes `record` if the version in the storage is still `before`, or for `None`, if there is no record.
    pub(super) async fn swap_record(&self, record: &Record, before: Option<&UpdateVersion>) -> Result<Swap, Refusal> {
        let path = self.keys.record(&record.name)?;
        let bytes = serde_json::to_vec(record).map_err(|_| ErrorCode::Io)?;
        let payload = PutPayload::from(bytes);
        let mode = || match before {
            _ if !self.shared => PutMode::Overwrite,
            None => PutMode::Create,
            Some(version) => PutMode::Update(version.clone()),
        };
        let put = || {
            let options = PutOptions::from(mode());
            self.storage.objects.put_opts(&path, payload.clone(), options)
        };
        match again(put).await {
            Ok(result) => Ok(Swap::Done(result.into())),
            // The first attempt may have succeeded although its answer was lost.
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {
                let found = self.read_record(&record.name).await?;
                Ok(found.filter(|found| found.record == *record).map_or(Swap::Lost, |found| Swap::Done(found.version)))
            }
            Err(error) => Err(refuse(&error)),
        }
    }

    /// Removes the staged bytes, but not the record itself.
    pub(super) async fn drop_staged(&self, name: &str, staged: &Staged) {
        if let Some(tail) = &staged.tail
            && let Ok(tail) = self.keys.beside(name, tail)
        {
            self.delete_quietly(&tail).await;
        }
        let (Some(id), Ok(path)) = (&staged.upload, self.keys.file(name)) else { return };
        match &self.storage.multipart {
            Some(multipart) => match again(|| multipart.abort_multipart(&path, id)).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(error) => request::log(&error, "abort of a multipart upload"),
            },
            None => {
                for part in &staged.parts {
                    if let Ok(part) = self.keys.beside(name, part) {
                        self.delete_quietly(&part).await;
                    }
                }
            }
        }
    }
}
