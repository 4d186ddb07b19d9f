//! The content of a store in memory.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use skiff_proto::identity::StageOwner;
use skiff_proto::store::{self, Stat, StoreError};
use skiff_proto::{ErrorCode, Name, Refusal};

use super::{Layout, Operation};

#[derive(Debug)]
pub(super) struct Content {
    pub(super) layout: Layout,
    pub(super) capacity: u64,
    /// The number of entries that every listing omits.
    pub(super) omitted: u64,
    pub(super) read_only: bool,
    pub(super) files: BTreeMap<String, Version>,
    pub(super) directories: BTreeSet<String>,
    pub(super) stages: HashMap<u64, Staged>,
    pub(super) last_stage: u64,
    pub(super) last_tag: u64,
    pub(super) faults: Vec<Fault>,
    /// Maximum number of bytes per append.
    pub(super) append_max: usize,
    /// Maximum number of bytes of a stage.
    pub(super) stage_max: usize,
    /// Reads beyond this offset fail.
    pub(super) read_max: u64,
    /// The reported size of every file, if it has to be wrong.
    pub(super) claimed_size: Option<u64>,
    /// Whether to give answers that no store may give.
    pub(super) nonsense: bool,
    /// How often the store was settled.
    pub(super) settled: usize,
    /// How often each commit is answered "not yet" first.
    pub(super) pending: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Version {
    pub(super) content: Arc<Vec<u8>>,
    pub(super) mtime: Option<u64>,
    pub(super) crc: Option<u32>,
    pub(super) tag: u64,
}

#[derive(Debug)]
pub(super) struct Staged {
    /// `None`: a classic put, nameless until it is in place.
    pub(super) name: Option<String>,
    pub(super) owner: StageOwner,
    pub(super) size: u64,
    pub(super) mtime: Option<u64>,
    pub(super) bytes: Vec<u8>,
    /// Whether a writer holds it.
    pub(super) open: bool,
    pub(super) pending: u32,
}

#[derive(Debug)]
pub(super) struct Fault {
    pub(super) operation: Operation,
    /// Number of calls that succeed before.
    pub(super) skip: u32,
    pub(super) code: ErrorCode,
}

impl Content {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            capacity: u64::MAX,
            omitted: 0,
            read_only: false,
            files: BTreeMap::new(),
            directories: BTreeSet::new(),
            stages: HashMap::new(),
            last_stage: 0,
            last_tag: 0,
            faults: Vec::new(),
            append_max: usize::MAX,
            stage_max: usize::MAX,
            read_max: u64::MAX,
            claimed_size: None,
            nonsense: false,
            settled: 0,
            pending: 0,
        }
    }

    pub(super) fn fault(&mut self, operation: Operation) -> Result<(), Refusal> {
        let mut due = None;
        for (at, fault) in self.faults.iter_mut().enumerate().filter(|(_, fault)| fault.operation == operation) {
            match fault.skip.checked_sub(1) {
                Some(skip) => fault.skip = skip,
                None => due = due.or(Some(at)),
            }
        }
        due.map_or(Ok(()), |at| Err(self.faults.remove(at).code.into()))
    }

    pub(super) fn version(&mut self, content: Vec<u8>, mtime: Option<u64>, crc: Option<u32>) -> Version {
        self.last_tag += 1;
        Version { content: Arc::new(content), mtime, crc, tag: self.last_tag }
    }

    pub(super) fn new_stage(&mut self) -> u64 {
        self.last_stage += 1;
        self.last_stage
    }

    pub(super) fn stage_of(&self, name: &str) -> Option<u64> {
        self.stages.iter().find(|(_, stage)| stage.name.as_deref() == Some(name)).map(|(number, _)| *number)
    }

    pub(super) fn used(&self) -> u64 {
        let files: u64 = self.files.values().map(|version| version.content.len() as u64).sum();
        let staged: u64 = self.stages.values().map(|stage| stage.bytes.len() as u64).sum();
        files + staged
    }

    pub(super) fn free(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    /// Refuses names that this layout does not support.
    pub(super) fn check(&self, name: Name<'_>) -> Result<(), Refusal> {
        if self.layout == Layout::Flat && name.as_str().contains('/') {
            return Err(ErrorCode::BadName.into());
        }
        Ok(())
    }

    /// The version that a reader of `name` gets.
    pub(super) fn find(&self, name: Name<'_>) -> Result<&Version, Refusal> {
        self.check(name)?;
        if self.directories.contains(name.as_str()) {
            return Err(ErrorCode::IsDirectory.into());
        }
        Ok(self.files.get(name.as_str()).ok_or(ErrorCode::NotFound)?)
    }

    /// Whether a file could be put at `name`.
    pub(super) fn check_target(&self, name: Name<'_>) -> Result<(), Refusal> {
        self.check(name)?;
        if self.directories.contains(name.as_str()) {
            return Err(ErrorCode::IsDirectory.into());
        }
        self.check_parents(name)?;
        self.check_writable()
    }

    pub(super) fn check_parents(&self, name: Name<'_>) -> Result<(), Refusal> {
        let mut parent = name.parent();
        while let Some(directory) = parent {
            if self.files.contains_key(directory.as_str()) {
                return Err(ErrorCode::Exists.into());
            }
            parent = directory.parent();
        }
        Ok(())
    }

    pub(super) fn check_writable(&self) -> Result<(), Refusal> {
        if self.read_only { Err(ErrorCode::ReadOnly.into()) } else { Ok(()) }
    }

    pub(super) fn make_parents(&mut self, name: &str) {
        for (at, _) in name.match_indices('/') {
            self.directories.insert(name[..at].into());
        }
    }

    /// The refusals that `resume` and `write` have in common; returns the stage of the name, if there is one, and its
    /// length.
    pub(super) fn check_write(&self, name: Name<'_>, offset: u64, size: u64) -> Result<Option<(u64, u64)>, Refusal> {
        self.check_target(name)?;
        if offset > size {
            return Err(ErrorCode::Range.into());
        }
        let Some(number) = self.stage_of(name.as_str()) else {
            return Ok(None);
        };
        let stage = &self.stages[&number];
        if stage.open {
            return Err(ErrorCode::Busy.into());
        }
        Ok(Some((number, stage.bytes.len() as u64)))
    }

    /// Returns "not yet" as often as requested.
    pub(super) fn check_pending(&mut self, number: u64) -> store::Result<()> {
        let stage = self.stages.get_mut(&number).ok_or(ErrorCode::Io)?;
        let Some(left) = stage.pending.checked_sub(1) else { return Ok(()) };
        stage.pending = left;
        Err(StoreError::NotYet)
    }

    pub(super) fn put_in_place(&mut self, number: u64, name: &str, crc: Option<u32>) -> Result<(), Refusal> {
        self.check_target(Name::parse(name.as_bytes(), skiff_proto::name::MAX_NAME).map_err(|_| ErrorCode::BadName)?)?;
        let stage = self.stages.remove(&number).ok_or(ErrorCode::Io)?;
        let version = self.version(stage.bytes, stage.mtime, crc);
        self.make_parents(name);
        self.files.insert(name.into(), version);
        Ok(())
    }
}

impl Version {
    pub(super) fn stat(&self) -> Stat {
        Stat { size: self.content.len() as u64, mtime: self.mtime, crc: self.crc }
    }
}
