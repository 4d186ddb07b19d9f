//! The commands of one connection: a call checks its arguments and starts a request in the background. When it is
//! called again, it returns the outcome.

use std::sync::Arc;

use skiff_proto::ErrorCode;
use skiff_proto::command::{Verb, Verbs};
use skiff_proto::identity::StageOwner;
use skiff_proto::name::Name;
use skiff_proto::reply::Tag;
use skiff_proto::store::{Entry, Result, Space, Staging, Stat, Store, StoreError, Sum};

use super::Objects;
use super::cursor::Cursor;
use super::file::File;
use super::pending::Pending;
use super::queue::InFlight;
use super::session::{ObjectSession, Outcome, mixed_up};
use super::upload::{Body, Stage};
use super::writers::{Presence, Writer};
use crate::server::audit;
use crate::server::work::{Change, keep};

impl Store for ObjectSession {
    type File = Box<File>;
    type Stage = Stage;
    type Cursor = Cursor;

    const VERBS: Verbs = Verbs::ALL.without(Verb::Space);

    fn open(&mut self, name: Name<'_>) -> Result<(Box<File>, Stat)> {
        self.check_seen(name)?;
        let name = name.as_str().to_owned();
        match self.poll_job(|objects| async move { Outcome::Version(objects.inner().version(&name).await) })? {
            Outcome::Version(version) => {
                let version = version?;
                let stat = version.stat;
                Ok((Box::new(File::new(version)), stat))
            }
            _ => mixed_up(),
        }
    }

    fn tag(&mut self, file: &Box<File>) -> Tag {
        file.version.tag()
    }

    fn read_at(&mut self, file: &mut Box<File>, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        if offset >= file.version.stat.size {
            return Ok(0);
        }
        if file.cached(offset).is_none() {
            file.take_ahead(offset)?;
        }
        if let Some(range) = file.wants(offset) {
            let (objects, version, begin) = (self.objects.clone(), file.version.clone(), range.start);
            let read = Pending::spawn(&self.bell, async move { objects.inner().read_range(&version, range).await });
            file.fetch(begin, read);
        }
        let Some(bytes) = file.cached(offset) else { return Err(StoreError::NotYet) };
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn sum(&mut self, file: &mut Box<File>, sum: &mut Sum) -> Result<bool> {
        let stat = file.version.stat;
        if let Some(crc) = stat.crc.filter(|_| sum.length() == stat.size) {
            sum.finish(crc);
            return Ok(true);
        }
        let (version, begun) = (file.version.clone(), *sum);
        match self.poll_job(|objects| async move { Outcome::Sum(objects.inner().sum(&version, begun).await) })? {
            Outcome::Sum(summed) => {
                *sum = summed?;
                Ok(true)
            }
            _ => mixed_up(),
        }
    }

    fn stat(&mut self, name: Name<'_>) -> Result<Stat> {
        self.open(name).map(|(_, stat)| stat)
    }

    fn staged(&mut self, name: Name<'_>, owner: StageOwner, size: u64) -> Result<(u64, u32)> {
        self.check_changed(name)?;
        if self.job.is_none() && self.objects.inner().writers.presence(name.as_str()) == Presence::Busy {
            return Err(ErrorCode::Busy.into());
        }
        let name = name.as_str().to_owned();
        let ask = |objects: Objects| async move { Outcome::Staged(objects.staged(&name, owner, size).await) };
        match self.poll_job(ask)? {
            Outcome::Staged(staged) => Ok(staged?),
            _ => mixed_up(),
        }
    }

    fn stage(&mut self, staging: Staging<'_>) -> Result<(Stage, u32)> {
        let name = staging.name;
        if self.job.is_some() {
            let outcome = self.poll_job(|_| core::future::ready(Outcome::Free))?;
            match outcome {
                Outcome::Stage(stage) => {
                    let stage = stage?;
                    let crc = stage.crc();
                    return Ok((*stage, crc));
                }
                // The previous writer has finished.
                Outcome::Free => {}
                _ => return mixed_up(),
            }
        }
        self.check_changed(name)?;
        if self.queue.touches(name.as_str()) || !self.queue.has_room() {
            return Err(StoreError::NotYet);
        }
        if staging.offset > staging.size {
            let name = name.as_str().to_owned();
            let check = |objects: Objects| async move {
                let checked = objects.inner().check_path(&name).await;
                Outcome::Stage(checked.and(Err(ErrorCode::Range.into())))
            };
            return Err(self.poll_job(check).err().unwrap_or(StoreError::NotYet));
        }
        let writer = self.writer();
        match self.objects.inner().writers.enter(name.as_str(), &writer) {
            Presence::Free => {}
            Presence::Busy => return Err(ErrorCode::Busy.into()),
            Presence::Ending => return Err(self.wait_for_writer(name)),
        }
        let stage = Stage::new(&self.objects, staging, false, writer);
        if staging.offset == 0 && staging.size <= self.objects.inner().options.part as u64 {
            return Ok((stage, 0));
        }
        let (stage, offset) = (Box::new(stage), staging.offset);
        let begin = |objects: Objects| async move { Outcome::Stage(objects.begin_stage(stage, offset).await) };
        match self.poll_job(begin) {
            Err(error) => Err(error),
            Ok(_) => mixed_up(),
        }
    }

    fn stage_new(&mut self, name: Name<'_>, size: u64) -> Result<Stage> {
        self.check_changed(name)?;
        let token = format!(".skiff-put-{}", self.objects.inner().token());
        let writer = Writer::new(token.clone(), None);
        let mut stage = Stage::new(&self.objects, Staging::new(name, size), true, writer);
        // Bytes that do not fit in one request are stored under their own name until they are complete.
        stage.name = token;
        Ok(stage)
    }

    fn ready(&mut self, stage: &mut Stage) -> Result<()> {
        if stage.check()? { Ok(()) } else { Err(StoreError::NotYet) }
    }

    fn append(&mut self, stage: &mut Stage, bytes: &[u8]) -> Result<usize> {
        stage.append(bytes, self.ring())?;
        Ok(bytes.len())
    }

    fn copy(&mut self, file: &mut Box<File>, stage: &mut Stage, sum: &mut Sum) -> Result<bool> {
        let name = file.version.name.clone();
        let job = self.poll_job(|objects| async move { Outcome::Version(objects.inner().version(&name).await) })?;
        let Outcome::Version(now) = job else { return mixed_up() };
        if !now.is_ok_and(|now| now.e_tag == file.version.e_tag) {
            return Err(ErrorCode::Changed.into());
        }
        // The storage makes the copy at the commit.
        stage.source = Some(file.version.clone());
        match file.version.stat.crc {
            Some(crc) => sum.finish(crc),
            None => sum.forget(),
        }
        Ok(true)
    }

    fn discard(&mut self, stage: Stage) {
        if !stage.unnamed {
            audit::upload(self.peer, "write", &stage.name, Some(stage.size), "discarded");
        }
        stage.discard();
    }

    fn commit(&mut self, stage: &mut Stage, crc: Option<u32>) -> Result<()> {
        let body: Body = stage.finish();
        let (bytes, size) = (body.bytes.len(), body.size);
        let names = [Some(body.name.clone()), None];
        let objects = self.objects.clone();
        let done = Pending::spawn(&self.bell, async move { objects.inner().commit(body, crc).await.map(Some) });
        self.queue.push(InFlight { names, bytes, verb: "write", size: Some(size), done });
        Err(StoreError::Queued)
    }

    fn commit_new(&mut self, stage: &mut Stage, name: Name<'_>) -> Result<()> {
        let body = if self.job.is_none() { Some(stage.finish_copy()) } else { None };
        let name = keep(name)?;
        let commit = |objects: Objects| async move {
            Outcome::Committed(match body {
                Some(body) => objects.inner().commit_new(&body, name.as_name()).await,
                None => Err(ErrorCode::Io.into()),
            })
        };
        match self.poll_job(commit)? {
            Outcome::Committed(stored) => Ok(stored?),
            _ => mixed_up(),
        }
    }

    fn remove(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Remove(keep(name)?), "remove")
    }

    fn rename(&mut self, from: Name<'_>, to: Name<'_>) -> Result<()> {
        self.change(Change::Rename(keep(from)?, keep(to)?), "rename")
    }

    fn mkdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Mkdir(keep(name)?), "mkdir")
    }

    fn rmdir(&mut self, name: Name<'_>) -> Result<()> {
        self.change(Change::Rmdir(keep(name)?), "rmdir")
    }

    fn next_result(&mut self) -> Result<Option<Stat>> {
        self.queue.next_result(self.peer)
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Cursor> {
        self.begin_listing(dir, false)
    }

    fn tree(&mut self, dir: Option<Name<'_>>) -> Result<Cursor> {
        self.begin_listing(dir, true)
    }

    fn omitted(&mut self, cursor: &mut Cursor) -> Result<u64> {
        self.omitted_entries(cursor)
    }

    fn next_entry(&mut self, cursor: &mut Cursor, show: &mut dyn FnMut(Entry<'_>)) -> Result<bool> {
        self.show_next(cursor, show)
    }

    fn count_names(&mut self, _: &mut Cursor, name_max: u16, length: &mut u64) -> Result<bool> {
        match self.poll_job(|objects| async move { Outcome::Names(objects.inner().count_names(name_max).await) })? {
            Outcome::Names(counted) => {
                *length = counted?;
                Ok(true)
            }
            _ => mixed_up(),
        }
    }

    fn space(&mut self) -> Result<Space> {
        Err(ErrorCode::Unsupported.into())
    }
}

impl ObjectSession {
    fn change(&mut self, change: Change, verb: &'static str) -> Result<()> {
        let names = match &change {
            Change::Rename(from, to) => [Some(from), Some(to)],
            Change::Remove(name) | Change::Mkdir(name) | Change::Rmdir(name) => [Some(name), None],
        };
        for name in names.into_iter().flatten() {
            self.check_changed(name.as_name())?;
            if self.queue.touches(name.as_name().as_str()) || !self.queue.has_room() {
                return Err(StoreError::NotYet);
            }
        }
        let names = names.map(|name| name.map(|name| name.as_name().as_str().to_owned()));
        let objects = self.objects.clone();
        let done = Pending::spawn(&self.bell, async move {
            objects.inner().change(change.map(|name| name.as_name())).await.map(|()| None)
        });
        self.queue.push(InFlight { names, bytes: 0, verb, size: None, done });
        Err(StoreError::Queued)
    }

    /// A callback that notifies this connection when a request of a stage has finished.
    fn ring(&self) -> impl FnOnce() + Send + 'static {
        let bell = self.bell.clone();
        move || bell.ring()
    }

    /// Waits until the writer of `name`, whose bytes are being saved, has finished.
    fn wait_for_writer(&mut self, name: Name<'_>) -> StoreError {
        let name = name.as_str().to_owned();
        let waits = self.poll_job(|objects| async move {
            objects.inner().writers.wait(&name).await;
            Outcome::Free
        });
        match waits {
            // The caller repeats the call, which checks again.
            Ok(_) => {
                self.bell.ring();
                StoreError::NotYet
            }
            Err(error) => error,
        }
    }

    fn writer(&mut self) -> Arc<Writer> {
        let wake = Arc::clone(self.evicted.get_or_insert_default());
        Writer::new(self.objects.inner().token(), Some(wake))
    }
}
