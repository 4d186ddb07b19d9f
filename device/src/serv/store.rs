//! The store of device-serv: in memory or on a flash image.

use core::task::Poll;
use std::path::Path;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use skiff_proto::reply::Tag;
use skiff_proto::store::{Entry, Space, Stat, Store};
use skiff_proto::{ErrorCode, Name, Refusal};

use super::image::Image;
use super::options::{NAME, Place};
use crate::flash::{FlashFile, FlashMemory, FlashStage, FlashStore, map_len};
use crate::ram::{Entries, RamFile, RamStage, RamStore};

/// Bytes of a block of the store in memory, and files in either.
const BLOCK: usize = 1024;
const FILES: usize = 256;
/// What 16-bit block numbers reach.
const RAM_MAX: u64 = 65_535 * BLOCK as u64;
/// Blocks of an image at most, stages, and what is programmed at a time.
const BLOCKS: u16 = 65_535;
const STAGES: usize = 16;
const PAGE: usize = 256;

type Ram = RamStore<'static, NAME, BLOCK>;
type OnFlash = FlashStore<'static, Image, NAME, PAGE>;
type Memory = FlashMemory<FILES, STAGES, NAME, PAGE, { map_len(BLOCKS as usize) }>;

/// One or the other. What belongs to one is never given to the other.
#[derive(Debug)]
pub(super) enum AnyStore {
    Ram(Ram),
    Flash(Box<OnFlash>),
}

#[derive(Debug)]
pub(super) enum AnyFile {
    Ram(RamFile<'static>),
    Flash(FlashFile),
}

#[derive(Debug)]
pub(super) enum AnyStage {
    Ram(RamStage<'static>),
    Flash(FlashStage<'static>),
}

/// What a store is made on: found out before anything is promised.
#[derive(Debug)]
pub(super) enum Medium {
    Ram { blocks: usize },
    Flash(Image),
}

impl Medium {
    /// Opens and locks an image, and makes it if it is not there.
    pub(super) fn open(place: &Place) -> anyhow::Result<Self> {
        match place {
            Place::Ram { size } if *size > RAM_MAX => bail!("--store: at most {RAM_MAX} bytes in memory"),
            Place::Ram { size } => Ok(Self::Ram { blocks: usize::try_from(*size)?.div_ceil(BLOCK) }),
            Place::Flash { image, size } => {
                Self::image(image, *size).with_context(|| format!("--store flash:{}", image.display()))
            }
        }
    }

    fn image(path: &Path, size: Option<u64>) -> anyhow::Result<Self> {
        let mut image = Image::open(path, size, BLOCKS.into())?;
        FlashStore::mount(&mut Box::new(Memory::new()), &mut image)?;
        Ok(Self::Flash(image))
    }
}

impl AnyStore {
    /// `boot` as in [`RamStore::new`].
    pub(super) fn new(medium: Medium, boot: u64) -> anyhow::Result<Self> {
        Ok(match medium {
            Medium::Ram { blocks } => {
                let entries = Box::leak(Box::new(Entries::<FILES, NAME>::new()));
                let (chain, blocks) = (vec![0; blocks].leak(), vec![[0; BLOCK]; blocks].leak());
                Self::Ram(RamStore::from_parts(entries, chain, blocks, boot))
            }
            Medium::Flash(image) => {
                Self::Flash(Box::new(FlashStore::mount(Box::leak(Box::new(Memory::new())), image)?))
            }
        })
    }

    /// Does what the store has put off.
    pub(super) fn settle(&mut self) {
        if let Self::Flash(store) = self {
            store.settle();
        }
    }
}

/// What a store of such a kind is and takes, for people.
#[must_use]
pub fn describe(place: &Place) -> String {
    match place {
        Place::Ram { size } => format!("{} for files", ByteSize(*size)),
        Place::Flash { image, .. } => {
            format!("{} for files on {}", ByteSize(size_of::<Memory>() as u64), image.display())
        }
    }
}

/// The same call to either.
macro_rules! either {
    ($self:expr, $store:ident => $call:expr) => {
        match $self {
            AnyStore::Ram($store) => $call,
            AnyStore::Flash($store) => $call,
        }
    };
}

impl Store for AnyStore {
    type File = AnyFile;
    type Stage = AnyStage;
    type Cursor = usize;

    fn open(&mut self, name: Name<'_>) -> Result<(AnyFile, Stat), Refusal> {
        match self {
            Self::Ram(store) => store.open(name).map(|(file, stat)| (AnyFile::Ram(file), stat)),
            Self::Flash(store) => store.open(name).map(|(file, stat)| (AnyFile::Flash(file), stat)),
        }
    }

    fn tag(&mut self, file: &AnyFile) -> Tag {
        match (self, file) {
            (Self::Ram(store), AnyFile::Ram(file)) => store.tag(file),
            (Self::Flash(store), AnyFile::Flash(file)) => store.tag(file),
            _ => Tag::UNKNOWN,
        }
    }

    fn read_at(&mut self, file: &mut AnyFile, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
        match (self, file) {
            (Self::Ram(store), AnyFile::Ram(file)) => store.read_at(file, offset, buffer),
            (Self::Flash(store), AnyFile::Flash(file)) => store.read_at(file, offset, buffer),
            _ => Err(ErrorCode::Io.into()),
        }
    }

    fn stat(&mut self, name: Name<'_>) -> Result<Stat, Refusal> {
        either!(self, store => store.stat(name))
    }

    fn staged(&mut self, name: Name<'_>, size: u64) -> Result<(u64, u32), Refusal> {
        either!(self, store => store.staged(name, size))
    }

    fn stage(
        &mut self,
        name: Name<'_>,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> Result<(AnyStage, u32), Refusal> {
        match self {
            Self::Ram(store) => store.stage(name, offset, size, mtime).map(|(stage, crc)| (AnyStage::Ram(stage), crc)),
            Self::Flash(store) => {
                store.stage(name, offset, size, mtime).map(|(stage, crc)| (AnyStage::Flash(stage), crc))
            }
        }
    }

    fn stage_unnamed(&mut self, size: u64) -> Result<AnyStage, Refusal> {
        match self {
            Self::Ram(store) => store.stage_unnamed(size).map(AnyStage::Ram),
            Self::Flash(store) => store.stage_unnamed(size).map(AnyStage::Flash),
        }
    }

    fn append(&mut self, stage: &mut AnyStage, bytes: &[u8]) -> Result<usize, Refusal> {
        match (self, stage) {
            (Self::Ram(store), AnyStage::Ram(stage)) => store.append(stage, bytes),
            (Self::Flash(store), AnyStage::Flash(stage)) => store.append(stage, bytes),
            _ => Err(ErrorCode::Io.into()),
        }
    }

    fn discard(&mut self, stage: AnyStage) {
        match (self, stage) {
            (Self::Ram(store), AnyStage::Ram(stage)) => store.discard(stage),
            (Self::Flash(store), AnyStage::Flash(stage)) => store.discard(stage),
            _ => {}
        }
    }

    fn poll_commit(&mut self, stage: &mut AnyStage, crc: Option<u32>) -> Poll<Result<(), Refusal>> {
        match (self, stage) {
            (Self::Ram(store), AnyStage::Ram(stage)) => store.poll_commit(stage, crc),
            (Self::Flash(store), AnyStage::Flash(stage)) => store.poll_commit(stage, crc),
            _ => Poll::Ready(Err(ErrorCode::Io.into())),
        }
    }

    fn poll_commit_new(&mut self, stage: &mut AnyStage, name: Name<'_>) -> Poll<Result<(), Refusal>> {
        match (self, stage) {
            (Self::Ram(store), AnyStage::Ram(stage)) => store.poll_commit_new(stage, name),
            (Self::Flash(store), AnyStage::Flash(stage)) => store.poll_commit_new(stage, name),
            _ => Poll::Ready(Err(ErrorCode::Io.into())),
        }
    }

    fn remove(&mut self, name: Name<'_>) -> Result<(), Refusal> {
        either!(self, store => store.remove(name))
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<(), Refusal> {
        either!(self, store => store.rename(from, to))
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<usize, Refusal> {
        either!(self, store => store.list(dir))
    }

    fn next_entry(&mut self, cursor: &mut usize, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool, Refusal> {
        either!(self, store => store.next_entry(cursor, show))
    }

    fn space(&mut self) -> Result<Space, Refusal> {
        either!(self, store => store.space())
    }
}
