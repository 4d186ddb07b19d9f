//! What is known about writes in progress and interrupted writes.

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
    /// The owner of the stage.
    pub owner: StageOwner,
    /// Its content so far.
    pub bytes: Vec<u8>,
    /// How many of these bytes were staged before.
    pub base: usize,
    /// Its size in the end, as announced.
    pub size: u64,
    /// Its time.
    pub mtime: Option<u64>,
    /// How many bytes are durable.
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
    /// All of it has been sent, or it was aborted: the server need not keep anything.
    is_through: bool,
}

impl Upload {
    /// True if it may be what this writer writes.
    fn is_of(&self, open: &Open) -> bool {
        let size = self.file.bytes.len() as u64;
        open.name.as_ref() == Some(&self.name) && (size, self.file.mtime) == (open.size, open.mtime)
    }
}

/// How many of them are kept.
const UPLOADS: usize = 64;

/// What an interrupted write may have left under a name.
#[derive(Debug, Clone)]
pub struct Left {
    /// Who may resume it (PROTOCOL §8).
    owner: StageOwner,
    /// It is the beginning of one of these.
    candidates: Vec<Rc<Vec<u8>>>,
    /// Its length, if that is known.
    exact: Option<usize>,
    /// How many bytes of it are durable, if nothing else needed the room.
    floor: usize,
}

impl Left {
    /// The greatest possible length.
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

    /// A write needs room, perhaps that of interrupted writes.
    pub fn need_room(&mut self, bytes: u64) {
        if self.is_roomy(bytes) {
            return;
        }
        for left in self.left.values_mut() {
            (left.exact, left.floor) = (None, 0);
        }
    }

    /// The store says that `len` bytes with this checksum are staged, or none, from which a `write` of `size` by
    /// `owner` could continue.
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

    /// True if the store has reported, since `since`, staged bytes of a name (their number and checksum) for which
    /// `is_it` is true.
    #[must_use]
    pub fn was_staged(&self, name: &str, since: Moment, is_it: impl Fn(u64, u32) -> bool) -> bool {
        let mut recent = self.resumes.iter().rev().take_while(|(at, ..)| *at >= since);
        recent.any(|(_, other, len, crc)| other == name && is_it(*len, *crc))
    }

    /// The last report of the store about a name, if something was staged.
    #[must_use]
    pub fn last_staged(&self, name: &str) -> Option<(u64, u32)> {
        let last = self.resumes.iter().rev().find(|(_, other, ..)| other == name);
        last.map(|&(_, _, len, crc)| (len, crc)).filter(|(len, _)| *len > 0)
    }

    /// A writer begins after `offset` staged bytes; returns its number.
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

    /// A `stage` has failed since power failed: what was staged may be lost.
    pub fn doubt(&mut self, name: &str) {
        if let Some(left) = self.left.get_mut(name) {
            (left.exact, left.floor) = (None, 0);
        }
    }

    /// A `stage` was refused with this code.
    ///
    /// # Panics
    /// If that can't have been correct.
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

    /// The connection of a writer is lost.
    pub fn drop_stage(&mut self, handle: u64, power: bool) {
        let Some(Open { name: Some(name), owner, bytes, floor, .. }) = self.open.remove(&handle) else { return };
        if bytes.is_empty() {
            return;
        }
        let exact = power.then_some(bytes.len());
        self.left.insert(name, Left { owner, candidates: vec![Rc::new(bytes)], exact, floor });
    }

    /// A client begins to send a body; returns its number.
    pub fn begin_upload(&mut self, name: &str, file: &File) -> u64 {
        let number = self.next_handle();
        self.uploads.push_back(Upload { number, name: name.into(), file: Rc::clone(file), is_through: false });
        if self.uploads.len() > UPLOADS {
            self.uploads.pop_front();
        }
        number
    }

    /// A client has sent a body to its end.
    pub fn end_upload(&mut self, number: u64) {
        if let Some(upload) = self.uploads.iter_mut().find(|upload| upload.number == number) {
            upload.is_through = true;
        }
    }

    /// Whatever happens to protected messages on the way (PROTOCOL §8): what a store receives was sent exactly so.
    ///
    /// # Panics
    /// If no client has sent it.
    pub fn check_sent(&self, handle: u64) {
        let Some(open) = self.open.get(&handle).filter(|open| open.name.is_some()) else { return };
        let mut sent = self.uploads.iter().filter(|upload| upload.is_of(open)).map(|upload| &upload.file.bytes);
        // The bytes staged before may belong to another file: then the checksum is wrong in the end.
        let is_it = |bytes: &Vec<u8>| bytes.get(open.base..open.bytes.len()) == open.bytes.get(open.base..);
        let was_sent = sent.any(is_it) || self.uploads.len() == UPLOADS;
        assert!(was_sent, "{} bytes are staged of {:?} that no client has sent", open.bytes.len(), open.name);
    }

    /// The server drops the staged bytes of a writer.
    ///
    /// # Panics
    /// If nothing has happened but the loss of the writer's connection: then they stay (PROTOCOL §7).
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

    /// What is known to be staged is durable from now on.
    pub fn settled(&mut self) {
        for left in self.left.values_mut() {
            left.floor = left.floor.max(left.exact.unwrap_or(0));
        }
    }

    /// All writers are lost; how much of theirs is durable is unknown.
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
