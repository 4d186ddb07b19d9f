//! The truth: the files that must exist, and those that existed.
//!
//! Two sides report to it. The store ([`watched`](super::watched)) reports each change when it is made; the clients
//! report their requests and the answers. Both must be consistent:
//!
//! - a change that nobody requested, or that was requested once and made twice, is wrong;
//! - an `ok` without its change, or a refusal with one, is wrong;
//! - the content of a reply must have been true at some moment between command and reply.
//!
//! A wrong report panics, which ends the run with its seed.

use core::fmt;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use skiff_proto::crc::crc32c;
use skiff_proto::reply::Tag;
use skiff_proto::{ErrorCode, Name};

use super::staging::{Left, Open, Upload};
use super::wishes::{Wish, Wishes};

/// A version of a file.
#[derive(PartialEq, Eq)]
pub struct Version {
    /// Its content.
    pub bytes: Vec<u8>,
    /// The CRC-32C of the content.
    pub crc: u32,
    /// Its time.
    pub mtime: Option<u64>,
}

impl Version {
    /// A version with this content.
    #[must_use]
    pub fn new(bytes: Vec<u8>, mtime: Option<u64>) -> File {
        let crc = crc32c(&bytes);
        Rc::new(Self { bytes, crc, mtime })
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes {:08x}", self.bytes.len(), self.crc)
    }
}

/// A shared version.
pub type File = Rc<Version>;

/// A change of the files.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum Change {
    Put { name: String, file: File, is_new: bool },
    Remove { name: String },
    Rename { from: String, to: String },
}

impl Change {
    fn apply(&self, files: &mut BTreeMap<String, File>) {
        match self {
            Self::Put { name, file, .. } => _ = files.insert(name.clone(), Rc::clone(file)),
            Self::Remove { name } => _ = files.remove(name),
            Self::Rename { from, to } => {
                let file = files.remove(from);
                files.extend(file.map(|file| (to.clone(), file)));
            }
        }
    }
}

/// A moment: the number of events so far.
pub type Moment = u64;

/// The moment from which a name has had this version, or none.
#[derive(Debug)]
struct Span {
    from: Moment,
    file: Option<File>,
}

/// The number of versions of a name that are remembered.
const SPANS: usize = 48;
/// The number of refusals that are remembered.
pub(super) const REFUSALS: usize = 512;

/// The capacity of a store.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Blocks for files.
    pub blocks: u64,
    /// Bytes of a file in a block.
    pub payload: u64,
    /// Files and stages.
    pub files: usize,
    /// Stages with a writer.
    pub stages: usize,
    /// Bytes of the longest name.
    pub name: usize,
    /// Nothing survives a power cut.
    pub is_volatile: bool,
}

/// The changes that may be found at the next start. If power failed while a record was programmed, its bits may read
/// differently each time: it may be found at one start and not at the next, or vice versa, as long as nothing has been
/// written since.
#[derive(Debug, Default)]
struct Doubts {
    /// Changes that were in progress when power failed, and whether each was ever found.
    changes: Vec<(Change, bool)>,
    may_be: Vec<Possible>,
    /// Which of them was found last.
    at: usize,
}

/// Files that may be found, and the changes that lead to them.
#[derive(Debug, Clone)]
struct Possible {
    files: BTreeMap<String, File>,
    changes: Vec<usize>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Truth {
    moment: Moment,
    /// The capacity of a store.
    pub capacity: Capacity,
    files: BTreeMap<String, File>,
    spans: BTreeMap<String, VecDeque<Span>>,
    refusals: VecDeque<(Moment, String, ErrorCode)>,
    tags: BTreeMap<String, File>,
    /// The answers to `resume`.
    pub(super) resumes: VecDeque<(Moment, String, u64, u32)>,
    /// The change in progress, now or when power failed.
    under_way: Option<Change>,
    doubts: Doubts,
    /// The requests of the clients.
    pub wishes: Wishes,
    /// Writers.
    pub open: BTreeMap<u64, Open>,
    /// Interrupted writes.
    pub left: BTreeMap<String, Left>,
    /// Bodies that clients have begun to send.
    pub(super) uploads: VecDeque<Upload>,
    /// Staged bytes that the server has dropped.
    pub(super) discards: VecDeque<(Moment, String)>,
    /// Versions that are being read.
    pub reading: BTreeMap<u64, File>,
    handles: u64,
    /// Changes so far.
    pub changes: u64,
}

impl Truth {
    /// The truth about an empty store.
    #[must_use]
    pub fn new(capacity: Capacity) -> Self {
        Self {
            moment: 0,
            capacity,
            files: BTreeMap::new(),
            spans: BTreeMap::new(),
            refusals: VecDeque::new(),
            tags: BTreeMap::new(),
            resumes: VecDeque::new(),
            under_way: None,
            doubts: Doubts::default(),
            wishes: Wishes::new(),
            open: BTreeMap::new(),
            left: BTreeMap::new(),
            uploads: VecDeque::new(),
            discards: VecDeque::new(),
            reading: BTreeMap::new(),
            handles: 0,
            changes: 0,
        }
    }

    /// The last moment.
    #[must_use]
    pub const fn moment(&self) -> Moment {
        self.moment
    }

    /// A new moment.
    pub const fn next_moment(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// A number for a writer or reader.
    pub const fn next_handle(&mut self) -> u64 {
        self.handles += 1;
        self.handles
    }

    /// The files.
    #[must_use]
    pub const fn files(&self) -> &BTreeMap<String, File> {
        &self.files
    }

    /// Adds a file that existed from the start.
    pub fn was_there(&mut self, name: &str, bytes: Vec<u8>) {
        self.set(name, Some(Version::new(bytes, None)));
        self.wrote();
    }

    /// The current version of a name.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&File> {
        self.files.get(name)
    }

    /// True if a version is one of the files.
    #[must_use]
    pub fn is_current(&self, file: &File) -> bool {
        self.files.values().any(|other| Rc::ptr_eq(other, file))
    }

    fn set(&mut self, name: &str, file: Option<File>) {
        let from = self.next_moment();
        match &file {
            Some(file) => {
                self.wishes.see(name, file);
                self.files.insert(name.into(), Rc::clone(file));
            }
            None => _ = self.files.remove(name),
        }
        let spans = self.spans.entry(name.into()).or_default();
        spans.push_back(Span { from, file });
        if spans.len() > SPANS {
            spans.pop_front();
        }
    }

    /// True if at some moment since `since` a name had a version (or none) for which `is_it` is true.
    #[must_use]
    pub fn was(&self, name: &str, since: Moment, mut is_it: impl FnMut(Option<&File>) -> bool) -> bool {
        let Some(spans) = self.spans.get(name) else { return is_it(None) };
        // Versions before the oldest one are forgotten.
        let forgotten = spans.front().is_some_and(|span| span.from > since);
        if forgotten && (spans.len() >= SPANS || is_it(None)) {
            return true;
        }
        let mut until = Moment::MAX;
        for span in spans.iter().rev() {
            if until <= since {
                return false;
            }
            if is_it(span.file.as_ref()) {
                return true;
            }
            until = span.from;
        }
        false
    }

    /// True if a name has had one and the same version, or none, since `since`.
    #[must_use]
    pub fn is_steady(&self, name: &str, since: Moment) -> bool {
        self.spans.get(name).and_then(VecDeque::back).is_none_or(|span| span.from <= since)
    }

    /// All names that ever existed.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.spans.keys()
    }

    /// Records a request over a connection; returns its number.
    pub fn ask(&mut self, wish: Wish, connection: u64, since: Moment) -> u64 {
        let source = match &wish {
            Wish::Copy { from, .. } => self.files.get(from),
            _ => None,
        };
        self.wishes.ask(wish, connection, since, source)
    }

    /// Begins a change.
    pub fn begin(&mut self, change: Change) {
        self.under_way = Some(change);
    }

    /// Ends a change that was refused.
    pub fn undo(&mut self) {
        self.under_way = None;
    }

    /// Ends a change that was made.
    ///
    /// # Panics
    /// If nobody has requested it.
    pub fn make(&mut self) {
        let Some(change) = self.under_way.take() else { return };
        let moment = self.next_moment();
        self.wishes.fulfil(&change, moment);
        self.apply(&change);
        self.wrote();
    }

    fn apply(&mut self, change: &Change) {
        self.changes += 1;
        let mut files = self.files.clone();
        change.apply(&mut files);
        self.replace(&files);
    }

    /// Replaces the files.
    fn replace(&mut self, files: &BTreeMap<String, File>) {
        let gone: Vec<String> = self.files.keys().filter(|name| !files.contains_key(*name)).cloned().collect();
        for name in gone {
            self.set(&name, None);
        }
        for (name, file) in files {
            if !self.files.get(name).is_some_and(|old| Rc::ptr_eq(old, file)) {
                self.set(name, Some(Rc::clone(file)));
            }
        }
    }

    /// Records that the store has written something, so that the state found is now fixed.
    pub fn wrote(&mut self) {
        self.doubts = Doubts::default();
    }

    /// Records a power cut. A change in progress may have been made or not.
    pub fn lose_power(&mut self) {
        self.reading.clear();
        self.lose_writers();
        if self.capacity.is_volatile {
            self.left.clear();
            self.under_way = None;
            let names: Vec<String> = self.files.keys().cloned().collect();
            for name in names {
                self.set(&name, None);
            }
        }
    }

    /// Records a restart, and the files found.
    ///
    /// # Panics
    /// If they are not the expected ones.
    pub fn find(&mut self, found: &BTreeMap<String, (Vec<u8>, Option<u64>)>) {
        let doubts = &mut self.doubts;
        if doubts.may_be.is_empty() {
            doubts.may_be.push(Possible { files: self.files.clone(), changes: Vec::new() });
        }
        if let Some(change) = self.under_way.take() {
            let Possible { mut files, mut changes } = doubts.may_be[doubts.at].clone();
            change.apply(&mut files);
            changes.push(doubts.changes.len());
            doubts.changes.push((change, false));
            doubts.may_be.push(Possible { files, changes });
        }
        if let Err(problem) = compare(&self.files, found) {
            self.find_another(found, &problem);
        }
        let doubts: Vec<&Change> = self.doubts.changes.iter().map(|(change, _)| change).collect();
        self.wishes.forget(&doubts);
    }

    /// Handles the case that the files found differ from the last known ones.
    fn find_another(&mut self, found: &BTreeMap<String, (Vec<u8>, Option<u64>)>, problem: &str) {
        let doubts = &mut self.doubts;
        let at = doubts.may_be.iter().rposition(|possible| compare(&possible.files, found).is_ok());
        let Some(at) = at else { panic!("after the start {problem}; in doubt are {:?}", doubts.changes) };
        doubts.at = at;
        let Possible { files, changes } = doubts.may_be[at].clone();
        for change in changes {
            let (change, was_found) = &mut self.doubts.changes[change];
            if core::mem::replace(was_found, true) {
                continue;
            }
            let change = change.clone();
            let moment = self.next_moment();
            self.wishes.fulfil(&change, moment);
            self.changes += 1;
            if let Change::Put { name, .. } = &change {
                self.doubt(name);
            }
        }
        self.replace(&files);
    }

    /// Compares the files found with the expected ones.
    ///
    /// # Errors
    /// The differences.
    pub fn compare(&self, found: &BTreeMap<String, (Vec<u8>, Option<u64>)>) -> Result<(), String> {
        compare(&self.files, found)
    }

    /// Records that the store has refused something.
    pub fn refused(&mut self, name: &str, code: ErrorCode) {
        let moment = self.next_moment();
        self.refusals.push_back((moment, name.into(), code));
        if self.refusals.len() > REFUSALS {
            self.refusals.pop_front();
        }
    }

    /// True if the store has refused `name` (or all names) with this code since `since`.
    #[must_use]
    pub fn was_refused(&self, name: &str, code: ErrorCode, since: Moment) -> bool {
        let forgotten = self.refusals.len() >= REFUSALS && self.refusals.front().is_some_and(|(at, ..)| *at > since);
        let mut recent = self.refusals.iter().rev().take_while(|(at, ..)| *at >= since);
        forgotten || recent.any(|(_, other, found)| *found == code && (other == name || other.is_empty()))
    }

    /// True if the store has failed at any operation on a name since `since`.
    #[must_use]
    pub fn has_failed(&self, name: &str, since: Moment) -> bool {
        ErrorCode::ALL.iter().any(|&code| self.was_refused(name, code, since))
    }

    /// Records the tag of a version.
    ///
    /// # Panics
    /// If other content had the same tag.
    pub fn tagged(&mut self, tag: Tag, file: &File) {
        if !tag.is_known() {
            return;
        }
        let known = self.tags.entry(tag.as_str().into()).or_insert_with(|| Rc::clone(file));
        assert!(known.bytes == file.bytes, "{known:?} and {file:?} have the tag {tag:?}");
    }

    /// The version with this tag.
    #[must_use]
    pub fn of_tag(&self, tag: Tag) -> Option<&File> {
        self.tags.get(tag.as_str())
    }

    /// True if there is room for `bytes` more without dropping anything, so no change may be refused.
    #[must_use]
    pub fn is_roomy(&self, bytes: u64) -> bool {
        let Capacity { blocks, payload, files, .. } = self.capacity;
        let of = |len: usize| (len as u64).div_ceil(payload);
        let stored: u64 = self.files.values().chain(self.reading.values()).map(|file| of(file.bytes.len())).sum();
        let open: u64 = self.open.values().map(|open| open.size.div_ceil(payload).max(of(open.bytes.len())) + 1).sum();
        let left: u64 = self.left.values().map(|left| of(left.longest())).sum();
        let used = stored + open + left + bytes.div_ceil(payload) + 1;
        let entries = self.files.len() + self.reading.len() + self.open.len() + self.left.len();
        used * 2 <= blocks && entries + 4 <= files
    }
}

/// Parses a valid name.
///
/// # Panics
/// If the name is not valid.
#[must_use]
pub fn n(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), skiff_proto::name::MAX_NAME).expect("a name")
}

fn compare(files: &BTreeMap<String, File>, found: &BTreeMap<String, (Vec<u8>, Option<u64>)>) -> Result<(), String> {
    for (name, file) in files {
        let Some((bytes, mtime)) = found.get(name) else {
            return Err(format!("{name} is missing: {file:?}"));
        };
        if *bytes != file.bytes || *mtime != file.mtime {
            let crc = crc32c(bytes);
            return Err(format!("{name} is {} bytes {crc:08x} {mtime:?} instead of {file:?}", bytes.len()));
        }
    }
    match found.keys().find(|name| !files.contains_key(*name)) {
        Some(name) => Err(format!("{name} is there, {} bytes", found[name].0.len())),
        None => Ok(()),
    }
}
