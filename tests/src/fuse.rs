//! An in-memory file system that finds a file under other spellings of its name, as vfat, exFAT and CIFS do: in upper
//! or lower case, and by a short name such as `SKIFF-~1` for `.skiff-stage-0`. It keeps the spelling with which a file
//! was created.

use core::time::Duration;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use fuser::{
    AccessFlags, BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyStatfs, ReplyWrite, Request, Session, TimeOrNow, WriteFlags,
};

/// No caching: the kernel asks again each time.
const TTL: Duration = Duration::ZERO;

/// Mounts one, empty, at `at`. Dropping it unmounts it.
///
/// # Errors
/// It may not be mounted. Inside a mount namespace (`namespace::mounts`) this is permitted, if the kernel has FUSE.
pub fn mount(at: &Path) -> io::Result<BackgroundSession> {
    fs::metadata("/dev/fuse")?;
    Session::new(Spellings::default(), at, &Config::default())?.spawn()
}

/// The short name of an entry, like vfat's.
fn short(name: &str) -> String {
    let letters = name.chars().filter(|c| *c != '.').take(6).collect::<String>();
    format!("{}~1", letters.to_uppercase())
}

#[derive(Debug, Default)]
struct Spellings(Mutex<Nodes>);

#[derive(Debug)]
struct Nodes(Vec<Node>);

#[derive(Debug)]
enum Content {
    File(Vec<u8>),
    Directory(BTreeMap<OsString, u64>),
}

#[derive(Debug)]
struct Node {
    content: Content,
    perm: u16,
    mtime: SystemTime,
}

type Done<T> = Result<T, Errno>;

impl Default for Nodes {
    fn default() -> Self {
        let node = |content| Node { content, perm: 0o755, mtime: SystemTime::now() };
        // Inode number 0 is not used.
        Self(vec![node(Content::File(Vec::new())), node(Content::Directory(BTreeMap::new()))])
    }
}

impl Nodes {
    fn node(&mut self, ino: INodeNo) -> Done<&mut Node> {
        usize::try_from(ino.0).ok().and_then(|at| self.0.get_mut(at)).ok_or(Errno::ENOENT)
    }

    fn entries(&mut self, ino: INodeNo) -> Done<&mut BTreeMap<OsString, u64>> {
        match &mut self.node(ino)?.content {
            Content::Directory(entries) => Ok(entries),
            Content::File(_) => Err(Errno::ENOTDIR),
        }
    }

    fn bytes(&mut self, ino: INodeNo) -> Done<&mut Vec<u8>> {
        match &mut self.node(ino)?.content {
            Content::File(bytes) => Ok(bytes),
            Content::Directory(_) => Err(Errno::EISDIR),
        }
    }

    /// The actual name of an entry, and its inode number.
    fn find(&mut self, parent: INodeNo, name: &OsStr) -> Done<(OsString, INodeNo)> {
        let entries = self.entries(parent)?;
        let text = name.to_str().ok_or(Errno::EILSEQ)?;
        let is_other_spelling =
            |entry: &str| entry.eq_ignore_ascii_case(text) || short(entry).eq_ignore_ascii_case(text);
        let found = entries
            .get_key_value(name)
            .or_else(|| entries.iter().find(|(entry, _)| entry.to_str().is_some_and(is_other_spelling)));
        found.map(|(name, ino)| (name.clone(), INodeNo(*ino))).ok_or(Errno::ENOENT)
    }

    fn make(&mut self, parent: INodeNo, name: &OsStr, mode: u32, content: Content) -> Done<FileAttr> {
        if self.find(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let ino = self.0.len() as u64;
        self.entries(parent)?.insert(name.to_owned(), ino);
        self.0.push(Node { content, perm: (mode & 0o777) as u16, mtime: SystemTime::now() });
        self.attr(INodeNo(ino))
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr, directory: bool) -> Done<()> {
        let (name, ino) = self.find(parent, name)?;
        match &self.node(ino)?.content {
            Content::Directory(_) if !directory => return Err(Errno::EISDIR),
            Content::File(_) if directory => return Err(Errno::ENOTDIR),
            Content::Directory(entries) if !entries.is_empty() => return Err(Errno::ENOTEMPTY),
            _ => {}
        }
        self.entries(parent)?.remove(&name);
        Ok(())
    }

    fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr), keep: bool) -> Done<()> {
        let (old, ino) = self.find(from.0, from.1)?;
        match self.find(to.0, to.1) {
            Ok(_) if keep => return Err(Errno::EEXIST),
            Ok((taken, _)) => _ = self.entries(to.0)?.remove(&taken),
            Err(_) => {}
        }
        self.entries(from.0)?.remove(&old);
        self.entries(to.0)?.insert(to.1.to_owned(), ino.0);
        Ok(())
    }

    fn attr(&mut self, ino: INodeNo) -> Done<FileAttr> {
        let node = self.node(ino)?;
        let (kind, size) = match &node.content {
            Content::File(bytes) => (FileType::RegularFile, bytes.len() as u64),
            Content::Directory(_) => (FileType::Directory, 0),
        };
        Ok(FileAttr {
            ino,
            size,
            blocks: size.div_ceil(512),
            atime: node.mtime,
            mtime: node.mtime,
            ctime: node.mtime,
            crtime: node.mtime,
            kind,
            perm: node.perm,
            // A short name is counted as a link, as NTFS does.
            nlink: 2,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Spellings {
    fn nodes(&self) -> MutexGuard<'_, Nodes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends an entry, or the error.
fn entry(reply: ReplyEntry, done: Done<FileAttr>) {
    match done {
        Ok(attr) => reply.entry(&TTL, &attr, Generation(0)),
        Err(errno) => reply.error(errno),
    }
}

fn empty(reply: ReplyEmpty, done: Done<()>) {
    match done {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

impl Filesystem for Spellings {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut nodes = self.nodes();
        let found = nodes.find(parent, name).and_then(|(_, ino)| nodes.attr(ino));
        entry(reply, found);
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.nodes().attr(ino) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut nodes = self.nodes();
        if let Ok(node) = nodes.node(ino) {
            node.perm = mode.map_or(node.perm, |mode| (mode & 0o777) as u16);
            node.mtime = match mtime {
                Some(TimeOrNow::SpecificTime(time)) => time,
                Some(TimeOrNow::Now) => SystemTime::now(),
                None => node.mtime,
            };
        }
        if let (Some(size), Ok(bytes)) = (size, nodes.bytes(ino)) {
            bytes.resize(usize::try_from(size).unwrap_or(0), 0);
        }
        match nodes.attr(ino) {
            Ok(attr) => reply.attr(&TTL, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.nodes().make(parent, name, mode, Content::Directory(BTreeMap::new())));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.nodes().remove(parent, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.nodes().remove(parent, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let keep = flags.contains(RenameFlags::RENAME_NOREPLACE);
        empty(reply, self.nodes().rename((parent, name), (newparent, newname), keep));
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.nodes().bytes(ino) {
            Ok(bytes) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                let to = from.saturating_add(size as usize).min(bytes.len());
                reply.data(&bytes[from..to]);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        match self.nodes().bytes(ino) {
            Ok(bytes) => {
                let from = usize::try_from(offset).unwrap_or(0);
                bytes.resize(bytes.len().max(from + data.len()), 0);
                bytes[from..from + data.len()].copy_from_slice(data);
                reply.written(u32::try_from(data.len()).unwrap_or(0));
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn create(&self, _: &Request, parent: INodeNo, name: &OsStr, mode: u32, _: u32, _: i32, reply: ReplyCreate) {
        match self.nodes().make(parent, name, mode, Content::File(Vec::new())) {
            Ok(attr) => reply.created(&TTL, &attr, Generation(0), FileHandle(0), FopenFlags::empty()),
            Err(errno) => reply.error(errno),
        }
    }

    fn readdir(&self, _: &Request, ino: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let mut nodes = self.nodes();
        let Ok(entries) = nodes.entries(ino).cloned() else { return reply.error(Errno::ENOTDIR) };
        let dots = [(OsString::from("."), ino.0), (OsString::from(".."), 1)];
        for (at, (name, ino)) in dots.into_iter().chain(entries).enumerate().skip(usize::try_from(offset).unwrap_or(0))
        {
            let Ok(attr) = nodes.attr(INodeNo(ino)) else { continue };
            if reply.add(INodeNo(ino), at as u64 + 1, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn fsyncdir(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 20, 1 << 20, 1 << 20, 0, 0, 4096, 255, 4096);
    }
}
