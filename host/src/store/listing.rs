//! Lists a directory, or everything below it, one entry at a time, in bounded memory.

use rustix::fs::{Dir, DirEntry, FileType};
use rustix::io::Errno;
use skiff_proto::name::{MAX_NAME, Name, RESERVED_PREFIX};
use skiff_proto::store::{Entry, EntryKind};
use skiff_proto::{ErrorCode, Refusal};

use super::DirStore;
use super::confine::Directory;
use super::meta::{Kind, Meta};
use super::refusal::refuse;

/// Internal, never sent to a peer: the listing can't continue without waiting for a file system mounted beneath the
/// root.
pub const ELSEWHERE: Refusal = Refusal::new(ErrorCode::Io, "the next entry is on another file system");

/// A position in a listing.
#[derive(Debug)]
pub struct Cursor {
    dir: Dir,
    /// An entry that was put back.
    again: Option<DirEntry>,
    /// The name of the current entry, relative to the root; between calls, only the part before its last component.
    name: String,
    prefix: usize,
    /// Entries that were left out so far because their names can't be sent.
    omitted: u64,
    /// What remains to be listed, for a listing of a whole tree.
    tree: Option<Box<Tree>>,
}

/// The directories that a listing of a tree has yet to read.
#[derive(Debug)]
struct Tree {
    /// Where it began; `None` is the root.
    top: Option<Box<str>>,
    /// Directories, the next one last.
    waiting: Vec<Box<str>>,
    /// Approximate memory that they take.
    bytes: usize,
}

/// Maximum memory for the directories that one listing has yet to read.
const MOST_WAITING: usize = 256 << 10;

/// More directories than fit: the client lists them one by one.
const TOO_MANY: Refusal = Refusal::new(ErrorCode::TooLong, "too many directories for one listing");

/// At most this many of the names that a listing omits are logged.
const LOGGED: u64 = 20;

/// How a listing treats an entry.
enum Sight<'a> {
    /// Listed, if it is of a type that is served.
    Shown(Name<'a>),
    /// Hidden, as if it did not exist.
    Withheld,
    /// Its name can't be sent.
    Unsendable,
}

impl Cursor {
    /// Entries that were left out so far because their names can't be sent.
    #[must_use]
    pub const fn omitted(&self) -> u64 {
        self.omitted
    }

    /// A directory that was shown has yet to be read, if this is the listing of a `tree`.
    fn wait(tree: &mut Option<Box<Tree>>, name: &str) -> Result<(), Refusal> {
        let Some(tree) = tree else { return Ok(()) };
        let bytes = tree.bytes + name.len() + size_of::<Box<str>>();
        if bytes > MOST_WAITING {
            return Err(TOO_MANY);
        }
        tree.bytes = bytes;
        tree.waiting.push(name.into());
        Ok(())
    }

    fn dir_name(&self) -> &str {
        if self.prefix == 0 { "." } else { &self.name[..self.prefix - 1] }
    }

    /// Records that an entry is omitted because its name can't be sent.
    fn omit(&mut self, name: &[u8]) {
        self.omitted += 1;
        if self.omitted <= LOGGED {
            tracing::info!(dir = self.dir_name(), name = %name.escape_ascii(), "entry omitted: its name can't be sent");
        }
    }

    /// Logs how many entries were omitted.
    fn log_omitted(&self) {
        if self.omitted > 0 {
            tracing::warn!(
                dir = self.dir_name(),
                count = self.omitted,
                "entries omitted: their names can't be sent (too long, not UTF-8, control characters or backslashes)"
            );
        }
    }
}

impl DirStore {
    /// Begins a listing of a directory, `None` for the root.
    ///
    /// # Errors
    /// `not-found` also if it is not a directory; `denied`, `io`.
    pub fn list(&self, dir: Option<Name<'_>>) -> Result<Cursor, Refusal> {
        let mut name = String::new();
        if let Some(dir) = dir {
            self.check_read(dir)?;
            name = format!("{dir}/");
        }
        let opened = self.0.confine.directory(dir).map_err(refuse)?;
        // An empty listing of a directory that has been removed would be a lie.
        if rustix::fs::fstat(&opened).map_err(refuse)?.st_nlink == 0 {
            return Err(match dir {
                Some(_) => ErrorCode::NotFound.into(),
                None => Refusal::new(ErrorCode::Io, "the directory that is served has been removed"),
            });
        }
        let dir = opened.entries().map_err(refuse)?;
        Ok(Cursor { dir, again: None, prefix: name.len(), name, omitted: 0, tree: None })
    }

    /// Begins a listing of a directory (`None` for the root) and of everything below it, each directory before its
    /// entries. Links to directories are followed, unless they lead to a directory that contains them.
    ///
    /// # Errors
    /// As [`DirStore::list`].
    pub fn tree(&self, dir: Option<Name<'_>>) -> Result<Cursor, Refusal> {
        let top = dir.map(|dir| dir.as_str().into());
        Ok(Cursor { tree: Some(Box::new(Tree { top, waiting: Vec::new(), bytes: 0 })), ..self.list(dir)? })
    }

    /// Passes the next entry of a listing to `show`; false at its end. It omits names that break the rules of PROTOCOL
    /// §2 or are too long together with the directory's, hidden names, and entries that can't be opened: devices, links
    /// that lead out. The order is the file system's.
    ///
    /// # Errors
    /// `io`; `denied` also if the entries can't be examined; for a tree `too-long` if it has too many directories for the memory reserved for them.
    pub fn next_entry(&self, cursor: &mut Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool, Refusal> {
        self.next_entry_within(cursor, false, show)
    }

    /// The same without waiting for a file system mounted beneath the root. [`ELSEWHERE`] if the next entry leads
    /// there: [`DirStore::next_entry`] shows it.
    ///
    /// # Errors
    /// `io`; [`ELSEWHERE`].
    pub fn next_entry_here(&self, cursor: &mut Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool, Refusal> {
        self.next_entry_within(cursor, true, show)
    }

    fn next_entry_within(
        &self,
        cursor: &mut Cursor,
        here: bool,
        show: &mut dyn FnMut(Entry<'_>),
    ) -> Result<bool, Refusal> {
        loop {
            let Some(entry) = cursor.again.take().map(Ok).or_else(|| cursor.dir.read()) else {
                cursor.log_omitted();
                if self.enter_next(cursor, here)? {
                    continue;
                }
                return Ok(false);
            };
            let entry = entry.map_err(refuse)?;
            let component = match self.sight(&entry, cursor.prefix) {
                Sight::Shown(component) => component,
                Sight::Withheld => continue,
                Sight::Unsendable => {
                    cursor.omit(entry.file_name().to_bytes());
                    continue;
                }
            };
            cursor.name.truncate(cursor.prefix);
            cursor.name.push_str(component.as_str());
            let Ok(name) = Name::parse(cursor.name.as_bytes(), MAX_NAME) else { continue };
            if self.has_mounts() {
                let there = match entry.file_type() {
                    FileType::Symlink => here && self.is_elsewhere(name),
                    _ => self.0.confine.is_mounted(cursor.dir.fd().map_err(refuse)?, component.as_str()),
                };
                // A mount point on a directory is a directory; its file system need not be accessed.
                if there && entry.file_type() == FileType::Directory {
                    Cursor::wait(&mut cursor.tree, name.as_str())?;
                    show(Entry { name, kind: EntryKind::Directory { mtime: None } });
                    return Ok(true);
                }
                if there && here {
                    cursor.again = Some(entry);
                    return Err(ELSEWHERE);
                }
            }
            let mut meta = match Meta::at(cursor.dir.fd().map_err(refuse)?, component.as_str()) {
                // The directory can be read, but not searched: an empty listing would be a lie.
                Err(errno @ (Errno::ACCESS | Errno::PERM)) => return Err(refuse(errno)),
                Err(_) => continue,
                Ok(meta) => meta,
            };
            let mut is_loop = false;
            if meta.kind == Kind::Link {
                match self.0.confine.look(name) {
                    Ok(target) => meta = target,
                    Err(_) => continue,
                }
                is_loop = cursor.tree.is_some() && self.is_loop(name, &meta);
            }
            let kind = match meta.kind {
                Kind::File => EntryKind::File(meta.stat(self.0.crcs().of(&meta.key))),
                Kind::Directory => EntryKind::Directory { mtime: meta.mtime() },
                Kind::Link | Kind::Other => continue,
            };
            if meta.kind == Kind::Directory && !is_loop {
                Cursor::wait(&mut cursor.tree, name.as_str())?;
            }
            show(Entry { name, kind });
            return Ok(true);
        }
    }

    /// Continues with the next directory of a tree; false if there is none.
    fn enter_next(&self, cursor: &mut Cursor, here: bool) -> Result<bool, Refusal> {
        let Some(tree) = &mut cursor.tree else { return Ok(false) };
        while let Some(dir) = tree.waiting.pop() {
            let name = Name::parse(dir.as_bytes(), MAX_NAME)?;
            if here && self.is_elsewhere(name) {
                tree.waiting.push(dir);
                return Err(ELSEWHERE);
            }
            tree.bytes -= dir.len() + size_of::<Box<str>>();
            match self.0.confine.directory(Some(name)).and_then(Directory::entries) {
                Ok(entries) => {
                    cursor.dir = entries;
                    cursor.name.clear();
                    cursor.name.push_str(&dir);
                    cursor.name.push('/');
                    cursor.prefix = cursor.name.len();
                    cursor.omitted = 0;
                    return Ok(true);
                }
                // It has been removed meanwhile, or must stay hidden.
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(errno) => return Err(refuse(errno)),
            }
        }
        Ok(false)
    }

    /// Whether the link `name` leads to a directory that contains it.
    fn is_loop(&self, name: Name<'_>, target: &Meta) -> bool {
        let is_target = |meta: Result<Meta, Errno>| meta.is_ok_and(|meta| meta.key.same_file(&target.key));
        is_target(Meta::of(self.0.confine.root()))
            || core::iter::successors(name.parent(), |name| name.parent())
                .any(|above| is_target(self.0.confine.look(above)))
    }

    /// How many entries a new listing will omit because their names can't be sent: see
    /// [`Store::omitted`](skiff_proto::store::Store::omitted). Reads the directory once more, but does not access the
    /// files.
    ///
    /// # Errors
    /// `io`.
    pub fn omitted(&self, cursor: &mut Cursor) -> Result<u64, Refusal> {
        let mut omitted = 0;
        self.count_omitted(cursor, &mut omitted, &mut || false)?;
        Ok(omitted)
    }

    /// [`DirStore::omitted`] in parts: reads on until `pause` is true, and then returns false.
    ///
    /// # Errors
    /// `io`.
    pub fn count_omitted(
        &self,
        cursor: &mut Cursor,
        omitted: &mut u64,
        pause: &mut dyn FnMut() -> bool,
    ) -> Result<bool, Refusal> {
        loop {
            let Some(entry) = cursor.dir.read() else {
                if self.enter_next(cursor, false)? {
                    continue;
                }
                break;
            };
            let entry = entry.map_err(refuse)?;
            match self.sight(&entry, cursor.prefix) {
                Sight::Unsendable => *omitted += 1,
                Sight::Shown(component) => self.look_into(cursor, &entry, component)?,
                Sight::Withheld => {}
            }
            if pause() {
                return Ok(false);
            }
        }
        match cursor.tree.as_ref().map(|tree| tree.top.clone()) {
            Some(top) => {
                let top = top.as_deref().map(|top| Name::parse(top.as_bytes(), MAX_NAME)).transpose()?;
                *cursor = self.tree(top)?;
            }
            None => cursor.dir.rewind(),
        }
        Ok(true)
    }

    /// In a tree: schedules the entry to be read later, if it is a directory.
    fn look_into(&self, cursor: &mut Cursor, entry: &DirEntry, component: Name<'_>) -> Result<(), Refusal> {
        if cursor.tree.is_none() || entry.file_type() == FileType::RegularFile {
            return Ok(());
        }
        cursor.name.truncate(cursor.prefix);
        cursor.name.push_str(component.as_str());
        let Ok(name) = Name::parse(cursor.name.as_bytes(), MAX_NAME) else { return Ok(()) };
        let is_entered = entry.file_type() == FileType::Directory
            || self.0.confine.look(name).is_ok_and(|meta| meta.kind == Kind::Directory && !self.is_loop(name, &meta));
        if is_entered { Cursor::wait(&mut cursor.tree, name.as_str()) } else { Ok(()) }
    }

    /// How a listing of the directory treats an entry, from its name alone; `prefix` bytes of the directory's name
    /// precede it.
    fn sight<'a>(&self, entry: &'a DirEntry, prefix: usize) -> Sight<'a> {
        let name = entry.file_name().to_bytes();
        let is_served = matches!(
            entry.file_type(),
            FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown
        );
        let is_dots = matches!(name, b"." | b"..");
        let is_hidden = name.starts_with(b".") && !self.0.options.hidden;
        if !is_served || is_dots || is_hidden || name.starts_with(RESERVED_PREFIX.as_bytes()) {
            return Sight::Withheld;
        }
        Name::parse(name, MAX_NAME.saturating_sub(prefix)).map_or(Sight::Unsendable, Sight::Shown)
    }

    /// Logs names in a directory that keep it from being removed and that no listing shows.
    pub(super) fn log_unsendable(&self, dir: Name<'_>) {
        if let Ok(mut cursor) = self.list(Some(dir)) {
            while let Some(Ok(entry)) = cursor.dir.read() {
                if let Sight::Unsendable = self.sight(&entry, cursor.prefix) {
                    cursor.omit(entry.file_name().to_bytes());
                }
            }
            cursor.log_omitted();
        }
    }
}
