//! Reading one version of an object.

use core::ops::Range;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::{Attribute, Attributes, Error, GetOptions, ObjectMeta, ObjectStoreExt as _};
use sha2::{Digest as _, Sha256};
use skiff_proto::reply::Tag;
use skiff_proto::store::{Stat, Sum};
use skiff_proto::{ErrorCode, Refusal};

use super::pending::Pending;
use super::request::{again, found, refuse};
use super::{Inner, PART};

/// The key of the user metadata that holds MTIME, in seconds since 1970-01-01 UTC.
const MTIME: &str = "skiff-mtime";
/// The key of the user metadata that holds the CRC-32C, as 8 hex digits.
const CRC: &str = "skiff-crc32c";

/// Size of the first request for a file, and of further requests, in bytes.
const FIRST: u64 = 256 * 1024;
const NEXT: u64 = 4 * 1024 * 1024;

/// The largest object that the storage can copy in one request.
const COPY_MAX: u64 = 5 * 1024 * 1024 * 1024;

/// One version of an object.
#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) name: String,
    pub(super) path: Path,
    pub(super) e_tag: Option<String>,
    pub(super) modified: DateTime<Utc>,
    pub(super) stat: Stat,
}

impl Version {
    /// A tag that changes with the content.
    pub(super) fn tag(&self) -> Tag {
        let Some(e_tag) = &self.e_tag else { return Tag::UNKNOWN };
        let hash = Sha256::digest(e_tag.as_bytes());
        Tag::from_number(hash[..8].iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// True if `other` has the same content, as far as the storage can tell.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let by_crc = self.stat.crc.is_some() && self.stat.crc == other.stat.crc;
        self.stat.size == other.stat.size && (by_crc || (self.e_tag.is_some() && self.e_tag == other.e_tag))
    }
}

/// A file that is open for reading: one version, and a buffer around the read position.
#[derive(Debug)]
pub struct File {
    pub(super) version: Version,
    chunk: (u64, Bytes),
    ahead: Option<(u64, Pending<Result<Bytes, Refusal>>)>,
}

impl File {
    pub(super) fn new(version: Version) -> Self {
        Self { version, chunk: (0, Bytes::new()), ahead: None }
    }

    /// The bytes at `offset` that are in memory.
    pub(super) fn cached(&self, offset: u64) -> Option<&[u8]> {
        let (begin, bytes) = &self.chunk;
        let at = usize::try_from(offset.checked_sub(*begin)?).ok()?;
        bytes.get(at..).filter(|rest| !rest.is_empty())
    }

    /// Takes the requested bytes if they have arrived; true if there are new bytes.
    pub(super) fn take_ahead(&mut self, offset: u64) -> Result<bool, Refusal> {
        let Some((begin, pending)) = &mut self.ahead else { return Ok(false) };
        let begin = *begin;
        let Some(bytes) = pending.take() else { return Ok(false) };
        self.ahead = None;
        let bytes = bytes.unwrap_or(Err(ErrorCode::Io.into()))?;
        self.chunk = (begin, bytes);
        Ok(self.cached(offset).is_some())
    }

    /// The range to request next, if the bytes at `offset` are missing or the buffer is about to run out.
    pub(super) fn wants(&self, offset: u64) -> Option<Range<u64>> {
        if self.ahead.is_some() {
            return None;
        }
        let size = self.version.stat.size;
        let (begin, len) = match self.cached(offset) {
            None => (offset, FIRST),
            Some(_) => (self.chunk.0 + self.chunk.1.len() as u64, NEXT),
        };
        (begin < size).then(|| begin..size.min(begin + len))
    }

    pub(super) fn fetch(&mut self, begin: u64, pending: Pending<Result<Bytes, Refusal>>) {
        self.ahead = Some((begin, pending));
    }
}

impl Inner {
    /// The file `name`, with its metadata.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `io`.
    pub(super) async fn version(&self, name: &str) -> Result<Version, Refusal> {
        match self.find(name).await? {
            Some(version) => Ok(version),
            None if self.is_directory(name).await? => Err(ErrorCode::IsDirectory.into()),
            None => Err(ErrorCode::NotFound.into()),
        }
    }

    /// The file `name`, if it exists.
    pub(super) async fn find(&self, name: &str) -> Result<Option<Version>, Refusal> {
        let path = self.keys.file(name)?;
        let head = || self.storage.objects.get_opts(&path, GetOptions { head: true, ..GetOptions::default() });
        let Some(result) = found(again(head).await)? else { return Ok(None) };
        let mut version = self.version_of(name, result.meta, &result.attributes);
        // The metadata of a multipart upload was sent before its CRC was known.
        if version.stat.crc.is_none()
            && version.stat.size > self.options.part as u64
            && let Some(found) = self.read_record(name).await?
            && let Some(stored) = found.record.stored
            && version.e_tag.as_ref() == Some(&stored.e_tag)
        {
            version.stat.crc = stored.crc;
            version.stat.mtime = stored.mtime;
        }
        Ok(Some(version))
    }

    /// The user metadata of a file.
    pub(super) fn attributes(&self, mtime: Option<u64>, crc: Option<u32>) -> Attributes {
        let mut attributes = Attributes::new();
        if !self.storage.metadata {
            return attributes;
        }
        if let Some(mtime) = mtime {
            attributes.insert(Attribute::Metadata(MTIME.into()), mtime.to_string().into());
        }
        if let Some(crc) = crc {
            attributes.insert(Attribute::Metadata(CRC.into()), format!("{crc:08x}").into());
        }
        attributes
    }

    fn version_of(&self, name: &str, meta: ObjectMeta, attributes: &Attributes) -> Version {
        let text = |key: &'static str| attributes.get(&Attribute::Metadata(key.into()));
        let crc = text(CRC).and_then(|crc| u32::from_str_radix(crc, 16).ok());
        let mtime = text(MTIME).and_then(|mtime| mtime.parse().ok());
        Version {
            name: name.to_owned(),
            stat: Stat { size: meta.size, mtime, crc },
            path: meta.location,
            e_tag: meta.e_tag,
            modified: meta.last_modified,
        }
    }

    /// A range of one version.
    ///
    /// # Errors
    /// `changed` if the object has been replaced or removed.
    pub(super) async fn read_range(&self, version: &Version, range: Range<u64>) -> Result<Bytes, Refusal> {
        let wanted = range.end - range.start;
        let get = || async {
            let options = GetOptions { if_match: version.e_tag.clone(), ..GetOptions::default() };
            let options = GetOptions { range: Some(range.clone().into()), ..options };
            let result = self.storage.objects.get_opts(&version.path, options).await?;
            // Some storage ignores the condition of the request.
            let is_same = result.meta.e_tag == version.e_tag;
            Ok((is_same, result.bytes().await?))
        };
        match again(get).await {
            Ok((true, bytes)) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(_) | Err(Error::NotFound { .. }) => Err(ErrorCode::Changed.into()),
            Err(error) => Err(refuse(&error)),
        }
    }

    /// Reads the range of `sum`.
    pub(super) async fn sum(&self, version: &Version, mut sum: Sum) -> Result<Sum, Refusal> {
        loop {
            let n = sum.wanted(PART) as u64;
            if n == 0 {
                return Ok(sum);
            }
            sum.update(&self.read_range(version, sum.offset()..sum.offset() + n).await?);
        }
    }

    /// Copies one version to `to`, which it replaces.
    ///
    /// # Errors
    /// `changed` if it is not the current version.
    pub(super) async fn copy_version(&self, from: &Version, to: &str) -> Result<Stat, Refusal> {
        if from.stat.size > COPY_MAX {
            return Err(Refusal::new(
                ErrorCode::Unsupported,
                "the object storage does not copy files of more than 5 GiB",
            ));
        }
        self.check_path(to).await?;
        let path = self.keys.file(to)?;
        match self.find(&from.name).await? {
            Some(now) if now.e_tag == from.e_tag && now.stat.size == from.stat.size => {}
            _ => return Err(ErrorCode::Changed.into()),
        }
        again(|| self.storage.objects.copy(&from.path, &path)).await.map_err(|error| refuse(&error))?;
        let Some(copy) = self.find(to).await? else { return Err(ErrorCode::Changed.into()) };
        Ok(copy.stat)
    }

    /// True if the name is a directory: it has a marker, or another tool has stored something in it.
    pub(super) async fn is_directory(&self, name: &str) -> Result<bool, Refusal> {
        let marker = self.keys.directory(name)?;
        if found(again(|| self.storage.objects.head(&marker)).await)?.is_some() {
            return Ok(true);
        }
        Ok(!self.is_empty(name).await?)
    }
}
