//! The files of an upload: the progress of each, and how replies change it.

use skiff_proto::crc::Crc32c;

use crate::client::ErrorCode;
use crate::client::error::Error;
use crate::client::files::Files;
use crate::client::job::{Observer, Sent, Source, Upload, UploadOptions};

/// Smaller files are sent again completely instead of asking the server.
pub(super) const WORTH_RESUMING: u64 = 64 << 10;

/// How often, a second apart by default, a file is retried that the server believes is still being written by the lost
/// connection: it does so for 5 s (PROTOCOL §7).
const MAX_BUSY: u32 = 8;

/// How often a file is restarted because its staged bytes are gone.
const MAX_RESTARTS: u32 = 2;

/// A file being uploaded.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) source: Source,
    /// Bytes that the server has staged, and their checksum.
    pub(super) offset: u64,
    pub(super) crc: Crc32c,
    /// Bytes that were staged by an earlier run.
    resumed: u64,
    /// The connection was lost while it was in flight.
    pub(super) interrupted: bool,
    busy: u32,
    restarts: u32,
}

/// The files of one call.
pub(super) struct Uploads<'a> {
    pub(super) files: Files<'a, Task, Sent>,
    pub(super) options: &'a UploadOptions,
    /// Files to be tried again later: the server is busy with them, or they begin again.
    pub(super) later: Vec<usize>,
}

/// A `write` without a reply.
pub(super) struct Flight {
    pub(super) task: usize,
    pub(super) size: u64,
    pub(super) offset: u64,
    pub(super) crc: Option<u32>,
    /// Why the body was cut short here; the server's answer to that is of no interest.
    pub(super) error: Option<Error>,
}

impl<'a> Uploads<'a> {
    pub(super) fn new(jobs: Vec<Upload>, options: &'a UploadOptions, observer: &'a mut dyn Observer) -> Self {
        let files = jobs.into_iter().map(|Upload { name, source }| {
            let (offset, crc) = (0, Crc32c::new());
            (name, Task { source, offset, crc, resumed: 0, interrupted: false, busy: 0, restarts: 0 })
        });
        let report = |observer: &mut dyn Observer, index: usize, result: &Result<Sent, Error>| {
            observer.sent(index, result);
        };
        Self { files: Files::new(files, observer, report), options, later: Vec::new() }
    }

    /// The server has `offset` bytes staged that are right.
    pub(super) fn staged(&mut self, index: usize, offset: u64, crc: Crc32c) {
        let task = &mut self.files.tasks[index];
        self.files.progress |= offset > task.offset;
        if !task.interrupted {
            task.resumed = offset;
        }
        (task.offset, task.crc) = (offset, crc);
    }

    /// The server has the whole file already.
    pub(super) fn stored(&mut self, index: usize, size: u64, crc: u32) {
        self.files.finish(index, Ok(Sent { size, resumed: size, crc: Some(crc), confirmed: true }));
    }

    /// `ok SIZE CRC`
    pub(super) fn confirmed(&mut self, flight: &Flight, size: u64, crc: Option<u32>) {
        let task = &self.files.tasks[flight.task];
        let differs = matches!((crc, flight.crc), (Some(theirs), Some(ours)) if theirs != ours);
        if size != flight.size || differs {
            let what = "the server stored a different size or checksum".to_owned();
            return self.fail(flight.task, Error::Mismatch { what });
        }
        let sent = Sent { size, resumed: task.resumed, crc: flight.crc, confirmed: true };
        self.files.finish(flight.task, Ok(sent));
    }

    /// The server refused the file.
    pub(super) fn refused(&mut self, index: usize, error: Error) {
        let task = &mut self.files.tasks[index];
        match error.code() {
            // By ourselves, a moment ago: in this run, or in the one that is to be continued.
            Some(ErrorCode::Busy) if (task.interrupted || self.options.resume) && task.busy < MAX_BUSY => {
                task.busy += 1;
                self.later.push(index);
            }
            // What was staged is no longer what it was.
            Some(ErrorCode::Mismatch) if task.offset > 0 && task.restarts < MAX_RESTARTS => {
                task.restarts += 1;
                (task.offset, task.crc, task.resumed) = (0, Crc32c::new(), 0);
                self.later.push(index);
            }
            _ => self.fail(index, error),
        }
    }

    pub(super) fn fail(&mut self, index: usize, error: Error) {
        self.files.finish(index, Err(error));
    }
}
