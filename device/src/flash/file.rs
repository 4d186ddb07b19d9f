//! Reading: every block is verified by its checksum before its last byte is returned.

use skiff_proto::crc::Crc32c;
use skiff_proto::reply::Tag;
use skiff_proto::store::Stat;
use skiff_proto::{ErrorCode, Refusal};

use super::layout::{LINK, Record};
use super::{Flash, FlashStore};

/// The number of blocks that are looked up at a time.
const AHEAD: u32 = 8;

/// A version of a file that is open for reading. When it is replaced or removed, reading it fails with `changed`.
#[derive(Debug, Clone)]
pub struct FlashFile {
    id: u32,
    size: u32,
    crc: u32,
    last: u32,
    last_crc: u32,
    /// Blocks and their checksums, from block `first` on.
    ahead: [(u32, u32); AHEAD as usize],
    first: u32,
    known: u32,
    /// How far the checksum of the current block has been computed.
    index: u32,
    pos: u32,
    sum: Crc32c,
}

pub(super) fn stat(record: &Record) -> Stat {
    Stat { size: record.size.into(), mtime: record.mtime, crc: Some(record.crc) }
}

impl FlashFile {
    pub(super) const fn new(record: &Record) -> Self {
        Self {
            id: record.id,
            size: record.size,
            crc: record.crc,
            last: record.last,
            last_crc: record.last_crc,
            ahead: [(0, 0); AHEAD as usize],
            first: 0,
            known: 0,
            index: 0,
            pos: 0,
            sum: Crc32c::new(),
        }
    }

    /// The tag. Version numbers start again when a medium is formatted, so the tag also depends on the content.
    pub(super) fn tag(&self) -> Tag {
        let number = u64::from(self.id) << 32 | u64::from(self.crc);
        Tag::from_number(number ^ u64::from(self.size).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

impl<F: Flash, const NAME: usize, const PAGE: usize> FlashStore<'_, F, NAME, PAGE> {
    pub(super) fn read_file(&mut self, file: &mut FlashFile, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
        if self.entry_of(file.id).is_none_or(|at| self.entries[at].is_stage) {
            return Err(ErrorCode::Changed.into());
        }
        let payload = self.layout.payload();
        let mut read = 0;
        while read < buffer.len() {
            let Some(at) = u32::try_from(offset + read as u64).ok().filter(|&at| at < file.size) else {
                break;
            };
            let (index, pos) = (at / payload, at % payload);
            let (block, crc) = self.find_block(file, index)?;
            let len = payload.min(file.size - index * payload);
            self.sum_up_to(file, index, pos, block)?;
            let piece = &mut buffer[read..];
            let n = piece.len().min((len - pos) as usize);
            self.flash.read(block, LINK + pos, &mut piece[..n])?;
            file.sum.update(&piece[..n]);
            file.pos += u32::try_from(n).unwrap_or(0);
            if file.pos == len && file.sum.value() != crc {
                return Err(Refusal::new(ErrorCode::Io, "the file is damaged"));
            }
            read += n;
        }
        Ok(read)
    }

    /// Adds the bytes of a block before `pos` to its checksum, unless they have just been read.
    fn sum_up_to(&mut self, file: &mut FlashFile, index: u32, pos: u32, block: u32) -> Result<(), Refusal> {
        if (file.index, file.pos) == (index, pos) && pos > 0 {
            return Ok(());
        }
        (file.index, file.pos, file.sum) = (index, 0, Crc32c::new());
        while file.pos < pos {
            let n = PAGE.min((pos - file.pos) as usize);
            let piece = &mut self.page[..n];
            self.flash.read(block, LINK + file.pos, piece)?;
            file.sum.update(piece);
            file.pos += u32::try_from(n).unwrap_or(0);
        }
        Ok(())
    }

    /// Where block `index` of a file is, and its checksum.
    fn find_block(&mut self, file: &mut FlashFile, index: u32) -> Result<(u32, u32), Refusal> {
        if let Some(ahead) = index.checked_sub(file.first).filter(|&ahead| ahead < file.known) {
            return Ok(file.ahead[ahead as usize]);
        }
        file.known = 0;
        let last = (file.size - 1) / self.layout.payload();
        // From here back to `index`.
        let mut at = last.min(index + (AHEAD - 1));
        let mut found = if at == last {
            (file.last, file.last_crc)
        } else {
            let after = self.link_before(file.last, file.id, last, at + 1)?;
            (after.prev, after.prev_crc)
        };
        let known = at - index + 1;
        loop {
            file.ahead[(at - index) as usize] = found;
            if at == index {
                break;
            }
            let link = self.link(found.0, file.id, at)?;
            found = (link.prev, link.prev_crc);
            at -= 1;
        }
        // The block itself has to be the right one, too.
        self.link(found.0, file.id, index)?;
        (file.first, file.known) = (index, known);
        Ok(found)
    }
}
