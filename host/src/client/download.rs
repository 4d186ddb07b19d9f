//! Many `read`s on one connection.
//!
//! Commands go out as long as there is room, and their bodies are taken as they come, one after the other. A task is in
//! the queue, then in flight, and then has its result; when the connection is lost, what was in flight goes back into the
//! queue with what has come of it.

use std::collections::VecDeque;

use skiff_proto::command::Request;
use skiff_proto::crc::Crc32c;
use skiff_proto::reply::Tag;

use super::classic;
use super::commands::{Again, parse, request};
use super::connection::{Event, Incoming};
use super::error::Error;
use super::job::{Download, DownloadOptions, Observer, Received};
use super::prepare;
use super::sink::Sink;
use super::{Client, Losses, Stat};

/// The rest of an unwanted body is read up to this size; a longer one costs the connection.
const MAX_UNWANTED: u64 = 4 << 20;

/// How often one file is begun anew because it turned out to be another one than it was.
const MAX_RESTARTS: u32 = 2;

/// One file on its way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) sink: Sink,
    mtime: Option<u64>,
    pub(super) stat: Option<Stat>,
    /// Bytes that an earlier run had fetched.
    pub(super) resumed: u64,
    /// OFFSET of the present `read`.
    began: u64,
    /// The whole has to be compared with `sum`, since no TAG vouches for the part that was there.
    check: bool,
    restarts: u32,
    /// Sessions that a part of it came by.
    pub(super) sessions: u32,
    /// What becomes of the file at the end of the body that is coming in.
    fate: Fate,
    result: Option<Result<Received, Error>>,
}

#[derive(Debug)]
enum Fate {
    Keep,
    Restart,
    Fail(Error),
}

/// All files of one call.
pub(super) struct Run<'a> {
    pub(super) tasks: Vec<Task>,
    pub(super) queue: VecDeque<usize>,
    pub(super) options: &'a DownloadOptions,
    pub(super) observer: &'a mut dyn Observer,
    portable: bool,
    /// Something has come since the last failure.
    pub(super) progress: bool,
    /// Partial files of earlier runs have been looked for.
    pub(super) prepared: bool,
}

#[derive(Debug, Clone, Copy)]
enum Flight {
    Stat(usize),
    Read(usize),
}

/// How a pass over the connection ended, if not by an error of it.
pub(super) enum End {
    /// Everything that was in flight has its result.
    Done,
    /// The rest of a body was not worth reading.
    Reconnect,
    /// The server is a classic one.
    Classic,
}

impl Client {
    /// Fetches files, from an extended server pipelined on this connection, from a classic one one after the other. The
    /// results are in the order of the jobs.
    ///
    /// A lost connection is made anew and transfers go on where they stopped ([`Options::retries`](super::Options::retries)).
    /// When it is cancelled the file that is under way keeps its partial file for [`DownloadOptions::resume`], and the
    /// connection is made anew by the next operation.
    pub async fn download(
        &mut self,
        jobs: Vec<Download>,
        options: &DownloadOptions,
        observer: &mut dyn Observer,
    ) -> Vec<Result<Received, Error>> {
        let mut run = Run::new(jobs, options, observer, self.options.portable);
        let mut losses = Losses::default();
        let mut more = self.further(options.sessions);
        while !run.queue.is_empty() {
            run.progress = false;
            let pass = match more.is_empty() {
                true => self.pass(&mut run).await,
                false => match self.pass_ranges(&mut more, &mut run).await {
                    // What is left over is small.
                    Ok(End::Done) => self.pass(&mut run).await,
                    end => end,
                },
            };
            let error = match pass {
                Ok(End::Done) => continue,
                Ok(End::Reconnect) => {
                    self.disconnect();
                    continue;
                }
                Ok(End::Classic) => {
                    classic::download(self, &mut run).await;
                    break;
                }
                Err(error) => error,
            };
            self.disconnect();
            if !self.may_try_again(&error, &mut losses, run.progress) {
                run.fail_all(&error);
                break;
            }
            run.observer.retrying(losses.count, &error);
            if !self.pause(&losses).await {
                run.fail_all(&Error::Cancelled);
            }
        }
        run.tasks.into_iter().map(|task| task.result.unwrap_or(Err(Error::Cancelled))).collect()
    }

    /// Runs the queue down on one connection.
    async fn pass(&mut self, run: &mut Run<'_>) -> Result<End, Error> {
        prepare::download(self, run).await?;
        let mut flight = VecDeque::new();
        let mut checks = Vec::new();
        let end = self.pump_reads(run, &mut flight, &mut checks).await;
        for flight in flight.into_iter().rev() {
            let Flight::Read(task) = flight else { continue };
            if matches!(run.tasks[task].fate, Fate::Keep) {
                run.queue.push_front(task);
            } else {
                // Its file may hold more than its sink knows of.
                run.settle(task);
            }
        }
        if !checks.is_empty() && matches!(end, Ok(End::Done)) {
            return self.check(run, checks).await.map(|()| End::Done);
        }
        run.queue.extend(checks);
        end
    }

    async fn pump_reads(
        &mut self,
        run: &mut Run<'_>,
        flight: &mut VecDeque<Flight>,
        checks: &mut Vec<usize>,
    ) -> Result<End, Error> {
        self.ready().await?;
        let Some((connection, patience)) = self.parts() else { return Ok(End::Reconnect) };
        loop {
            if connection.hello() == Some(None) {
                return Ok(End::Classic);
            }
            while let Some(&index) = run.queue.front().filter(|_| connection.can_request(2)) {
                run.queue.pop_front();
                if !run.is_open(index) {
                    continue;
                }
                let task = &run.tasks[index];
                let name = parse(&task.name)?;
                if run.options.mtime && task.sink.path().is_some() && task.mtime.is_none() {
                    connection.request(&request(Request::Stat { name }))?;
                    flight.push_back(Flight::Stat(index));
                }
                flight.push_back(Flight::Read(index));
                connection.request(&request(Request::Read { offset: task.sink.offset(), length: None, name }))?;
            }
            loop {
                let event = match connection.poll()? {
                    Incoming::Nothing => break,
                    Incoming::Payload(range) => {
                        let Some(&Flight::Read(index)) = flight.front() else { continue };
                        run.take(index, connection.input(range), connection.body_crc());
                        if run.is_unwanted(index) {
                            flight.pop_front();
                            run.settle(index);
                            return Ok(End::Reconnect);
                        }
                        continue;
                    }
                    Incoming::Event(event) => event,
                };
                match (event, flight.front()) {
                    (Event::Ignored, _) => {}
                    (Event::Read { length, size, tag }, Some(&Flight::Read(index))) => {
                        run.begin(index, length, size, tag);
                        if run.is_unwanted(index) {
                            flight.pop_front();
                            run.settle(index);
                            return Ok(End::Reconnect);
                        }
                    }
                    // In place of a reply, and the connection is closed (PROTOCOL §5).
                    (Event::Refused(error), Some(_)) if error.is_connection() => return Err(error),
                    (event, Some(&front)) => {
                        flight.pop_front();
                        run.answer(front, event, checks);
                    }
                    (_, None) => {}
                }
            }
            if flight.is_empty() && run.queue.is_empty() {
                return Ok(End::Done);
            }
            if connection.owed() > 0 {
                connection.exchange(patience).await?;
            }
        }
    }

    /// Compares whole files whose beginning no TAG vouches for.
    pub(super) async fn check(&mut self, run: &mut Run<'_>, checks: Vec<usize>) -> Result<(), Error> {
        let names = checks.iter().map(|&index| parse(&run.tasks[index].name)).collect::<Result<Vec<_>, _>>()?;
        let sums = names.into_iter().map(|name| request(Request::Sum { offset: 0, length: None, name }));
        let sums = self.batch(&sums.collect::<Vec<_>>(), "continuing", Again::Yes).await;
        let mut lost = Ok(());
        for (index, sum) in checks.into_iter().zip(sums) {
            let sink = &run.tasks[index].sink;
            match sum {
                Ok(Event::Sum { length, crc }) if length == sink.offset() && crc == Some(sink.crc().value()) => {
                    run.commit(index, true);
                }
                Ok(_) => run.restart(index),
                Err(error) => match prepare::no(error) {
                    Ok(_) => run.restart(index),
                    Err(error) => {
                        run.queue.push_back(index);
                        lost = Err(error);
                    }
                },
            }
        }
        lost
    }
}

impl<'a> Run<'a> {
    fn new(jobs: Vec<Download>, options: &'a DownloadOptions, observer: &'a mut dyn Observer, portable: bool) -> Self {
        let tasks = jobs.into_iter().map(|job| Task {
            name: job.name,
            sink: Sink::new(job.target),
            mtime: job.mtime,
            stat: None,
            resumed: 0,
            began: 0,
            check: false,
            restarts: 0,
            sessions: 1,
            fate: Fate::Keep,
            result: None,
        });
        let mut run = Self {
            tasks: tasks.collect(),
            queue: VecDeque::new(),
            options,
            observer,
            portable,
            progress: false,
            prepared: false,
        };
        for index in 0..run.tasks.len() {
            match parse(&run.tasks[index].name) {
                Ok(_) => run.queue.push_back(index),
                Err(error) => run.fail(index, error),
            }
        }
        run
    }

    /// `read` was accepted: a body of `length` bytes follows.
    fn begin(&mut self, index: usize, length: u64, size: u64, tag: Tag) {
        let task = &mut self.tasks[index];
        let offset = task.sink.offset();
        task.began = offset;
        task.fate = Fate::Keep;
        if offset.checked_add(length) != Some(size) {
            let what = format!("only {length} bytes from {offset} on were announced of a file of {size}");
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
        self.observer.started(index, &task.name, size, offset);
    }

    /// Bytes of the body have come; `crc` is that of the body with these.
    fn take(&mut self, index: usize, bytes: &[u8], crc: Crc32c) {
        let task = &mut self.tasks[index];
        if !matches!(task.fate, Fate::Keep) {
            return;
        }
        // The body's checksum is the file's if it began with the first byte.
        let crc = (task.began == 0).then_some(crc);
        match task.sink.write(bytes, crc, self.options) {
            Ok(()) => {
                self.progress = true;
                self.observer.progress(index, bytes.len() as u64);
            }
            Err(error) => task.fate = Fate::Fail(error),
        }
    }

    /// True if the rest of the body is not worth reading.
    fn is_unwanted(&self, index: usize) -> bool {
        let task = &self.tasks[index];
        let left = task.sink.version().map_or(u64::MAX, |(size, _)| size.saturating_sub(task.sink.offset()));
        !matches!(task.fate, Fate::Keep) && left > MAX_UNWANTED
    }

    /// Carries a fate other than keeping out.
    fn settle(&mut self, index: usize) {
        match core::mem::replace(&mut self.tasks[index].fate, Fate::Keep) {
            Fate::Keep => {}
            Fate::Restart => self.restart(index),
            Fate::Fail(error) => self.fail(index, error),
        }
    }

    /// What answers `stat`, or ends `read`.
    fn answer(&mut self, flight: Flight, event: Event, checks: &mut Vec<usize>) {
        match (flight, event) {
            (Flight::Stat(index), Event::Stat(stat)) => self.tasks[index].stat = Some(stat),
            // The `read` behind it tells what is wrong.
            (Flight::Stat(_), _) => {}
            (Flight::Read(index), Event::BodyEnd(end)) => self.end(index, end, checks),
            (Flight::Read(index), Event::Refused(error)) => {
                let range = error.code() == Some(super::ErrorCode::Range) && self.tasks[index].sink.offset() > 0;
                if range { self.restart(index) } else { self.fail(index, error) }
            }
            (Flight::Read(index), event) => self.fail(index, super::commands::refusal(event)),
        }
    }

    fn end(&mut self, index: usize, end: Result<Option<u32>, Error>, checks: &mut Vec<usize>) {
        if !matches!(self.tasks[index].fate, Fate::Keep) {
            return self.settle(index);
        }
        let task = &self.tasks[index];
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

    /// The file is whole: puts it in place.
    pub(super) fn commit(&mut self, index: usize, verified: bool) {
        let crc = Some(self.tasks[index].sink.crc().value());
        self.put_in_place(index, verified, crc);
    }

    /// The same for a file of which nothing but the length is known.
    pub(super) fn commit_unverified(&mut self, index: usize) {
        self.put_in_place(index, false, None);
    }

    fn put_in_place(&mut self, index: usize, verified: bool, crc: Option<u32>) {
        let task = &mut self.tasks[index];
        let mtime = task.mtime.or_else(|| task.stat.and_then(|stat| stat.mtime));
        let set = mtime.filter(|_| self.options.mtime);
        let size = task.sink.offset();
        match task.sink.commit(set, self.options, self.portable) {
            Ok(path) => {
                let (resumed, sessions) = (task.resumed, task.sessions);
                let bytes = task.sink.take_bytes();
                let received = Received { path, bytes, size, resumed, verified, crc, mtime, sessions };
                self.finish(index, Ok(received));
            }
            Err(error) => self.fail(index, error),
        }
    }

    /// True if the file has no result yet.
    pub(super) fn is_open(&self, index: usize) -> bool {
        self.tasks[index].result.is_none()
    }

    /// Begins the file anew, behind the others.
    pub(super) fn restart(&mut self, index: usize) {
        if self.begin_anew(index) {
            self.queue.push_back(index);
        }
    }

    /// Forgets what has come of a file. False: it failed too often.
    pub(super) fn begin_anew(&mut self, index: usize) -> bool {
        let task = &mut self.tasks[index];
        task.restarts += 1;
        if !task.sink.can_restart() || task.restarts > MAX_RESTARTS {
            let what = "the file changed on the server while it was fetched".to_owned();
            self.fail(index, Error::Mismatch { what });
            return false;
        }
        task.sink.reset();
        task.resumed = 0;
        true
    }

    /// The file will not come: nothing of it stays.
    pub(super) fn fail(&mut self, index: usize, error: Error) {
        self.tasks[index].sink.reset();
        self.finish(index, Err(error));
    }

    /// Everything that is left fails. What has come of it stays, unless the server can't be trusted.
    pub(super) fn fail_all(&mut self, error: &Error) {
        for index in core::mem::take(&mut self.queue) {
            if !self.is_open(index) {
                continue;
            }
            if matches!(error, Error::Protocol { .. }) {
                self.tasks[index].sink.reset();
            }
            self.finish(index, Err(error.clone()));
        }
    }

    pub(super) fn finish(&mut self, index: usize, result: Result<Received, Error>) {
        self.progress = true;
        self.observer.received(index, &result);
        self.tasks[index].result = Some(result);
    }
}
