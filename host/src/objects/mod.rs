//! Object storage as the store of host-serv: S3, Google Cloud Storage or Azure, or for trials a directory or memory.
//!
//! | module | content |
//! |---|---|
//! | `open` | builds the storage client from a URL and options |
//! | `keys` | names of files, and the keys of their objects |
//! | `request` | requests with a time limit and retries, and the replies to clients when they fail |
//! | `probe` | which conditional writes the storage supports; the claim to a store that only one instance may serve |
//! | `record`, `lease` | the record of the stage of a name, and its lease |
//! | `writers` | the writers of this instance |
//! | `upload` | the bytes of one stage: in memory, in parts, in the tail |
//! | `commit` | stores staged bytes as an object; checks for name conflicts |
//! | `change` | remove, rename, mkdir, rmdir |
//! | `file`, `list` | reading one version of an object; listings, a page at a time |
//! | `sweep` | finishes the renames of dead instances, and drops old stages |
//! | `resume` | the staged bytes of a name, and how a `write` starts |
//! | `session`, `store` | the store of one connection, which returns `NotYet` while requests run |
//! | `queue`, `cursor`, `pending` | a connection's changes in flight, its listings, and the results of its requests |
//!
//! Any number of instances can serve one bucket and prefix, if the storage supports conditional writes.
//!
//! # Content of the bucket
//!
//! A file is one object under its own name, with its CRC-32C and its time as user metadata. `d/.skiff-dir` marks the
//! directory `d`. The server keeps its own objects directly below the prefix, under names that begin with `.skiff-`:
//! records and tails of stages, records of renames, clocks and probes.
//!
//! # Uploads
//!
//! A file of up to [`PART`] bytes is one PUT. A larger file is a multipart upload. The record of a stage describes the
//! staged bytes and is also the lease of the writer. The record changes only by compare-and-swap, so only one writer
//! holds it at a time, across all instances. A small file that arrives without a pause needs no record.

mod change;
mod commit;
mod cursor;
mod file;
mod keys;
mod lease;
mod list;
mod open;
mod pending;
mod probe;
mod queue;
mod record;
mod request;
mod resume;
mod session;
mod store;
mod sweep;
mod upload;
mod writers;

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload};
use skiff_proto::{ErrorCode, Refusal};
use tokio::sync::RwLock;

pub use cursor::Cursor;
pub use keys::BadPrefix;
pub use open::{OpenError, connect};
pub use session::ObjectSession;

/// The default for [`Options::part`].
pub const PART: usize = 8 * 1024 * 1024;

/// Maximum number of changes that one connection may have in flight.
pub const IN_FLIGHT: usize = 64;

/// Maximum number of bytes in the changes that one connection may have in flight.
pub const BYTES_IN_FLIGHT: usize = 16 * 1024 * 1024;

/// A storage client, by the traits that it implements.
#[derive(Clone)]
pub struct Storage {
    /// Access to objects.
    pub objects: Arc<dyn ObjectStore>,
    /// Multipart uploads that survive a restart of this process. `None`: parts are separate objects, joined at the end.
    pub multipart: Option<Arc<dyn MultipartStore>>,
    /// Paged listings. `None`: a listing is read as a whole.
    pub pages: Option<Arc<dyn PaginatedListStore>>,
    /// True if the storage keeps user metadata.
    pub metadata: bool,
}

/// Options for serving a storage.
#[derive(Debug, Clone)]
pub struct Options {
    /// The prefix of all keys, without a `/` at either end; may be empty.
    pub prefix: String,
    /// True if only this instance serves the store, so that conditional writes are not needed.
    pub single: bool,
    /// Answer every change with `read-only`.
    pub read_only: bool,
    /// Also serve names with a component that begins with `.`.
    pub hidden: bool,
    /// Drop staged bytes that are older than this.
    pub stage_age: Duration,
    /// A writer that has been silent for this long yields.
    pub takeover: Duration,
    /// Added to `takeover` if the writer is on another instance: the clock of the storage may show only whole seconds,
    /// and a writer renews its lease once a second.
    pub margin: Duration,
    /// Size of a part of a multipart upload, in bytes. A file of up to this size is one PUT. S3 requires 5 MiB or more.
    pub part: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            prefix: String::new(),
            single: false,
            read_only: false,
            hidden: false,
            stage_age: Duration::from_secs(7 * 24 * 60 * 60),
            takeover: skiff_proto::takeover::TAKEOVER,
            margin: Duration::from_secs(2),
            part: PART,
        }
    }
}

/// A handle to a storage that is being served; cheap to clone. See the [module documentation](self).
#[derive(Debug, Clone)]
pub struct Objects(Arc<Inner>);

struct Inner {
    storage: Storage,
    options: Options,
    keys: keys::Keys,
    /// Distinguishes this instance from all others.
    instance: String,
    /// True if conditional writes work, so that several instances may serve the store.
    shared: bool,
    /// True if another instance serves this store, which allows only one instance.
    fenced: AtomicBool,
    /// Held while the claim to such a store is renewed or released.
    claim: tokio::sync::Mutex<()>,
    serial: AtomicU64,
    writers: writers::Writers,
    /// Used if the storage has no conditional writes: a change that takes a new name holds the write half while it
    /// checks that the name is free, and changes that may replace a file hold the read half.
    replacing: RwLock<()>,
    /// Directories that were seen recently, so that a `write` need not check its parents.
    parents: commit::Parents,
    /// The difference between the clock of the storage and that of this machine, and when it was measured.
    clock: Mutex<Option<lease::Clock>>,
}

impl core::fmt::Debug for Inner {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Inner").field("instance", &self.instance).field("shared", &self.shared).finish_non_exhaustive()
    }
}

impl Objects {
    /// Starts serving `storage`: checks that conditional writes work, and finishes the renames of dead instances. A
    /// background task repeats the latter as long as a handle exists.
    ///
    /// # Errors
    /// The storage fails the checks, or another instance serves a store that allows only one instance.
    pub async fn open(storage: Storage, options: Options) -> Result<Self, OpenError> {
        let mut inner = Inner {
            keys: keys::Keys::new(&options.prefix)?,
            storage,
            options,
            instance: format!("{:016x}", random()?),
            shared: false,
            fenced: AtomicBool::new(false),
            claim: tokio::sync::Mutex::default(),
            serial: AtomicU64::new(0),
            writers: writers::Writers::default(),
            replacing: RwLock::default(),
            parents: commit::Parents::default(),
            clock: Mutex::new(None),
        };
        inner.shared = !inner.options.single && probe::conditional_writes(&inner).await?;
        let this = Self(Arc::new(inner));
        if !this.0.shared && !this.0.options.read_only {
            probe::claim(&this).await?;
        }
        sweep::start(&this);
        Ok(this)
    }

    /// True if several instances may serve the store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.0.shared
    }

    fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    /// A number as text, unique across all calls on all instances.
    fn token(&self) -> String {
        format!("{}-{:x}", self.instance, self.serial.fetch_add(1, Ordering::Relaxed))
    }

    /// Checks that changes are allowed.
    fn check_change(&self) -> Result<(), Refusal> {
        if self.options.read_only {
            return Err(ErrorCode::ReadOnly.into());
        }
        if self.fenced.load(Ordering::Relaxed) {
            return Err(Refusal::new(ErrorCode::Io, "another server serves this store, which allows only one"));
        }
        Ok(())
    }

    fn clock(&self) -> std::sync::MutexGuard<'_, Option<lease::Clock>> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes an object that is no longer needed. If that fails, the sweep deletes it later.
    async fn delete_quietly(&self, path: &object_store::path::Path) {
        if let Err(error) = request::again(|| self.storage.objects.delete(path)).await {
            request::log(&error, "delete");
        }
    }

    /// Stores a small object of the server's own.
    async fn put_own(&self, path: &object_store::path::Path, bytes: Vec<u8>) -> object_store::Result<()> {
        let payload = PutPayload::from(bytes);
        request::again(|| self.storage.objects.put(path, payload.clone())).await.map(drop)
    }
}

/// Random bytes of the system.
fn random() -> Result<u64, OpenError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| OpenError::Random(errno.into()))?;
    Ok(u64::from_le_bytes(bytes))
}
