//! The storage trait: the operations on files that a server needs (PROTOCOL §5, §7).
//!
//! One trait covers RAM, raw flash, a directory on a host, and slower media. It uses the protocol's terms: a file is
//! *staged*, bytes are *appended* to the stage, and a *commit* replaces the old file with them in one durable step.
//! Staged bytes never touch the old file.
//!
//! No call waits for a peer. A call returns at once, after the time that the medium needs, or with
//! [`StoreError::NotYet`]: then nothing has changed, and the [`Responder`](crate::responder::Responder) repeats the
//! call when the store is ready. A refusal is the answer that the peer gets, and leaves every file as it was.
//!
//! A store may also put changes in a queue to make several of them durable together ([`StoreError::Queued`]).
//!
//! Where several errors apply, a store reports the first of: directory or not-found, range, busy, mismatch, no-space
//! (PROTOCOL §6). `busy` means only that another stage of the name is open; [`takeover`](crate::takeover) decides which
//! writer yields.

use core::cell::RefCell;
use core::fmt;

use crate::command::Verbs;
use crate::crc::Crc32c;
use crate::error::{ErrorCode, Refusal};
use crate::identity::{NOBODY, StageOwner};
use crate::name::Name;
use crate::tag::Tag;

/// Why a call to a store has not succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum StoreError {
    /// The answer for the peer.
    Refused(Refusal),
    /// Not yet; nothing has changed. Repeat the call when the store is ready.
    NotYet,
    /// The change is in the store's queue. [`Store::next_result`] returns its result later.
    Queued,
}

impl StoreError {
    /// The code of [`StoreError::refusal`].
    #[must_use]
    pub fn code(self) -> ErrorCode {
        self.refusal().code
    }

    /// The answer for the peer. "Not yet" where a store must not return it becomes `io`.
    #[must_use]
    pub fn refusal(self) -> Refusal {
        match self {
            Self::Refused(refusal) => refusal,
            Self::NotYet | Self::Queued => ErrorCode::Io.into(),
        }
    }
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<ErrorCode> for StoreError {
    fn from(code: ErrorCode) -> Self {
        Self::Refused(code.into())
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::NotYet => f.write_str("the store is not ready yet"),
            Self::Queued => f.write_str("the change is not durable yet"),
        }
    }
}

impl core::error::Error for StoreError {}

/// The result of a call to a store.
pub type Result<T, E = StoreError> = core::result::Result<T, E>;

/// The properties of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Stat {
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970-01-01 UTC, if the store keeps it.
    pub mtime: Option<u64>,
    /// CRC-32C of the content, if the store keeps it.
    pub crc: Option<u32>,
}

/// What a `write` announces, and who sends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Staging<'a> {
    /// The name that the file gets at its commit.
    pub name: Name<'a>,
    /// How many bytes are staged already; 0 to begin.
    pub offset: u64,
    /// Bytes of the whole file.
    pub size: u64,
    /// Seconds since 1970-01-01 UTC, if the client sends it.
    pub mtime: Option<u64>,
    /// Who may resume the stage.
    pub owner: StageOwner,
}

impl<'a> Staging<'a> {
    /// From the start, without a time, by a client without a key.
    #[must_use]
    pub const fn new(name: Name<'a>, size: u64) -> Self {
        Self { name, offset: 0, size, mtime: None, owner: NOBODY }
    }

    /// The same after `offset` bytes.
    #[must_use]
    pub const fn at(self, offset: u64) -> Self {
        Self { offset, ..self }
    }
}

/// One line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Entry<'a> {
    /// The name, relative to the store's root.
    pub name: Name<'a>,
    /// File or directory.
    pub kind: EntryKind,
}

impl<'a> Entry<'a> {
    /// The name as a classic `ls` shows it; `None` if it does not.
    #[must_use]
    pub fn classic_name(&self, name_max: u16) -> Option<&'a [u8]> {
        let name = self.name;
        let shown = matches!(self.kind, EntryKind::File(_)) && name.is_classic() && self.fits(name_max);
        shown.then_some(name.as_str().as_bytes())
    }

    /// A longer name can't be used in any command, so it is not shown either (PROTOCOL §5).
    pub(crate) fn fits(&self, name_max: u16) -> bool {
        self.name.as_str().len() <= name_max.into()
    }
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EntryKind {
    /// A regular file.
    File(Stat),
    /// A directory.
    Directory {
        /// Seconds since 1970-01-01 UTC, if the store keeps it.
        mtime: Option<u64>,
    },
}

/// The space in the store, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Space {
    /// Total.
    pub total: u64,
    /// Free for new files.
    pub free: u64,
}

/// The checksum of a range of a file, computed in parts.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Sum {
    begin: u64,
    offset: u64,
    end: u64,
    crc: Crc32c,
    unknown: bool,
}

impl Sum {
    /// For `length` bytes from `offset` on, before any has been read.
    #[must_use]
    pub const fn new(offset: u64, length: u64) -> Self {
        Self { begin: offset, offset, end: offset.saturating_add(length), crc: Crc32c::new(), unknown: false }
    }

    /// Bytes of the whole range.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.end - self.begin
    }

    /// The offset to read from next.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// How many bytes to read next with `len` bytes of memory; 0 at the end.
    #[must_use]
    pub fn wanted(&self, len: usize) -> usize {
        usize::try_from(self.end - self.offset).map_or(len, |left| left.min(len))
    }

    /// The next bytes, as many as are [wanted](Self::wanted) or fewer.
    pub fn update(&mut self, bytes: &[u8]) {
        self.crc.update(bytes);
        self.offset = self.end.min(self.offset.saturating_add(bytes.len() as u64));
    }

    /// Sets the checksum of the whole range, if it is known.
    pub const fn finish(&mut self, crc: u32) {
        self.crc = Crc32c::from_value(crc);
        self.offset = self.end;
    }

    /// All of it has been used without reading the bytes.
    pub const fn forget(&mut self) {
        self.unknown = true;
        self.offset = self.end;
    }

    /// The checksum, unless it is not known.
    #[must_use]
    pub const fn known(&self) -> Option<u32> {
        if self.unknown { None } else { Some(self.crc()) }
    }

    /// The checksum so far.
    #[must_use]
    pub const fn crc(&self) -> u32 {
        self.crc.value()
    }
}

/// Bytes of the stack buffer with which a `sum` reads.
const PIECE: usize = 256;
/// Pieces that a `sum` reads at a time.
const PIECES: usize = 16;
/// Entries that an `ls` counts at a time.
const ENTRIES: usize = 16;

/// A store of files.
///
/// Several servers or tasks can share a store: `&mut S` is one, and so is `&RefCell<S>`.
pub trait Store {
    /// A file that is open for reading. If the file is replaced, it continues to show the content that it was opened
    /// with, or reading it fails with `changed`. Dropping it closes it.
    type File;
    /// A version of a file that is being written. Dropping it means that the connection was lost: a named one stays for
    /// [`Store::staged`], even across a restart; one without a name is discarded.
    type Stage;
    /// A position in a listing.
    type Cursor;

    /// The extended verbs that the store supports. Servers offer no others. For a store with directories, set it to
    /// [`Verbs::ALL`].
    const VERBS: Verbs = Verbs::FLAT;

    /// False if the store never answers [`StoreError::NotYet`] or [`StoreError::Queued`]. A server for it then has no
    /// code for them.
    const WAITS: bool = true;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `denied`, `io`.
    fn open(&mut self, name: Name<'_>) -> Result<(Self::File, Stat)>;

    /// The tag of the version of `file`.
    fn tag(&mut self, file: &Self::File) -> Tag;

    /// Reads at `offset` into `buffer`. Returns the number of bytes; it is less than the length of the buffer only at
    /// the end of the file.
    ///
    /// # Errors
    /// `changed`, `io`.
    fn read_at(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> Result<usize>;

    /// Continues the checksum of a range of `file`; true at its end. Each call does a bounded part, so that other
    /// sessions can run; it is repeated until it returns true.
    ///
    /// # Errors
    /// `changed`, `io`.
    fn sum(&mut self, file: &mut Self::File, sum: &mut Sum) -> Result<bool> {
        let mut piece = [0; PIECE];
        for _ in 0..PIECES {
            let n = sum.wanted(PIECE);
            if n == 0 {
                return Ok(true);
            }
            let n = read_some(self, file, sum.offset(), &mut piece[..n])?;
            sum.update(&piece[..n]);
        }
        Ok(false)
    }

    /// Reports the CRC-32C of the whole of `file`, which has been read completely since it was opened: for a store that
    /// keeps checksums.
    fn note_crc(&mut self, file: &Self::File, crc: u32) {
        _ = (file, crc);
    }

    /// The properties of a file.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `denied`, `io`.
    fn stat(&mut self, name: Name<'_>) -> Result<Stat>;

    /// Where a `write` of `size` bytes to `name` by `owner` can begin: the number of bytes staged from an interrupted
    /// one, and their CRC-32C. Fails as that `write` would. (0, 0) if nothing is staged, more than `size` bytes are
    /// staged, or they belong to another owner.
    ///
    /// # Errors
    /// As [`Store::stage`].
    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32)>;

    /// Begins a `write`: after `offset` bytes that are already staged, or with 0 from the start. Returns the stage,
    /// which belongs to `owner`, and the CRC-32C of the staged bytes. With 0, a stage of another owner is replaced.
    /// Missing parents are created at the commit.
    ///
    /// # Errors
    /// `is-directory`; `range` if `offset` is beyond `size`; `busy` while another stage of this name is open;
    /// `mismatch` if `offset` is neither 0 nor the staged length, or the stage belongs to another owner; `no-space`,
    /// `read-only`, `denied`, `io`.
    fn stage(&mut self, staging: Staging<'_>) -> Result<(Self::Stage, u32)>;

    /// Begins a classic `put`: a stage without a name. [`Store::commit_new`] names it later, `name` or a numbered one.
    /// `size` is the announced length: bytes, or fewer characters; 0 while it is not known.
    ///
    /// # Errors
    /// `no-space`, `read-only`, `denied`, `io`.
    fn stage_new(&mut self, name: Name<'_>, size: u64) -> Result<Self::Stage>;

    /// Checks whether the stage accepts bytes now. A responder calls this before it takes payload from the connection:
    /// while the answer is "not yet", the peer has to wait.
    ///
    /// # Errors
    /// Those of [`Store::append`].
    fn ready(&mut self, stage: &mut Self::Stage) -> Result<()> {
        _ = stage;
        Ok(())
    }

    /// Appends `bytes` and returns how many were accepted, at least one. It never returns "not yet"; that is for
    /// [`Store::ready`].
    ///
    /// # Errors
    /// `no-space`, `io`. The stage should then be discarded.
    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> Result<usize>;

    /// Continues to append the bytes of `file` to `stage`; true when all have been appended. Each call does a bounded
    /// part, so that other sessions can run; it is repeated until it returns true. `sum` began with the whole file; the
    /// commit gets its checksum unless [it is not known](Sum::forget).
    ///
    /// # Errors
    /// `changed`, `no-space`, `io`. The stage should then be discarded.
    fn copy(&mut self, file: &mut Self::File, stage: &mut Self::Stage, sum: &mut Sum) -> Result<bool> {
        let mut piece = [0; PIECE];
        let n = sum.wanted(PIECE);
        if n == 0 {
            return Ok(true);
        }
        self.ready(stage)?;
        let n = read_some(self, file, sum.offset(), &mut piece[..n])?;
        let n = self.append(stage, &piece[..n])?.min(n);
        sum.update(&piece[..n]);
        Ok(false)
    }

    /// Drops the staged bytes.
    fn discard(&mut self, stage: Self::Stage);

    /// Replaces the old file with the staged bytes in one durable step. `crc` is their CRC-32C if it is known, for a
    /// store that keeps checksums. After success, or if the change is queued, the stage can no longer be used.
    ///
    /// # Errors
    /// `no-space`, `is-directory`, `denied`, `io`: the old file is unchanged, and the stage should be discarded.
    /// [`StoreError::Queued`].
    fn commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> Result<()>;

    /// Puts a stage of [`Store::stage_new`] in place under `name`, durably and in one step that fails if the name
    /// exists. Never queued.
    ///
    /// # Errors
    /// `exists`: try the next number with the same stage. Otherwise as [`Store::commit`].
    fn commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> Result<()>;

    /// Removes a file, durably.
    ///
    /// # Errors
    /// `not-found`, `is-directory`, `read-only`, `denied`, `io`; [`StoreError::Queued`].
    fn remove(&mut self, name: Name<'_>) -> Result<()>;

    /// Renames a file, durably and replacing `to` in one step; or a directory with everything in it, which replaces
    /// nothing. Open stages and staged bytes keep their names.
    ///
    /// # Errors
    /// `not-found`; `is-directory`, also for a directory if the store does not rename directories or `to` is in it;
    /// `exists` if a file has the new name of a directory; `busy` if files in it are being stored; `read-only`,
    /// `denied`, `io`, `no-space`; [`StoreError::Queued`].
    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<()>;

    /// Creates a directory, durably.
    ///
    /// # Errors
    /// `exists`, `not-found` (no parent), `read-only`, `denied`, `io`; `unsupported` on a flat store;
    /// [`StoreError::Queued`].
    fn mkdir(&mut self, name: Name<'_>) -> Result<()> {
        _ = name;
        Err(ErrorCode::Unsupported.into())
    }

    /// Removes a directory, durably.
    ///
    /// # Errors
    /// `not-found`, `not-empty`, `read-only`, `denied`, `io`; `unsupported` on a flat store; [`StoreError::Queued`].
    fn rmdir(&mut self, name: Name<'_>) -> Result<()> {
        _ = name;
        Err(ErrorCode::Unsupported.into())
    }

    /// Begins to make all queued changes durable, because a command is waiting for them or no further input is. A store
    /// without a queue does nothing.
    fn flush(&mut self) {}

    /// The result of the oldest queued change; for a commit, the stat of the file. Each is returned once.
    ///
    /// # Errors
    /// The reason why the change failed; "not yet" while it is not durable.
    fn next_result(&mut self) -> Result<Option<Stat>> {
        Err(StoreError::NotYet)
    }

    /// Begins a listing of a directory, `None` for the root.
    ///
    /// # Errors
    /// `not-found` also if it is not a directory; `denied`, `io`.
    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Self::Cursor>;

    /// Begins a listing of a directory and of everything below it, `None` for the root. A directory comes before its
    /// entries. In a flat store this is [`Store::list`], which is the default.
    ///
    /// # Errors
    /// As [`Store::list`].
    fn tree(&mut self, dir: Option<Name<'_>>) -> Result<Self::Cursor> {
        self.list(dir)
    }

    /// How many entries a listing that has just begun will omit because their names can't be sent: they are too long as
    /// a whole, are not UTF-8, or contain a control character or a backslash. Names that are withheld on purpose do not
    /// count. After "not yet" the listing may be restarted before this is called again.
    ///
    /// # Errors
    /// `io`.
    fn omitted(&mut self, cursor: &mut Self::Cursor) -> Result<u64> {
        _ = cursor;
        Ok(0)
    }

    /// Passes the next entry of a listing to `show`; false at its end. It never shows a staged file, and, as long as
    /// the store does not change, no entry twice.
    ///
    /// # Errors
    /// `io`, `changed`.
    fn next_entry(&mut self, cursor: &mut Self::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool>;

    /// Adds to `length` the bytes of the names that a classic `ls` shows, with a line end after each; true at the end
    /// of the listing. Each call does a bounded part; it is repeated until it returns true.
    ///
    /// # Errors
    /// As [`Store::next_entry`].
    fn count_names(&mut self, cursor: &mut Self::Cursor, name_max: u16, length: &mut u64) -> Result<bool> {
        for _ in 0..ENTRIES {
            let mut add =
                |entry: Entry<'_>| *length += entry.classic_name(name_max).map_or(0, |name| name.len() as u64 + 1);
            if !self.next_entry(cursor, &mut add)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Does deferred work, above all for files and stages that were dropped. Servers call it after each turn; it may do
    /// nothing.
    fn settle(&mut self) {}

    /// The space in the store.
    ///
    /// # Errors
    /// `io`.
    fn space(&mut self) -> Result<Space>;
}

/// Forwards everything to another store.
macro_rules! pass_on {
    ($store:ident: $on:expr) => {
        type File = S::File;
        type Stage = S::Stage;
        type Cursor = S::Cursor;

        const VERBS: Verbs = S::VERBS;
        const WAITS: bool = S::WAITS;

        pass_on! { $store: $on;
            open(name: Name<'_>) -> Result<(S::File, Stat)>;
            tag(file: &S::File) -> Tag;
            read_at(file: &mut S::File, offset: u64, buffer: &mut [u8]) -> Result<usize>;
            sum(file: &mut S::File, sum: &mut Sum) -> Result<bool>;
            note_crc(file: &S::File, crc: u32) -> ();
            stat(name: Name<'_>) -> Result<Stat>;
            staged(name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32)>;
            stage(staging: Staging<'_>) -> Result<(S::Stage, u32)>;
            stage_new(name: Name<'_>, size: u64) -> Result<S::Stage>;
            ready(stage: &mut S::Stage) -> Result<()>;
            append(stage: &mut S::Stage, bytes: &[u8]) -> Result<usize>;
            copy(file: &mut S::File, stage: &mut S::Stage, sum: &mut Sum) -> Result<bool>;
            discard(stage: S::Stage) -> ();
            commit(stage: &mut S::Stage, crc: Option<u32>) -> Result<()>;
            commit_new(stage: &mut S::Stage, name: Name<'_>) -> Result<()>;
            remove(name: Name<'_>) -> Result<()>;
            rename(from: Name<'_>, to: Name<'_>) -> Result<()>;
            mkdir(name: Name<'_>) -> Result<()>;
            rmdir(name: Name<'_>) -> Result<()>;
            flush() -> ();
            next_result() -> Result<Option<Stat>>;
            list(dir: Option<Name<'_>>) -> Result<S::Cursor>;
            tree(dir: Option<Name<'_>>) -> Result<S::Cursor>;
            omitted(cursor: &mut S::Cursor) -> Result<u64>;
            next_entry(cursor: &mut S::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool>;
            count_names(cursor: &mut S::Cursor, name_max: u16, length: &mut u64) -> Result<bool>;
            settle() -> ();
            space() -> Result<Space>;
        }
    };
    ($store:ident: $on:expr; $($call:ident($($arg:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $call(&mut self $(, $arg: $type)*) -> $answer {
            let $store = self;
            $on.$call($($arg),*)
        })*
    };
}

impl<S: Store> Store for &mut S {
    pass_on! { store: (**store) }
}

/// For tasks on one thread that share a store: each call borrows it.
impl<S: Store> Store for &RefCell<S> {
    pass_on! { store: store.borrow_mut() }
}

/// At least one byte at `offset`.
pub(crate) fn read_some<S: Store + ?Sized>(
    store: &mut S,
    file: &mut S::File,
    offset: u64,
    buffer: &mut [u8],
) -> Result<usize> {
    match store.read_at(file, offset, buffer)? {
        // The bytes were there when the file was opened.
        0 => Err(ErrorCode::Changed.into()),
        n => Ok(n.min(buffer.len())),
    }
}

/// The range of a `read` or `sum` of LENGTH (`None`: `*`) at OFFSET, clamped to a file of `size` bytes.
///
/// # Errors
/// `range` if OFFSET is beyond the end.
pub fn clamp_range(offset: u64, length: Option<u64>, size: u64) -> Result<u64, Refusal> {
    let left = size.checked_sub(offset).ok_or(ErrorCode::Range)?;
    Ok(length.map_or(left, |length| length.min(left)))
}
