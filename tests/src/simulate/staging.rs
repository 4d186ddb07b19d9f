//! The truth about writes that are in progress or were interrupted.

use std::rc::Rc;

use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::StageOwner;

use super::truth::{File, Moment, REFUSALS, Truth};

/// A version that is being written.
#[derive(Debug, Clone)]
pub struct Open {
    /// `None` in a classic `put`.
    pub name: Option<String>,
    /// Its owner.
    pub owner: StageOwner,
    /// The bytes so far.
    pub bytes: Vec<u8>,
    /// The number of bytes that were staged before.
    pub base: usize,
    /// The announced final size.
    pub size: u64,
    /// Its time.
    pub mtime: Option<u64>,
    /// The number of durable bytes.
    pub floor: usize,
    /// The moment at which it began.
    pub since: Moment,
}

/// A `write` that a client has begun to send.
#[derive(Debug)]
pub struct Upload {
    number: u64,
    name: String,
    file: File,
    /// All of it has been sent, or it was given up: the server does not have to keep anything.
    is_through: bool,
}

impl Upload {
    /// True if this writer may be writing it.
    fn is_of(&self, open: &Open) -> bool {
        let size = self.file.bytes.len() as u64;
        open.name.as_ref() == Some(&self.name) && (size, self.file.mtime) == (open.size, open.mtime)
    }
}

/// The number of uploads that are remembered.
const UPLOADS: usize = 64;

/// The bytes that an interrupted write may have left under a name.
#[derive(Debug, Clone)]
pub struct Left {
    /// Who may resume it (PROTOCOL §8).
    owner: StageOwner,
    /// The staged bytes are a prefix of one of these.
    candidates: Vec<Rc<Vec<u8>>>,
    /// Their length, if known.
    exact: Option<usize>,
    /// The number of durable bytes, unless they were dropped for other files.
    floor: usize,
}

impl Left {
    /// The maximum number of bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.candidates.iter().map(|bytes| bytes.len()).max().unwrap_or(0)
    }

    /// The candidate that begins with `len` bytes of this checksum.
    fn find(&self, len: usize, crc: u32) -> Option<Vec<u8>> {
        let prefix = |bytes: &Rc<Vec<u8>>| bytes.get(..len).filter(|bytes| crc32c(bytes) == crc).map(<[u8]>::to_vec);
        self.candidates.iter().find_map(prefix)
    }
}

impl Truth {
    /// A writer of a name.
    #[must_use]
    pub fn is_open(&self, name: &str) -> bool {
        self.open.values().any(|open| open.name.as_deref() == Some(name))
    }

    /// Records that room is needed, possibly that of interrupted writes.
    pub fn need_room(&mut self, bytes: u64) {
        if self.is_roomy(bytes) {
            return;
        }
        for left in self.left.values_mut() {
            (left.exact, left.floor) = (None, 0);
        }
    }

    /// Checks the store's report that `len` bytes with this checksum are staged (or none), from which a `write` of
    /// `size` by `owner` could continue.
    ///
    /// # Panics
    /// If that is impossible.
    pub fn staged(&mut self, name: &str, owner: StageOwner, size: u64, (len, crc): (u64, u32)) {
        let moment = self.next_moment();
        self.resumes.push_back((moment, name.into(), len, crc));
        if self.resumes.len() > REFUSALS {
            self.resumes.pop_front();
        }
        let len = usize::try_from(len).expect("short");
        assert!(len as u64 <= size, "{len} bytes are staged of {name}, more than {size}");
        let Some(left) = self.left.get_mut(name).filter(|left| left.owner == owner) else {
            assert!(
                len == 0,
                "{len} bytes are staged of {name}, where nothing was, or what another client has written"
            );
            return;
        };
        if len == 0 {
            let may_be_longer = left.longest() as u64 > size;
            let lost = left.exact.map_or(left.floor > 0 && !may_be_longer, |exact| exact > 0 && exact as u64 <= size);
            assert!(!lost, "nothing is staged of {name}, where there was {left:?}");
            if !may_be_longer {
                self.left.remove(name);
            }
            return;
        }
        let is_so_long = left.exact.is_none_or(|exact| exact == len) && len >= left.floor;
        assert!(is_so_long, "{len} bytes are staged of {name}, where there was {left:?}");
        let Some(bytes) = left.find(len, crc) else { panic!("{len} bytes {crc:08x} are staged of {name}: {left:?}") };
        (left.candidates, left.exact) = (vec![Rc::new(bytes)], Some(len));
    }

    /// True if since `since` the store has reported staged bytes of a name for whose number and checksum `is_it` is
    /// true.
    #[must_use]
    pub fn was_staged(&self, name: &str, since: Moment, is_it: impl Fn(u64, u32) -> bool) -> bool {
        let mut recent = self.resumes.iter().rev().take_while(|(at, ..)| *at >= since);
        recent.any(|(_, other, len, crc)| other == name && is_it(*len, *crc))
    }

    /// The store's last report about a name, if something was staged.
    #[must_use]
    pub fn last_staged(&self, name: &str) -> Option<(u64, u32)> {
        let last = self.resumes.iter().rev().find(|(_, other, ..)| other == name);
        last.map(|&(_, _, len, crc)| (len, crc)).filter(|(len, _)| *len > 0)
    }

    /// Records that a writer begins after `offset` staged bytes; returns its number.
    pub fn open_stage(
        &mut self,
        (name, owner): (&str, StageOwner),
        offset: u64,
        size: u64,
        mtime: Option<u64>,
        crc: u32,
    ) -> u64 {
        let handle = self.next_handle();
        let since = self.moment();
        let mut open =
            Open { name: Some(name.into()), owner, bytes: Vec::new(), base: 0, size, mtime, floor: 0, since };
        if offset > 0 {
            self.staged(name, owner, size, (offset, crc));
            let left = self.left.get(name).expect("something was staged");
            (open.bytes, open.floor) = (left.candidates[0].to_vec(), left.floor);
            open.base = open.bytes.len();
        }
        self.left.remove(name);
        self.open.insert(handle, open);
        handle
    }

    /// Records that a `stage` has failed because of a power cut: the staged bytes may be gone.
    pub fn doubt(&mut self, name: &str) {
        if let Some(left) = self.left.get_mut(name) {
            (left.exact, left.floor) = (None, 0);
        }
    }

    /// Checks that a `stage` was refused with this code.
    ///
    /// # Panics
    /// If the refusal is wrong.
    pub fn stage_refused(&mut self, (name, owner): (&str, StageOwner), offset: u64, size: u64, code: ErrorCode) {
        let right = match code {
            ErrorCode::Range => offset > size,
            ErrorCode::Busy => self.is_open(name) || self.open.len() >= self.capacity.stages,
            ErrorCode::Mismatch => {
                let exact = self.left.get(name).filter(|left| left.owner == owner).and_then(|left| left.exact);
                offset > 0 && exact.is_none_or(|exact| exact as u64 != offset)
            }
            ErrorCode::NoSpace => !self.is_roomy(size),
            _ => false,
        };
        assert!(right, "a write of {size} to {name} at {offset} is refused: {code}");
    }

    /// Records that a writer's connection was lost.
    pub fn drop_stage(&mut self, handle: u64, power: bool) {
        let Some(Open { name: Some(name), owner, bytes, floor, .. }) = self.open.remove(&handle) else { return };
        if bytes.is_empty() {
            return;
        }
        let exact = power.then_some(bytes.len());
        self.left.insert(name, Left { owner, candidates: vec![Rc::new(bytes)], exact, floor });
    }

    /// Records that a client begins to send a body; returns its number.
    pub fn begin_upload(&mut self, name: &str, file: &File) -> u64 {
        let number = self.next_handle();
        self.uploads.push_back(Upload { number, name: name.into(), file: Rc::clone(file), is_through: false });
        if self.uploads.len() > UPLOADS {
            self.uploads.pop_front();
        }
        number
    }

    /// Records that a body has been sent completely.
    pub fn end_upload(&mut self, number: u64) {
        if let Some(upload) = self.uploads.iter_mut().find(|upload| upload.number == number) {
            upload.is_through = true;
        }
    }

    /// Whatever happens to sealed messages in transit (PROTOCOL §8), the store must only receive bytes that were sent,
    /// unchanged, or that it is asked to copy.
    ///
    /// # Panics
    /// If it receives others.
    pub fn check_sent(&self, handle: u64) {
        let Some(open) = self.open.get(&handle) else { return };
        let Some(name) = &open.name else { return };
        let sent = self.uploads.iter().filter(|upload| upload.is_of(open)).map(|upload| &upload.file.bytes);
        let mut sent = sent.chain(self.wishes.copies(name).map(|file| &file.bytes));
        // The bytes staged before may belong to another file: then the checksum is wrong in the end.
        let is_it = |bytes: &Vec<u8>| bytes.get(open.base..open.bytes.len()) == open.bytes.get(open.base..);
        let was_sent = sent.any(is_it) || self.uploads.len() == UPLOADS;
        assert!(was_sent, "{} bytes are staged of {:?} that no client has sent", open.bytes.len(), open.name);
    }

    /// Records that the server drops the bytes that a writer has staged.
    ///
    /// # Panics
    /// If only the writer's connection was lost: then they must stay (PROTOCOL §7).
    pub fn discard(&mut self, handle: u64) {
        let Some(open) = self.open.remove(&handle) else { return };
        let Some(name) = &open.name else { return };
        let mut uploads = self.uploads.iter().filter(|upload| upload.is_of(&open)).peekable();
        let is_lost = uploads.peek().is_some() && uploads.all(|upload| !upload.is_through);
        assert!(
            !is_lost || self.has_failed(name, open.since),
            "what a lost connection has staged of {name} is dropped"
        );
        let moment = self.next_moment();
        self.discards.push_back((moment, name.clone()));
        if self.discards.len() > REFUSALS {
            self.discards.pop_front();
        }
    }

    /// True if staged bytes of a name were dropped since `since`.
    #[must_use]
    pub fn was_discarded(&self, name: &str, since: Moment) -> bool {
        let forgotten = self.discards.len() >= REFUSALS && self.discards.front().is_some_and(|(at, _)| *at > since);
        forgotten || self.discards.iter().rev().take_while(|(at, _)| *at >= since).any(|(_, other)| other == name)
    }

    /// Records that the staged bytes are durable from now on.
    pub fn settled(&mut self) {
        for left in self.left.values_mut() {
            left.floor = left.floor.max(left.exact.unwrap_or(0));
        }
    }

    /// Records that all writers are lost, with unknown progress.
    pub(super) fn lose_writers(&mut self) {
        let handles: Vec<u64> = self.open.keys().copied().collect();
        for handle in handles {
            self.drop_stage(handle, false);
        }
        for left in self.left.values_mut() {
            left.exact = None;
        }
    }
}
