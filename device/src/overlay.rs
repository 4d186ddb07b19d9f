//! Files made by code: names that are served beside those of a store, such as a status page, a log, a setting, or a name
//! that restarts the board when it is written.
//!
//! [`Overlay`] is a store over another one, with a table of names and of what serves them. It needs no heap. A client
//! lists, reads and writes such names like files; it can't rename or remove them, and classic `put` never writes one (it
//! gets a number, as for every name that exists).
//!
//! | type | a client reads | a client writes |
//! |---|---|---|
//! | [`Page`] | text that a closure wrote when the file was opened | - |
//! | [`Log`] | the last lines of a log; `tail -f` follows it | - |
//! | [`Setting`] | the value | a new value, which a closure checks and applies |
//! | [`Setting::write_only`] | - | a command, which a closure executes |
//! | [`VirtualFile`] of your own | anything | anything |
//!
//! ```
//! use core::cell::{Cell, RefCell};
//! use core::fmt::Write as _;
//! use skiff_device::overlay::{Log, Overlay, Page, Setting, Virtual};
//! use skiff_device::ram::{RamMemory, RamStore};
//! use skiff_proto::ErrorCode;
//!
//! let mut files = RamMemory::<16, 64, 64, 256>::new();
//! let (log, restart, interval) = (RefCell::new(Log::<1024>::new()), Cell::new(false), Cell::new(10_u32));
//! let mut status = Page::<256, _>::new(|page| writeln!(page, "interval {} s", interval.get()));
//! let mut setting = Setting::<16, _>::new("10\n", |value| {
//!     let value = str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
//!     interval.set(value.ok_or(ErrorCode::Denied)?);
//!     Ok(())
//! });
//! let mut reboot = Setting::<16, _>::write_only(|_| Ok(restart.set(true)));
//! let mut log_file = &log;
//! let mut table = [
//!     Virtual::new("status", &mut status),
//!     Virtual::new("interval", &mut setting),
//!     Virtual::new("reboot", &mut reboot),
//!     Virtual::new("log", &mut log_file),
//! ];
//! let store = Overlay::new(RamStore::new(&mut files, 1), &mut table, 1);
//! // Serve `store`. Elsewhere in the application:
//! _ = writeln!(log.borrow_mut(), "started");
//! if restart.get() { /* once the reply has gone out: a second later, for example */ }
//! # _ = store;
//! ```

use core::cell::RefCell;
use core::fmt;

use skiff_proto::command::Verbs;
use skiff_proto::identity::StageOwner;
use skiff_proto::reply::Tag;
use skiff_proto::store::{Entry, EntryKind, Result, Space, Staging, Stat, Store, Sum};
use skiff_proto::{ErrorCode, Name, Refusal};

/// Serves a name. The default methods refuse with `denied`.
pub trait VirtualFile {
    /// Opens it for reading.
    ///
    /// # Errors
    /// The error for the client.
    fn open(&mut self) -> Result<View, Refusal> {
        Err(ErrorCode::Denied.into())
    }

    /// Reads at `offset` of what `view` showed; returns how many bytes, fewer only at its end.
    ///
    /// # Errors
    /// `changed` if that is no longer there.
    fn read_at(&mut self, view: View, offset: usize, buffer: &mut [u8]) -> Result<usize, Refusal> {
        _ = (view, offset, buffer);
        Err(ErrorCode::Denied.into())
    }

    /// A client is about to write `size` bytes. What an earlier one has not committed is dropped.
    ///
    /// # Errors
    /// The error for the client.
    fn begin(&mut self, size: u64) -> Result<(), Refusal> {
        _ = size;
        Err(ErrorCode::Denied.into())
    }

    /// Receives the next bytes.
    ///
    /// # Errors
    /// The error for the client.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        _ = bytes;
        Err(ErrorCode::Denied.into())
    }

    /// All bytes have been received, and their checksum was right.
    ///
    /// # Errors
    /// The error for the client.
    fn commit(&mut self) -> Result<(), Refusal> {
        Err(ErrorCode::Denied.into())
    }
}

/// The content that a client has opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// A number that differs for each content.
    pub version: u32,
    /// Bytes.
    pub size: usize,
}

/// For a file that the application uses as well: a [`Log`].
impl<T: VirtualFile> VirtualFile for &RefCell<T> {
    fn open(&mut self) -> Result<View, Refusal> {
        self.borrow_mut().open()
    }

    fn read_at(&mut self, view: View, offset: usize, buffer: &mut [u8]) -> Result<usize, Refusal> {
        self.borrow_mut().read_at(view, offset, buffer)
    }

    fn begin(&mut self, size: u64) -> Result<(), Refusal> {
        self.borrow_mut().begin(size)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.borrow_mut().append(bytes)
    }

    fn commit(&mut self) -> Result<(), Refusal> {
        self.borrow_mut().commit()
    }
}

/// Text of at most `N` bytes. The rest is left out.
#[derive(Debug, Clone)]
pub struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends as many of `bytes` as fit; true if all do.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let n = bytes.len().min(N - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
        n == bytes.len()
    }

    fn read_at(&self, offset: usize, buffer: &mut [u8]) -> usize {
        let bytes = self.as_bytes().get(offset..).unwrap_or_default();
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        n
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// A file whose content a closure writes each time that a client opens it or asks for its size: a status page. What
/// does not fit in `N` bytes is left out. A client that still reads an earlier content gets `changed`.
#[derive(Debug)]
pub struct Page<const N: usize, F> {
    write: F,
    text: Text<N>,
    version: u32,
}

impl<const N: usize, F: FnMut(&mut Text<N>) -> fmt::Result> Page<N, F> {
    /// `write` writes the page.
    pub const fn new(write: F) -> Self {
        Self { write, text: Text::new(), version: 0 }
    }
}

impl<const N: usize, F: FnMut(&mut Text<N>) -> fmt::Result> VirtualFile for Page<N, F> {
    fn open(&mut self) -> Result<View, Refusal> {
        self.text.len = 0;
        self.version = self.version.wrapping_add(1);
        (self.write)(&mut self.text).map_err(|fmt::Error| ErrorCode::Io)?;
        Ok(View { version: self.version, size: self.text.len })
    }

    fn read_at(&mut self, view: View, offset: usize, buffer: &mut [u8]) -> Result<usize, Refusal> {
        if view.version != self.version {
            return Err(ErrorCode::Changed.into());
        }
        Ok(self.text.read_at(offset, buffer))
    }
}

/// The last lines of a log, at most `N` bytes of them. When it is full, the older half is dropped: a client that
/// follows it sees a shorter file and continues from its start.
#[derive(Debug)]
pub struct Log<const N: usize> {
    text: Text<N>,
    /// Bytes that have been dropped.
    dropped: u32,
}

impl<const N: usize> Log<N> {
    /// Without lines.
    #[must_use]
    pub const fn new() -> Self {
        Self { text: Text::new(), dropped: 0 }
    }

    /// Appends bytes, with the line end that they should have.
    pub fn push(&mut self, bytes: &[u8]) {
        // If `bytes` needs more than half of the room, only its last bytes are kept.
        let bytes = &bytes[bytes.len().saturating_sub(N / 2)..];
        if bytes.len() > N - self.text.len {
            self.make_room();
        }
        self.text.push(bytes);
    }

    /// Drops the older half, and the line that would be cut.
    fn make_room(&mut self) {
        let half = self.text.len - self.text.len / 2;
        let line = self.text.as_bytes()[half..].iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let first = half + line;
        self.text.bytes.copy_within(first..self.text.len, 0);
        self.text.len -= first;
        self.dropped = self.dropped.wrapping_add(u32::try_from(first).unwrap_or(u32::MAX));
    }
}

impl<const N: usize> Default for Log<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> fmt::Write for Log<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl<const N: usize> VirtualFile for Log<N> {
    fn open(&mut self) -> Result<View, Refusal> {
        Ok(View { version: self.dropped, size: self.text.len })
    }

    fn read_at(&mut self, view: View, offset: usize, buffer: &mut [u8]) -> Result<usize, Refusal> {
        // Lines dropped since then are missing at the start.
        let gone = self.dropped.wrapping_sub(view.version) as usize;
        let at = offset.checked_sub(gone).ok_or(ErrorCode::Changed)?;
        let n = view.size.saturating_sub(offset).min(buffer.len());
        Ok(self.text.read_at(at, &mut buffer[..n]))
    }
}

/// A value of at most `N` bytes that a client writes, and reads unless it is [`Setting::write_only`].
#[derive(Debug)]
pub struct Setting<const N: usize, F> {
    apply: F,
    value: Text<N>,
    incoming: Text<N>,
    version: u32,
    is_readable: bool,
}

impl<const N: usize, F: FnMut(&[u8]) -> Result<(), Refusal>> Setting<N, F> {
    /// `apply` gets each new value complete; if it refuses, the old one stays. `value` is read until then.
    pub fn new(value: &str, apply: F) -> Self {
        let mut setting = Self { is_readable: true, ..Self::write_only(apply) };
        setting.value.push(value.as_bytes());
        setting
    }

    /// A setting that can't be read: a command. `apply` gets the written value.
    pub const fn write_only(apply: F) -> Self {
        Self { apply, value: Text::new(), incoming: Text::new(), version: 0, is_readable: false }
    }
}

impl<const N: usize, F: FnMut(&[u8]) -> Result<(), Refusal>> VirtualFile for Setting<N, F> {
    fn open(&mut self) -> Result<View, Refusal> {
        if !self.is_readable {
            return Err(ErrorCode::Denied.into());
        }
        Ok(View { version: self.version, size: self.value.len })
    }

    fn read_at(&mut self, view: View, offset: usize, buffer: &mut [u8]) -> Result<usize, Refusal> {
        if view.version != self.version {
            return Err(ErrorCode::Changed.into());
        }
        Ok(self.value.read_at(offset, buffer))
    }

    fn begin(&mut self, size: u64) -> Result<(), Refusal> {
        self.incoming.len = 0;
        if size > N as u64 { Err(ErrorCode::NoSpace.into()) } else { Ok(()) }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if self.incoming.push(bytes) { Ok(()) } else { Err(ErrorCode::NoSpace.into()) }
    }

    fn commit(&mut self) -> Result<(), Refusal> {
        (self.apply)(self.incoming.as_bytes())?;
        self.value.clone_from(&self.incoming);
        self.version = self.version.wrapping_add(1);
        Ok(())
    }
}

/// A name and its file: an entry of the table of an [`Overlay`].
pub struct Virtual<'a> {
    name: &'a str,
    file: &'a mut dyn VirtualFile,
    /// The number of the stage that may write.
    stage: u32,
}

impl<'a> Virtual<'a> {
    /// `name` is in the root, and valid on the wire (PROTOCOL §2): [`Overlay::new`] checks that.
    pub const fn new(name: &'a str, file: &'a mut dyn VirtualFile) -> Self {
        Self { name, file, stage: 0 }
    }
}

impl fmt::Debug for Virtual<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Virtual").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A store with files made by code over its own. They hide files of the store with the same name.
#[derive(Debug)]
pub struct Overlay<'t, 'a, S> {
    /// The store.
    pub store: S,
    table: &'t mut [Virtual<'a>],
    /// Different at each start, for tags.
    boot: u64,
    stages: u32,
}

/// An open file of an [`Overlay`].
#[derive(Debug)]
pub enum File<F> {
    /// One of the store.
    Real(F),
    /// One of the table: its index, and what is shown.
    Virtual(usize, View),
}

/// A stage of an [`Overlay`].
#[derive(Debug)]
pub enum Stage<T> {
    /// One of the store.
    Real(T),
    /// One of the table: its index, and the number of the stage.
    Virtual(usize, u32),
}

/// A place in a listing of an [`Overlay`].
#[derive(Debug)]
pub struct Cursor<C> {
    /// The next entry of the table.
    next: usize,
    store: C,
}

impl<'t, 'a, S: Store> Overlay<'t, 'a, S> {
    /// Serves the names of `table` beside those of `store`. `boot` should be different at each start.
    ///
    /// # Panics
    /// If a name is not valid, has a `/`, or stands in the table twice.
    pub fn new(store: S, table: &'t mut [Virtual<'a>], boot: u64) -> Self {
        for (at, entry) in table.iter().enumerate() {
            let is_name = Name::parse(entry.name.as_bytes(), entry.name.len()).is_ok() && !entry.name.contains('/');
            assert!(is_name && table[..at].iter().all(|other| other.name != entry.name), "the names of the table");
        }
        Self { store, table, boot, stages: 0 }
    }

    fn find(&self, name: Name<'_>) -> Option<usize> {
        self.table.iter().position(|entry| entry.name == name.as_str())
    }

    /// Checks that `name` is not in the table: the operation is for files of the store.
    fn real(&self, name: Name<'_>) -> Result<(), Refusal> {
        if self.find(name).is_some() { Err(ErrorCode::Denied.into()) } else { Ok(()) }
    }

    fn size(&mut self, at: usize) -> u64 {
        // A file that can't be read has no size.
        self.table[at].file.open().map_or(0, |view| view.size as u64)
    }

    /// The file that the stage writes.
    fn staged_file(&mut self, at: usize, stage: u32) -> Result<&mut (dyn VirtualFile + 'a), Refusal> {
        let entry = &mut self.table[at];
        if entry.stage == stage { Ok(&mut *entry.file) } else { Err(ErrorCode::Io.into()) }
    }
}

const fn stat(size: u64) -> Stat {
    Stat { size, mtime: None, crc: None }
}

/// A second `write` to a file of the table replaces one that has not ended, which then fails with `io`.
impl<'a, S: Store> Store for Overlay<'_, 'a, S> {
    type File = File<S::File>;
    type Stage = Stage<S::Stage>;
    type Cursor = Cursor<S::Cursor>;

    const VERBS: Verbs = S::VERBS;
    const WAITS: bool = S::WAITS;

    fn open(&mut self, name: Name<'_>) -> Result<(Self::File, Stat)> {
        let Some(at) = self.find(name) else {
            return self.store.open(name).map(|(file, stat)| (File::Real(file), stat));
        };
        let view = self.table[at].file.open()?;
        Ok((File::Virtual(at, view), stat(view.size as u64)))
    }

    fn tag(&mut self, file: &Self::File) -> Tag {
        match file {
            File::Real(file) => self.store.tag(file),
            File::Virtual(at, View { version, size }) => {
                let parts = [*at as u64, u64::from(*version), *size as u64];
                Tag::from_number(
                    parts.iter().fold(self.boot, |mixed, part| {
                        (mixed ^ part).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
                    }),
                )
            }
        }
    }

    fn read_at(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        match file {
            File::Real(file) => self.store.read_at(file, offset, buffer),
            File::Virtual(at, view) => match usize::try_from(offset) {
                Ok(offset) if offset < view.size => Ok(self.table[*at].file.read_at(*view, offset, buffer)?),
                _ => Ok(0),
            },
        }
    }

    fn sum(&mut self, file: &mut Self::File, sum: &mut Sum) -> Result<bool> {
        let (at, view) = match file {
            File::Real(file) => return self.store.sum(file, sum),
            File::Virtual(at, view) => (*at, *view),
        };
        let mut piece = [0; 64];
        loop {
            let n = sum.wanted(piece.len());
            if n == 0 {
                return Ok(true);
            }
            let offset = usize::try_from(sum.offset()).map_err(|_| ErrorCode::Io)?;
            match self.table[at].file.read_at(view, offset, &mut piece[..n])? {
                0 => return Err(ErrorCode::Changed.into()),
                n => sum.update(&piece[..n]),
            }
        }
    }

    fn note_crc(&mut self, file: &Self::File, crc: u32) {
        if let File::Real(file) = file {
            self.store.note_crc(file, crc);
        }
    }

    fn stat(&mut self, name: Name<'_>) -> Result<Stat> {
        match self.find(name) {
            Some(at) => Ok(stat(self.size(at))),
            None => self.store.stat(name),
        }
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32)> {
        if self.find(name).is_some() { Ok((0, 0)) } else { self.store.staged(name, owner, size) }
    }

    fn stage(&mut self, staging: Staging<'_>) -> Result<(Self::Stage, u32)> {
        let Some(at) = self.find(staging.name) else {
            return self.store.stage(staging).map(|(stage, crc)| (Stage::Real(stage), crc));
        };
        match staging.offset {
            0 => {}
            offset if offset > staging.size => return Err(ErrorCode::Range.into()),
            _ => return Err(ErrorCode::Mismatch.into()),
        }
        let entry = &mut self.table[at];
        entry.file.begin(staging.size)?;
        self.stages = self.stages.wrapping_add(1);
        entry.stage = self.stages;
        Ok((Stage::Virtual(at, self.stages), 0))
    }

    fn stage_new(&mut self, name: Name<'_>, size: u64) -> Result<Self::Stage> {
        self.store.stage_new(name, size).map(Stage::Real)
    }

    fn ready(&mut self, stage: &mut Self::Stage) -> Result<()> {
        if let Stage::Real(stage) = stage { self.store.ready(stage) } else { Ok(()) }
    }

    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> Result<usize> {
        match stage {
            Stage::Real(stage) => self.store.append(stage, bytes),
            Stage::Virtual(at, stage) => {
                self.staged_file(*at, *stage)?.append(bytes)?;
                Ok(bytes.len())
            }
        }
    }

    fn discard(&mut self, stage: Self::Stage) {
        if let Stage::Real(stage) = stage {
            self.store.discard(stage);
        }
    }

    fn commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> Result<()> {
        match stage {
            Stage::Real(stage) => self.store.commit(stage, crc),
            Stage::Virtual(at, stage) => Ok(self.staged_file(*at, *stage)?.commit()?),
        }
    }

    fn commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> Result<()> {
        match stage {
            Stage::Real(_) if self.find(name).is_some() => Err(ErrorCode::Exists.into()),
            Stage::Real(stage) => self.store.commit_new(stage, name),
            Stage::Virtual(..) => Err(ErrorCode::Io.into()),
        }
    }

    fn remove(&mut self, name: Name<'_>) -> Result<()> {
        self.real(name)?;
        self.store.remove(name)
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<()> {
        self.real(from)?;
        self.real(to)?;
        self.store.rename(from, to)
    }

    fn mkdir(&mut self, name: Name<'_>) -> Result<()> {
        if self.find(name).is_some() { Err(ErrorCode::Exists.into()) } else { self.store.mkdir(name) }
    }

    fn rmdir(&mut self, name: Name<'_>) -> Result<()> {
        self.real(name)?;
        self.store.rmdir(name)
    }

    fn flush(&mut self) {
        self.store.flush();
    }

    fn next_result(&mut self) -> Result<Option<Stat>> {
        self.store.next_result()
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Self::Cursor> {
        // The table's names are in the root.
        let next = if dir.is_none() { 0 } else { self.table.len() };
        Ok(Cursor { next, store: self.store.list(dir)? })
    }

    fn omitted(&mut self, cursor: &mut Self::Cursor) -> Result<u64> {
        self.store.omitted(&mut cursor.store)
    }

    fn next_entry(&mut self, cursor: &mut Self::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool> {
        if let Some(Virtual { name, .. }) = self.table.get(cursor.next) {
            let name = Name::parse(name.as_bytes(), name.len()).map_err(|_| ErrorCode::Io)?;
            show(Entry { name, kind: EntryKind::File(stat(self.size(cursor.next))) });
            cursor.next += 1;
            return Ok(true);
        }
        let table = &*self.table;
        loop {
            let mut is_shown = false;
            let mut visible = |entry: Entry<'_>| {
                if table.iter().all(|hides| hides.name != entry.name.as_str()) {
                    is_shown = true;
                    show(entry);
                }
            };
            let more = self.store.next_entry(&mut cursor.store, &mut visible)?;
            if is_shown || !more {
                return Ok(more);
            }
        }
    }

    fn settle(&mut self) {
        self.store.settle();
    }

    fn space(&mut self) -> Result<Space> {
        self.store.space()
    }
}
