//! The stores that device-serv offers, and what they begin with.

use core::task::Poll;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use skiff_proto::crc::crc32c;
use skiff_proto::store::Store;
use skiff_proto::{ErrorCode, Name, Refusal};

use super::image::Image;
use super::options::{NAME, RAM_MAX, StoreChoice};
use crate::flash::{FlashMemory, FlashStore, map_len};
use crate::ram::{Entries, RamStore};

/// Bytes of a block of the store in memory, and files in it.
const BLOCK: usize = 1024;
const FILES: usize = 256;

/// The store in memory.
pub(super) type Ram = RamStore<'static, NAME, BLOCK>;

/// An empty store of `size` bytes, whose memory is never given back.
pub(super) fn ram(size: u64, boot: u64) -> anyhow::Result<Ram> {
    if size > RAM_MAX {
        bail!("--store: at most {}KiB in memory", RAM_MAX / 1024);
    }
    let blocks = usize::try_from(size)?.div_ceil(BLOCK);
    let entries = Box::leak(Box::new(Entries::<FILES, NAME>::new()));
    Ok(RamStore::from_parts(entries, vec![0; blocks].leak(), vec![[0; BLOCK]; blocks].leak(), boot))
}

/// Blocks of an image at most, files that are written at a time, and bytes that are programmed at a time.
const BLOCKS: u16 = 65_535;
const STAGES: usize = 16;
const PAGE: usize = 256;

/// The store on an image of a flash chip, which is locked as long as the store is there. Its memory is never given back.
pub(super) fn flash(path: &Path, size: Option<u64>) -> anyhow::Result<FlashStore<'static, Image, NAME, PAGE>> {
    let image = Image::open(path, size, BLOCKS.into())?;
    let memory = FlashMemory::<FILES, STAGES, NAME, PAGE, { map_len(BLOCKS as usize) }>::new();
    Ok(FlashStore::mount(Box::leak(Box::new(memory)), image)?)
}

/// What a store is and has, for people.
#[must_use]
pub fn describe(choice: &StoreChoice) -> String {
    match choice {
        StoreChoice::Ram { size } => format!("{} for files", ByteSize(*size)),
        StoreChoice::Flash { image, .. } => format!("files on {}", image.display()),
    }
}

/// Puts the files of a directory into a store.
pub(super) fn preload(store: &mut impl Store, directory: &Path) -> anyhow::Result<()> {
    let entries: io::Result<Vec<_>> = std::fs::read_dir(directory).and_then(Iterator::collect);
    for entry in entries.with_context(|| directory.display().to_string())? {
        let path = entry.path();
        if !path.is_file() {
            continue;
        }
        let name = entry.file_name();
        put(store, name.as_encoded_bytes(), &path).with_context(|| format!("--preload {}", path.display()))?;
    }
    Ok(())
}

fn put(store: &mut impl Store, name: &[u8], path: &Path) -> anyhow::Result<()> {
    // Before it is read: it may be larger than all the memory here.
    if path.metadata()?.len() > store.space()?.free {
        return Err(Refusal::from(ErrorCode::NoSpace).into());
    }
    let content = std::fs::read(path)?;
    let mtime = path.metadata()?.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let (mut stage, _) =
        store.stage(Name::parse(name, NAME)?, 0, content.len() as u64, mtime.map(|since| since.as_secs()))?;
    let mut rest = &content[..];
    while !rest.is_empty() {
        rest = &rest[store.append(&mut stage, rest)?..];
    }
    loop {
        if let Poll::Ready(stored) = store.poll_commit(&mut stage, Some(crc32c(&content))) {
            return Ok(stored?);
        }
    }
}
