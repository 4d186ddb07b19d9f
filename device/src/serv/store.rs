//! The stores that device-serv offers, and their initial files.

use core::fmt::Display;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use bytesize::ByteSize;
use rustix::fs::OFlags;
use skiff_proto::Name;
use skiff_proto::crc::crc32c;
use skiff_proto::store::{Staging, Store};

use super::image::Image;
use super::made::Made;
use super::options::{NAME, RAM_MAX, StoreChoice};
use super::say::say;
use crate::flash::{FlashMemory, FlashStore, map_len};
use crate::ram::{Entries, RamStore};

/// Bytes per block of the store in memory, and its number of files.
const BLOCK: usize = 1024;
const FILES: usize = 256;

/// The store in memory.
pub(super) type Ram = RamStore<'static, NAME, BLOCK>;

/// An empty store of `size` bytes, whose memory is never freed.
pub(super) fn ram(size: u64, boot: u64) -> anyhow::Result<Ram> {
    if size > RAM_MAX {
        bail!("--store: must be at most {}KiB in memory", RAM_MAX / 1024);
    }
    let blocks = usize::try_from(size)?.div_ceil(BLOCK);
    let entries = Box::leak(Box::new(Entries::<FILES, NAME>::new()));
    Ok(RamStore::from_parts(entries, vec![0; blocks].leak(), vec![[0; BLOCK]; blocks].leak(), boot))
}

/// The maximum number of blocks of an image, of files written at a time, and of bytes programmed at a time.
const BLOCKS: u16 = 65_535;
const STAGES: usize = 16;
const PAGE: usize = 256;

/// The store on an image of a flash chip, which is locked as long as the store exists. Its memory is never freed.
pub(super) fn flash(
    path: &Path,
    size: Option<u64>,
    made: &mut Made,
) -> anyhow::Result<FlashStore<'static, Image, NAME, PAGE>> {
    let image = Image::open(path, size, BLOCKS.into(), made)?;
    let memory = FlashMemory::<FILES, STAGES, NAME, PAGE, { map_len(BLOCKS as usize) }>::new();
    Ok(FlashStore::mount(Box::leak(Box::new(memory)), image)?)
}

/// A description of a store, for people.
#[must_use]
pub fn describe(choice: &StoreChoice) -> String {
    match choice {
        StoreChoice::Ram { size } => format!("{} for files", ByteSize(*size)),
        StoreChoice::Flash { image, .. } => format!("files on {}", image.display()),
    }
}

/// Puts the files of a directory into a store. Links that lead out of the directory are skipped.
pub(super) fn preload(store: &mut impl Store, directory: &Path) -> anyhow::Result<()> {
    let read = || -> io::Result<_> {
        Ok((directory.canonicalize()?, std::fs::read_dir(directory)?.collect::<Result<Vec<_>, _>>()?))
    };
    let (inside, entries) = read().with_context(|| format!("--preload {}", directory.display()))?;
    for entry in entries {
        let path = entry.path();
        let skipped = |why: &dyn Display| say(format_args!("--preload {}: skipped: {why}", path.display()));
        // Use the name with links resolved, so that the file that was checked is the one that is read.
        let real = match path.canonicalize() {
            Ok(real) if real.starts_with(&inside) => real,
            Ok(_) => {
                skipped(&"link to outside the directory");
                continue;
            }
            Err(error) if entry.file_type().is_ok_and(|kind| kind.is_symlink()) => {
                skipped(&error);
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("--preload {}", path.display())),
        };
        if !real.is_file() {
            skipped(&"not a regular file");
            continue;
        }
        let name = entry.file_name();
        put(store, name.as_encoded_bytes(), &real).with_context(|| format!("--preload {}", path.display()))?;
    }
    Ok(())
}

fn put(store: &mut impl Store, name: &[u8], path: &Path) -> anyhow::Result<()> {
    // NOFOLLOW: the file may have been replaced by a link since the check.
    let file = File::options().read(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed()).open(path)?;
    let metadata = file.metadata()?;
    // Before it is read: it may be larger than all the memory here.
    let free = store.space()?.free;
    if metadata.len() > free {
        bail!("no space: {} bytes needed, {free} free in the store", metadata.len());
    }
    let mut content = Vec::new();
    // It may grow meanwhile.
    file.take(free + 1).read_to_end(&mut content)?;
    let mtime = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let (mut stage, _) = store.stage(Staging {
        mtime: mtime.map(|since| since.as_secs()),
        ..Staging::new(Name::parse(name, NAME)?, content.len() as u64)
    })?;
    let mut rest = &content[..];
    while !rest.is_empty() {
        rest = &rest[store.append(&mut stage, rest)?..];
    }
    Ok(store.commit(&mut stage, Some(crc32c(&content)))?)
}
