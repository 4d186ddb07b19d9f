//! Steps of a workload on a store, and the expected state.

use core::cell::RefCell;
use std::rc::Rc;

use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::NOBODY;
use skiff_proto::store::{Store, StoreError};

use super::Rng;
use super::world::{World, append, finish, n, put, staged};

/// One step. Names are numbers; content follows from the number of the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are names and lengths in bytes")]
pub enum Step {
    /// A `write` from its beginning to `ok`.
    Put {
        name: u8,
        len: usize,
    },
    /// A `write` whose connection is lost after `part` bytes.
    Interrupt {
        name: u8,
        part: usize,
        len: usize,
    },
    /// Continues from the staged bytes with `part` more bytes, to the end if these are all.
    Resume {
        name: u8,
        part: usize,
    },
    /// A `write` that ends with `abort`.
    Abort {
        name: u8,
        len: usize,
    },
    /// A classic `put`.
    PutNew {
        name: u8,
        len: usize,
    },
    /// A classic `put` whose connection is lost.
    LosePut {
        len: usize,
    },
    /// Two writers at once, whose bytes arrive alternately.
    Both {
        names: [u8; 2],
        len: usize,
    },
    Remove {
        name: u8,
    },
    Rename {
        from: u8,
        to: u8,
    },
    /// Writes files until nothing more fits; then removes all but `keep` of them.
    Fill {
        keep: u8,
    },
}

/// Performs steps and keeps the world up to date; a watcher reads it in the middle of a step.
#[derive(Debug)]
pub struct Player {
    /// The expected state.
    pub world: Rc<RefCell<World>>,
    number: u64,
    mtime: u64,
    /// The complete content of the write in progress of each name.
    whole: std::collections::BTreeMap<String, Vec<u8>>,
    /// The number of `no-space` answers.
    pub full: u64,
    /// There is room for everything, so interrupted writes are dropped only in [`Step::Fill`].
    pub roomy: bool,
}

impl Player {
    /// Starts with this expected state.
    #[must_use]
    pub fn new(world: World) -> Self {
        let world = Rc::new(RefCell::new(world));
        Self { world, number: 0, mtime: 1_700_000_000, whole: std::collections::BTreeMap::new(), full: 0, roomy: false }
    }

    fn content(&mut self, len: usize) -> Vec<u8> {
        self.number += 1;
        Rng::new(self.number).bytes(len)
    }

    /// Performs a change that ends in `ok` or changes nothing.
    fn change<T>(
        &mut self,
        next: impl FnOnce(&mut World),
        act: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let before = self.world.borrow().clone();
        let mut after = before.clone();
        next(&mut after);
        self.world.borrow_mut().next = Some(after.files.clone());
        let done = act();
        let mut world = self.world.borrow_mut();
        match &done {
            Ok(_) => world.files = after.files,
            // Power is gone, and either may be there.
            Err(refusal) if refusal.code() == ErrorCode::Io => return done,
            Err(_) => {}
        }
        world.next = None;
        done
    }

    /// Begins to overwrite the staged bytes.
    fn start_over(&mut self, name: &str, bytes: &[u8]) {
        let mut world = self.world.borrow_mut();
        let old = world.stages.insert(name.into(), bytes.to_vec());
        if let Some(old) = old {
            world.fading.entry(name.into()).or_default().push(old);
        }
        world.floor.remove(name);
        self.whole.insert(name.into(), bytes.to_vec());
    }

    /// Records that no bytes of a name are staged any more.
    fn end_stage(&mut self, name: &str) {
        let mut world = self.world.borrow_mut();
        world.stages.remove(name);
        world.fading.remove(name);
        world.floor.remove(name);
        self.whole.remove(name);
    }

    /// Records that a write was refused, which changes nothing.
    fn refused(&mut self, name: &str) {
        let mut world = self.world.borrow_mut();
        world.stages.remove(name);
        self.whole.remove(name);
        if let Some(old) = world.fading.get_mut(name).and_then(Vec::pop) {
            self.whole.insert(name.into(), old.clone());
            world.stages.insert(name.into(), old);
        }
    }

    /// Performs a step. After `Err` with a code other than `no-space`, power has failed.
    ///
    /// # Errors
    /// An error of the store that should not occur.
    pub fn play<S: Store>(&mut self, store: &mut S, step: Step) -> Result<(), StoreError> {
        match self.attempt(store, step) {
            Err(refusal) if refusal.code() == ErrorCode::NoSpace => {
                self.full += 1;
                // Whoever needed room may have got that of others.
                self.world.borrow_mut().floor.clear();
                Ok(())
            }
            other => other,
        }
    }

    fn attempt<S: Store>(&mut self, store: &mut S, step: Step) -> Result<(), StoreError> {
        let file = |name: u8| format!("file-{name}");
        match step {
            Step::Put { name, len } => {
                let bytes = self.content(len);
                self.put(store, &file(name), &bytes)
            }
            Step::Interrupt { name, part, len } => {
                let (name, bytes) = (file(name), self.content(len));
                self.start_over(&name, &bytes);
                let (mut stage, _) =
                    store.stage(n(&name), NOBODY, 0, len as u64, None).inspect_err(|_| self.refused(&name))?;
                self.world.borrow_mut().fading.remove(&name);
                append(store, &mut stage, &bytes[..part])?;
                drop(stage);
                store.settle();
                self.keep_floor(&name, part);
                Ok(())
            }
            Step::Resume { name, part } => {
                let name = file(name);
                let Some(bytes) = self.whole.get(&name).cloned() else { return Ok(()) };
                let (from, crc) = store.staged(n(&name), NOBODY, bytes.len() as u64)?;
                let from = usize::try_from(from).unwrap_or(usize::MAX);
                assert_eq!(crc, crc32c(&bytes[..from]), "{name}");
                let mtime = Some(self.mtime);
                let (mut stage, _) = store.stage(n(&name), NOBODY, from as u64, bytes.len() as u64, mtime)?;
                let end = bytes.len().min(from + part);
                if end < bytes.len() {
                    append(store, &mut stage, &bytes[from..end])?;
                    drop(stage);
                    store.settle();
                    self.keep_floor(&name, end);
                    return Ok(());
                }
                // What is staged may be gone when the file is there.
                self.world.borrow_mut().floor.remove(&name);
                let stored = (bytes.clone(), mtime);
                self.change(
                    |world| _ = world.files.insert(name.clone(), stored),
                    || finish(store, &mut stage, &bytes[from..], Some(crc32c(&bytes))),
                )?;
                self.end_stage(&name);
                Ok(())
            }
            Step::Abort { name, len } => {
                let (name, bytes) = (file(name), self.content(len));
                self.start_over(&name, &bytes);
                let (mut stage, _) =
                    store.stage(n(&name), NOBODY, 0, len as u64, None).inspect_err(|_| self.refused(&name))?;
                self.world.borrow_mut().fading.remove(&name);
                append(store, &mut stage, &bytes)?;
                store.discard(stage);
                self.end_stage(&name);
                Ok(())
            }
            Step::PutNew { name, len } => {
                let bytes = self.content(len);
                let mut stage = store.stage_new(n(&file(name)), len as u64 / 2)?;
                if let Err(refusal) = append(store, &mut stage, &bytes) {
                    store.discard(stage);
                    return Err(refusal);
                }
                for number in 0..4 {
                    let name = format!("{}{}", file(name), ["", "(1)", "(2)", "(3)"][number]);
                    let stored = (bytes.clone(), None);
                    let done = self.change(
                        |world| _ = world.files.entry(name.clone()).or_insert(stored),
                        || store.commit_new(&mut stage, n(&name)),
                    );
                    match done {
                        Err(refusal) if refusal.code() == ErrorCode::Exists => {}
                        other => return other,
                    }
                }
                store.discard(stage);
                Ok(())
            }
            Step::LosePut { len } => {
                let bytes = self.content(len);
                let mut stage = store.stage_new(n("lost"), len as u64)?;
                append(store, &mut stage, &bytes)?;
                drop(stage);
                store.settle();
                Ok(())
            }
            Step::Both { names, len } => self.both(store, names.map(file), len),
            Step::Remove { name } => self.remove(store, &file(name)),
            Step::Rename { from, to } => {
                let (from, to) = (file(from), file(to));
                let known = self.world.borrow().files.contains_key(&from);
                let done = self.change(
                    |world| {
                        if let Some(moved) = world.files.remove(&from) {
                            world.files.insert(to.clone(), moved);
                        }
                    },
                    || store.rename(n(&from), n(&to)),
                );
                ignore_missing(done, known)
            }
            Step::Fill { keep } => {
                self.world.borrow_mut().floor.clear();
                let mut number = 0_u32;
                // Large ones, and small ones for what is left.
                for len in [5000, 1] {
                    loop {
                        let bytes = self.content(len);
                        match self.put(store, &format!("fill-{number}"), &bytes) {
                            Err(refusal) if refusal.code() == ErrorCode::NoSpace => break,
                            other => other?,
                        }
                        number += 1;
                    }
                }
                // Nothing but names is changed on a full medium.
                if number > 1 {
                    let done = self.change(
                        |world| {
                            let moved = world.files.remove("fill-0").expect("it was stored");
                            world.files.insert("fill-1".into(), moved);
                        },
                        || store.rename(n("fill-0"), n("fill-1")),
                    );
                    done?;
                }
                let names: Vec<String> = self.world.borrow().files.keys().cloned().collect();
                for name in names.iter().filter(|name| name.starts_with("fill-")).skip(keep.into()) {
                    self.remove(store, name)?;
                }
                Ok(())
            }
        }
    }

    /// Updates the bytes that are certainly staged after a connection was lost and the store had its turn.
    fn keep_floor(&mut self, name: &str, len: usize) {
        if self.roomy {
            self.world.borrow_mut().floor.insert(name.into(), len);
        }
    }

    fn put<S: Store>(&mut self, store: &mut S, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.mtime += 1;
        let mtime = (!self.mtime.is_multiple_of(3)).then_some(self.mtime);
        self.start_over(name, bytes);
        let stored = (bytes.to_vec(), mtime);
        let done = self.change(|world| _ = world.files.insert(name.into(), stored), || put(store, name, bytes, mtime));
        match &done {
            Ok(()) => self.end_stage(name),
            Err(refusal) if refusal.code() == ErrorCode::NoSpace => self.refused(name),
            Err(_) => {}
        }
        done
    }

    fn both<S: Store>(&mut self, store: &mut S, names: [String; 2], len: usize) -> Result<(), StoreError> {
        if names[0] == names[1] {
            return Ok(());
        }
        let contents = [self.content(len), self.content(len)];
        let mut stages = Vec::new();
        for (name, bytes) in names.iter().zip(&contents) {
            self.start_over(name, bytes);
            match store.stage(n(name), NOBODY, 0, len as u64, None) {
                Ok((stage, _)) => {
                    self.world.borrow_mut().fading.remove(name);
                    stages.push(stage);
                }
                Err(refusal) => {
                    self.refused(name);
                    return Err(refusal);
                }
            }
        }
        for at in (0..len).step_by(500) {
            for (stage, bytes) in stages.iter_mut().zip(&contents) {
                append(store, stage, &bytes[at..len.min(at + 500)])?;
            }
        }
        // Written all, committed in the other order.
        for ((stage, name), bytes) in stages.iter_mut().zip(&names).zip(contents).rev() {
            let crc = crc32c(&bytes);
            self.change(
                |world| _ = world.files.insert(name.clone(), (bytes, None)),
                || finish(store, stage, &[], Some(crc)),
            )?;
            self.end_stage(name);
        }
        Ok(())
    }

    fn remove<S: Store>(&mut self, store: &mut S, name: &str) -> Result<(), StoreError> {
        let known = self.world.borrow().files.contains_key(name);
        let done = self.change(|world| _ = world.files.remove(name), || store.remove(n(name)));
        ignore_missing(done, known)
    }

    /// After a restart, adopts the state found as the expected one. Writes nothing.
    ///
    /// # Errors
    /// The state found is wrong.
    pub fn find<S: Store>(&mut self, store: &mut S) -> Result<(), String> {
        let found = self.world.borrow().compare(store)?;
        let mut world = self.world.borrow_mut();
        world.files = found;
        world.next = None;
        world.floor.clear();
        let names: Vec<String> = world.stages.keys().chain(world.fading.keys()).cloned().collect();
        for name in names {
            let (len, crc) = staged(store, &name)?;
            let fits = |bytes: &&Vec<u8>| bytes.get(..len).is_some_and(|bytes| crc32c(bytes) == crc);
            let mut candidates =
                world.stages.get(&name).into_iter().chain(world.fading.get(&name).into_iter().flatten());
            // Without one, either nothing is staged, or it can't be finished now and is there later.
            if let Some(bytes) = candidates.find(fits).filter(|_| len > 0).cloned() {
                world.fading.remove(&name);
                self.whole.insert(name.clone(), bytes.clone());
                world.stages.insert(name, bytes);
            } else {
                self.whole.remove(&name);
            }
        }
        Ok(())
    }

    /// A random step.
    pub fn any_step(rng: &mut Rng, names: usize, most: usize) -> Step {
        let mut name = || u8::try_from(rng.below(names)).unwrap_or(0);
        let (a, b) = (name(), name());
        let len = if rng.one_in(4) { rng.below(most) } else { rng.below(most / 8) };
        let part = rng.below(len + 1);
        match rng.below(16) {
            0..=4 => Step::Put { name: a, len },
            5 | 6 => Step::Interrupt { name: a, part, len },
            7 | 8 => Step::Resume { name: a, part: rng.below(most) },
            9 => Step::Abort { name: a, len: part },
            10 => Step::PutNew { name: a, len },
            11 => Step::LosePut { len },
            12 => Step::Both { names: [a, b], len: len / 2 },
            13 => Step::Rename { from: a, to: b },
            14 if rng.one_in(3) => Step::Fill { keep: u8::try_from(rng.below(4)).unwrap_or(0) },
            _ => Step::Remove { name: a },
        }
    }
}

/// Accepts `not-found` if the file does not exist.
fn ignore_missing(done: Result<(), StoreError>, known: bool) -> Result<(), StoreError> {
    match done {
        Err(refusal) if refusal.code() == ErrorCode::NotFound => {
            assert!(!known, "a file is not found");
            Ok(())
        }
        other => other,
    }
}
