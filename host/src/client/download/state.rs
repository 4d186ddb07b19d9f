//! The files of a download: the progress of each, and how events change it.

use skiff_proto::crc::Crc32c;
use skiff_proto::reply::Tag;

use super::sink::Sink;
use crate::client::commands::refusal;
use crate::client::error::Error;
use crate::client::event::Event;
use crate::client::files::Files;
use crate::client::job::{Download, DownloadOptions, Observer, Received};
use crate::client::{ErrorCode, Options, Stat};

/// The rest of an unwanted body is read up to this size; a longer one costs the connection.
const MAX_UNWANTED: u64 = 4 << 20;

/// How often a file is restarted because it changed on the server.
const MAX_RESTARTS: u32 = 2;

/// A file being downloaded.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) sink: Sink,
    mtime: Option<u64>,
    pub(super) stat: Option<Stat>,
    /// Bytes that an earlier run had fetched.
    pub(super) resumed: u64,
    /// OFFSET of the present `read`.
    began: u64,
    /// The whole has to be compared with `sum`, since no TAG vouches for the part that was there.
    check: bool,
    pub(super) restarts: u32,
    /// Sessions that a part of it came by.
    pub(super) sessions: u32,
    /// What happens to the file at the end of the body being received.
    fate: Fate,
}

#[derive(Debug)]
enum Fate {
    Keep,
    Restart,
    Fail(Error),
}

/// The files of one call.
pub(super) struct Downloads<'a> {
    pub(super) files: Files<'a, Task, Received>,
    pub(super) options: &'a DownloadOptions,
    portable: bool,
}

/// A command without a reply, and the file that it is about.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flight {
    Stat(usize),
    Read(usize),
}

impl<'a> Downloads<'a> {
    pub(super) fn new(
        jobs: Vec<Download>,
        options: &'a DownloadOptions,
        observer: &'a mut dyn Observer,
        client: &Options,
    ) -> Self {
        let (key, portable) = (client.access.fingerprint(), client.portable);
        let files = jobs.into_iter().map(|Download { name, target, mtime }| {
            let task = Task {
                sink: Sink::new(target, key),
                mtime,
                stat: None,
                resumed: 0,
                began: 0,
                check: false,
                restarts: 0,
                sessions: 1,
                fate: Fate::Keep,
            };
            (name, task)
        });
        let report = |observer: &mut dyn Observer, index: usize, result: &Result<Received, Error>| {
            observer.received(index, result);
        };
        Self { files: Files::new(files, observer, report), options, portable }
    }

    /// True if the mtime of a file has to be asked for.
    pub(super) fn wants_mtime(&self, index: usize) -> bool {
        let task = &self.files.tasks[index];
        self.options.mtime && task.sink.path().is_some() && task.mtime.is_none()
    }

    /// `read` was accepted: a body of `length` bytes follows.
    pub(super) fn begin(&mut self, index: usize, length: u64, size: u64, tag: Tag) {
        let task = &mut self.files.tasks[index];
        let offset = task.sink.offset();
        task.began = offset;
        task.fate = Fate::Keep;
        if offset.checked_add(length) != Some(size) {
            let what = format!("the server announced only {length} bytes from offset {offset}, of a file of {size}");
            task.fate = Fate::Fail(Error::Mismatch { what });
            return;
        }
        if offset == 0 {
            task.sink.reset();
            task.sink.set_version(size, tag);
            task.check = false;
        } else if task.sink.version() != Some((size, tag)) {
            task.fate = Fate::Restart;
            return;
        } else if !tag.is_known() {
            task.check = true;
        }
        self.files.started(index, size, offset);
    }

    /// Bytes of the body have come; `crc` is that of the body with these.
    pub(super) fn take(&mut self, index: usize, bytes: &[u8], crc: Crc32c) {
        let task = &mut self.files.tasks[index];
        if !matches!(task.fate, Fate::Keep) {
            return;
        }
        // The body's checksum is the file's if it began with the first byte.
        let crc = (task.began == 0).then_some(crc);
        match task.sink.write(bytes, crc, self.options) {
            Ok(()) => {
                self.files.progress = true;
                self.files.moved(index, bytes.len());
            }
            Err(error) => task.fate = Fate::Fail(error),
        }
    }

    /// True if the rest of the body is not worth reading.
    pub(super) fn is_unwanted(&self, index: usize) -> bool {
        let task = &self.files.tasks[index];
        let left = task.sink.version().map_or(u64::MAX, |(size, _)| size.saturating_sub(task.sink.offset()));
        !matches!(task.fate, Fate::Keep) && left > MAX_UNWANTED
    }

    /// Carries a fate other than keeping out.
    pub(super) fn settle(&mut self, index: usize) {
        match core::mem::replace(&mut self.files.tasks[index].fate, Fate::Keep) {
            Fate::Keep => {}
            Fate::Restart => self.restart(index),
            Fate::Fail(error) => self.fail(index, error),
        }
    }

    /// What answers `stat`, or ends `read`.
    pub(super) fn answer(&mut self, flight: Flight, event: Event, checks: &mut Vec<usize>) {
        match (flight, event) {
            (Flight::Stat(index), Event::Stat(stat)) => self.files.tasks[index].stat = Some(stat),
            // The `read` behind it tells what is wrong.
            (Flight::Stat(_), _) => {}
            (Flight::Read(index), Event::BodyEnd(end)) => self.end(index, end, checks),
            (Flight::Read(index), Event::Refused(error)) => {
                let range = error.code() == Some(ErrorCode::Range) && self.files.tasks[index].sink.offset() > 0;
                if range { self.restart(index) } else { self.fail(index, error) }
            }
            (Flight::Read(index), event) => self.fail(index, refusal(event)),
        }
    }

    fn end(&mut self, index: usize, end: Result<Option<u32>, Error>, checks: &mut Vec<usize>) {
        if !matches!(self.files.tasks[index].fate, Fate::Keep) {
            return self.settle(index);
        }
        let task = &self.files.tasks[index];
        let continued = task.began > 0;
        match end {
            Ok(_) if task.check => checks.push(index),
            Ok(crc) => {
                // A server that keeps checksums vouches for the part that was there, too.
                let stat = task.stat.filter(|stat| continued && stat.size == task.sink.offset());
                if stat.and_then(|stat| stat.crc).is_some_and(|known| known != task.sink.crc().value()) {
                    return self.restart(index);
                }
                self.commit(index, crc.is_some());
            }
            Err(Error::Mismatch { .. }) if continued && task.sink.can_restart() => self.restart(index),
            Err(error) => self.fail(index, error),
        }
    }

    /// The file is complete: puts it in place.
    pub(super) fn commit(&mut self, index: usize, verified: bool) {
        let crc = Some(self.files.tasks[index].sink.crc().value());
        self.put_in_place(index, verified, crc);
    }

    /// The same for a file of which nothing but the length is known.
    pub(super) fn commit_unverified(&mut self, index: usize) {
        self.put_in_place(index, false, None);
    }

    fn put_in_place(&mut self, index: usize, verified: bool, crc: Option<u32>) {
        let task = &mut self.files.tasks[index];
        let mtime = task.mtime.or_else(|| task.stat.and_then(|stat| stat.mtime));
        let set = mtime.filter(|_| self.options.mtime);
        let size = task.sink.offset();
        match task.sink.commit(set, self.options, self.portable) {
            Ok(path) => {
                let (resumed, sessions) = (task.resumed, task.sessions);
                let bytes = task.sink.take_bytes();
                let received = Received { path, bytes, size, resumed, verified, crc, mtime, sessions };
                self.files.finish(index, Ok(received));
            }
            Err(error) => self.fail(index, error),
        }
    }

    /// Restarts the file, behind the others.
    pub(super) fn restart(&mut self, index: usize) {
        if self.reset(index) {
            self.files.queue.push_back(index);
        }
    }

    /// Discards what has come of a file. False: it failed too often.
    pub(super) fn reset(&mut self, index: usize) -> bool {
        let task = &mut self.files.tasks[index];
        task.restarts += 1;
        if !task.sink.can_restart() || task.restarts > MAX_RESTARTS {
            let what = "the file changed on the server during the download".to_owned();
            self.fail(index, Error::Mismatch { what });
            return false;
        }
        task.sink.reset();
        task.resumed = 0;
        true
    }

    /// True if what is coming in is wanted.
    pub(super) fn is_wanted(&self, index: usize) -> bool {
        matches!(self.files.tasks[index].fate, Fate::Keep)
    }

    /// The file will not come. Nothing of it stays, unless the local disk is full and it is the only one: then a later
    /// run can resume it. Others could need the space now.
    pub(super) fn fail(&mut self, index: usize, error: Error) {
        let stays = error.is_local_space() && self.files.tasks.len() == 1;
        let sink = &mut self.files.tasks[index].sink;
        if stays && sink.offset() > 0 {
            sink.close()
        } else {
            sink.reset()
        }
        self.files.finish(index, Err(error));
    }

    /// Everything that waits fails. Received parts stay, unless the server can't be trusted.
    pub(super) fn fail_all(&mut self, error: &Error) {
        if matches!(error, Error::Protocol { .. }) {
            self.files.drop_closed();
            let Files { tasks, queue, .. } = &mut self.files;
            queue.iter().for_each(|&index| tasks[index].sink.reset());
        }
        self.files.fail_all(error);
    }
}
