//! What a new file inherits from its directory, compared with a file that is created there.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::process::{getegid, geteuid, getgroups};
use skiff_tests::programs::skip;

use super::{append, n, open, put};

/// A group, other than that of the process, to which its files may be given.
fn another_group() -> Option<u32> {
    let own = getegid();
    let other = getgroups().unwrap_or_default().into_iter().find(|group| *group != own).map(|group| group.as_raw());
    other.or_else(|| geteuid().is_root().then_some(54_321))
}

/// An access control list in the kernel's format: tag, permissions, id.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Group, mode and access control list.
fn rights(file: &Path) -> (u32, u32, Option<Vec<u8>>) {
    let mut list = [0; 1024];
    let list = getxattr(file, "system.posix_acl_access", &mut list).ok().map(|len| list[..len].to_vec());
    let meta = file.metadata().unwrap();
    (meta.gid(), meta.mode(), list)
}

#[test]
fn a_new_file_has_the_rights_that_it_would_have_if_it_were_made_in_its_directory() {
    const NOBODY: u32 = u32::MAX;
    const TEST: &str = "a_new_file_has_the_rights_that_it_would_have_if_it_were_made_in_its_directory";
    let named =
        acl(&[(1, 7, NOBODY), (2, 5, 1234), (4, 5, NOBODY), (8, 7, 2345), (0x10, 7, NOBODY), (0x20, 1, NOBODY)]);
    let plain = acl(&[(1, 7, NOBODY), (4, 3, NOBODY), (0x20, 0, NOBODY)]);
    let Some(group) = another_group() else { return skip(TEST, "the user is in no second group") };
    let dress = |dir: &Path, setgid: bool, acl: Option<&Vec<u8>>| {
        if setgid {
            std::os::unix::fs::chown(dir, None, Some(group)).unwrap();
            fs::set_permissions(dir, fs::Permissions::from_mode(0o2775)).unwrap();
        }
        acl.is_none_or(|acl| setxattr(dir, "system.posix_acl_default", acl, XattrFlags::empty()).is_ok())
    };
    for (setgid, acl) in [(true, None), (false, Some(&named)), (true, Some(&plain)), (false, None)] {
        // In the root, which the staging directory lies in; in a directory without any of it; and the other way round.
        for (of_root, dir) in [(true, "plain"), (false, "d")] {
            let root = tempfile::tempdir().unwrap();
            let root = root.path();
            fs::create_dir(root.join(dir)).unwrap();
            let dressed = if of_root { root.to_owned() } else { root.join(dir) };
            if !dress(&dressed, setgid, acl) {
                skip(TEST, "in part: no access control lists here");
                continue;
            }
            let store = open(root);
            for dir in ["", &format!("{dir}/"), &format!("{dir}/new/")] {
                put(&store, &format!("{dir}written"), b"x").unwrap();
                let mut stage = store.stage_unnamed(1).unwrap();
                append(&store, &mut stage, b"x").unwrap();
                store.commit_new(&mut stage, n(&format!("{dir}put"))).unwrap();
                let reference = root.join(dir).join("reference");
                File::create(&reference).unwrap();
                for name in ["written", "put"] {
                    let what = format!("{dir}{name}, setgid {setgid}, list {}, of the root {of_root}", acl.is_some());
                    assert_eq!(rights(&root.join(dir).join(name)), rights(&reference), "{what}");
                }
            }
        }
    }
}
