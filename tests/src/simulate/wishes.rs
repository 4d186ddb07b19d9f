//! Requested changes, and the changes that were made.
//!
//! | state of a wish | left by |
//! |---|---|
//! | waiting for its reply | `ok`, which uses up one of the changes; a refusal; the loss of its connection |
//! | an orphan: its connection is lost | a change that belongs to no other wish; a restart of the device |
//!
//! A change does not show who requested it, because two clients may have requested the same. But at every moment, each
//! change must match a separate wish that existed before it.

use std::rc::Rc;

use skiff_proto::Name;
use skiff_proto::name::MAX_NAME;

use super::truth::{Change, File, Moment, n};

/// A requested change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum Wish {
    Write { name: String, size: usize, crc: u32 },
    Put { name: String, size: usize, crc: u32 },
    Remove { name: String },
    Rename { from: String, to: String },
    Copy { from: String, to: String },
}

#[derive(Debug)]
struct Wanted {
    number: u64,
    wish: Wish,
    connection: u64,
    since: Moment,
    is_orphan: bool,
    /// The versions that a `copy` may find.
    sources: Vec<File>,
}

/// All wishes, and the changes that are not yet assigned to one.
#[derive(Debug, Default)]
pub struct Wishes {
    wanted: Vec<Wanted>,
    made: Vec<(Moment, Change)>,
    next: u64,
}

/// The number of orphans that are remembered: more than the device can have read at any moment.
const ORPHANS: usize = 128;
/// Content of at least this length is unique.
const UNIQUE: usize = 8;

impl Wanted {
    fn fits(&self, (moment, change): &(Moment, Change)) -> bool {
        self.since <= *moment && self.is_fulfilled_by(change)
    }

    fn is_fulfilled_by(&self, change: &Change) -> bool {
        match (&self.wish, change) {
            (Wish::Copy { to, .. }, Change::Put { name, file, is_new: false }) => {
                to == name && self.sources.contains(file)
            }
            (wish, change) => wish.is_fulfilled_by(change),
        }
    }
}

impl Wish {
    fn is_fulfilled_by(&self, change: &Change) -> bool {
        match (self, change) {
            (Self::Write { name, size, crc }, Change::Put { name: other, file, is_new: false }) => {
                name == other && (*size, *crc) == (file.bytes.len(), file.crc)
            }
            (Self::Put { name, size, crc }, Change::Put { name: other, file, is_new: true }) => {
                (*size, *crc) == (file.bytes.len(), file.crc) && is_numbered(name, other)
            }
            (Self::Remove { name }, Change::Remove { name: other }) => name == other,
            (Self::Rename { from, to }, Change::Rename { from: other, to: another }) => from == other && to == another,
            _ => false,
        }
    }
}

/// True if a classic `put` of `name` may be stored under `other`.
fn is_numbered(name: &str, other: &str) -> bool {
    let mut buffer = [0; MAX_NAME];
    let mut numbered = |number| n(name).numbered(number, MAX_NAME, &mut buffer).map(Name::as_str) == Ok(other);
    name == other || (1..100).any(&mut numbered)
}

impl Wishes {
    /// No wishes.
    #[must_use]
    pub const fn new() -> Self {
        Self { wanted: Vec::new(), made: Vec::new(), next: 0 }
    }

    /// Adds a request over a connection; returns its number. `source` is the file of a `copy`.
    pub fn ask(&mut self, wish: Wish, connection: u64, since: Moment, source: Option<&File>) -> u64 {
        self.next += 1;
        let number = self.next;
        let sources = source.cloned().into_iter().collect();
        self.wanted.push(Wanted { number, wish, connection, since, is_orphan: false, sources });
        number
    }

    /// Records a new version of a file, which may be copied.
    pub fn see(&mut self, name: &str, file: &File) {
        let is_of = |wanted: &&mut Wanted| matches!(&wanted.wish, Wish::Copy { from, .. } if from == name);
        self.wanted.iter_mut().filter(is_of).for_each(|wanted| wanted.sources.push(Rc::clone(file)));
    }

    /// The versions that may be copied to a name.
    pub fn copies<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a File> {
        let is_of = move |wanted: &&Wanted| matches!(&wanted.wish, Wish::Copy { to, .. } if to == name);
        self.wanted.iter().filter(is_of).flat_map(|wanted| &wanted.sources)
    }

    /// Records a change.
    ///
    /// # Panics
    /// If nobody has requested it.
    pub fn fulfil(&mut self, change: &Change, moment: Moment) {
        self.made.push((moment, change.clone()));
        assert!(self.all_have_owners(None, None), "nobody has asked for {change:?}, or it was made before");
        self.check_order();
        self.tidy();
    }

    /// True if each change matches a separate wish, without those two.
    fn all_have_owners(&self, without_wish: Option<usize>, without_change: Option<usize>) -> bool {
        let mut owners: Vec<Option<usize>> = vec![None; self.wanted.len()];
        let mut changes = (0..self.made.len()).filter(|change| Some(*change) != without_change);
        changes.all(|change| {
            let mut tried = vec![false; self.wanted.len()];
            without_wish.into_iter().for_each(|wish| tried[wish] = true);
            self.find_owner(change, &mut owners, &mut tried)
        })
    }

    /// Finds a wish for a change; another change yields if it matches another wish.
    fn find_owner(&self, change: usize, owners: &mut [Option<usize>], tried: &mut [bool]) -> bool {
        for wish in 0..self.wanted.len() {
            if tried[wish] || !self.wanted[wish].fits(&self.made[change]) {
                continue;
            }
            tried[wish] = true;
            if owners[wish].is_none_or(|other| self.find_owner(other, owners, tried)) {
                owners[wish] = Some(change);
                return true;
            }
        }
        false
    }

    /// PROTOCOL §7: the changes of a connection become durable in the order of its commands. Content identifies them.
    fn check_order(&self) {
        let owner = |made: &(Moment, Change)| {
            let is_unique = matches!(&made.1, Change::Put { is_new: false, file, .. } if file.bytes.len() >= UNIQUE);
            let mut owners = self.wanted.iter().filter(|wanted| is_unique && wanted.fits(made));
            let owner = owners.next().filter(|_| owners.next().is_none())?;
            (!owner.is_orphan).then_some((owner.connection, owner.number))
        };
        let Some(((_, last), (connection, number))) = self.made.last().and_then(|made| Some((made, owner(made)?)))
        else {
            return;
        };
        let overtaken = |made| owner(made).is_some_and(|(other, later)| other == connection && later > number);
        assert!(!self.made.iter().any(overtaken), "{last:?} comes after what was asked for later");
    }

    /// Forgets changes that can belong only to an orphan, together with the orphan.
    fn tidy(&mut self) {
        let mut at = 0;
        while at < self.made.len() {
            let fits = |wanted: &&Wanted| wanted.fits(&self.made[at]);
            if self.wanted.iter().filter(fits).any(|wanted| !wanted.is_orphan) {
                at += 1;
                continue;
            }
            if let Some(wish) = self.wanted.iter().position(|wanted| wanted.fits(&self.made[at])) {
                self.wanted.remove(wish);
            }
            self.made.remove(at);
        }
    }

    fn at(&self, number: u64) -> usize {
        self.wanted.iter().position(|wanted| wanted.number == number).expect("it was asked for")
    }

    /// The reply was `ok`.
    ///
    /// # Panics
    /// If the change was not made.
    pub fn granted(&mut self, number: u64) {
        let at = self.at(number);
        let fits =
            |change: &usize| self.wanted[at].fits(&self.made[*change]) && self.all_have_owners(Some(at), Some(*change));
        let change = (0..self.made.len()).find(fits);
        let Some(change) = change else { panic!("ok, and nothing was changed: {:?}", self.wanted[at]) };
        self.made.remove(change);
        self.wanted.remove(at);
        self.tidy();
    }

    /// The reply was a refusal.
    ///
    /// # Panics
    /// If the change was made.
    pub fn refused(&mut self, number: u64) {
        let at = self.at(number);
        assert!(self.all_have_owners(Some(at), None), "refused, and yet changed: {:?}", self.wanted[at]);
        self.wanted.remove(at);
        self.tidy();
    }

    /// The connection was lost: there will be no reply.
    pub fn lost(&mut self, number: u64) {
        let at = self.at(number);
        self.wanted[at].is_orphan = true;
        self.tidy();
        if self.wanted.iter().filter(|wanted| wanted.is_orphan).count() > ORPHANS {
            let oldest = self.wanted.iter().position(|wanted| wanted.is_orphan).unwrap_or(0);
            self.wanted.remove(oldest);
        }
    }

    /// The device has restarted: orphans will not be fulfilled, except those in doubt.
    pub fn forget(&mut self, doubts: &[&Change]) {
        self.tidy();
        let made = &self.made;
        let may_come = |wanted: &Wanted| doubts.iter().any(|change| wanted.is_fulfilled_by(change));
        self.wanted.retain(|wanted| !wanted.is_orphan || may_come(wanted) || made.iter().any(|made| wanted.fits(made)));
    }
}
