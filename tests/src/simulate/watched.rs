//! A store under test: each of its answers is compared with the truth, and it can be made to fail.

use core::cell::Cell;
use std::rc::Rc;

use skiff_proto::command::Verbs;
use skiff_proto::identity::{NOBODY, StageOwner};
use skiff_proto::reply::Tag;
use skiff_proto::store::{Entry, EntryKind, Result, Space, Staging, Stat, Store, StoreError};
use skiff_proto::{ErrorCode, Name};

use super::control::Control;
use super::kind::Medium;
use super::truth::{Change, File, Truth, Version};
use crate::flash::Tear;

/// Injected failures: each happens once, after this many calls. `None`: never.
#[derive(Debug, Default)]
pub struct Failures {
    /// Reading a file.
    pub read: Cell<Option<u32>>,
    /// Appending to a stage.
    pub append: Cell<Option<u32>>,
    /// A commit, `remove` or `rename`.
    pub change: Cell<Option<u32>>,
    /// Looking up a file, or the next entry of a listing.
    pub look: Cell<Option<u32>>,
    /// How often there is no room for a new file.
    pub full: Cell<u32>,
    /// How many calls are answered "not yet".
    pub pending: Cell<u32>,
    /// The number of failures so far.
    pub count: Cell<u64>,
}

impl Failures {
    fn strikes(&self, cell: &Cell<Option<u32>>) -> bool {
        match cell.get() {
            Some(0) => {
                cell.set(None);
                self.count.set(self.count.get() + 1);
                true
            }
            left => {
                cell.set(left.map(|left| left - 1));
                false
            }
        }
    }

    fn is_full(&self) -> bool {
        let left = self.full.get();
        self.full.set(left.saturating_sub(1));
        self.count.set(self.count.get() + u64::from(left > 0));
        left > 0
    }

    /// Ends all failures.
    pub fn end(&self) {
        for cell in [&self.read, &self.append, &self.change, &self.look] {
            cell.set(None);
        }
        self.full.set(0);
        self.pending.set(0);
    }
}

/// A watched store.
pub struct Watched<S: Store, M: Medium> {
    inner: S,
    medium: M,
    power: Rc<Cell<bool>>,
    control: Rc<Control>,
}

impl<S: Store, M: Medium> Drop for Watched<S, M> {
    fn drop(&mut self) {
        // After a failed check, a second panic while the store is dropped would abort the process without a message.
        if std::thread::panicking() {
            self.medium.cut_after(0, Tear::Before);
        }
    }
}

/// A file that is open for reading.
pub struct WatchedFile<F> {
    inner: F,
    file: File,
    handle: u64,
    control: Rc<Control>,
}

impl<F> Drop for WatchedFile<F> {
    fn drop(&mut self) {
        // As above.
        if std::thread::panicking() {
            return;
        }
        self.control.truth.borrow_mut().reading.remove(&self.handle);
    }
}

/// A version that is being written.
pub struct WatchedStage<T> {
    /// `None` once it has been discarded.
    inner: Option<T>,
    handle: u64,
    control: Rc<Control>,
    power: Rc<Cell<bool>>,
}

impl<T> Drop for WatchedStage<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.control.trace(|| format!("    store: writer {} goes", self.handle));
        self.control.truth.borrow_mut().drop_stage(self.handle, self.power.get());
    }
}

fn io<T>() -> Result<T> {
    Err(ErrorCode::Io.into())
}

impl<S: Store, M: Medium> Watched<S, M> {
    /// Watches a newly opened store.
    pub fn new(inner: S, medium: M, power: Rc<Cell<bool>>, control: &Rc<Control>) -> Self {
        Self { inner, medium, power, control: Rc::clone(control) }
    }

    /// The store itself, unwatched.
    pub const fn inner(&mut self) -> &mut S {
        &mut self.inner
    }

    /// False if power has failed in the middle of the call: then its result is not seen.
    fn has_power(&self) -> bool {
        if !self.medium.is_on() {
            self.power.set(false);
        }
        self.power.get()
    }

    /// Begins a call, which fails without power.
    fn enter(&self) -> Result<()> {
        self.medium.tick();
        if self.has_power() { Ok(()) } else { io() }
    }

    /// Reads something about `name`. A failure must have a reason.
    fn look<T>(
        &mut self,
        name: &str,
        look: impl FnOnce(&mut S) -> Result<T>,
        may_fail: impl FnOnce(&Truth, ErrorCode) -> bool,
    ) -> Result<T> {
        self.enter()?;
        self.put_off()?;
        let looked = look(&mut self.inner);
        if !self.has_power() {
            return io();
        }
        if let Err(StoreError::Refused(refusal)) = &looked {
            let mut truth = self.control.truth.borrow_mut();
            assert!(may_fail(&truth, refusal.code), "{name}: {refusal}");
            truth.refused(name, refusal.code);
        }
        looked
    }

    /// Makes a change, or fails without making one.
    fn change(&mut self, name: &str, change: Change, make: impl FnOnce(&mut S) -> Result<()>) -> Result<()> {
        self.control.trace(|| format!("    store: {change:?}"));
        self.control.truth.borrow_mut().begin(change);
        let made = make(&mut self.inner);
        if !self.has_power() {
            return io();
        }
        let mut truth = self.control.truth.borrow_mut();
        match &made {
            Ok(()) => truth.make(),
            Err(error) => {
                truth.undo();
                truth.refused(name, error.refusal().code);
            }
        }
        made
    }

    /// Returns "not yet", as often as requested.
    fn put_off(&self) -> Result<()> {
        let pending = &self.control.failures.pending;
        let Some(left) = pending.get().checked_sub(1) else { return Ok(()) };
        pending.set(left);
        self.control.trace(|| "    store: not yet".into());
        Err(StoreError::NotYet)
    }

    fn begin_stage(&self, name: &str) -> Result<()> {
        self.enter()?;
        self.put_off()?;
        if self.control.failures.is_full() { self.fail(name, ErrorCode::NoSpace) } else { Ok(()) }
    }

    fn begin_change(&self, name: &str) -> Result<()> {
        self.enter()?;
        self.put_off()?;
        if self.control.failures.strikes(&self.control.failures.change) {
            return self.fail(name, ErrorCode::Io);
        }
        Ok(())
    }

    fn fail<T>(&self, name: &str, code: ErrorCode) -> Result<T> {
        self.control.trace(|| format!("    store: fails on purpose: {name} {code}"));
        self.control.truth.borrow_mut().refused(name, code);
        Err(code.into())
    }

    fn put_in_place(
        &mut self,
        stage: &mut WatchedStage<S::Stage>,
        name: Option<Name<'_>>,
        crc: Option<u32>,
    ) -> Result<()> {
        self.enter()?;
        let open = self.control.truth.borrow().open.get(&stage.handle).cloned();
        let (Some(open), Some(inner)) = (open, &mut stage.inner) else { panic!("a commit of what was discarded") };
        let is_new = name.is_some();
        let target = name.map(|name| name.as_str().to_owned()).or(open.name).expect("every commit has a name");
        let file = Version::new(open.bytes, open.mtime);
        assert!(
            crc.is_none_or(|crc| crc == file.crc),
            "{target}: a commit with another checksum than that of {file:?}"
        );
        self.put_off()?;
        if self.control.failures.strikes(&self.control.failures.change) {
            return self.fail(&target, ErrorCode::Io);
        }
        let exists = self.control.truth.borrow().file(&target).is_some();
        self.control.truth.borrow_mut().begin(Change::Put { name: target.clone(), file, is_new });
        let done = match name {
            Some(name) => self.inner.commit_new(inner, name),
            None => self.inner.commit(inner, crc),
        };
        self.control.trace(|| format!("    store: commit {} as {target}: {done:?}", stage.handle));
        if !self.has_power() {
            return io();
        }
        let mut truth = self.control.truth.borrow_mut();
        match &done {
            Err(StoreError::NotYet) => truth.undo(),
            Ok(()) => {
                assert!(!is_new || !exists, "{target} is stored as a new file but existed");
                truth.make();
                truth.open.remove(&stage.handle);
            }
            Err(error) => {
                let refusal = error.refusal();
                let right = match refusal.code {
                    ErrorCode::Exists => is_new && exists,
                    // With its number it has become too long.
                    ErrorCode::BadName => is_new && target.len() > truth.capacity.name,
                    _ => false,
                };
                assert!(right, "{target}: the commit fails: {refusal}");
                truth.undo();
                // A client that asked for a new file does not know its name.
                truth.refused(if is_new { "" } else { &target }, refusal.code);
            }
        }
        done
    }
}

/// Compares a store's report about a file with the truth.
fn check_stat(name: &str, stat: &Stat, file: &Version) {
    let right =
        stat.size == file.bytes.len() as u64 && stat.mtime == file.mtime && stat.crc.is_none_or(|crc| crc == file.crc);
    assert!(right, "{name} is said to be {stat:?} and is {file:?}");
}

impl<S: Store, M: Medium> Store for Watched<S, M> {
    type File = WatchedFile<S::File>;
    type Stage = WatchedStage<S::Stage>;
    type Cursor = S::Cursor;

    const VERBS: Verbs = S::VERBS;

    fn open(&mut self, name: Name<'_>) -> Result<(Self::File, Stat)> {
        let text = name.as_str();
        if self.power.get() && self.control.failures.strikes(&self.control.failures.look) {
            return self.fail(text, ErrorCode::Io);
        }
        let (inner, stat) = self.look(text, |store| store.open(name), |truth, code| is_missing(truth, text, code))?;
        let mut truth = self.control.truth.borrow_mut();
        let Some(file) = truth.file(text).cloned() else { panic!("{text} is opened, and there is no such file") };
        check_stat(text, &stat, &file);
        let handle = truth.next_handle();
        truth.reading.insert(handle, Rc::clone(&file));
        Ok((WatchedFile { inner, file, handle, control: Rc::clone(&self.control) }, stat))
    }

    fn tag(&mut self, file: &Self::File) -> Tag {
        let tag = self.inner.tag(&file.inner);
        if self.power.get() {
            self.control.truth.borrow_mut().tagged(tag, &file.file);
        }
        tag
    }

    fn read_at(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if self.power.get() && self.control.failures.strikes(&self.control.failures.read) {
            return self.fail("", ErrorCode::Io);
        }
        let version = Rc::clone(&file.file);
        let is_old = |truth: &Truth, code| code == ErrorCode::Changed && !truth.is_current(&version);
        let read = self.look("", |store| store.read_at(&mut file.inner, offset, buffer), is_old)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| version.bytes.get(offset..)).unwrap_or_default();
        let whole = rest.len().min(buffer.len());
        assert!(read == whole, "{read} bytes instead of {whole} at {offset} of {version:?}");
        assert!(buffer[..read] == rest[..read], "other bytes at {offset} of {version:?}");
        Ok(read)
    }

    fn stat(&mut self, name: Name<'_>) -> Result<Stat> {
        let text = name.as_str();
        let stat = self.look(text, |store| store.stat(name), |truth, code| is_missing(truth, text, code))?;
        let truth = self.control.truth.borrow();
        let Some(file) = truth.file(text) else { panic!("there is no {text}, and it is {stat:?}") };
        check_stat(text, &stat, file);
        Ok(stat)
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32)> {
        let text = name.as_str();
        self.begin_stage(text)?;
        let found = self.inner.staged(name, owner, size);
        self.control.trace(|| format!("    store: staged {text} {size}: {found:?}"));
        if !self.has_power() {
            return io();
        }
        let mut truth = self.control.truth.borrow_mut();
        match found {
            Ok(found) => truth.staged(text, owner, size, found),
            Err(error) => {
                let code = error.refusal().code;
                if !is_bad_name(text, code) {
                    truth.stage_refused((text, owner), 0, size, code);
                }
                truth.refused(text, code);
            }
        }
        found
    }

    fn stage(&mut self, staging: Staging<'_>) -> Result<(Self::Stage, u32)> {
        let Staging { name, offset, size, mtime, owner } = staging;
        let text = name.as_str();
        self.begin_stage(text)?;
        self.control.truth.borrow_mut().need_room(size);
        let begun = self.inner.stage(staging);
        self.control
            .trace(|| format!("    store: stage {text} {offset} {size}: {:?}", begun.as_ref().map(|(_, crc)| crc)));
        let power = self.has_power();
        let mut truth = self.control.truth.borrow_mut();
        if !power {
            truth.doubt(text);
            return io();
        }
        match begun {
            Ok((inner, crc)) => {
                assert!(!truth.is_open(text), "two write {text}");
                let handle = truth.open_stage((text, owner), offset, size, mtime, crc);
                let (control, power) = (Rc::clone(&self.control), Rc::clone(&self.power));
                Ok((WatchedStage { inner: Some(inner), handle, control, power }, crc))
            }
            Err(error) => {
                let code = error.refusal().code;
                if !is_bad_name(text, code) {
                    truth.stage_refused((text, owner), offset, size, code);
                }
                truth.refused(text, code);
                Err(error)
            }
        }
    }

    fn stage_new(&mut self, name: Name<'_>, size: u64) -> Result<Self::Stage> {
        self.begin_stage("")?;
        self.control.truth.borrow_mut().need_room(size);
        let begun = self.inner.stage_new(name, size);
        self.control.trace(|| format!("    store: stage {size} without a name: {:?}", begun.as_ref().map(|_| ())));
        if !self.has_power() {
            return io();
        }
        let mut truth = self.control.truth.borrow_mut();
        match begun {
            Ok(inner) => {
                let handle = truth.next_handle();
                let since = truth.moment();
                let open = super::staging::Open {
                    name: None,
                    owner: NOBODY,
                    bytes: Vec::new(),
                    base: 0,
                    size,
                    mtime: None,
                    floor: 0,
                    since,
                };
                truth.open.insert(handle, open);
                let (control, power) = (Rc::clone(&self.control), Rc::clone(&self.power));
                Ok(WatchedStage { inner: Some(inner), handle, control, power })
            }
            Err(error) => {
                let code = error.refusal().code;
                truth.stage_refused(("", NOBODY), 0, size, code);
                truth.refused("", code);
                Err(error)
            }
        }
    }

    fn ready(&mut self, stage: &mut Self::Stage) -> Result<()> {
        self.put_off()?;
        stage.inner.as_mut().map_or(Ok(()), |stage| self.inner.ready(stage))
    }

    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> Result<usize> {
        self.enter()?;
        let Some(inner) = &mut stage.inner else { panic!("bytes for what was discarded") };
        if self.control.failures.strikes(&self.control.failures.append) {
            return self.fail("", ErrorCode::Io);
        }
        {
            let mut truth = self.control.truth.borrow_mut();
            let open = truth.open.get(&stage.handle).expect("it was opened");
            if open.bytes.len() as u64 + bytes.len() as u64 > open.size {
                // Text with accents.
                assert!(open.name.is_none(), "more bytes than were announced");
                truth.need_room(bytes.len() as u64);
            }
        }
        let taken = self.inner.append(inner, bytes);
        self.control.trace(|| format!("    store: append {} for {}: {taken:?}", bytes.len(), stage.handle));
        if !self.has_power() {
            // Some of them may be there.
            if let Some(open) = self.control.truth.borrow_mut().open.get_mut(&stage.handle) {
                open.bytes.extend_from_slice(bytes);
            }
            return io();
        }
        let mut truth = self.control.truth.borrow_mut();
        match &taken {
            Ok(n) => {
                assert!((1..=bytes.len()).contains(n), "{n} bytes are taken of {}", bytes.len());
                let open = truth.open.get_mut(&stage.handle).expect("it was opened");
                open.bytes.extend_from_slice(&bytes[..*n]);
                truth.wrote();
                if self.control.plan.is_sealed {
                    truth.check_sent(stage.handle);
                }
            }
            Err(error) => {
                let refusal = error.refusal();
                let right = refusal.code == ErrorCode::NoSpace && !truth.is_roomy(0);
                assert!(right, "bytes are refused: {refusal}");
                truth.refused("", refusal.code);
            }
        }
        taken
    }

    fn discard(&mut self, mut stage: Self::Stage) {
        let Some(inner) = stage.inner.take() else { return };
        self.medium.tick();
        self.inner.discard(inner);
        self.control.trace(|| format!("    store: discard {}", stage.handle));
        if self.has_power() {
            self.control.truth.borrow_mut().discard(stage.handle);
        }
    }

    fn commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> Result<()> {
        self.put_in_place(stage, None, crc)
    }

    fn commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> Result<()> {
        self.put_in_place(stage, Some(name), None)
    }

    fn remove(&mut self, name: Name<'_>) -> Result<()> {
        let text = name.as_str();
        self.begin_change(text)?;
        let done = self.change(text, Change::Remove { name: text.into() }, |store| store.remove(name));
        self.check_change(text, done)
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<()> {
        let text = from.as_str();
        self.begin_change(text)?;
        let change = Change::Rename { from: text.into(), to: to.as_str().into() };
        let done = self.change(text, change, |store| store.rename(from, to));
        if done.is_err_and(|error| is_bad_name(to.as_str(), error.refusal().code)) {
            return done;
        }
        self.check_change(text, done)
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Self::Cursor> {
        self.look("", |store| store.list(dir), |_, code| code == ErrorCode::NotFound && dir.is_some())
    }

    fn tree(&mut self, dir: Option<Name<'_>>) -> Result<Self::Cursor> {
        self.look("", |store| store.tree(dir), |_, code| code == ErrorCode::NotFound && dir.is_some())
    }

    fn next_entry(&mut self, cursor: &mut Self::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool> {
        if self.power.get() && self.control.failures.strikes(&self.control.failures.look) {
            return self.fail("", ErrorCode::Io);
        }
        let control = Rc::clone(&self.control);
        let mut checked = |entry: Entry<'_>| {
            let name = entry.name.as_str();
            let EntryKind::File(stat) = entry.kind else { panic!("{name} is a directory") };
            match control.truth.borrow().file(name) {
                Some(file) => check_stat(name, &stat, file),
                None => panic!("{name} is listed, and there is no such file"),
            }
            show(entry);
        };
        self.look("", |store| store.next_entry(cursor, &mut checked), |_, _| false)
    }

    fn settle(&mut self) {
        if self.power.get() {
            self.inner.settle();
            if self.has_power() {
                self.control.truth.borrow_mut().settled();
            }
        }
    }

    fn space(&mut self) -> Result<Space> {
        let space = self.look("", Store::space, |_, _| false)?;
        assert!(space.free <= space.total, "{space:?}");
        Ok(space)
    }
}

impl<S: Store, M: Medium> Watched<S, M> {
    /// A refused change must have a reason.
    fn check_change(&self, name: &str, done: Result<()>) -> Result<()> {
        if let Err(error) = &done
            && self.power.get()
        {
            let refusal = error.refusal();
            assert!(
                is_missing(&self.control.truth.borrow(), name, refusal.code),
                "{name}: the change fails: {refusal}"
            );
        }
        done
    }
}

fn is_missing(truth: &Truth, name: &str, code: ErrorCode) -> bool {
    is_bad_name(name, code) || (code == ErrorCode::NotFound && truth.file(name).is_none())
}

/// A flat store refuses such names.
fn is_bad_name(name: &str, code: ErrorCode) -> bool {
    code == ErrorCode::BadName && name.contains('/')
}
