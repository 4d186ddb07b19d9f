//! One control connection: the loop round its session.
//!
//! Data flows through here in one direction at a time: from the socket through `input` into session and store, or from
//! the store through `output` to the socket. [`Connection::step`] does whatever can be done at once, and
//! [`Connection::wait`] sleeps until something else can. Between commands there is no [`Connection`], only a [`Link`].

use core::fmt;
use core::future::poll_fn;
use core::mem;
use core::net::SocketAddr;
use core::pin::Pin;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Poll;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use skiff_proto::command::{Request, command_len};
use skiff_proto::message::MAX_LENGTH;
use skiff_proto::name::MAX_NAME;
use skiff_proto::server::{Answer, Close, Parked, ServerEvent, ServerSession};
use skiff_proto::store::{Stat, clamp_range};
use skiff_proto::{ErrorCode, InvalidState, Refusal};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tracing::{debug, info, warn};

use super::audit;
use super::batch::Batch;
use super::data::{self, Purpose};
use super::names::Names;
use super::output::{Listing, Output, Reading};
use super::pool::{self, Ticket};
use super::work::{self, Change, Done, Sum, Write};
use super::{Phase, Shared};
use crate::store::{Cursor, File, Stage};

/// Bytes that may be discarded after the last reply, so that no reset destroys it (PROTOCOL §1).
const LINGER_BYTES: usize = 64 * 1024;
/// And for how long.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// How often a connection that waits for the bytes of a `write` calls [`Owner::look`](crate::store::Owner::look).
const WRITER_LOOK: Duration = Duration::from_secs(1);

/// Entries of a directory that are counted on the spot.
const SMALL_LIST: u32 = 1000;

/// Bytes of a `sum` that are read on the spot.
const SMALL_SUM: u64 = 256 * 1024;

/// How long a connection may run before it yields to the others. A time, not a number of steps: yielding costs some
/// microseconds, a step of a small file less than one, and one of a large file a hundred.
const TURN: Duration = Duration::from_millis(1);

/// Steps between two looks at the clock, each of which takes as long as a small step; with a file open, which may be a large
/// one, every step has its look.
const LOOK: u32 = 8;

/// What the session has open in the store.
#[derive(Debug)]
pub(super) enum Open {
    Nothing,
    /// A `read`.
    Reading(Box<Reading>),
    /// A `list`.
    Listing(Box<Listing>),
    /// A classic `ls`.
    Names(Box<Names>),
    /// A `write`.
    Writing {
        stage: Box<Stage>,
        name: Box<str>,
    },
}

/// A file that a request has asked for.
type Opened = Result<(File, Stat), Refusal>;

/// Why a [`Connection`] is needed no more.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The connection is to end.
    Close(Close),
    /// Nothing is under way.
    Rest(Parked),
}

/// The refusal of a request for a file system that does not respond.
const SILENT: Refusal = Refusal::new(ErrorCode::Io, "the file system that this name leads to does not answer");

/// TCP keep-alive for a peer that has closed its side: the time in seconds before and between probes, and their number.
const ASK: (u64, u32) = (5, 3);

/// Work that a request waits for, with the ticket that lowers its priority.
struct Work {
    done: Pin<Box<dyn Future<Output = Option<Done>> + Send>>,
    ticket: Option<Arc<Ticket>>,
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

/// A request that has to wait until the batch before it is durable.
#[derive(Debug)]
enum Waiting {
    Write(Write),
    Change(Change),
}

/// One control connection, as long as it lasts.
///
/// Most of them rest most of the time. What it takes to do more lies apart, and is free again when nothing is under way.
#[derive(Debug)]
pub(super) struct Link {
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    phase: watch::Receiver<Phase>,
    /// When one of its data connections has made progress last.
    progress: Option<Arc<AtomicU64>>,
    /// Its session, while that rests.
    rest: Option<Parked>,
}

impl Link {
    pub(super) fn new(shared: &Arc<Shared>, stream: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (shared, phase) = (Arc::clone(shared), shared.phase.subscribe());
        Ok(Self { shared, stream, peer, phase, progress: None, rest: None })
    }

    /// Serves to the end.
    pub(super) async fn serve(mut self: Box<Self>) {
        loop {
            match roam(self).await {
                Some(link) => self = link,
                None => return,
            }
            let Some(rest) = self.rest else { return };
            let deadline = self.shared.deadline(rest.poll_timeout(&self.shared.options.limits()));
            tokio::select! {
                // An error will come again when the stream is read.
                _ = ready(&self.stream, true, false) => {}
                () = tokio::time::sleep_until(deadline) => {}
                _ = self.phase.changed() => {}
            }
        }
    }

    /// Does what there is to do, until the session rests or the connection has ended.
    async fn work(mut self: Box<Self>) -> Box<Self> {
        self.rest = Connection::new(&mut self).serve().await;
        self
    }
}

/// Runs [`Link::work`], on another thread if necessary; `None` if it can't be finished.
async fn roam(link: Box<Link>) -> Option<Box<Link>> {
    let (shared, client) = (Arc::clone(&link.shared), link.peer.ip());
    // Boxed: it may move to another thread.
    shared.pool.roam(client, Box::pin(link.work()), false).await
}

/// One control connection while something is under way.
#[derive(Debug)]
pub(super) struct Connection<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) stream: &'a TcpStream,
    pub(super) session: ServerSession<{ command_len(MAX_NAME) }>,
    /// Input that the session could not take yet, and how much of it it has taken since.
    pub(super) input: Vec<u8>,
    pub(super) taken: usize,
    pub(super) output: Output,
    pub(super) open: Open,
    pub(super) batch: Batch,
    /// The peer has sent everything it will.
    pub(super) ended: bool,
    peer: SocketAddr,
    waiting: Option<Box<Waiting>>,
    work: Option<Work>,
    /// The peer closed its side while it waits for work.
    doubtful: bool,
    /// The next step touches a file system mounted beneath the root, which this thread must not wait for.
    pub(super) leaving: bool,
    /// No thread for other file systems is available: the next step is refused.
    pub(super) stranded: bool,
    /// Told when another connection takes over the name that this one writes.
    evicted: Option<Arc<Notify>>,
    progress: &'a mut Option<Arc<AtomicU64>>,
    phase: &'a mut watch::Receiver<Phase>,
    /// The driver has used its session wrongly: a bug, and the end of the connection.
    broken: bool,
}

impl<'a> Connection<'a> {
    fn new(link: &'a mut Link) -> Self {
        let Link { shared, stream, peer, phase, progress, rest } = link;
        let limits = shared.options.limits();
        Self {
            session: rest.map_or_else(|| ServerSession::new(limits), |rest| ServerSession::resume(limits, rest)),
            shared,
            stream,
            input: Vec::new(),
            taken: 0,
            output: Output::default(),
            open: Open::Nothing,
            batch: Batch::default(),
            ended: false,
            peer: *peer,
            waiting: None,
            work: None,
            doubtful: false,
            leaving: false,
            stranded: false,
            evicted: None,
            progress,
            phase,
            broken: false,
        }
    }

    /// Serves until the session rests; `None` if the connection has ended.
    async fn serve(&mut self) -> Option<Parked> {
        let end = self.run().await;
        if let Ok(End::Rest(rest)) = end {
            return Some(rest);
        }
        // What has come in part stays staged, and is free for another connection before this one is seen to end.
        if let Open::Writing { stage, name } = mem::replace(&mut self.open, Open::Nothing) {
            audit::upload(self.peer, "write", &name, Some(stage.size()), "interrupted");
        }
        match end {
            Ok(End::Close(Close::Reset)) => {
                info!(peer = %self.peer, "reset");
                super::reset(self.stream);
            }
            Ok(_) => {
                debug!(peer = %self.peer, "closed");
                linger(self.stream).await;
            }
            Err(error) => debug!(peer = %self.peer, %error, "lost"),
        }
        // What a client has sent whole, it gets, whether it still listens or not.
        self.batch.finish(self.shared, self.peer.ip()).await;
        None
    }

    async fn run(&mut self) -> io::Result<End> {
        loop {
            let mut begin = self.tick();
            let mut steps = 0_u32;
            while self.step()? {
                steps = steps.wrapping_add(1);
                let looks = steps.is_multiple_of(LOOK) || !matches!(self.open, Open::Nothing);
                if looks && begin.elapsed() >= TURN {
                    tokio::task::yield_now().await;
                    begin = self.tick();
                }
            }
            if self.broken {
                return Ok(End::Close(Close::Reset));
            }
            match self.session.poll_close() {
                Some(Close::Reset) => return Ok(End::Close(Close::Reset)),
                Some(Close::Gracefully) if self.output.is_empty() => return Ok(End::Close(Close::Gracefully)),
                _ => {}
            }
            if self.is_idle() {
                if *self.phase.borrow() == Phase::Closing {
                    return Ok(End::Close(Close::Gracefully));
                }
                if let Some(rest) = self.session.park() {
                    return Ok(End::Rest(rest));
                }
            }
            if mem::take(&mut self.leaving) {
                self.stranded = !pool::leave().await;
                continue;
            }
            self.wait().await?;
        }
    }

    /// True if nothing is under way.
    fn is_idle(&self) -> bool {
        self.session.is_idle() && self.output.is_empty() && self.input.is_empty() && self.batch.is_empty()
    }

    /// Tells the session the time; and says it.
    fn tick(&mut self) -> Instant {
        let now = Instant::now();
        if let Some(progress) = self.progress {
            // What a data connection has moved counts here as well (PROTOCOL §3).
            let at = progress.swap(0, Ordering::Relaxed);
            if at > 0 {
                self.session.handle_progress(skiff_proto::Instant::from_millis(at));
            }
        }
        self.session.handle_timeout(self.shared.time(now));
        now
    }

    /// Does one thing that can be done at once; false if there is none, and then what waits for the socket has gone out as
    /// far as it takes it.
    fn step(&mut self) -> io::Result<bool> {
        if self.broken {
            return Ok(false);
        }
        let moved = (self.output.has_room() || self.output.flush(self.stream)?) && self.advance()?;
        if !moved {
            self.output.flush(self.stream)?;
        }
        Ok(moved)
    }

    /// [`Connection::step`], with room for output.
    fn advance(&mut self) -> io::Result<bool> {
        if self.session.has_output() {
            self.output.transmit(&mut self.session);
            return Ok(true);
        }
        if let Some(answer) = self.batch.front() {
            let given = self.session.answer_deferred(answer);
            self.check(given.map(drop));
            self.batch.pop();
            return Ok(true);
        }
        if self.batch.is_due() {
            self.close_batch();
        }
        if let Some(waiting) = self.waiting.take_if(|_| self.batch.is_empty()) {
            match *waiting {
                Waiting::Write(write) => self.begin_write(write),
                Waiting::Change(change) => self.change(change),
            }
            return Ok(true);
        }
        if self.work.is_some() || self.waiting.is_some() {
            self.close_batch();
            return Ok(false);
        }
        if self.leaving {
            return Ok(false);
        }
        if self.event() {
            return Ok(true);
        }
        if self.session.is_sending() {
            return self.send();
        }
        Ok(!self.leaving && !self.batch.is_full() && self.receive()?)
    }

    /// True if the session can use what the peer sends next.
    pub(super) fn wants_input(&self) -> bool {
        !self.ended && self.session.want_read() > 0
    }

    /// Sleeps until there is something to do.
    async fn wait(&mut self) -> io::Result<()> {
        let reads = self.wants_input()
            && self.input.is_empty()
            && self.work.is_none()
            && self.waiting.is_none()
            && !self.batch.is_full()
            && self.output.is_empty();
        let writes = !self.output.is_empty() || self.session.is_sending();
        let evicted = self.evicted.as_deref();
        let is_writing = evicted.is_some() && matches!(self.open, Open::Writing { .. });
        let session = self.session.poll_timeout().map(|at| self.shared.deadline(at));
        let look = is_writing.then(|| tokio::time::Instant::now() + WRITER_LOOK);
        let deadline = session.into_iter().chain(self.batch.deadline()).chain(look).min();
        let (stream, shared, doubtful) = (self.stream, self.shared, self.doubtful);
        let work = self.work.as_mut().map(|work| &mut work.done);
        tokio::select! {
            ready = ready(stream, reads, writes) => ready?,
            // In memory of its own: most wait without it.
            gone = async { Box::pin(gone(stream, doubtful)).await }, if work.is_some() => {
                gone?;
                // The peer may still wait for the answer, or it may be gone. Only keep-alive probes can tell.
                self.doubtful = true;
                keep_asking(stream);
                if let Some(ticket) = self.work.as_ref().and_then(|work| work.ticket.as_ref()) {
                    ticket.doubt();
                }
            }
            done = async { work.expect("guarded").await }, if work.is_some() => {
                self.work = None;
                // The time that it took is ours.
                self.session.handle_timeout(shared.now());
                self.done(done.unwrap_or(Done::Answer(Err(ErrorCode::Io.into()))));
            }
            () = self.batch.committed() => {}
            // In memory of its own: most wait without it.
            () = async { Box::pin(evicted.expect("guarded").notified()).await }, if is_writing => self.lose(),
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                if self.batch.is_due() {
                    self.close_batch();
                }
            }
            _ = self.phase.changed() => {}
        }
        if let Open::Writing { stage, .. } = &self.open {
            stage.owner().look();
        }
        Ok(())
    }

    /// Begins to make the batch durable.
    pub(super) fn close_batch(&mut self) -> bool {
        self.batch.close(self.shared, self.peer.ip())
    }

    /// Ends the connection if another one has taken over the name that it writes. Its staged bytes stay.
    fn lose(&mut self) {
        if let Open::Writing { stage, .. } = &self.open
            && stage.is_evicted()
        {
            warn!(peer = %self.peer, "connection closed: it was silent for too long, and another client took over its upload");
            self.broken = true;
        }
    }

    /// Takes the session's next event, if there is one that leads on.
    fn event(&mut self) -> bool {
        let shared = Arc::clone(self.shared);
        let store = &shared.store;
        let Some(event) = self.session.poll_event() else { return false };
        let answered = match event {
            ServerEvent::Flush => {
                self.close_batch();
                return false;
            }
            ServerEvent::Discard => {
                if let Open::Writing { stage, name } = mem::replace(&mut self.open, Open::Nothing) {
                    audit::upload(self.peer, "write", &name, Some(stage.size()), "discarded");
                    store.discard(*stage);
                }
                Ok(())
            }
            ServerEvent::Commit { size, crc } => match mem::replace(&mut self.open, Open::Nothing) {
                Open::Writing { stage, name } => match work::parse(&name) {
                    Ok(parsed) => {
                        let audit = audit::Entry::write(self.peer, &name, size);
                        self.batch.push(parsed, *stage, crc, audit);
                        self.session.defer()
                    }
                    Err(refusal) => self.session.refuse(refusal),
                },
                _ => Err(InvalidState),
            },
            ServerEvent::Request(request) => {
                let stranded = mem::take(&mut self.stranded);
                let elsewhere = match request {
                    Request::Ls => store.has_mounts(),
                    _ => work::names(&request).into_iter().flatten().any(|name| store.is_elsewhere(name)),
                };
                if elsewhere && !pool::is_elsewhere() {
                    if stranded {
                        warn!(peer = %self.peer, ?request, "{}", SILENT.text);
                        let refused = self.session.refuse(SILENT);
                        self.check(refused);
                        return true;
                    }
                    self.leaving = true;
                    let back = self.session.put_back();
                    self.check(back);
                    return false;
                }
                if let Some(change) = Change::of(&request) {
                    self.change(change);
                    return true;
                }
                match request {
                    Request::Stat { name } => match store.stat(name) {
                        Ok(stat) => self.session.answer(Answer::Stat(stat)),
                        Err(refusal) => self.session.refuse(refusal),
                    },
                    Request::Space => match store.space() {
                        Ok(space) => self.session.answer(Answer::Space(space)),
                        Err(refusal) => self.session.refuse(refusal),
                    },
                    Request::Read { offset, length, name } => {
                        debug!(peer = %self.peer, name = ?name.as_str(), offset, "read");
                        let opened = store.open(name);
                        self.read(opened, offset, length)
                    }
                    Request::List { dir } => {
                        let mut omitted = 0;
                        let mut left = SMALL_LIST;
                        // A large directory is read to its end in turns, so that no other client waits.
                        let mut pause = || {
                            left -= 1;
                            left == 0
                        };
                        let listed = store.list(dir).and_then(|mut cursor| {
                            Ok((store.count_omitted(&mut cursor, &mut omitted, &mut pause)?, cursor))
                        });
                        match listed {
                            Ok((true, cursor)) => self.list(omitted, cursor),
                            Ok((false, cursor)) => {
                                self.read_in_turns(work::Reading::Omitted(cursor, omitted));
                                Ok(())
                            }
                            Err(refusal) => self.session.refuse(refusal),
                        }
                    }
                    Request::Ls => {
                        self.read_in_turns(work::Reading::Ls);
                        Ok(())
                    }
                    Request::Resume { size, name } => {
                        let name = name.as_str().into();
                        self.read_in_turns(work::Reading::Resume(size, name));
                        Ok(())
                    }
                    Request::Sum { offset, length, name } => {
                        let opened = store.open(name);
                        self.sum(opened, offset, length)
                    }
                    Request::Write { offset, size, mtime, name } => {
                        let touches = self.batch.touches(name);
                        let write = Write { offset, size, mtime, name: name.as_str().to_owned() };
                        if touches {
                            self.waiting = Some(Box::new(Waiting::Write(write)));
                        } else {
                            self.begin_write(write);
                        }
                        Ok(())
                    }
                    Request::Get { name } => {
                        info!(peer = %self.peer, name = ?name.as_str(), "get");
                        match store.open(name) {
                            Ok((file, stat)) if stat.size <= MAX_LENGTH => self.claim(Purpose::Get(file)),
                            Ok(_) => self.session.refuse(ErrorCode::TooLong.into()),
                            Err(refusal) => self.session.refuse(refusal),
                        }
                    }
                    Request::Put { name } => {
                        let name_owned = name.as_str().into();
                        match store.check_put(name).and_then(|()| store.stage_unnamed(0)) {
                            Ok(stage) => self.claim(Purpose::Put(stage, name_owned)),
                            Err(refusal) => {
                                audit::upload(self.peer, "put", name.as_str(), None, refusal.code.as_str());
                                self.session.refuse(refusal)
                            }
                        }
                    }
                    Request::Remove { .. } | Request::Rename { .. } | Request::Mkdir { .. } | Request::Rmdir { .. } => {
                        self.session.refuse(ErrorCode::Unsupported.into())
                    }
                }
            }
        };
        self.check(answered);
        true
    }

    fn read(&mut self, opened: Opened, offset: u64, length: Option<u64>) -> Result<(), InvalidState> {
        match ranged(opened, offset, length) {
            Ok((length, file, stat)) => {
                let tag = self.shared.store.tag(&file);
                self.session.answer(Answer::Read { length, size: stat.size, tag })?;
                let whole = offset == 0 && length == stat.size;
                if let Some(crc) = stat.crc.filter(|_| whole) {
                    self.session.supply_crc(Some(crc))?;
                }
                self.open = Open::Reading(Box::new(Reading::new(file, offset, whole)));
                Ok(())
            }
            Err(refusal) => self.session.refuse(refusal),
        }
    }

    fn sum(&mut self, opened: Opened, offset: u64, length: Option<u64>) -> Result<(), InvalidState> {
        match ranged(opened, offset, length) {
            Ok((length, _, stat)) if offset == 0 && length == stat.size && stat.crc.is_some() => {
                self.session.answer(Answer::Sum { length, crc: stat.crc.unwrap_or_default() })
            }
            Ok((length, file, _)) => {
                let sum = Sum::new(file, offset, length);
                if length <= SMALL_SUM {
                    let answer = sum.whole(&self.shared.store);
                    self.done(Done::Answer(answer));
                } else {
                    self.read_in_turns(work::Reading::Sum(sum));
                }
                Ok(())
            }
            Err(refusal) => self.session.refuse(refusal),
        }
    }

    /// Begins a `write` that nothing stands in the way of.
    fn begin_write(&mut self, write: Write) {
        if write.offset == 0 {
            let staged = write.stage(&self.shared.store);
            self.staged(staged, write.name.into());
        } else {
            // What is staged has to be read for its checksum.
            self.read_in_turns(work::Reading::Write(write));
        }
    }

    fn staged(&mut self, staged: Result<(Stage, u32), Refusal>, name: Box<str>) {
        let answered = match staged {
            Ok((stage, crc)) => {
                let evicted = Arc::clone(self.evicted.get_or_insert_default());
                stage.owner().on_evict(move || evicted.notify_one());
                self.open = Open::Writing { stage: Box::new(stage), name };
                self.session.answer(Answer::Write { crc })
            }
            Err(refusal) => {
                audit::upload(self.peer, "write", &name, None, refusal.code.as_str());
                self.session.refuse(refusal)
            }
        };
        self.check(answered);
    }

    /// Puts a change into the batch, once the writes before it are durable.
    fn change(&mut self, change: Change) {
        if self.batch.takes_changes() {
            let audit = audit::Entry::change(self.peer, &change);
            self.batch.push_change(change, audit);
            let deferred = self.session.defer();
            self.check(deferred);
        } else {
            self.waiting = Some(Box::new(Waiting::Change(change)));
        }
    }

    /// Answers a `get` or `put` with a port, now or when one is free.
    fn claim(&mut self, purpose: Purpose) -> Result<(), InvalidState> {
        let Ok(at) = self.stream.local_addr() else { return self.session.refuse(ErrorCode::Io.into()) };
        match self.shared.ports.claim(at) {
            Ok(Some(claim)) => self.announce(Some(claim), purpose),
            Ok(None) => {
                let shared = Arc::clone(self.shared);
                let done = Box::pin(async move {
                    let claim = shared.ports.wait(at).await;
                    Some(Done::Claimed(claim.unwrap_or(None), purpose))
                });
                self.wait_for(Work { done, ticket: None });
                Ok(())
            }
            Err(error) => {
                warn!(%error, "no data port available");
                self.session.refuse(ErrorCode::Io.into())
            }
        }
    }

    fn announce(&mut self, claim: Option<super::ports::Claim>, purpose: Purpose) -> Result<(), InvalidState> {
        let port = claim.as_ref().and_then(|claim| claim.port().ok());
        let (Some(claim), Some(port)) = (claim, port) else {
            if let Purpose::Put(_, name) = &purpose {
                audit::upload(self.peer, "put", name, None, ErrorCode::Busy.as_str());
            }
            return self.session.refuse(ErrorCode::Busy.into());
        };
        let progress = self.progress.get_or_insert_default();
        data::start(self.shared, claim, self.peer, purpose, Arc::clone(progress));
        self.session.answer(Answer::Port(port))
    }

    /// Answers a `list` and begins its body.
    fn list(&mut self, omitted: u64, cursor: Cursor) -> Result<(), InvalidState> {
        self.open = Open::Listing(Box::new(Listing::new(cursor)));
        self.session.answer(Answer::List { omitted })
    }

    /// Work is done: the session gets its answer.
    fn done(&mut self, done: Done) {
        let answered = match done {
            Done::Answer(Ok(answer)) => self.session.answer(answer),
            Done::Answer(Err(refusal)) => self.session.refuse(refusal),
            Done::Staged(staged, name) => {
                self.staged(staged, name);
                Ok(())
            }
            Done::Listed(omitted, cursor) => self.list(omitted, cursor),
            Done::Names(Ok(length)) => match self.shared.store.list(None) {
                Ok(cursor) => {
                    if length > 0 {
                        self.open = Open::Names(Box::new(Names::new(cursor)));
                    }
                    self.session.answer(Answer::Ls { length })
                }
                Err(refusal) => self.session.refuse(refusal),
            },
            Done::Names(Err(refusal)) => self.session.refuse(refusal),
            Done::Claimed(claim, purpose) => self.announce(claim, purpose),
        };
        self.check(answered);
    }

    /// Starts a read on the threads of the pool.
    fn read_in_turns(&mut self, mut reading: work::Reading) {
        let store = self.shared.store.clone();
        let done = self.shared.pool.read(self.peer.ip(), move |turn| reading.turn(&store, turn));
        let ticket = Some(done.ticket());
        self.wait_for(Work { done: Box::pin(done), ticket });
    }

    fn wait_for(&mut self, work: Work) {
        if self.doubtful
            && let Some(ticket) = &work.ticket
        {
            ticket.doubt();
        }
        self.work = Some(work);
    }

    /// An answer that did not fit is a bug of this driver: the connection ends, nothing else is harmed.
    pub(super) fn check(&mut self, answered: Result<(), InvalidState>) {
        if answered.is_err() {
            tracing::error!(peer = %self.peer, open = ?self.open, "out of step with the session");
            self.broken = true;
        }
    }

    /// Who is at the other end.
    pub(super) const fn peer(&self) -> SocketAddr {
        self.peer
    }
}

/// Waits until `stream` can be read from or written to, if that is wanted; without memory while it waits, since a stream has one
/// place for each.
async fn ready(stream: &TcpStream, reads: bool, writes: bool) -> io::Result<()> {
    poll_fn(|context| {
        let write = if writes { stream.poll_write_ready(context) } else { Poll::Pending };
        if write.is_ready() || !reads { write } else { stream.poll_read_ready(context) }
    })
    .await
}

/// Says that everything has been sent, then discards what still comes (PROTOCOL §1).
async fn linger(stream: &TcpStream) {
    if socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write).is_err() {
        return;
    }
    let discard = async {
        let mut discarded = 0;
        while discarded < LINGER_BYTES && ready(stream, true, false).await.is_ok() {
            match discard(stream) {
                Ok(0) => return,
                Ok(n) => discarded += n,
                Err(error) if super::would_block(&error) => {}
                Err(_) => return,
            }
        }
    };
    _ = tokio::time::timeout(LINGER_TIME, discard).await;
}

/// Reads and discards some input. A separate function, so that the task does not keep the buffer while it waits.
fn discard(stream: &TcpStream) -> io::Result<usize> {
    stream.try_read(&mut [0; 1024])
}

/// Waits until the peer is gone, which is an error; or, unless that is `known`, until it has closed its side. Input that
/// waits to be read does not matter.
async fn gone(stream: &TcpStream, known: bool) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    let interest = if known { Interest::ERROR } else { Interest::ERROR.add(Interest::PRIORITY) };
    #[cfg(not(target_os = "linux"))]
    let interest = Interest::ERROR;
    let ready = stream.ready(interest).await?;
    if ready.is_error() || ready.is_write_closed() { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
}

/// Turns on TCP keep-alive. A peer that has closed its side and waits for the answer acknowledges the probes. If the
/// peer is gone, its system forgets the connection after a minute (FIN-WAIT-2) and answers a probe with a reset.
fn keep_asking(stream: &TcpStream) {
    let (seconds, times) = ASK;
    let every = Duration::from_secs(seconds);
    let asked = socket2::TcpKeepalive::new().with_time(every).with_interval(every).with_retries(times);
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_keepalive(&asked) {
        debug!(%error, "keepalive");
    }
}

/// The bytes of a file that a `read` or `sum` concerns.
fn ranged(opened: Opened, offset: u64, length: Option<u64>) -> Result<(u64, File, Stat), Refusal> {
    let (file, stat) = opened?;
    Ok((clamp_range(offset, length, stat.size)?, file, stat))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size of the future that `make` returns, without one.
    fn size_of_future<F>(_make: impl FnOnce(Box<Link>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_that_rests_takes_little_memory() {
        let (link, future) = (size_of::<Link>(), size_of_future(Link::serve));
        assert!(link <= 160, "{link}");
        assert!(future <= 352, "{future}");
    }
}
