//! Listing a directory, one entry after the other, in memory that does not grow with it.

use rustix::fs::{Dir, FileType};
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::store::{Entry, EntryKind};
use skiff_proto::{ErrorCode, Refusal};

use super::DirStore;
use super::meta::{Kind, Meta};
use super::refusal::refuse;

/// A place in a listing.
#[derive(Debug)]
pub struct Cursor {
    dir: Dir,
    /// The name of the entry at hand, relative to the root; between calls, the part before its last component.
    name: String,
    prefix: usize,
}

impl DirStore {
    /// Begins a listing of a directory, `None` for the root.
    ///
    /// # Errors
    /// `not-found` also for what is no directory; `denied`, `io`.
    pub fn list(&self, dir: Option<Name<'_>>) -> Result<Cursor, Refusal> {
        let mut name = String::new();
        if let Some(dir) = dir {
            self.check_read(dir)?;
            name = format!("{dir}/");
        }
        let opened = self.0.confine.directory(dir).map_err(refuse)?;
        // An empty listing of a directory that has been removed would be a lie.
        if rustix::fs::fstat(&opened).map_err(refuse)?.st_nlink == 0 {
            return Err(Refusal::new(ErrorCode::Io, "the directory that is served has been removed"));
        }
        Ok(Cursor { dir: opened.entries().map_err(refuse)?, prefix: name.len(), name })
    }

    /// Shows the next entry of a listing to `show`; false at its end. Left out are names that break the rules of PROTOCOL
    /// §2 or are too long together with the directory's, hidden ones, and what can't be opened: devices, links that
    /// lead out. The order is the file system's.
    ///
    /// # Errors
    /// `io`.
    pub fn next_entry(&self, cursor: &mut Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool, Refusal> {
        while let Some(entry) = cursor.dir.read() {
            let entry = entry.map_err(refuse)?;
            let Ok(component) = entry.file_name().to_str() else { continue };
            // `.`, `..`, `.skiff-*` and what can't be a name.
            let Ok(component) = Name::parse(component.as_bytes(), MAX_NAME) else { continue };
            let unserved = !matches!(
                entry.file_type(),
                FileType::RegularFile | FileType::Directory | FileType::Symlink | FileType::Unknown
            );
            if unserved || self.check_read(component).is_err() {
                continue;
            }
            cursor.name.truncate(cursor.prefix);
            cursor.name.push_str(component.as_str());
            let Ok(name) = Name::parse(cursor.name.as_bytes(), MAX_NAME) else { continue };
            let Ok(mut meta) = Meta::at(cursor.dir.fd().map_err(refuse)?, component.as_str()) else { continue };
            if meta.kind == Kind::Link {
                match self.0.confine.look(name) {
                    Ok(target) => meta = target,
                    Err(_) => continue,
                }
            }
            let kind = match meta.kind {
                Kind::File => EntryKind::File(meta.stat(self.0.crcs.of(&meta.key))),
                Kind::Directory => EntryKind::Directory { mtime: meta.mtime() },
                Kind::Link | Kind::Other => continue,
            };
            show(Entry { name, kind });
            return Ok(true);
        }
        Ok(false)
    }
}
