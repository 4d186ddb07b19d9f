//! The decisions that a seed makes at the start.

use core::fmt;
use core::time::Duration;

use skiff_device::serv::faults::{Chance, Faults};
use skiff_proto::secure::{Key, KeyId, Role, Secret};

use crate::flash::Rng;

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "see the types of these names")]
pub enum StoreKind {
    SmallNor,
    TinyNor,
    WordNor,
    SmallCard,
    Ram,
}

/// See the module documentation.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// Total number of commands.
    pub steps: u64,
    /// The kind of the device's store.
    pub store: StoreKind,
    /// Clients, each on its own computer.
    pub clients: usize,
    /// There are no faults, so no connection may be lost.
    pub is_calm: bool,
    /// Connections are sealed (PROTOCOL §8).
    pub is_sealed: bool,
    /// Two stations each are one CLIENT, with two generations of keys.
    pub is_shared: bool,
    /// The average number of operations of the medium between power cuts.
    pub operations: Option<u64>,
    /// The faults of the link.
    pub faults: Faults,
    /// One of this many connections ends in a crash of the client; 0: none.
    pub crashes: usize,
    /// Names that are used.
    pub names: Vec<&'static str>,
    /// The longest content in bytes.
    pub longest: usize,
    /// Percentage of the store that is filled at the start.
    pub filled: u64,
    /// Bytes after which a store on flash writes a checkpoint.
    pub checkpoint: u32,
}

const NAMES: [&str; 10] = [
    "a",
    "log.txt",
    "with space",
    "olá.bin",
    ".hidden",
    "firmware-2026-11-24-release.img",
    "b",
    "abcdefghijklmnopqrstuvwxyz.12345",
    "report.tar.gz",
    "c",
];

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn new(seed: u64, steps: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5eed);
        let is_calm = rng.one_in(8);
        let store = match rng.below(8) {
            0 | 1 => StoreKind::SmallNor,
            2 | 3 => StoreKind::TinyNor,
            4 => StoreKind::WordNor,
            5 | 6 => StoreKind::SmallCard,
            _ => StoreKind::Ram,
        };
        let clients = if is_calm { 1 + rng.below(2) } else { 1 + rng.below(4) };
        let mut names = NAMES.to_vec();
        while names.len() > 2 && !rng.one_in(6) {
            names.swap_remove(rng.below(names.len()));
        }
        // Of its own: seeds from before keep their plans, and those of `simulation.rs` stay plain.
        let mut sealed = Rng::new(seed ^ 0x5ea2ed);
        Self {
            seed,
            steps,
            store,
            clients,
            is_calm,
            is_sealed: sealed.one_in(3),
            is_shared: sealed.one_in(2),
            operations: (!is_calm && !rng.one_in(4)).then(|| rng.pick(&[20, 80, 300, 1000])),
            faults: if is_calm { calm_link(&mut rng) } else { bad_link(&mut rng) },
            crashes: if is_calm { 0 } else { rng.pick(&[0, 2, 6]) },
            names,
            longest: rng.pick(&[64, 400, 2000, 6000, 12_000]),
            filled: if rng.one_in(3) { 20 + rng.below(75) as u64 } else { 0 },
            checkpoint: rng.pick(&[1, 600, 4000, 32 * 1024]),
        }
    }

    /// The device's secret, if connections are sealed.
    #[must_use]
    pub fn secret(&self) -> Option<Secret> {
        let mut rng = Rng::new(self.seed ^ 0x5ec7e7);
        self.is_sealed.then(|| Secret::new(core::array::from_fn(|_| rng.byte())))
    }

    /// A key of a station, if connections are sealed.
    #[must_use]
    pub fn key(&self, station: usize, role: Role) -> Option<Key> {
        let (client, generation) = if self.is_shared { (station / 2, 1 + station % 2) } else { (station, 1) };
        let id = KeyId::new(role, &format!("c{client}"), u32::try_from(generation).ok()?)?;
        Some(self.secret()?.key(id))
    }

    /// The longest name that the server accepts, in bytes.
    #[must_use]
    pub const fn name_max(&self) -> u64 {
        match self.store {
            StoreKind::Ram => 64,
            _ => 32,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}, {} clients, {} names, up to {} bytes, {} % filled",
            self.store,
            self.clients,
            self.names.len(),
            self.longest,
            self.filled
        )?;
        if self.is_sealed {
            f.write_str(if self.is_shared { ", sealed, shared keys" } else { ", sealed" })?;
        }
        if self.is_calm { f.write_str(", calm") } else { write!(f, ", cuts {:?}, {:?}", self.operations, self.faults) }
    }
}

/// A link without losses.
fn calm_link(rng: &mut Rng) -> Faults {
    Faults { delay: Duration::from_millis(rng.pick(&[0, 0, 3])), ..Faults::default() }
}

/// A randomly bad link.
pub(super) fn bad_link(rng: &mut Rng) -> Faults {
    let mut chance = || if rng.one_in(2) { Chance::default() } else { Chance::percent(rng.pick(&[1, 3, 10])) };
    let (drop, corrupt, duplicate, reorder) = (chance(), chance(), chance(), chance());
    let delay = Duration::from_millis(rng.pick(&[0, 0, 1, 20]));
    Faults { drop, corrupt, duplicate, reorder, delay }
}
