//! One file over several sessions, in ranges that are verified one by one and put together.
//!
//! A device sends slowly over a lossy link: it can have little data in flight, and waits long before it retransmits.
//! Several sessions wait in parallel.
//!
//! Ranges are assigned in the order of the file, far enough ahead that every session has work. A range that has arrived
//! with a right checksum waits in memory until everything before it is there; then it goes into the sink. So a partial
//! file is always a prefix of the file, as if one session had downloaded it, and can be resumed in any way. If
//! the transfer is interrupted, data after a gap is lost; [`AHEAD`] bounds it.

use core::future::{Future, poll_fn};
use core::task::Poll;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use skiff_proto::command::Request;
use skiff_proto::reply::Tag;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::resume;
use super::state::Downloads;
use crate::client::commands::{Again, no, refusal, request};
use crate::client::connection::{Connection, Incoming, cancelled};
use crate::client::error::Error;
use crate::client::event::Event;
use crate::client::name::parse;
use crate::client::passes::End;
use crate::client::{Client, ErrorCode};

/// Bytes of a range.
const LEAST: u64 = 32 << 10;
const MOST: u64 = 512 << 10;

/// Ranges for each session between the first byte that is missing and the last one that is asked for. With [`MOST`] it
/// bounds what waits in memory.
const AHEAD: u64 = 4;

/// A session without work for this long also requests a range that another session has not delivered: a stack that
/// waits for an acknowledgement doubles its timeout each time.
const PATIENCE: Duration = Duration::from_secs(1);

/// Ranges that a session may have asked for: while one comes, the next is known.
const ASKED: usize = 2;

impl Client {
    /// Further sessions with the same server; none over a serial line, which carries one.
    pub(super) fn further(&self, sessions: u32) -> Vec<Self> {
        let sessions = if self.remote_addr().is_some() { sessions } else { 1 };
        let more = (1..sessions).map(|_| Self {
            namesakes: Vec::new(),
            address: self.address.clone(),
            peer: self.peer.clone(),
            options: self.options.clone(),
            connection: None,
            hello: self.hello.clone(),
            reconnects: 0,
        });
        more.collect()
    }

    /// Fetches the large files of the queue, one after another, each over this session and those in `more`, if there
    /// are any. Small files stay in the queue.
    pub(super) async fn pass_ranges(&mut self, more: &mut [Self], run: &mut Downloads<'_>) -> Result<End, Error> {
        if more.is_empty() {
            return Ok(End::Done);
        }
        resume::find(self, run).await?;
        let mut small = VecDeque::new();
        while let Some(index) = run.files.next() {
            // A file that changes all the time, such as a log, comes whole only over one session.
            if run.files.tasks[index].restarts > 0 {
                small.push_back(index);
                continue;
            }
            let done = match self.version(run, index).await {
                Ok(None) => continue,
                Ok(Some((size, tag))) => {
                    let left = size.saturating_sub(run.files.tasks[index].sink.offset());
                    if left < 2 * LEAST {
                        small.push_back(index);
                        continue;
                    }
                    self.fetch(more, run, index, (size, tag)).await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                run.files.queue.push_front(index);
                run.files.queue.extend(small);
                return if matches!(error, Error::NeedsExtended { .. }) { Ok(End::Classic) } else { Err(error) };
            }
        }
        run.files.queue = small;
        Ok(End::Done)
    }

    /// SIZE and TAG of a file as it is now; `None` if it can't be read, which has been reported.
    async fn version(&mut self, run: &mut Downloads<'_>, index: usize) -> Result<Option<(u64, Tag)>, Error> {
        let name = run.files.name(index).to_owned();
        let name = parse(&name)?;
        let commands = [request(Request::Stat { name }), request(Request::Read { offset: 0, length: Some(0), name })];
        let mut replies = self.batch(&commands, "get", Again::Yes).await;
        let (version, stat) = (replies.pop(), replies.pop());
        if let Some(Ok(Event::Stat(stat))) = stat {
            run.files.tasks[index].stat = Some(stat);
        }
        match version.unwrap_or(Err(Error::Cancelled)) {
            Ok(Event::Read { size, tag, .. }) => Ok(Some((size, tag))),
            Ok(event) => Err(refusal(event)),
            Err(error) => {
                run.fail(index, no(error)?);
                Ok(None)
            }
        }
    }

    /// Fetches one file. An error is that of a connection: the file then has no result, and what was received of it is
    /// kept.
    async fn fetch(
        &mut self,
        more: &mut [Self],
        run: &mut Downloads<'_>,
        index: usize,
        (size, tag): (u64, Tag),
    ) -> Result<(), Error> {
        let task = &mut run.files.tasks[index];
        if task.sink.offset() == 0 {
            task.sink.reset();
            task.sink.set_version(size, tag);
        } else if task.sink.version() != Some((size, tag)) {
            run.restart(index);
            return Ok(());
        }
        let offset = task.sink.offset();
        let name = run.files.name(index).to_owned();
        run.files.started(index, size, offset);
        let sessions = 1 + more.len() as u64;
        let length = (size - offset).div_ceil(sessions * AHEAD).clamp(LEAST, MOST);
        let board = Board {
            run: &mut *run,
            index,
            size,
            tag,
            sessions,
            length,
            next: offset,
            back: BTreeSet::new(),
            out: BTreeMap::new(),
            here: BTreeMap::new(),
            cut: None,
            brought: 0,
            verified: true,
            outcome: None,
        };
        let shared = Shared { board: Mutex::new(board), moved: Notify::new() };
        let workers = core::iter::once(&mut *self).chain(more.iter_mut());
        let errors = all(workers.map(|client| client.work(&shared, &name)).collect()).await;
        let mut board = shared.board.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Before a retry, it would be committed without having been verified.
        if errors.iter().flatten().any(|error| matches!(error, Error::Cancelled)) {
            board.store_cut();
        }
        let Board { outcome, brought, verified, .. } = board;
        match outcome {
            None => match errors.into_iter().flatten().next() {
                Some(error) => return Err(error),
                // Nobody failed and yet something is missing: there is no such case.
                None => run.restart(index),
            },
            Some(Outcome::Changed) => run.restart(index),
            Some(Outcome::Failed(error)) => run.fail(index, error),
            Some(Outcome::Whole) => {
                let task = &mut run.files.tasks[index];
                task.sessions = brought;
                let known = task.stat.filter(|stat| stat.size == size).and_then(|stat| stat.crc);
                if known.is_some_and(|known| known != task.sink.crc().value()) {
                    run.restart(index);
                } else if tag.is_known() {
                    run.commit(index, verified);
                } else {
                    // Nothing but the whole can tell that all ranges are of one version.
                    self.check(run, vec![index]).await?;
                }
            }
        }
        Ok(())
    }

    /// Fetches ranges over one session until there are none left. Reconnects after a loss if the lost connection has
    /// made progress.
    async fn work(&mut self, shared: &Shared<'_, '_>, name: &str) -> Option<Error> {
        let mut counted = false;
        loop {
            let mut asked = VecDeque::new();
            let mut progress = false;
            let ended = self.exchange_ranges(shared, name, &mut asked, &mut progress).await;
            if progress && !counted {
                counted = true;
                shared.board().brought += 1;
            }
            let left = !asked.is_empty();
            shared.board().give_back(asked);
            shared.moved.notify_waiters();
            match ended {
                Ok(()) => {
                    if left {
                        // Bodies that are no longer needed are in flight.
                        self.disconnect();
                    }
                    return None;
                }
                Err(error) => {
                    self.disconnect();
                    if !progress || !error.is_connection() {
                        return Some(error);
                    }
                }
            }
        }
    }

    async fn exchange_ranges(
        &mut self,
        shared: &Shared<'_, '_>,
        name: &str,
        asked: &mut VecDeque<Range>,
        progress: &mut bool,
    ) -> Result<(), Error> {
        if shared.board().is_settled() {
            return Ok(());
        }
        // A server that is full may not answer for seconds: the others have brought all by then.
        let settled = tokio::select! {
            ready = self.ready() => ready.map(|_| false)?,
            () = shared.settled() => true,
        };
        if settled {
            self.disconnect();
            return Ok(());
        }
        let Some((connection, patience)) = self.parts() else { return Ok(()) };
        let mut idle = Instant::now();
        loop {
            let moved = shared.moved.notified();
            // Nothing before the server has spoken: one that is full may reset the connection a second later, or never,
            // and the others would wait for what it was asked for.
            let known = connection.hello().is_some();
            if known {
                shared.board().ask(connection, name, asked)?;
            }
            if shared.board().is_settled() {
                return Ok(());
            }
            if known && asked.is_empty() {
                tokio::select! {
                    () = cancelled(patience.cancel) => return Err(Error::Cancelled),
                    () = moved => {}
                    () = sleep_until(idle + PATIENCE) => {
                        shared.board().ask_again(connection, name, asked)?;
                        idle = Instant::now();
                    }
                }
                continue;
            }
            if connection.owed() > 0 {
                tokio::select! {
                    done = async {
                        connection.pace(patience.cancel).await;
                        connection.exchange(patience).await
                    } => done?,
                    // Anything still in flight is then not needed.
                    () = shared.settled() => return Ok(()),
                }
            }
            if connection.hello() == Some(None) {
                return Err(Error::NeedsExtended { what: "get -j" });
            }
            loop {
                let event = match connection.poll()? {
                    Incoming::Nothing => break,
                    Incoming::Payload(range) => {
                        if let Some(front) = asked.front_mut() {
                            front.bytes.extend_from_slice(connection.input(range));
                        }
                        continue;
                    }
                    Incoming::Event(Event::Refused(error)) if error.is_connection() => return Err(error),
                    Incoming::Event(event) => event,
                };
                *progress |= shared.board().take(event, asked);
                shared.moved.notify_waiters();
                idle = Instant::now();
            }
        }
    }
}

/// The state that all sessions share.
struct Shared<'a, 'b> {
    board: Mutex<Board<'a, 'b>>,
    /// Something has changed for those who wait.
    moved: Notify,
}

/// A range on its way.
struct Range {
    offset: u64,
    length: u64,
    bytes: Vec<u8>,
}

/// How it ended for the file.
enum Outcome {
    Whole,
    /// It is another version now.
    Changed,
    Failed(Error),
}

/// Who fetches what of a file.
struct Board<'a, 'b> {
    run: &'a mut Downloads<'b>,
    index: usize,
    size: u64,
    tag: Tag,
    sessions: u64,
    /// Bytes of a range.
    length: u64,
    /// Nobody has been asked for what begins here.
    next: u64,
    /// Ranges whose session was lost.
    back: BTreeSet<u64>,
    /// Ranges that one session has been asked for, or several.
    out: BTreeMap<u64, u32>,
    /// Ranges that are here and wait for those before them.
    here: BTreeMap<u64, Vec<u8>>,
    /// The received part of the first missing range, from a session that has ended.
    cut: Option<Range>,
    /// Sessions that have brought something.
    brought: u32,
    verified: bool,
    outcome: Option<Outcome>,
}

impl Board<'_, '_> {
    const fn is_settled(&self) -> bool {
        self.outcome.is_some()
    }

    fn sink_offset(&self) -> u64 {
        self.run.files.tasks[self.index].sink.offset()
    }

    /// The range to be asked for next; `None` if there is none, or none yet.
    fn next_range(&mut self, asked: usize) -> Option<u64> {
        if self.is_settled() || asked >= ASKED {
            return None;
        }
        // Near the end one that waits behind another is better left to a session that has nothing to do.
        let near = self.size.saturating_sub(self.next) < self.sessions * self.length;
        if near && asked > 0 {
            return None;
        }
        if let Some(offset) = self.back.pop_first() {
            return Some(offset);
        }
        let ahead = self.next - self.sink_offset();
        let free = self.next < self.size && ahead < AHEAD * self.sessions * self.length;
        free.then(|| {
            let offset = self.next;
            self.next = (offset + self.length).min(self.size);
            offset
        })
    }

    /// Asks for as much as a session is to have.
    fn ask(&mut self, connection: &mut Connection, name: &str, asked: &mut VecDeque<Range>) -> Result<(), Error> {
        while connection.can_request(1)
            && let Some(offset) = self.next_range(asked.len())
        {
            self.ask_for(offset, connection, name, asked)?;
        }
        Ok(())
    }

    /// Asks for the first range that only one session has been asked for so far.
    fn ask_again(&mut self, connection: &mut Connection, name: &str, asked: &mut VecDeque<Range>) -> Result<(), Error> {
        let first = self.out.iter().find(|(_, times)| **times == 1).map(|(offset, _)| *offset);
        match first.filter(|_| connection.can_request(1)) {
            Some(offset) => self.ask_for(offset, connection, name, asked),
            None => Ok(()),
        }
    }

    fn ask_for(
        &mut self,
        offset: u64,
        connection: &mut Connection,
        name: &str,
        asked: &mut VecDeque<Range>,
    ) -> Result<(), Error> {
        let length = self.length.min(self.size - offset);
        *self.out.entry(offset).or_default() += 1;
        asked.push_back(Range { offset, length, bytes: Vec::new() });
        connection.request(&request(Request::Read { offset, length: Some(length), name: parse(name)? }))
    }

    /// What a session did not bring is for the others.
    fn give_back(&mut self, asked: VecDeque<Range>) {
        for range in asked {
            let offset = range.offset;
            let known = self.cut.as_ref().filter(|cut| cut.offset == offset).map_or(0, |cut| cut.bytes.len());
            if offset == self.sink_offset() && range.bytes.len() > known {
                self.cut = Some(range);
            }
            match self.out.get_mut(&offset) {
                Some(times @ 2..) => *times -= 1,
                Some(_) => {
                    self.out.remove(&offset);
                    self.back.insert(offset);
                }
                // It has come by another one.
                None => {}
            }
        }
    }

    /// Something has come for the first of the ranges that were asked for; true if that was the whole of it.
    fn take(&mut self, event: Event, asked: &mut VecDeque<Range>) -> bool {
        let outcome = match event {
            Event::Read { length, size, tag } => {
                let right = asked.front().is_some_and(|range| range.length == length);
                // A file that was written a moment ago has no TAG; then the whole is verified at the end.
                let is_other = size != self.size || (self.tag.is_known() && tag != self.tag);
                (!right || is_other).then_some(Outcome::Changed)
            }
            Event::BodyEnd(Ok(crc)) => {
                let Some(range) = asked.pop_front() else { return false };
                if self.out.remove(&range.offset).is_some() {
                    self.verified &= crc.is_some();
                    self.here.insert(range.offset, range.bytes);
                    self.store();
                }
                return true;
            }
            Event::BodyEnd(Err(error)) | Event::Refused(error) => {
                let changed = matches!(error.code(), Some(ErrorCode::Range | ErrorCode::Changed));
                Some(if changed { Outcome::Changed } else { Outcome::Failed(error) })
            }
            event => Some(Outcome::Failed(refusal(event))),
        };
        // The first one stays.
        if self.outcome.is_none() {
            self.outcome = outcome;
        }
        false
    }

    /// Puts into the sink what follows on what is there.
    fn store(&mut self) {
        while let Some(bytes) = self.here.remove(&self.sink_offset()) {
            if !self.write(&bytes) {
                return;
            }
        }
        if self.sink_offset() == self.size {
            self.outcome.get_or_insert(Outcome::Whole);
        }
    }

    /// After a cancellation, writes the received part of the first missing range to the sink. It is not verified; a
    /// resume verifies it with everything before it, as with one session.
    fn store_cut(&mut self) {
        let cut = self.cut.take().filter(|cut| self.outcome.is_none() && cut.offset == self.sink_offset());
        if let Some(Range { bytes, .. }) = cut {
            self.write(&bytes);
        }
    }

    /// Appends to the sink. False if that failed, which also fails the file.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let Downloads { files, options, .. } = &mut *self.run;
        if let Err(error) = files.tasks[self.index].sink.write(bytes, None, options) {
            self.outcome.get_or_insert(Outcome::Failed(error));
            return false;
        }
        files.progress = true;
        files.moved(self.index, bytes.len());
        true
    }
}

impl<'a, 'b> Shared<'a, 'b> {
    /// All run in one task, so nobody waits for it; it is a lock so that the task may move between threads.
    fn board(&self) -> MutexGuard<'_, Board<'a, 'b>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is known how it ends.
    async fn settled(&self) {
        loop {
            let moved = self.moved.notified();
            if self.board().is_settled() {
                return;
            }
            moved.await;
        }
    }
}

/// Runs futures side by side, within this task, until all have ended.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Some(Box::pin(future)), None)).collect();
    poll_fn(move |context| {
        for (future, output) in &mut futures {
            if let Some(running) = future
                && let Poll::Ready(value) = running.as_mut().poll(context)
            {
                (*future, *output) = (None, Some(value));
            }
        }
        if futures.iter().any(|(future, _)| future.is_some()) {
            return Poll::Pending;
        }
        Poll::Ready(futures.iter_mut().filter_map(|(_, output)| output.take()).collect())
    })
    .await
}
