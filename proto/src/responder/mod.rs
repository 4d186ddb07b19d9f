//! Executes the requests of a session on a store. Every server uses it.
//!
//! | operation | holds | left by |
//! |---|---|---|
//! | nothing | | a request |
//! | a `read` | the file, an offset | the end of the body, or a failure of the store |
//! | a `list`, a `tree`, an `ls` | a cursor | the end of the listing |
//! | a `sum` | the file, a range, a checksum | its end; each step does a part, so that other sessions can run |
//! | the counting before an `ls` | two cursors, a length | the end of the listing; each step does a part |
//! | a `write` | the stage | the trailer, a failure of the store, the end of the connection |
//! | a `copy` | the file, the stage, a checksum | its end; each step does a part, and a commit follows |
//! | a commit | the stage | the store's answer |
//!
//! A store may answer "not yet" to each of them ([`StoreError::NotYet`]). The request then waits in the session, or the
//! responder keeps the operation, and the driver calls again when the store is ready. A store may also queue changes,
//! to make several of them durable together; the responder answers them when it has the results.
//!
//! [`Responder::step`] takes events, [`Responder::transmit`] and [`Responder::receive`] move bytes. All memory is the
//! caller's: with `transmit` the store reads directly into the caller's send buffer, and `receive` passes the caller's
//! receive buffer to the store. If these are the socket buffers of a TCP stack, file contents are never copied to
//! another buffer.
//!
//! A driver is a loop around the three calls:
//!
//! ```
//! # use skiff_proto::{Instant, responder::*, server::*, store::Store};
//! fn turn<S: Store, const BUF: usize>(
//!     responder: &mut Responder<S>, session: &mut ServerSession<BUF>, store: &mut S, now: Instant,
//!     socket: &mut impl Socket,
//! ) -> Option<Close> {
//!     session.handle_timeout(now);
//!     while responder.step(session, store, &mut NoServices) == Step::Progress {} // or one step per turn, for fairness
//!     while socket.lend_room(|room| responder.transmit(session, store, room)) > 0 {}
//!     while socket.lend_input(|input| responder.receive(session, store, input)) > 0 {}
//!     store.flush(); // unless more input is waiting
//!     let close = session.poll_close();
//!     if close.is_some() {
//!         responder.close(); // staged bytes stay for `resume`
//!     }
//!     close
//! }
//! # trait Socket {
//! #     fn lend_room(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize;
//! #     fn lend_input(&mut self, f: impl FnOnce(&mut [u8]) -> usize) -> usize;
//! # }
//! ```
//!
//! # What a listing costs
//!
//! A line is never split, so none has to be stored: `transmit` composes a data message of a `list` in the send buffer,
//! from as many whole lines as fit. The drawback is that it needs [`list_room`] contiguous bytes (127 for names of 64
//! bytes) before it continues a `list`, and that up to a line's length of the buffer stays empty. If a ring buffer
//! offers only a short piece before its end, this does not block the listing: the preceding bytes are eventually
//! acknowledged, and an empty ring buffer is contiguous. The alternatives cost more: a line stored in each session
//! takes 117 bytes of RAM (308 for the longest names), and a cursor that reads the same entry again can return a
//! different line after the store has changed.

mod payload;

use core::mem;
use core::task::Poll;

use crate::cipher::Cipher;
use crate::command::Request;
use crate::crc::crc32c;
use crate::error::{ErrorCode, Refusal};
use crate::identity::StageOwner;
use crate::message::{HEADER_LEN, MAX_LENGTH};
use crate::name::{MAX_NAME, Name};
use crate::reply::MAX_LIST_LINE;
use crate::server::{Answer, ServerEvent, ServerSession};
use crate::store::{Result, Staging, Stat, Store, StoreError, Sum, clamp_range};
use payload::{Sent, append, list, ls, read};

/// The contiguous bytes that [`Responder::transmit`] needs to continue a listing of names of up to `name_max` bytes:
/// the length of a data message and one line. The buffer that room is borrowed from must be at least this large.
#[must_use]
pub const fn list_room(name_max: u16) -> usize {
    HEADER_LEN + MAX_LIST_LINE - MAX_NAME + name_max as usize
}

/// What [`Responder::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[must_use]
pub enum Step {
    /// There is nothing to do until bytes have moved.
    Idle,
    /// Something was done, and there may be more: call again, perhaps after other sessions.
    Progress,
    /// The store is not ready: call again when it is.
    Pending,
}

/// The services that a responder needs from the rest of the server. The defaults suit a server with one stream, which
/// can't open data connections.
pub trait Services<S: Store> {
    /// A classic `get`: returns the port of a data connection that will send `file`. A refusal is answered `-1`. After
    /// `Poll::Pending`, the caller of [`Responder::step`] must give the session the answer later: [`Answer::Port`] or a
    /// refusal.
    ///
    /// # Errors
    /// Any.
    fn get(&mut self, name: Name<'_>, file: S::File, stat: Stat) -> Poll<Result<u16, Refusal>> {
        _ = (name, file, stat);
        Poll::Ready(Err(ErrorCode::Unsupported.into()))
    }

    /// A classic `put`: returns the port of a data connection that will receive a file, to be stored under `name` or
    /// the first free numbered name ([`commit_numbered`](crate::transfer::commit_numbered)). `stage` is already open,
    /// so the store accepts the file. Answered like [`Services::get`].
    ///
    /// # Errors
    /// Any.
    fn put(&mut self, store: &mut S, name: Name<'_>, stage: S::Stage) -> Poll<Result<u16, Refusal>> {
        _ = name;
        store.discard(stage);
        Poll::Ready(Err(ErrorCode::Unsupported.into()))
    }

    /// Called when the store reports that `name` is busy. Close its writer ([`Responder::is_writing`]) if that has been
    /// silent for 5 s ([`takeover`](crate::takeover)), and return true: the responder then calls the store again.
    fn take_over(&mut self, name: Name<'_>) -> bool {
        _ = name;
        false
    }
}

/// No services: one stream, and no data connections.
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct NoServices;

impl<S: Store> Services<S> for NoServices {}

/// Everything that one session has open in a store. Dropping it closes everything; staged bytes stay for `resume`.
pub struct Responder<S: Store> {
    work: Work<S>,
    /// The store has answered "not yet".
    waiting: bool,
}

enum Work<S: Store> {
    Nothing,
    Read {
        file: S::File,
        offset: u64,
        whole: bool,
    },
    List(S::Cursor),
    /// The names are counted with the first cursor and will be sent with the second.
    Count {
        counted: S::Cursor,
        cursor: S::Cursor,
        length: u64,
    },
    Ls(S::Cursor),
    Sum {
        file: S::File,
        sum: Sum,
    },
    Copy {
        file: S::File,
        stage: S::Stage,
        sum: Sum,
    },
    Write {
        stage: S::Stage,
        name: u32,
    },
    Commit {
        stage: S::Stage,
        size: u64,
        crc: Option<u32>,
    },
}

impl<S: Store> Responder<S> {
    /// A responder at the beginning of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { work: Work::Nothing, waiting: false }
    }

    /// Closes everything at the end of the connection. A file that was being written stays staged for `resume`, however
    /// the connection ended (PROTOCOL §7). The responder can be used for another connection.
    pub fn close(&mut self) {
        *self = Self::new();
    }

    /// True while this responder receives bytes of a `write` to `name`: it is the writer that makes `name` busy. If it
    /// has been silent for 5 s, the server closes its session ([`Services::take_over`]).
    #[must_use]
    pub fn is_writing(&self, name: Name<'_>) -> bool {
        matches!(self.work, Work::Write { name: hash, .. } if hash == hash_of(name))
    }

    /// The stage of the `write` that is being received.
    #[must_use]
    pub const fn writing(&self) -> Option<&S::Stage> {
        match &self.work {
            Work::Write { stage, .. } => Some(stage),
            _ => None,
        }
    }

    /// The file that is being sent and the offset of its next byte: for a driver that moves payload past the session
    /// ([`ServerSession::opaque`]), with sendfile for example. It adds the number of bytes moved to the offset.
    #[must_use]
    pub const fn reading(&mut self) -> Option<(&mut S::File, &mut u64)> {
        match &mut self.work {
            Work::Read { file, offset, .. } => Some((file, offset)),
            _ => None,
        }
    }

    /// The driver can't send the rest of the file it is [`reading`](Self::reading): the body ends with `abort CODE`.
    pub fn abort<const BUF: usize, C: Cipher>(&mut self, session: &mut ServerSession<BUF, C>, code: ErrorCode) {
        self.work = Work::Nothing;
        _ = session.abort(code);
    }

    /// True after the store has answered "not yet", and while it has queued changes. The driver then waits for the
    /// store as well as for the peer, and calls again when the store is ready.
    #[must_use]
    pub const fn is_waiting<const BUF: usize, C: Cipher>(&self, session: &ServerSession<BUF, C>) -> bool {
        S::WAITS && (self.waiting || session.deferred() > 0)
    }

    /// Takes the session's next event and executes it, or a bounded part of it. It never waits, never moves payload
    /// between the connection and the store, and reads at most 4 KiB for a `sum` (or as much as the store chooses per
    /// call).
    pub fn step<const BUF: usize, C: Cipher>(
        &mut self,
        session: &mut ServerSession<BUF, C>,
        store: &mut S,
        services: &mut impl Services<S>,
    ) -> Step {
        session.restrict(S::VERBS);
        if S::WAITS {
            self.waiting = false;
            if give_result(session, store) {
                return Step::Progress;
            }
        }
        let (owner, mut kept_crc) = (session.stage_owner(), None);
        let done = match &mut self.work {
            Work::Sum { file, sum } => match store.sum(file, sum) {
                Ok(false) => return Step::Progress,
                done => done.map(|_| Answer::Sum { length: sum.length(), crc: sum.crc() }),
            },
            Work::Copy { file, stage, sum } => match store.copy(file, stage, sum) {
                Ok(false) => return Step::Progress,
                Ok(true) => {
                    let (size, crc) = (sum.length(), sum.known());
                    if let Work::Copy { stage, .. } = mem::replace(&mut self.work, Work::Nothing) {
                        self.work = Work::Commit { stage, size, crc };
                    }
                    return Step::Progress;
                }
                Err(error) => Err(error),
            },
            Work::Count { counted, length, .. } => {
                match store.count_names(counted, session.limits().name_max, length) {
                    Ok(false) => return Step::Progress,
                    Ok(true) => {
                        // The last name has no line end behind it.
                        let length = length.saturating_sub(1);
                        if let Work::Count { cursor, .. } = mem::replace(&mut self.work, Work::Nothing) {
                            self.work = Work::Ls(cursor);
                        }
                        Ok(Answer::Ls { length })
                    }
                    Err(error) => Err(error),
                }
            }
            Work::Commit { stage, size, crc } => {
                store.commit(stage, *crc).map(|()| Answer::Stored { size: *size, crc: *crc })
            }
            _ => match session.poll_event() {
                Some(ServerEvent::Request(request)) => match self.begin(request, owner, store, services, &mut kept_crc)
                {
                    Ok(None) => return Step::Progress,
                    Ok(Some(answer)) => Ok(answer),
                    Err(StoreError::NotYet) if S::WAITS => {
                        _ = session.put_back();
                        Err(StoreError::NotYet)
                    }
                    Err(error) => Err(error),
                },
                Some(ServerEvent::Commit { size, crc }) => match mem::replace(&mut self.work, Work::Nothing) {
                    Work::Write { stage, .. } => {
                        self.work = Work::Commit { stage, size, crc };
                        return Step::Progress;
                    }
                    _ => Err(ErrorCode::Io.into()),
                },
                Some(ServerEvent::Discard) => {
                    self.discard(store);
                    return Step::Progress;
                }
                Some(ServerEvent::Flush) if S::WAITS => {
                    store.flush();
                    Err(StoreError::NotYet)
                }
                Some(ServerEvent::Flush) | None => return Step::Idle,
            },
        };
        let refusal = match done {
            // An answer that does not fit is the store's fault (more bytes staged than the file has); it must not leave
            // the peer without a reply.
            Ok(answer) => session.answer(answer).err().map(|_| ErrorCode::Io.into()),
            Err(StoreError::NotYet) if S::WAITS => {
                self.waiting = true;
                return Step::Pending;
            }
            Err(StoreError::Queued) if S::WAITS => session.defer().err().map(|_| ErrorCode::Io.into()),
            Err(error) => Some(error.refusal()),
        };
        if let Some(refusal) = refusal {
            self.discard(store);
            _ = session.refuse(refusal);
        } else if session.is_sending() {
            if kept_crc.is_some() {
                _ = session.supply_crc(kept_crc);
            }
        } else if !matches!(self.work, Work::Write { .. }) {
            self.work = Work::Nothing;
        }
        Step::Progress
    }

    /// Begins a request. `None`: [`Responder::step`] or, for a data connection, the server gives the answer later.
    fn begin(
        &mut self,
        request: Request<'_>,
        owner: StageOwner,
        store: &mut S,
        services: &mut impl Services<S>,
        kept_crc: &mut Option<u32>,
    ) -> Result<Option<Answer>> {
        let port = |port| match port {
            Poll::Ready(port) => Ok(Some(Answer::Port(port?))),
            Poll::Pending => Ok(None),
        };
        Ok(Some(match request {
            Request::Get { name } => {
                let (file, stat) = store.open(name)?;
                if stat.size > MAX_LENGTH {
                    return Err(ErrorCode::TooLong.into());
                }
                return port(services.get(name, file, stat));
            }
            Request::Put { name } => {
                let stage = store.stage_new(name, 0)?;
                return port(services.put(store, name, stage));
            }
            Request::Ls => {
                self.work = Work::Count { counted: store.list(None)?, cursor: store.list(None)?, length: 0 };
                return Ok(None);
            }
            Request::List { dir } | Request::Tree { dir } => {
                let is_list = matches!(request, Request::List { .. });
                let mut cursor = if is_list { store.list(dir)? } else { store.tree(dir)? };
                let omitted = store.omitted(&mut cursor)?;
                self.work = Work::List(cursor);
                Answer::List { omitted }
            }
            Request::Stat { name } => Answer::Stat(store.stat(name)?),
            Request::Read { offset, length, name } => {
                let (file, stat) = store.open(name)?;
                let length = clamp_range(offset, length, stat.size)?;
                let whole = length == stat.size;
                if whole {
                    *kept_crc = stat.crc;
                }
                let tag = store.tag(&file);
                self.work = Work::Read { file, offset, whole };
                Answer::Read { length, size: stat.size, tag }
            }
            Request::Sum { offset, length, name } => {
                let (file, stat) = store.open(name)?;
                let length = clamp_range(offset, length, stat.size)?;
                self.work = Work::Sum { file, sum: Sum::new(offset, length) };
                return Ok(None);
            }
            Request::Resume { size, name } => {
                let (offset, crc) = unless_busy(name, services, || store.staged(name, owner, size))?;
                Answer::Resume { offset, crc }
            }
            Request::Write { offset, size, mtime, name } => {
                let (stage, crc) =
                    unless_busy(name, services, || store.stage(Staging { name, offset, size, mtime, owner }))?;
                self.work = Work::Write { stage, name: hash_of(name) };
                Answer::Write { crc }
            }
            Request::Remove { name } => done(store.remove(name))?,
            Request::Rename { from, to } => done(store.rename(from, to))?,
            Request::Copy { from, to } => {
                let (file, stat) = store.open(from)?;
                if from == to {
                    return Ok(Some(Answer::Stored { size: stat.size, crc: stat.crc }));
                }
                let (stage, _) = unless_busy(to, services, || {
                    store.stage(Staging { mtime: stat.mtime, owner, ..Staging::new(to, stat.size) })
                })?;
                self.work = Work::Copy { file, stage, sum: Sum::new(0, stat.size) };
                return Ok(None);
            }
            Request::Mkdir { name } => done(store.mkdir(name))?,
            Request::Rmdir { name } => done(store.rmdir(name))?,
            Request::Space => Answer::Space(store.space()?),
        }))
    }

    /// Discards replies, for a driver that has lost its connection: requests that arrived earlier are still executed.
    /// True if there were any.
    pub fn discard_output<const BUF: usize, C: Cipher>(
        &mut self,
        session: &mut ServerSession<BUF, C>,
        store: &mut S,
    ) -> bool {
        let mut moved = false;
        let mut output = [0; 64];
        while !session.is_sending() && self.transmit(session, store, &mut output) > 0 {
            moved = true;
        }
        moved
    }

    /// Writes output into `out`: replies, framing and payload in order, so that a length and the first bytes after it
    /// leave together. Returns the number of bytes; call again until that is 0.
    ///
    /// Returns early (eventually 0) while a listing waits for [`list_room`] contiguous bytes, and while the store [is
    /// not ready](Self::is_waiting). If the store fails, the body ends with an `abort`.
    pub fn transmit<const BUF: usize, C: Cipher>(
        &mut self,
        session: &mut ServerSession<BUF, C>,
        store: &mut S,
        out: &mut [u8],
    ) -> usize {
        let mut written = 0;
        loop {
            written += session.poll_transmit(&mut out[written..]);
            let room = &mut out[written..];
            if room.is_empty() || session.has_output() || !session.is_sending() {
                return written;
            }
            let sent = match &mut self.work {
                Work::Read { file, offset, .. } => read(session, store, file, offset, room),
                Work::List(cursor) => list(session, store, cursor, room),
                Work::Ls(cursor) => ls(session, store, cursor, room),
                // The session is not that of the request.
                _ => Err(ErrorCode::Io.into()),
            };
            let ended = match sent {
                Ok(Sent::Bytes(n)) => {
                    written += n;
                    if !session.is_sending() {
                        self.work = Work::Nothing;
                    }
                    continue;
                }
                Ok(Sent::Wait) => return written,
                Ok(Sent::End) => {
                    if let Work::Read { file, whole: true, .. } = &self.work
                        && let Some(crc) = session.crc()
                    {
                        store.note_crc(file, crc);
                    }
                    session.finish()
                }
                Err(StoreError::NotYet) if S::WAITS => {
                    self.waiting = true;
                    return written;
                }
                Err(error) => session.abort(error.refusal().code),
            };
            self.work = Work::Nothing;
            if ended.is_err() {
                return written;
            }
        }
    }

    /// Consumes input, in place in the caller's memory: framing and commands for the session, payload for the store.
    /// Returns the number of bytes consumed; the rest must be offered again after [`Responder::step`] and
    /// [`Responder::transmit`]. After the peer has broken the protocol, it always returns 0, and the session closes.
    pub fn receive<const BUF: usize, C: Cipher>(
        &mut self,
        session: &mut ServerSession<BUF, C>,
        store: &mut S,
        input: &mut [u8],
    ) -> usize {
        session.restrict(S::VERBS);
        let mut taken = 0;
        while taken < input.len() {
            let stored = match &mut self.work {
                Work::Write { stage, .. } if S::WAITS => match store.ready(stage) {
                    Err(StoreError::NotYet) => {
                        self.waiting = true;
                        break;
                    }
                    ready => ready,
                },
                _ => Ok(()),
            };
            let stored = match stored {
                Ok(()) => {
                    let Ok(received) = session.receive(&mut input[taken..]) else { break };
                    taken += received.taken;
                    if received.payload.is_empty() {
                        break;
                    }
                    match &mut self.work {
                        Work::Write { stage, .. } => append(store, stage, received.payload),
                        _ => Err(ErrorCode::Io.into()),
                    }
                }
                Err(error) => Err(error),
            };
            if let Err(error) = stored {
                self.discard(store);
                if session.refuse(error.refusal()).is_err() {
                    break;
                }
            }
        }
        taken
    }

    /// Closes everything; staged bytes are dropped.
    fn discard(&mut self, store: &mut S) {
        if let Work::Write { stage, .. } | Work::Copy { stage, .. } | Work::Commit { stage, .. } =
            mem::replace(&mut self.work, Work::Nothing)
        {
            store.discard(stage);
        }
    }
}

impl<S: Store> Default for Responder<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives the session the oldest result of the store's queue, if there is one and room for it.
fn give_result<S: Store, const BUF: usize, C: Cipher>(session: &mut ServerSession<BUF, C>, store: &mut S) -> bool {
    if session.deferred() == 0 || session.has_output() {
        return false;
    }
    let answer = match store.next_result() {
        Err(StoreError::NotYet) => return false,
        Err(error) => Err(error.refusal()),
        Ok(None) => Ok(Answer::Done),
        Ok(Some(Stat { size, crc, .. })) => Ok(Answer::Stored { size, crc }),
    };
    session.answer_deferred(answer).is_ok()
}

/// A change has been made.
fn done(change: Result<()>) -> Result<Answer> {
    change.map(|()| Answer::Done)
}

/// Calls the store, and calls it again after `busy` if the silent writer of `name` has been closed.
fn unless_busy<S: Store, T>(
    name: Name<'_>,
    services: &mut impl Services<S>,
    mut ask: impl FnMut() -> Result<T>,
) -> Result<T> {
    match ask() {
        Err(StoreError::Refused(refusal)) if refusal.code == ErrorCode::Busy && services.take_over(name) => ask(),
        result => result,
    }
}

/// A name in four bytes. A collision is harmless: a writer that has been silent for 5 s is closed, and its staged bytes
/// stay.
fn hash_of(name: Name<'_>) -> u32 {
    crc32c(name.as_str().as_bytes())
}
