//! The layout of the medium. docs/FLASH.md describes it for programs that read an image.
//!
//! Numbers are little-endian. Every structure begins or ends with a CRC-32C that includes the medium's number, and a
//! record contains the checksum of its journal block, so that old data is never mistaken for new data.

use skiff_proto::crc::Crc32c;
use skiff_proto::identity::StageOwner;

use super::Geometry;

/// The number of anchor blocks, which record where the journal begins.
pub(super) const ANCHORS: u32 = 2;
/// The first block for everything else.
pub(super) const FIRST: u32 = ANCHORS;

const VERSION: u8 = 1;
const ANCHOR_MAGIC: u32 = u32::from_le_bytes(*b"skif");
const HEAD_MAGIC: u32 = u32::from_le_bytes(*b"jrnl");

/// Bytes of an anchor.
pub(super) const ANCHOR: u32 = 40;
/// Bytes at the beginning of a journal block.
pub(super) const HEAD: u32 = 28;
/// Bytes at the beginning of a data block.
pub(super) const LINK: u32 = 24;
/// Bytes of a record before the name.
pub(super) const RECORD: usize = 44;

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The checksum of `bytes` that belong to `owner`.
fn sum(owner: [u32; 2], bytes: &[u8]) -> u32 {
    let mut crc = Crc32c::new();
    crc.update(&owner[0].to_le_bytes());
    crc.update(&owner[1].to_le_bytes());
    crc.update(bytes);
    crc.value()
}

/// Sizes that follow from the geometry and from the longest name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) blocks: u32,
    pub(super) block: u32,
    pub(super) unit: u32,
    /// The alignment of anchors and records.
    pub(super) align: u32,
    /// Bytes of the longest record.
    pub(super) longest: u32,
    /// Bytes of the longest name.
    pub(super) name: u8,
}

impl Layout {
    /// `None` if the medium can't be used with pages of `page` bytes, a map of `map` blocks and names of `name` bytes.
    pub(super) fn new(geometry: Geometry, page: usize, map: usize, name: usize) -> Option<Self> {
        let Geometry { blocks, block, unit } = geometry;
        let page = u32::try_from(page).ok()?;
        let map = u32::try_from(map).unwrap_or(u32::MAX);
        if !unit.is_power_of_two() || blocks < ANCHORS || blocks > map {
            return None;
        }
        let align = unit.max(4);
        let longest = u32::try_from(RECORD + name).ok()?.next_multiple_of(align);
        let fits = longest <= page
            && page.is_multiple_of(align)
            && block.is_multiple_of(page)
            && block / page > 1
            // Every position is 32 bits.
            && u64::from(blocks) * u64::from(block / align) <= u64::from(u32::MAX);
        let layout = Self { blocks, block, unit, align, longest, name: u8::try_from(name).ok()? };
        // Room for one file of one block.
        (fits && layout.records() > 0 && blocks > ANCHORS + layout.journal_room(1, 0)).then_some(layout)
    }

    /// Bytes of file content in a block.
    pub(super) const fn payload(self) -> u32 {
        self.block - LINK
    }

    /// Blocks needed for a number of bytes.
    pub(super) fn blocks_for(self, bytes: u32) -> u32 {
        bytes.div_ceil(self.payload())
    }

    /// The number of bytes to program in order to write `bytes`.
    pub(super) fn padded(self, bytes: usize) -> usize {
        bytes.next_multiple_of(self.align as usize)
    }

    /// Where the records of a journal block begin.
    pub(super) fn first_record(self) -> u32 {
        HEAD.next_multiple_of(self.align)
    }

    /// Bytes from an anchor to the next.
    pub(super) fn anchor_step(self) -> u32 {
        ANCHOR.next_multiple_of(self.align)
    }

    /// The number of records of maximum length in a block.
    fn records(self) -> u32 {
        self.block.saturating_sub(self.first_record()) / self.longest
    }

    /// The number of blocks that this number of valid records fills.
    fn full(self, records: u32) -> u32 {
        records.max(1).div_ceil(self.records())
    }

    /// The maximum number of blocks of the journal for a number of valid records: 1.5 times the blocks that they fill,
    /// so that at most two records are copied for each one that is written, plus two.
    pub(super) fn journal_most(self, records: u32) -> u32 {
        let full = self.full(records);
        full + full / 2 + 2
    }

    /// The number of blocks reserved for a journal of `blocks`: its maximum or current number, those that it will be
    /// copied to, and the next one.
    pub(super) fn journal_room(self, records: u32, blocks: u32) -> u32 {
        self.journal_most(records).max(blocks) + self.full(records) + 1
    }

    /// A position as one number.
    pub(super) fn place(self, block: u32, offset: u32) -> u32 {
        block * (self.block / self.align) + offset / self.align
    }

    /// The block and the offset of a position.
    pub(super) fn block_at(self, place: u32) -> (u32, u32) {
        let per_block = self.block / self.align;
        (place / per_block, place % per_block * self.align)
    }
}

/// An anchor: where the journal begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    /// The number of this medium, which changes each time it is formatted.
    pub(super) volume: u32,
    /// The number of this anchor; the highest counts.
    pub(super) seq: u32,
    /// The first block of the journal; 0 while the medium is being formatted.
    pub(super) tail: u32,
    /// The number of the journal, recorded in all its blocks.
    pub(super) epoch: u32,
    /// The journal has a block with this number.
    pub(super) head_seq: u32,
}

impl Anchor {
    pub(super) fn encode(self, layout: Layout) -> [u8; ANCHOR as usize] {
        let mut bytes = [0; ANCHOR as usize];
        put(&mut bytes, 0, ANCHOR_MAGIC);
        put(&mut bytes, 4, self.volume);
        put(&mut bytes, 8, self.seq);
        put(&mut bytes, 12, u32::from_le_bytes([VERSION, layout.name, 0, 0]) | layout.unit << 16);
        put(&mut bytes, 16, layout.block);
        put(&mut bytes, 20, layout.blocks);
        put(&mut bytes, 24, self.tail);
        put(&mut bytes, 28, self.epoch);
        put(&mut bytes, 32, self.head_seq);
        let crc = sum([0, 0], &bytes[..36]);
        put(&mut bytes, 36, crc);
        bytes
    }

    /// `None` if these bytes are not an anchor. The second value is false if its version, its geometry or its name
    /// length differs.
    pub(super) fn decode(bytes: &[u8; ANCHOR as usize], layout: Layout) -> Option<(Self, bool)> {
        if get(bytes, 0) != ANCHOR_MAGIC || get(bytes, 36) != sum([0, 0], &bytes[..36]) {
            return None;
        }
        let fits = bytes[12] == VERSION
            && bytes[13] <= layout.name
            && [get(bytes, 12) >> 16, get(bytes, 16), get(bytes, 20)] == [layout.unit, layout.block, layout.blocks];
        let anchor = Self {
            volume: get(bytes, 4),
            seq: get(bytes, 8),
            tail: get(bytes, 24),
            epoch: get(bytes, 28),
            head_seq: get(bytes, 32),
        };
        Some((anchor, fits))
    }
}

/// The beginning of a journal block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    /// Journal blocks have ascending numbers.
    pub(super) seq: u32,
    /// The number of the journal's first block.
    pub(super) epoch: u32,
    /// The block that will follow this one.
    pub(super) next: u32,
    /// The records of the previous block count up to this offset.
    pub(super) end: u32,
    /// Higher than the number of every earlier record.
    pub(super) ids: u32,
    /// The checksum of the other fields, which the block's records contain.
    pub(super) sum: u32,
}

impl Head {
    /// Its bytes; computes `sum`.
    pub(super) fn encode(&mut self, volume: u32) -> [u8; HEAD as usize] {
        let mut bytes = [0; HEAD as usize];
        let fields = [HEAD_MAGIC, self.seq, self.epoch, self.next, self.end, self.ids];
        for (at, value) in fields.into_iter().enumerate() {
            put(&mut bytes, at * 4, value);
        }
        self.sum = sum([volume, 0], &bytes[..24]);
        put(&mut bytes, 24, self.sum);
        bytes
    }

    /// `None` if these bytes are not the beginning of a journal block of this medium.
    pub(super) fn decode(bytes: &[u8; HEAD as usize], volume: u32) -> Option<Self> {
        let [magic, seq, epoch, next, end, ids, found] = [0, 4, 8, 12, 16, 20, 24].map(|at| get(bytes, at));
        let valid = magic == HEAD_MAGIC && found == sum([volume, 0], &bytes[..24]);
        valid.then_some(Self { seq, epoch, next, end, ids, sum: found })
    }
}

/// The beginning of a data block, which leads back to the beginning of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    /// The previous block; 0 in the first one.
    pub(super) prev: u32,
    /// A block further back: see `chain`.
    pub(super) jump: u32,
    /// The number of this block in the file, from 0.
    pub(super) index: u32,
    /// The file.
    pub(super) id: u32,
    /// The checksum of the file's bytes in the previous block.
    pub(super) prev_crc: u32,
}

impl Link {
    pub(super) fn encode(self, volume: u32) -> [u8; LINK as usize] {
        let mut bytes = [0; LINK as usize];
        for (at, value) in [self.prev, self.jump, self.index, self.id, self.prev_crc].into_iter().enumerate() {
            put(&mut bytes, at * 4, value);
        }
        let crc = sum([volume, 1], &bytes[..20]);
        put(&mut bytes, 20, crc);
        bytes
    }

    /// `None` if these bytes are not the beginning of a data block of this medium.
    pub(super) fn decode(bytes: &[u8; LINK as usize], volume: u32) -> Option<Self> {
        let [prev, jump, index, id, prev_crc] = [0, 4, 8, 12, 16].map(|at| get(bytes, at));
        let valid = get(bytes, 20) == sum([volume, 1], &bytes[..20]);
        valid.then_some(Self { prev, jump, index, id, prev_crc })
    }
}

/// The kind of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing: a journal block has at least one record.
    Nothing,
    /// A file.
    File,
    /// Bytes of a write that was interrupted or is in progress.
    Stage,
    /// The file or stage with this number no longer exists.
    Drop,
}

/// A record of the journal, without the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    /// The number of a version of a file, which never changes.
    pub(super) id: u32,
    /// The version that ends with this record; 0: none.
    pub(super) over: u32,
    /// Bytes, and their CRC-32C.
    pub(super) size: u32,
    pub(super) crc: u32,
    /// The time; for a stage, the number of its owner instead, because the `write` that continues it brings the time.
    pub(super) mtime: Option<u64>,
    /// The last block; 0 without any.
    pub(super) last: u32,
    /// The checksum of the file's bytes in the last block.
    pub(super) last_crc: u32,
}

impl Record {
    pub(super) const NOTHING: Self =
        Self { kind: Kind::Nothing, id: 0, over: 0, size: 0, crc: 0, mtime: None, last: 0, last_crc: 0 };

    /// Whether it is a stage of `owner`.
    pub(super) fn is_owned_by(&self, owner: StageOwner) -> bool {
        self.mtime == owner.number()
    }

    pub(super) const fn drop(id: u32) -> Self {
        Self { kind: Kind::Drop, id, ..Self::NOTHING }
    }

    /// Writes it with its name and returns the number of bytes. [`Record::seal`] completes it.
    pub(super) fn encode(self, name: &[u8], bytes: &mut [u8]) -> usize {
        let kind = match self.kind {
            Kind::Nothing => 0,
            Kind::File => 1,
            Kind::Stage => 2,
            Kind::Drop => 3,
        };
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        bytes[8..12].copy_from_slice(&[kind, len, u8::from(self.mtime.is_some()), 0]);
        for (i, value) in [self.id, self.over, self.size, self.crc, self.last, self.last_crc].into_iter().enumerate() {
            put(bytes, 12 + 4 * i, value);
        }
        bytes[36..44].copy_from_slice(&self.mtime.unwrap_or(0).to_le_bytes());
        bytes[RECORD..RECORD + name.len()].copy_from_slice(name);
        RECORD + name.len()
    }

    /// Makes `bytes` a record of the journal block with this sum.
    pub(super) fn seal(bytes: &mut [u8], volume: u32, owner: u32) {
        put(bytes, 4, owner);
        let crc = sum([volume, 2], &bytes[4..]);
        put(bytes, 0, crc);
    }

    /// Makes `bytes` a record that ends nothing, because the record that it ended is gone.
    pub(super) fn end_nothing(bytes: &mut [u8]) {
        put(bytes, 16, 0);
    }

    /// The record at the start of `bytes`, its length, and the sum of its journal block; `None` if it is not a record
    /// of this medium.
    pub(super) fn decode(bytes: &[u8], volume: u32) -> Option<(Self, usize, u32)> {
        let kind = match bytes.get(8)? {
            0 => Kind::Nothing,
            1 => Kind::File,
            2 => Kind::Stage,
            3 => Kind::Drop,
            _ => return None,
        };
        let len = RECORD + usize::from(*bytes.get(9)?);
        let bytes = bytes.get(..len)?;
        if get(bytes, 0) != sum([volume, 2], &bytes[4..]) {
            return None;
        }
        let mut mtime = [0; 8];
        mtime.copy_from_slice(&bytes[36..44]);
        let [id, over, size, crc, last, last_crc] = [12, 16, 20, 24, 28, 32].map(|at| get(bytes, at));
        let mtime = (bytes[10] != 0).then(|| u64::from_le_bytes(mtime));
        Some((Self { kind, id, over, size, crc, mtime, last, last_crc }, len, get(bytes, 4)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_of_a_journal_block_is_read_back_and_every_flipped_bit_is_noticed() {
        let mut head = Head { seq: 1, epoch: 2, next: 3, end: 4, ids: 5, sum: 0 };
        let bytes = head.encode(7);
        assert_eq!(Head::decode(&bytes, 7), Some(head));
        assert_eq!(Head::decode(&bytes, 8), None, "of another medium");
        for bit in 0..28 * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::decode(&bytes, 7), None, "{bit}");
        }
        // With a right sum, but not the beginning of a journal block.
        let mut bytes = bytes;
        bytes[0] ^= 1;
        let found = sum([7, 0], &bytes[..24]);
        put(&mut bytes, 24, found);
        assert_eq!(Head::decode(&bytes, 7), None);
    }
}
