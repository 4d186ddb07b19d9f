//! A file as a flash chip, so that the store on flash can be tried, killed and inspected.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::bail;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::made::Made;
use super::say::say;
use crate::flash::{Flash, FlashError, Geometry};

/// Bytes of a block and of a unit, as in a common chip.
const BLOCK: u32 = 4096;
const UNIT: u32 = 16;
/// The smallest chip that has room for the store's records and a file.
const LEAST: u32 = 8;

/// The image of a chip. Writes are durable when [`Flash::sync`] returns; the file is locked as long as it is open.
#[derive(Debug)]
pub(super) struct Image {
    file: File,
    blocks: u32,
}

impl Image {
    /// Opens the image, or creates a blank one of `size` bytes. An existing image must have this size.
    pub(super) fn open(path: &Path, size: Option<u64>, most: u32, made: &mut Made) -> anyhow::Result<Self> {
        // Checked first, so that an invalid size creates no file.
        if let Some(size) = size {
            blocks_of(size, most)?;
        }
        let file = made.open(path, OpenOptions::new().read(true).write(true))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => bail!("in use by another program"),
            locked => locked?,
        }
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            bail!("not a regular file");
        }
        let there = metadata.len();
        let size = size.unwrap_or(if there == 0 { 1 << 20 } else { there });
        if there != 0 && there != size {
            bail!("the image is {there} bytes long, not {size}");
        }
        let blocks = blocks_of(size, most)?;
        if there == 0 {
            made.fill(&file)?;
            let blank = [0xff; BLOCK as usize];
            for block in 0..blocks {
                file.write_all_at(&blank, u64::from(block) * u64::from(BLOCK))?;
            }
            file.sync_all()?;
        }
        Ok(Self { file, blocks })
    }

    fn at(block: u32, offset: u32) -> u64 {
        u64::from(block) * u64::from(BLOCK) + u64::from(offset)
    }
}

/// Blocks of an image of `size` bytes.
fn blocks_of(size: u64, most: u32) -> anyhow::Result<u32> {
    let blocks = u32::try_from(size / u64::from(BLOCK)).ok().filter(|blocks| (LEAST..=most).contains(blocks));
    match blocks.filter(|_| size.is_multiple_of(BLOCK.into())) {
        Some(blocks) => Ok(blocks),
        None => {
            let [least, most, block] = [LEAST, most, 1].map(|blocks| u64::from(blocks) * u64::from(BLOCK) / 1024);
            bail!("the size must be {least}KiB to {most}KiB, in blocks of {block}KiB, not {size} bytes")
        }
    }
}

fn failed(error: io::Error) -> FlashError {
    say(format_args!("flash image: {error}"));
    FlashError
}

impl Flash for Image {
    fn geometry(&self) -> Geometry {
        Geometry { blocks: self.blocks, block: BLOCK, unit: UNIT }
    }

    fn read(&mut self, block: u32, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        self.file.read_exact_at(bytes, Self::at(block, offset)).map_err(failed)
    }

    fn program(&mut self, block: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        self.file.write_all_at(bytes, Self::at(block, offset)).map_err(failed)
    }

    fn erase(&mut self, block: u32) -> Result<(), FlashError> {
        self.file.write_all_at(&[0xff; BLOCK as usize], Self::at(block, 0)).map_err(failed)
    }

    fn sync(&mut self) -> Result<(), FlashError> {
        self.file.sync_data().map_err(failed)
    }
}
