//! A blocking adapter for a store that answers "not yet".

use core::marker::PhantomData;

use skiff_proto::command::Verbs;
use skiff_proto::identity::StageOwner;
use skiff_proto::name::Name;
use skiff_proto::reply::Tag;
use skiff_proto::store::{self, Entry, Space, Staging, Stat, Store, StoreError, Sum};

use super::Backend;

/// A store of a [`Backend`] that repeats calls until the store is ready, and whose changes are durable when they
/// return.
pub(super) struct Patient<B: Backend>(B::Store, PhantomData<B>);

impl<B: Backend> Patient<B> {
    pub(super) fn open(backend: &mut B) -> Self {
        Self(backend.open(), PhantomData)
    }

    fn ask<T>(&mut self, mut ask: impl FnMut(&mut B::Store) -> store::Result<T>) -> store::Result<T> {
        loop {
            match ask(&mut self.0) {
                Err(StoreError::NotYet) => B::wait(&mut self.0),
                answer => return answer,
            }
        }
    }

    fn change(&mut self, change: impl FnMut(&mut B::Store) -> store::Result<()>) -> store::Result<()> {
        match self.ask(change) {
            Err(StoreError::Queued) => {
                self.0.flush();
                self.ask(Store::next_result).map(drop)
            }
            answer => answer,
        }
    }
}

impl<B: Backend> Store for Patient<B> {
    type File = <B::Store as Store>::File;
    type Stage = <B::Store as Store>::Stage;
    type Cursor = <B::Store as Store>::Cursor;

    const VERBS: Verbs = B::Store::VERBS;
    const WAITS: bool = false;

    fn open(&mut self, name: Name<'_>) -> store::Result<(Self::File, Stat)> {
        self.ask(|store| store.open(name))
    }
    fn tag(&mut self, file: &Self::File) -> Tag {
        self.0.tag(file)
    }
    fn read_at(&mut self, file: &mut Self::File, offset: u64, buffer: &mut [u8]) -> store::Result<usize> {
        self.ask(|store| store.read_at(file, offset, buffer))
    }
    fn sum(&mut self, file: &mut Self::File, sum: &mut Sum) -> store::Result<bool> {
        self.ask(|store| store.sum(file, sum))
    }
    fn note_crc(&mut self, file: &Self::File, crc: u32) {
        self.0.note_crc(file, crc);
    }
    fn stat(&mut self, name: Name<'_>) -> store::Result<Stat> {
        self.ask(|store| store.stat(name))
    }
    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> store::Result<(u64, u32)> {
        self.ask(|store| store.staged(name, owner, size))
    }
    fn stage(&mut self, staging: Staging<'_>) -> store::Result<(Self::Stage, u32)> {
        self.ask(|store| store.stage(staging))
    }
    fn stage_new(&mut self, name: Name<'_>, size: u64) -> store::Result<Self::Stage> {
        self.ask(|store| store.stage_new(name, size))
    }
    fn append(&mut self, stage: &mut Self::Stage, bytes: &[u8]) -> store::Result<usize> {
        self.ask(|store| store.ready(stage))?;
        self.0.append(stage, bytes)
    }
    fn copy(&mut self, file: &mut Self::File, stage: &mut Self::Stage, sum: &mut Sum) -> store::Result<bool> {
        self.ask(|store| store.copy(file, stage, sum))
    }
    fn discard(&mut self, stage: Self::Stage) {
        self.0.discard(stage);
    }
    fn commit(&mut self, stage: &mut Self::Stage, crc: Option<u32>) -> store::Result<()> {
        self.change(|store| store.commit(stage, crc))
    }
    fn commit_new(&mut self, stage: &mut Self::Stage, name: Name<'_>) -> store::Result<()> {
        self.ask(|store| store.commit_new(stage, name))
    }
    fn remove(&mut self, name: Name<'_>) -> store::Result<()> {
        self.change(|store| store.remove(name))
    }
    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> store::Result<()> {
        self.change(|store| store.rename(from, to))
    }
    fn mkdir(&mut self, name: Name<'_>) -> store::Result<()> {
        self.change(|store| store.mkdir(name))
    }
    fn rmdir(&mut self, name: Name<'_>) -> store::Result<()> {
        self.change(|store| store.rmdir(name))
    }
    fn list(&mut self, dir: Option<Name<'_>>) -> store::Result<Self::Cursor> {
        self.ask(|store| store.list(dir))
    }
    fn tree(&mut self, dir: Option<Name<'_>>) -> store::Result<Self::Cursor> {
        self.ask(|store| store.tree(dir))
    }
    fn omitted(&mut self, cursor: &mut Self::Cursor) -> store::Result<u64> {
        self.ask(|store| store.omitted(cursor))
    }
    fn next_entry(&mut self, cursor: &mut Self::Cursor, show: &mut dyn FnMut(Entry<'_>)) -> store::Result<bool> {
        self.ask(|store| store.next_entry(cursor, show))
    }
    fn count_names(&mut self, cursor: &mut Self::Cursor, name_max: u16, length: &mut u64) -> store::Result<bool> {
        self.ask(|store| store.count_names(cursor, name_max, length))
    }
    fn settle(&mut self) {
        self.0.settle();
    }
    fn space(&mut self) -> store::Result<Space> {
        self.ask(Store::space)
    }
}
