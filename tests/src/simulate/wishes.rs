//! What clients have asked to be changed, and whether it was.
//!
//! | a wish is | left by |
//! |---|---|
//! | waiting | the change, a refusal, the loss of its connection |
//! | fulfilled | the reply `ok`, the loss of its connection |
//! | an orphan: its connection was lost while it waited | the change, if the server has read the command; a restart |
//!
//! Two clients may ask for the same change, and who of them gets it is seen only when the replies come. Then they swap.

use skiff_proto::Name;
use skiff_proto::name::MAX_NAME;

use super::truth::{Change, Moment, n};

/// A change that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the protocol")]
pub enum Wish {
    Write { name: String, size: usize, crc: u32 },
    Put { name: String, size: usize, crc: u32 },
    Remove { name: String },
    Rename { from: String, to: String },
}

#[derive(Debug)]
struct Wanted {
    number: u64,
    wish: Wish,
    connection: u64,
    since: Moment,
    fulfilled: Option<Moment>,
    is_orphan: bool,
}

/// All that is wanted.
#[derive(Debug, Default)]
pub struct Wishes {
    wanted: Vec<Wanted>,
    next: u64,
}

/// So many lost wishes are remembered: more than the device can have read in any moment.
const ORPHANS: usize = 256;

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
    let numbered = |number| n(name).numbered(number, MAX_NAME, &mut buffer).map(Name::as_str) == Ok(other);
    name == other || (1..100).any(numbered)
}

impl Wishes {
    /// Nothing is wanted.
    #[must_use]
    pub const fn new() -> Self {
        Self { wanted: Vec::new(), next: 0 }
    }

    /// Somebody asks for something over a connection; its number.
    pub fn ask(&mut self, wish: Wish, connection: u64, since: Moment) -> u64 {
        self.next += 1;
        let number = self.next;
        self.wanted.push(Wanted { number, wish, connection, since, fulfilled: None, is_orphan: false });
        number
    }

    /// A change is made.
    ///
    /// # Panics
    /// If nobody has asked for it.
    pub fn fulfil(&mut self, change: &Change, moment: Moment) {
        let waits = |wanted: &&mut Wanted| wanted.fulfilled.is_none() && wanted.wish.is_fulfilled_by(change);
        // A client that still waits comes before one that is gone.
        let wanted = self.wanted.iter_mut().filter(waits).min_by_key(|wanted| (wanted.is_orphan, wanted.number));
        let Some(wanted) = wanted else { panic!("nobody has asked for {change:?}, or it was made before") };
        wanted.fulfilled = Some(moment);
        let (number, connection) = (wanted.number, wanted.connection);
        if wanted.is_orphan {
            self.wanted.retain(|wanted| wanted.number != number);
            return;
        }
        // PROTOCOL §7: one connection's changes in the order of its commands. Content tells them apart.
        let is_write = |wanted: &Wanted| wanted.connection == connection && matches!(wanted.wish, Wish::Write { .. });
        if matches!(change, Change::Put { is_new: false, .. }) {
            let mut later = self.wanted.iter().filter(|wanted| wanted.number > number && is_write(wanted));
            assert!(!later.any(|wanted| wanted.fulfilled.is_some()), "{change:?} comes after what was asked for later");
        }
    }

    fn at(&self, number: u64) -> usize {
        self.wanted.iter().position(|wanted| wanted.number == number).expect("it was asked for")
    }

    /// Exchanges the fate of a wish with that of another that is the same and was asked for at that time.
    fn swap(&mut self, at: usize, is_fulfilled: bool) -> bool {
        let (wish, since) = (&self.wanted[at].wish, self.wanted[at].since);
        let mine = self.wanted[at].fulfilled;
        let other = self.wanted.iter().enumerate().position(|(other, wanted)| {
            other != at
                && wanted.wish == *wish
                && match (wanted.fulfilled, mine) {
                    (Some(moment), None) => is_fulfilled && moment >= since,
                    (None, Some(moment)) => !is_fulfilled && moment >= wanted.since,
                    _ => false,
                }
        });
        let Some(other) = other else { return false };
        (self.wanted[at].fulfilled, self.wanted[other].fulfilled) = (self.wanted[other].fulfilled, mine);
        true
    }

    /// The reply was `ok`.
    ///
    /// # Panics
    /// If the change was not made.
    pub fn granted(&mut self, number: u64) {
        let at = self.at(number);
        let made = self.wanted[at].fulfilled.is_some() || self.swap(at, true);
        assert!(made, "ok, and nothing was changed: {:?}", self.wanted[at]);
        self.wanted.swap_remove(at);
    }

    /// The reply was a refusal.
    ///
    /// # Panics
    /// If the change was made.
    pub fn refused(&mut self, number: u64) {
        let at = self.at(number);
        let unmade = self.wanted[at].fulfilled.is_none() || self.swap(at, false);
        assert!(unmade, "refused, and yet changed: {:?}", self.wanted[at]);
        self.wanted.swap_remove(at);
    }

    /// There will be no reply.
    pub fn lost(&mut self, number: u64) {
        let at = self.at(number);
        if self.wanted[at].fulfilled.is_some() {
            self.wanted.swap_remove(at);
            return;
        }
        self.wanted[at].is_orphan = true;
        let orphans = self.wanted.iter().filter(|wanted| wanted.is_orphan).count();
        if orphans > ORPHANS {
            let oldest = self.wanted.iter().position(|wanted| wanted.is_orphan).unwrap_or(0);
            self.wanted.remove(oldest);
        }
    }

    /// The device has started anew: what nobody waits for will not come.
    pub fn forget(&mut self) {
        self.wanted.retain(|wanted| !wanted.is_orphan);
    }
}
