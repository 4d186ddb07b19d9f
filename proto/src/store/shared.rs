//! One store for several sessions.

use core::cell::RefCell;
use core::task::Poll;

use super::{Entry, Space, Stat, Store};
use crate::command::Verbs;
use crate::error::Refusal;
use crate::name::Name;
use crate::reply::Tag;

/// A [`Store`] that several sessions on one thread share, each with a copy of this reference. A call borrows the store
/// until it returns; no session holds it while it waits. The function that [`Store::next_entry`] calls must not use the
/// store.
///
/// ```
/// # use core::cell::RefCell;
/// use skiff_proto::store::{Shared, Store};
///
/// fn two_sessions<S: Store>(store: S, mut serve: impl FnMut(&mut Shared<'_, S>)) {
///     let store = RefCell::new(store);
///     let (mut first, mut second) = (Shared(&store), Shared(&store));
///     serve(&mut first);
///     serve(&mut second);
/// }
/// ```
#[derive(Debug)]
pub struct Shared<'a, S>(pub &'a RefCell<S>);

impl<S> Clone for Shared<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Shared<'_, S> {}

impl<S: Store> Store for Shared<'_, S> {
    type File = S::File;
    type Stage = S::Stage;
    type Cursor = S::Cursor;

    const VERBS: Verbs = S::VERBS;

    fn open(&mut self, name: Name<'_>) -> Result<(Self::File, Stat), Refusal> {
        self.0.borrow_mut().open(name)
    }

    fn tag(&mut self, file: &Self::File) -> Tag {
        self.0.borrow_mut().tag(file)
    }

    fn read_at(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> Result<usize, Refusal> {
        self.0.borrow_mut().read_at(file, offset, buffer)
    }

    fn stat(&mut self, name: Name<'_>) -> Result<Stat, Refusal> {
        self.0.borrow_mut().stat(name)
    }

    fn staged(&mut self, name: Name<'_>, size: u64) -> Result<(u64, u32), Refusal> {
        self.0.borrow_mut().staged(name, size)
    }

    fn stage(
        &mut self,
        name: Name<'_>,
        offset: u64,
        size: u64,
        mtime: Option<u64>,
    ) -> Result<(Self::Stage, u32), Refusal> {
        self.0.borrow_mut().stage(name, offset, size, mtime)
    }

    fn stage_unnamed(&mut self, size: u64) -> Result<Self::Stage, Refusal> {
        self.0.borrow_mut().stage_unnamed(size)
    }

    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> Result<usize, Refusal> {
        self.0.borrow_mut().append(stage, bytes)
    }

    fn discard(&mut self, stage: Self::Stage) {
        self.0.borrow_mut().discard(stage);
    }

    fn poll_commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> Poll<Result<(), Refusal>> {
        self.0.borrow_mut().poll_commit(stage, crc)
    }

    fn poll_commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> Poll<Result<(), Refusal>> {
        self.0.borrow_mut().poll_commit_new(stage, name)
    }

    fn remove(&mut self, name: Name<'_>) -> Result<(), Refusal> {
        self.0.borrow_mut().remove(name)
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<(), Refusal> {
        self.0.borrow_mut().rename(from, to)
    }

    fn mkdir(&mut self, name: Name<'_>) -> Result<(), Refusal> {
        self.0.borrow_mut().mkdir(name)
    }

    fn rmdir(&mut self, name: Name<'_>) -> Result<(), Refusal> {
        self.0.borrow_mut().rmdir(name)
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Self::Cursor, Refusal> {
        self.0.borrow_mut().list(dir)
    }

    fn omitted(&mut self, cursor: &mut Self::Cursor) -> Result<u64, Refusal> {
        self.0.borrow_mut().omitted(cursor)
    }

    fn next_entry(&mut self, cursor: &mut Self::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool, Refusal> {
        self.0.borrow_mut().next_entry(cursor, show)
    }

    fn settle(&mut self) {
        self.0.borrow_mut().settle();
    }

    fn space(&mut self) -> Result<Space, Refusal> {
        self.0.borrow_mut().space()
    }
}
