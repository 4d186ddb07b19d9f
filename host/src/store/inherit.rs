//! What a new file inherits from its directory: the group, if the directory has the setgid bit, and the default ACL.
//! The kernel applies these only to files created in the directory; staged files are created elsewhere.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{Gid, XattrFlags, fchown, fgetxattr, fremovexattr, fsetxattr};

use super::meta::Meta;

const DEFAULT: &str = "system.posix_acl_default";
const ACCESS: &str = "system.posix_acl_access";

/// What new files in a directory inherit.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    group: Option<u32>,
    acl: Option<Vec<u8>>,
}

impl Inherited {
    /// Reads it: two system calls.
    pub(super) fn of(dir: impl AsFd) -> Self {
        let group = Meta::of(&dir).ok().filter(|meta| meta.setgid).map(|meta| meta.gid);
        // Longer lists are ignored: 500 entries fit.
        let mut acl = [0; 4096];
        let acl = fgetxattr(&dir, DEFAULT, &mut acl).ok().and_then(|len| access(&acl[..len]));
        Self { group, acl }
    }

    /// Applies it to a new file. Anything that the system does not permit is skipped, because the content matters more.
    pub(super) fn give(&self, file: &File) {
        if let Some(group) = self.group {
            _ = fchown(file, None, Some(Gid::from_raw(group)));
        }
        if let Some(acl) = &self.acl {
            _ = fsetxattr(file, ACCESS, acl, XattrFlags::empty());
        }
    }
}

/// Removes the default ACL of a directory.
pub(super) fn disinherit(dir: impl AsFd) {
    _ = fremovexattr(dir, DEFAULT);
}

/// The ACL that a file created with mode 0666 gets in a directory with this default ACL (acl(5)): no one may execute
/// it. `None` if the format is unknown.
fn access(default: &[u8]) -> Option<Vec<u8>> {
    const VERSION: [u8; 4] = 2_u32.to_le_bytes();
    const USER_OBJ: u16 = 1;
    const GROUP_OBJ: u16 = 4;
    const MASK: u16 = 0x10;
    const OTHER: u16 = 0x20;
    let (version, entries) = default.split_first_chunk()?;
    if *version != VERSION || entries.is_empty() || !entries.len().is_multiple_of(8) {
        return None;
    }
    let tag = |entry: &[u8]| u16::from_le_bytes([entry[0], entry[1]]);
    let has_mask = entries.chunks_exact(8).any(|entry| tag(entry) == MASK);
    let mut access = default.to_vec();
    for entry in access[4..].chunks_exact_mut(8) {
        if matches!(tag(entry), USER_OBJ | MASK | OTHER) || (tag(entry) == GROUP_OBJ && !has_mask) {
            entry[2] &= 6;
        }
    }
    Some(access)
}
