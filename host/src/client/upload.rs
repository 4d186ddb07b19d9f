//! Many `write`s on one connection.
//!
//! Commands and bodies are packed into one buffer, so that several small files leave in one write; replies are taken as
//! they come, in order. A task is in the queue, then in flight, and then has its result; when the connection is lost, what
//! was in flight goes back into the queue, and the server is asked how far it got.

use core::time::Duration;
use std::collections::VecDeque;

use skiff_proto::ErrorCode;
use skiff_proto::command::{Request, Verb};
use skiff_proto::crc::Crc32c;
use tokio::time::{Instant, sleep};

use super::classic;
use super::commands::{parse, refusal, request};
use super::connection::{Connection, Event, Incoming, Patience};
use super::error::Error;
use super::job::{Observer, Sent, Source, Upload, UploadOptions};
use super::prepare;
use super::source::Input;
use super::{Client, HelloInfo, Losses};

/// Smaller files are sent again as a whole rather than asked about.
pub(super) const WORTH_RESUMING: u64 = 64 << 10;

/// How long a cancelled upload waits for what the server still owes: after Ctrl-C the user does not want to wait.
const FAREWELL: Duration = Duration::from_millis(100);

/// How often, a second apart by default, a file is tried again that the server believes to be written by the connection that was
/// lost: it does so for 5 s (PROTOCOL §7).
const MAX_BUSY: u32 = 8;

/// How often a file is begun anew because what was staged is gone.
const MAX_RESTARTS: u32 = 2;

/// One file on its way.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: String,
    pub(super) source: Source,
    /// Bytes that the server has staged, and their checksum.
    offset: u64,
    crc: Crc32c,
    /// Bytes that were staged by an earlier run.
    resumed: u64,
    /// The connection was lost while it was in flight.
    pub(super) interrupted: bool,
    busy: u32,
    restarts: u32,
    result: Option<Result<Sent, Error>>,
}

/// All files of one call.
pub(super) struct Run<'a> {
    pub(super) tasks: Vec<Task>,
    pub(super) queue: VecDeque<usize>,
    pub(super) options: &'a UploadOptions,
    pub(super) observer: &'a mut dyn Observer,
    /// Files that the server is busy with.
    later: Vec<usize>,
    /// Something was stored or staged since the last failure.
    progress: bool,
    /// The server has been asked what earlier runs left.
    pub(super) prepared: bool,
}

/// A `write` without a reply.
struct Flight {
    task: usize,
    size: u64,
    offset: u64,
    crc: Option<u32>,
    /// Why the body was cut short here; the server's answer to that is of no interest.
    error: Option<Error>,
}

/// The body that is being sent: that of the last flight.
struct Body {
    input: Input,
    check: Check,
}

/// Whether the file still begins with the bytes that were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    /// Not known yet.
    Open,
    /// It was written to: it has to be read once more.
    Due,
    Done,
}

/// How a pass over the connection ended, if not by an error of it.
enum End {
    Done,
    Classic,
}

impl Client {
    /// Sends files, to an extended server pipelined on this connection, to a classic one one after the other. The
    /// results are in the order of the jobs.
    ///
    /// A lost connection is made anew and transfers go on where they stopped ([`Options::retries`](super::Options::retries)).
    /// When it is cancelled in the middle of a file, the connection is closed, so that what the server has of it stays for
    /// [`UploadOptions::resume`]; the next operation makes it anew.
    pub async fn upload(
        &mut self,
        jobs: Vec<Upload>,
        options: &UploadOptions,
        observer: &mut dyn Observer,
    ) -> Vec<Result<Sent, Error>> {
        let mut run = Run::new(jobs, options, observer);
        let mut losses = Losses::default();
        while !run.queue.is_empty() {
            run.progress = false;
            let error = match self.upload_pass(&mut run).await {
                Ok(End::Done) => {
                    self.come_back(&mut run).await;
                    continue;
                }
                Ok(End::Classic) => {
                    classic::upload(self, &mut run).await;
                    break;
                }
                Err(error) => error,
            };
            self.disconnect();
            run.queue.extend(core::mem::take(&mut run.later));
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

    /// Waits a moment before files are tried again that the server is busy with.
    async fn come_back(&self, run: &mut Run<'_>) {
        if run.later.is_empty() {
            return;
        }
        run.queue.extend(core::mem::take(&mut run.later));
        tokio::select! {
            () = self.options.cancel.cancelled() => run.fail_all(&Error::Cancelled),
            () = sleep(self.options.retry_delay.saturating_mul(2)) => {}
        }
    }

    /// Runs the queue down on one connection.
    async fn upload_pass(&mut self, run: &mut Run<'_>) -> Result<End, Error> {
        prepare::upload(self, run).await?;
        let mut flight = VecDeque::new();
        let end = self.pump_writes(run, &mut flight).await;
        for flight in flight.into_iter().rev() {
            let Flight { task, error, .. } = flight;
            match (error, &end) {
                (Some(error), _) => run.fail(task, error),
                (None, Err(Error::Cancelled)) => run.fail(task, Error::Cancelled),
                (None, _) => {
                    run.tasks[task].interrupted = true;
                    run.queue.push_front(task);
                }
            }
        }
        end
    }

    async fn pump_writes(&mut self, run: &mut Run<'_>, flight: &mut VecDeque<Flight>) -> Result<End, Error> {
        // The server has to say first that it knows bodies.
        self.ready().await?;
        self.settle().await?;
        let work = self.options.work;
        let token = self.options.cancel.clone();
        let Some((connection, patience)) = self.parts() else { return Ok(End::Done) };
        let hello = match connection.hello().flatten() {
            Some(hello) if hello.commands.contains(Verb::Write) => hello.clone(),
            _ => return Ok(End::Classic),
        };
        let mut body = None;
        let mut farewell = None;
        loop {
            if farewell.is_none() && patience.cancel.is_some_and(|cancel| cancel.is_cancelled()) {
                run.fail_all(&Error::Cancelled);
                farewell = Some(Instant::now() + FAREWELL);
            }
            // In the middle of a file: an `abort` would drop what the server has staged, so the connection ends instead, once
            // the files before it are confirmed.
            let stopped = farewell.is_some() && body.is_some();
            if connection.pending() == 0 && !stopped {
                fill(connection, run, flight, &mut body, &hello);
                if let Some(sending) = body.as_mut().filter(|body| body.check == Check::Due) {
                    let sent = connection.session().crc().map(Crc32c::from_value).unwrap_or_default();
                    match sending.input.confirm(sent, &token).await {
                        Ok(()) => sending.check = Check::Done,
                        Err(Error::Cancelled) => {}
                        Err(error) => cut(connection, &mut body, flight, error),
                    }
                    continue;
                }
            }
            loop {
                let event = match connection.poll()? {
                    Incoming::Nothing => break,
                    Incoming::Payload(_) => continue,
                    Incoming::Event(event) => event,
                };
                if let Event::Refused(error) = &event
                    && error.is_connection()
                {
                    // In place of a reply, and the connection is closed (PROTOCOL §5).
                    return Err(error.clone());
                }
                let sending = body.is_some() && flight.len() == 1;
                let Some(mut flight) = flight.pop_front() else { continue };
                if sending {
                    // Refused while it is being sent: the rest is not worth the time.
                    body = None;
                    connection.abort(ErrorCode::Cancelled);
                }
                match (flight.error.take(), event) {
                    (Some(error), _) => run.fail(flight.task, error),
                    (None, Event::Stored { size, crc }) => run.confirmed(&flight, size, crc),
                    (None, event) => run.refused(flight.task, refusal(event)),
                }
            }
            if flight.is_empty() && connection.pending() == 0 && !connection.session().has_output() {
                if run.queue.is_empty() {
                    return Ok(End::Done);
                }
                continue;
            }
            if stopped && flight.len() <= 1 {
                // What still lies in the socket would keep the server busy with this file for as long as the link takes.
                connection.reset();
                return Err(Error::Cancelled);
            }
            let idle = if connection.pending() == 0 { work } else { patience.idle };
            let cancel = patience.cancel.filter(|_| farewell.is_none());
            match connection.exchange(Patience { cancel, idle, until: farewell }).await {
                Err(Error::Cancelled) => {}
                Err(_) if farewell.is_some() => return Err(Error::Cancelled),
                result => result?,
            }
        }
    }
}

/// Packs as many commands and bodies as there is room for.
fn fill(
    connection: &mut Connection,
    run: &mut Run<'_>,
    flight: &mut VecDeque<Flight>,
    body: &mut Option<Body>,
    hello: &HelloInfo,
) {
    loop {
        connection.drain();
        if let (Some(sending), Some(last)) = (body.as_mut(), flight.back_mut()) {
            match step(connection, run, sending, last, hello) {
                Ok(Step::Full) => return,
                Ok(Step::On) => {}
                Ok(Step::Ended) => *body = None,
                Err(error) => cut(connection, body, flight, error),
            }
            continue;
        }
        if !connection.can_request(1) {
            return;
        }
        let Some(index) = run.queue.pop_front() else { return };
        if !run.is_open(index) {
            continue;
        }
        match begin(connection, run, index) {
            Ok((started, sending)) => {
                flight.push_back(started);
                *body = Some(sending);
            }
            Err(error) => run.fail(index, error),
        }
    }
}

/// Opens a file and queues its command.
fn begin(connection: &mut Connection, run: &mut Run<'_>, index: usize) -> Result<(Flight, Body), Error> {
    let task = &mut run.tasks[index];
    let mut input = Input::open(&task.source)?;
    let size = input.size();
    if task.offset > size {
        (task.offset, task.crc) = (0, Crc32c::new());
    }
    let offset = task.offset;
    if offset > 0 {
        input.seek(offset)?;
    }
    let mtime = input.mtime().filter(|_| run.options.mtime);
    connection.request(&request(Request::Write { offset, size, mtime, name: parse(&task.name)? }))?;
    let continued = connection.session().continue_crc(task.crc.value());
    continued.map_err(|error| connection.misused(error))?;
    run.observer.started(index, &task.name, size, offset);
    let flight = Flight { task: index, size, offset, crc: None, error: None };
    Ok((flight, Body { input, check: Check::Open }))
}

enum Step {
    On,
    Full,
    Ended,
}

/// Moves the body that is being sent on by one step.
fn step(
    connection: &mut Connection,
    run: &mut Run<'_>,
    body: &mut Body,
    flight: &mut Flight,
    hello: &HelloInfo,
) -> Result<Step, Error> {
    if connection.session().left().is_some_and(|left| left > 0) {
        let sent = connection.send_payload(|room| {
            let n = body.input.read(room)?;
            if n == 0 {
                return Err(body.input.changed());
            }
            run.observer.progress(flight.task, n as u64);
            Ok(n)
        });
        return Ok(if sent? { Step::On } else { Step::Full });
    }
    if connection.session().has_output() {
        return Ok(Step::Full);
    }
    if body.check != Check::Done && !body.input.is_unchanged() {
        body.check = Check::Due;
        return Ok(Step::Full);
    }
    // Only from the first byte on, and only where the server agreed.
    let without = run.options.no_crc && hello.nocrc && flight.offset == 0;
    let session = connection.session();
    flight.crc = session.crc().filter(|_| !without);
    let ended = session.supply_crc(flight.crc).and_then(|()| session.finish());
    ended.map_err(|error| connection.misused(error))?;
    Ok(Step::Ended)
}

/// Cuts the body that is being sent short, for this reason.
fn cut(connection: &mut Connection, body: &mut Option<Body>, flight: &mut VecDeque<Flight>, error: Error) {
    if body.take().is_some() {
        let code = if matches!(error, Error::Changed { .. }) { ErrorCode::Changed } else { ErrorCode::Io };
        connection.abort(code);
        if let Some(last) = flight.back_mut() {
            last.error = Some(error);
        }
    }
}

impl<'a> Run<'a> {
    fn new(jobs: Vec<Upload>, options: &'a UploadOptions, observer: &'a mut dyn Observer) -> Self {
        let tasks = jobs.into_iter().map(|job| Task {
            name: job.name,
            source: job.source,
            offset: 0,
            crc: Crc32c::new(),
            resumed: 0,
            interrupted: false,
            busy: 0,
            restarts: 0,
            result: None,
        });
        let mut run = Self {
            tasks: tasks.collect(),
            queue: VecDeque::new(),
            options,
            observer,
            later: Vec::new(),
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

    /// True if the file has no result yet.
    pub(super) fn is_open(&self, index: usize) -> bool {
        self.tasks[index].result.is_none()
    }

    /// The server has `offset` bytes staged that are right.
    pub(super) fn staged(&mut self, index: usize, offset: u64, crc: Crc32c) {
        let task = &mut self.tasks[index];
        self.progress |= offset > task.offset;
        if !task.interrupted {
            task.resumed = offset;
        }
        (task.offset, task.crc) = (offset, crc);
    }

    /// The server has the whole file already.
    pub(super) fn stored(&mut self, index: usize, size: u64, crc: u32) {
        self.finish(index, Ok(Sent { size, resumed: size, crc: Some(crc), confirmed: true }));
    }

    /// `ok SIZE CRC`
    fn confirmed(&mut self, flight: &Flight, size: u64, crc: Option<u32>) {
        let task = &self.tasks[flight.task];
        let differs = matches!((crc, flight.crc), (Some(theirs), Some(ours)) if theirs != ours);
        if size != flight.size || differs {
            let what = "the server confirms another size or checksum than was sent".to_owned();
            return self.fail(flight.task, Error::Mismatch { what });
        }
        let sent = Sent { size, resumed: task.resumed, crc: flight.crc, confirmed: true };
        self.finish(flight.task, Ok(sent));
    }

    /// The server said no.
    pub(super) fn refused(&mut self, index: usize, error: Error) {
        let task = &mut self.tasks[index];
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
        self.finish(index, Err(error));
    }

    pub(super) fn fail_all(&mut self, error: &Error) {
        for index in core::mem::take(&mut self.queue) {
            if self.is_open(index) {
                self.fail(index, error.clone());
            }
        }
    }

    pub(super) fn finish(&mut self, index: usize, result: Result<Sent, Error>) {
        self.progress |= result.is_ok();
        self.observer.sent(index, &result);
        self.tasks[index].result = Some(result);
    }
}
