//! The storage trait: what a server needs of the place where files live (PROTOCOL §5, §7).
//!
//! One trait for RAM, raw flash and a directory of a host. Its words are the protocol's: a file is *staged*, bytes are
//! *appended* to the stage, and a *commit* puts the whole in place of the old file in one durable step. Staged bytes
//! never touch the old file.
//!
//! Every call returns at once or after the medium's own time; none waits for a peer. An `Err` is the answer that the
//! peer gets, and leaves every file as it was.
//!
//! Where several errors apply, a store reports the first of: directory or not-found, range, busy, mismatch, no-space
//! (PROTOCOL §5).

mod shared;

use core::task::Poll;

use crate::command::Verbs;
use crate::error::{ErrorCode, Refusal};
use crate::name::Name;
use crate::reply::Tag;

pub use shared::Shared;

/// What is known of a file without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970-01-01 UTC, if the store keeps it.
    pub mtime: Option<u64>,
    /// CRC-32C of the content, if the store keeps it.
    pub crc: Option<u32>,
}

/// One line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The name, relative to the store's root.
    pub name: Name<'a>,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File(Stat),
    /// A directory.
    Directory {
        /// Seconds since 1970-01-01 UTC, if the store keeps it.
        mtime: Option<u64>,
    },
}

/// Room in the store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Free for new files.
    pub free: u64,
}

/// A place where files live.
pub trait Store {
    /// A file that is open for reading. It goes on showing the content it was opened with (or reading it fails with
    /// `changed`) when the file is replaced. Dropping it closes it.
    type File;
    /// A version of a file that is being written. Dropping it means that the connection was lost: a named one stays for
    /// [`Store::staged`], across a restart; one without a name is dropped.
    type Stage;
    /// A place in a listing.
    type Cursor;

    /// The extended verbs that the store can carry out. Servers offer no others: a store with directories has
    /// [`Verbs::ALL`] here.
    const VERBS: Verbs = Verbs::FLAT;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `denied`, `io`.
    fn open(&mut self, name: Name<'_>) -> Result<(Self::File, Stat), Refusal>;

    /// The tag of the version that `file` shows.
    fn tag(&mut self, file: &Self::File) -> Tag;

    /// Reads at `offset` into `buffer`; says how many bytes, fewer only at the end of the file.
    ///
    /// # Errors
    /// `changed`, `io`.
    fn read_at(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal>;

    /// What is known of a file without reading it.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `denied`, `io`.
    fn stat(&mut self, name: Name<'_>) -> Result<Stat, Refusal>;

    /// How a `write` of `size` bytes to `name` can begin: bytes that are staged from an interrupted one, and their
    /// CRC-32C. Fails as that `write` would. (0, 0) if nothing is staged or more than `size` bytes are.
    ///
    /// # Errors
    /// As [`Store::stage`].
    fn staged(&mut self, name: Name<'_>, size: u64) -> Result<(u64, u32), Refusal>;

    /// Begins a `write`: after `offset` bytes that are staged already, or anew with 0. Returns the CRC-32C of the staged
    /// bytes with the stage. Parents that are missing are made at the commit.
    ///
    /// # Errors
    /// `is-directory`; `range` if `offset` is beyond `size`; `busy` while another stage of this name is open;
    /// `mismatch` if `offset` is neither 0 nor the staged length; `no-space`, `read-only`, `denied`, `io`.
    fn stage(
        &mut self,
        name: Name<'_>,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> Result<(Self::Stage, u32), Refusal>;

    /// Begins a classic `put`: a stage without a name. `size` is what its length announces: bytes, or fewer characters.
    ///
    /// # Errors
    /// `no-space`, `read-only`, `denied`, `io`.
    fn stage_unnamed(&mut self, size: u64) -> Result<Self::Stage, Refusal>;

    /// Appends `bytes`; says how many were taken, at least one.
    ///
    /// # Errors
    /// `no-space`, `io`. The stage should then be discarded.
    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> Result<usize, Refusal>;

    /// Drops the staged bytes.
    fn discard(&mut self, stage: Self::Stage);

    /// Puts the staged bytes in place of the old file: one durable step. `crc` is their CRC-32C if it is known, for a
    /// store that keeps it. Called again, with the same stage, as long as it returns `Poll::Pending`.
    ///
    /// # Errors
    /// `no-space`, `is-directory`, `denied`, `io`: the old file is as it was and the stage should be discarded.
    fn poll_commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> Poll<Result<(), Refusal>>;

    /// Puts an unnamed stage in place under `name`, durably and in one step that fails if the name exists.
    ///
    /// # Errors
    /// `exists`: try the next number with the same stage. Else as [`Store::poll_commit`].
    fn poll_commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> Poll<Result<(), Refusal>>;

    /// Removes a file, durably.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `read-only`, `denied`, `io`.
    fn remove(&mut self, name: Name<'_>) -> Result<(), Refusal>;

    /// Renames a file, durably and replacing `to` in one step.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `read-only`, `denied`, `io`, `no-space`.
    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<(), Refusal>;

    /// Makes a directory, durably.
    ///
    /// # Errors
    /// `exists`, `not-found` (no parent), `read-only`, `denied`, `io`; `unsupported` on a flat store.
    fn mkdir(&mut self, _name: Name<'_>) -> Result<(), Refusal> {
        Err(ErrorCode::Unsupported.into())
    }

    /// Removes a directory, durably.
    ///
    /// # Errors
    /// `not-found`, `not-empty`, `read-only`, `denied`, `io`; `unsupported` on a flat store.
    fn rmdir(&mut self, _name: Name<'_>) -> Result<(), Refusal> {
        Err(ErrorCode::Unsupported.into())
    }

    /// Begins a listing of a directory, `None` for the root.
    ///
    /// # Errors
    /// `not-found` also for what is no directory; `denied`, `io`.
    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Self::Cursor, Refusal>;

    /// How many entries a listing that has just begun will leave out because their names can't be sent: too long in all,
    /// not UTF-8, with a control character or a backslash. Names that are withheld on purpose do not count.
    ///
    /// # Errors
    /// `io`.
    fn omitted(&mut self, _cursor: &mut Self::Cursor) -> Result<u64, Refusal> {
        Ok(0)
    }

    /// Shows the next entry of a listing to `show`; false at its end. No staged file is ever shown, and no entry twice
    /// as long as the store does not change.
    ///
    /// # Errors
    /// `io`, `changed`.
    fn next_entry(&mut self, cursor: &mut Self::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool, Refusal>;

    /// Does what was put off, above all what is left to do of files and stages that were dropped. Servers call it after each
    /// turn; it may do nothing.
    fn settle(&mut self) {}

    /// Room in the store.
    ///
    /// # Errors
    /// `io`.
    fn space(&mut self) -> Result<Space, Refusal>;
}

/// The bytes a `read` or `sum` of LENGTH (`None`: `*`) at OFFSET concerns in a file of `size` bytes.
///
/// # Errors
/// `range` if OFFSET lies beyond the end.
pub fn clamp_range(offset: u64, length: Option<u64>, size: u64) -> Result<u64, Refusal> {
    let left = size.checked_sub(offset).ok_or(ErrorCode::Range)?;
    Ok(length.map_or(left, |length| length.min(left)))
}
