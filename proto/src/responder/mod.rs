//! What a session has open in a store, and the way between the two: the part that every server's driver would write
//! again.
//!
//! | what is under way | what it holds | left by |
//! |---|---|---|
//! | nothing | | a request |
//! | a `read` | the file, an offset | the end of the body, or a failure of the store |
//! | a `list`, an `ls` | a cursor | the end of the listing |
//! | a `sum` | the file, a range, a checksum | its end: some KiB a step, so that other sessions go on |
//! | the counting before an `ls` | a cursor, a length | the end of the listing: some entries a step |
//! | a `write` | the stage | the trailer, a failure of the store, the end of the connection |
//! | a commit | the stage | the store's answer |
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
//!     while responder.step(session, store, &mut NoNeighbors) == Step::Progress {} // or one step a turn, to be fair
//!     while socket.lend_room(|room| responder.transmit(session, store, room)) > 0 {}
//!     while socket.lend_input(|input| responder.receive(session, store, input)) > 0 {}
//!     let close = session.poll_close();
//!     if close.is_some() {
//!         responder.close(); // what is staged stays for `resume`
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
//! A line is never cut, so none has to be kept: a data message of a `list` is composed in the room that is lent, as many
//! lines as go in whole, and its length is known when the last one is in. The price is that `transmit` needs [`list_room`]
//! bytes in one piece (127 for names of 64 bytes) before it goes on with a `list`, and that up to a line's length of the
//! room stays empty. A ring that lends a short piece before its wrap is no trap: what was sent before is acknowledged in the
//! end, and an empty ring lends all it has. The other ways cost more: a line kept in each session is 117 bytes of RAM (308
//! for the longest names), and asking the cursor for the same entry again can show another line once the store has
//! changed in between.

mod payload;

use core::mem;
use core::task::Poll;

use crate::command::Request;
use crate::crc::crc32c;
use crate::error::{ErrorCode, Refusal};
use crate::message::{Cipher, HEADER_LEN, MAX_LENGTH};
use crate::name::{MAX_NAME, Name};
use crate::reply::MAX_LIST_LINE;
use crate::server::{Answer, ServerEvent, ServerSession};
use crate::store::{Stat, Store, clamp_range};
use payload::{Sent, Sum, append, count, list, ls, read};

/// The contiguous bytes that [`Responder::transmit`] needs to continue a listing of names of up to `name_max` bytes:
/// the length of a data message and one line. The buffer that room is borrowed from must be at least this large.
#[must_use]
pub const fn list_room(name_max: u16) -> usize {
    HEADER_LEN + MAX_LIST_LINE - MAX_NAME + name_max as usize
}

/// What [`Responder::step`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// There is nothing to do before bytes have moved.
    Idle,
    /// Something was done, and there may be more: call again, after other sessions if you like.
    Progress,
    /// The store is still committing a file: call again.
    Pending,
}

/// What a responder asks of the server around it. The default answers are those of a server with one stream and nobody
/// else: it can't open data connections.
pub trait Neighbors<S: Store> {
    /// A classic `get`: the port of a data connection over which `file` will go out. A refusal is answered `-1`. After
    /// `Poll::Pending` the caller of [`Responder::step`] owes the session the answer: [`Answer::Port`] or a refusal.
    ///
    /// # Errors
    /// Any.
    fn get(&mut self, file: S::File, stat: Stat) -> Poll<Result<u16, Refusal>> {
        _ = (file, stat);
        Poll::Ready(Err(ErrorCode::Unsupported.into()))
    }

    /// A classic `put`: the port of a data connection over which a file comes in, to be stored under `name` or the first
    /// numbered one that is free. Answered as [`Neighbors::get`].
    ///
    /// # Errors
    /// Any.
    fn put(&mut self, store: &mut S, name: Name<'_>) -> Poll<Result<u16, Refusal>> {
        _ = (store, name);
        Poll::Ready(Err(ErrorCode::Unsupported.into()))
    }

    /// The store says that `name` is busy. True: whoever was writing it has been closed and the store may be asked again.
    /// To be done if the writer ([`Responder::is_writing`]) has been silent for 5 s (PROTOCOL §7).
    fn take_over(&mut self, name: Name<'_>) -> bool {
        _ = name;
        false
    }
}

/// Nobody: one stream, and no data connections.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoNeighbors;

impl<S: Store> Neighbors<S> for NoNeighbors {}

/// What one session has open in a store. Dropping it is what closing it is: staged bytes stay for `resume`.
pub struct Responder<S: Store> {
    work: Work<S>,
}

enum Work<S: Store> {
    Nothing,
    Read { file: S::File, offset: u64 },
    List(S::Cursor),
    Count { cursor: S::Cursor, length: u64 },
    Ls(S::Cursor),
    Sum(Sum<S::File>),
    Write { stage: S::Stage, name: u32 },
    Commit { stage: S::Stage, size: u64, crc: Option<u32> },
}

impl<S: Store> Responder<S> {
    /// A responder at the beginning of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self { work: Work::Nothing }
    }

    /// The connection is over: closes what is open. A file that was being written stays staged for `resume`, however its
    /// connection ended (PROTOCOL §7). The responder is as new.
    pub fn close(&mut self) {
        self.work = Work::Nothing;
    }

    /// True while bytes of a `write` to `name` are coming in: the writer for whom the store calls `name` busy. A server
    /// that looks for it ([`Neighbors::take_over`]) and finds that it has been silent for 5 s closes its session.
    #[must_use]
    pub fn is_writing(&self, name: Name<'_>) -> bool {
        matches!(self.work, Work::Write { name: hash, .. } if hash == hash_of(name))
    }

    /// Takes the session's next event and carries it out, or a bounded part of it: it never waits, never moves payload
    /// between the connection and the store, and reads at most 4 KiB for a `sum`.
    pub fn step<const BUF: usize, C: Cipher>(
        &mut self,
        session: &mut ServerSession<BUF, C>,
        store: &mut S,
        neighbors: &mut impl Neighbors<S>,
    ) -> Step {
        session.restrict(S::VERBS);
        let name_max = session.limits().name_max;
        let mut kept_crc = None;
        let answer = match &mut self.work {
            Work::Sum(sum) => match sum.step(store) {
                Ok(None) => return Step::Progress,
                Ok(Some(answer)) => Ok(answer),
                Err(refusal) => Err(refusal),
            },
            Work::Count { cursor, length } => match count(store, cursor, length, name_max) {
                Ok(false) => return Step::Progress,
                Ok(true) => {
                    // The last name has no line end behind it.
                    let length = length.saturating_sub(1);
                    store.list(None).map(|cursor| {
                        self.work = Work::Ls(cursor);
                        Answer::Ls { length }
                    })
                }
                Err(refusal) => Err(refusal),
            },
            Work::Commit { stage, size, crc } => match store.poll_commit(stage, *crc) {
                Poll::Pending => return Step::Pending,
                Poll::Ready(result) => result.map(|()| Answer::Stored { size: *size, crc: *crc }),
            },
            _ => match session.poll_event() {
                Some(ServerEvent::Request(request)) => match self.begin(request, store, neighbors, &mut kept_crc) {
                    Poll::Pending => return Step::Progress,
                    Poll::Ready(result) => result,
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
                // Only what was deferred is flushed, and nothing is here.
                Some(ServerEvent::Flush) | None => return Step::Idle,
            },
        };
        // An answer that does not fit is the store's fault (more bytes staged than the file has); it must not leave the
        // peer without a reply.
        let refusal = match answer {
            Ok(answer) => session.answer(answer).err().map(|_| ErrorCode::Io.into()),
            Err(refusal) => Some(refusal),
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

    /// Begins what a request asks for. `Poll::Pending`: the answer is given later, by [`Responder::step`] or, for a data
    /// connection, by the neighbors.
    fn begin(
        &mut self,
        request: Request<'_>,
        store: &mut S,
        neighbors: &mut impl Neighbors<S>,
        kept_crc: &mut Option<u32>,
    ) -> Poll<Result<Answer, Refusal>> {
        Poll::Ready(match request {
            Request::Get { name } => match store.open(name) {
                Ok((_, stat)) if stat.size > MAX_LENGTH => Err(ErrorCode::TooLong.into()),
                Ok((file, stat)) => return neighbors.get(file, stat).map_ok(Answer::Port),
                Err(refusal) => Err(refusal),
            },
            Request::Put { name } => return neighbors.put(store, name).map_ok(Answer::Port),
            Request::Ls => match store.list(None) {
                Ok(cursor) => {
                    self.work = Work::Count { cursor, length: 0 };
                    return Poll::Pending;
                }
                Err(refusal) => Err(refusal),
            },
            Request::List { dir } => store.list(dir).and_then(|mut cursor| {
                let omitted = store.omitted(&mut cursor)?;
                self.work = Work::List(cursor);
                Ok(Answer::List { omitted })
            }),
            Request::Stat { name } => store.stat(name).map(Answer::Stat),
            Request::Read { offset, length, name } => store.open(name).and_then(|(file, stat)| {
                let length = clamp_range(offset, length, stat.size)?;
                if length == stat.size {
                    *kept_crc = stat.crc;
                }
                let tag = store.tag(&file);
                self.work = Work::Read { file, offset };
                Ok(Answer::Read { length, size: stat.size, tag })
            }),
            Request::Sum { offset, length, name } => {
                let range = store.open(name).and_then(|(file, stat)| {
                    let length = clamp_range(offset, length, stat.size)?;
                    Ok(Sum::new(file, offset, length))
                });
                match range {
                    Ok(sum) => {
                        self.work = Work::Sum(sum);
                        return Poll::Pending;
                    }
                    Err(refusal) => Err(refusal),
                }
            }
            Request::Resume { size, name } => unless_busy(name, neighbors, || store.staged(name, size))
                .map(|(offset, crc)| Answer::Resume { offset, crc }),
            Request::Write { offset, size, mtime, name } => {
                unless_busy(name, neighbors, || store.stage(name, offset, size, mtime)).map(|(stage, crc)| {
                    self.work = Work::Write { stage, name: hash_of(name) };
                    Answer::Write { crc }
                })
            }
            Request::Remove { name } => store.remove(name).map(|()| Answer::Done),
            Request::Rename { from, to } => store.rename(from, to).map(|()| Answer::Done),
            Request::Mkdir { name } => store.mkdir(name).map(|()| Answer::Done),
            Request::Rmdir { name } => store.rmdir(name).map(|()| Answer::Done),
            Request::Space => store.space().map(Answer::Space),
        })
    }

    /// Writes what goes out into `out`: replies, framing and payload, as they follow each other, so that a length and
    /// the first bytes behind it leave together. Says how many bytes; call again until that is 0.
    ///
    /// Returns early, with 0 in the end, while a listing waits for [`list_room`] bytes in one piece. A store that fails
    /// ends the body with an `abort`.
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
                Work::Read { file, offset } => read(session, store, file, offset, room),
                Work::List(cursor) => list(session, store, cursor, room),
                Work::Ls(cursor) => ls(session, store, cursor, room),
                // The session is not the one of the request.
                _ => Err(ErrorCode::Io),
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
                Ok(Sent::End) => session.finish(),
                Err(code) => session.abort(code),
            };
            self.work = Work::Nothing;
            if ended.is_err() {
                return written;
            }
        }
    }

    /// Takes what has come in: framing and commands for the session, payload for the store, from the caller's memory and
    /// in place. Returns how many bytes it took; the rest must be offered again after [`Responder::step`] and
    /// [`Responder::transmit`]. 0 for good once the peer has broken the protocol: the session then closes.
    pub fn receive<const BUF: usize, C: Cipher>(
        &mut self,
        session: &mut ServerSession<BUF, C>,
        store: &mut S,
        input: &mut [u8],
    ) -> usize {
        session.restrict(S::VERBS);
        let mut taken = 0;
        while taken < input.len() {
            let Ok(received) = session.receive(&mut input[taken..]) else { break };
            taken += received.taken;
            if received.payload.is_empty() {
                break;
            }
            let stored = match &mut self.work {
                Work::Write { stage, .. } => append(store, stage, received.payload),
                _ => Err(ErrorCode::Io.into()),
            };
            if let Err(refusal) = stored {
                self.discard(store);
                if session.refuse(refusal).is_err() {
                    break;
                }
            }
        }
        taken
    }

    /// Closes what is open; what was staged is dropped, not kept.
    fn discard(&mut self, store: &mut S) {
        if let Work::Write { stage, .. } | Work::Commit { stage, .. } = mem::replace(&mut self.work, Work::Nothing) {
            store.discard(stage);
        }
    }
}

impl<S: Store> Default for Responder<S> {
    fn default() -> Self {
        Self::new()
    }
}

/// Asks the store, and again after its `busy` if the neighbors made room.
fn unless_busy<S: Store, T>(
    name: Name<'_>,
    neighbors: &mut impl Neighbors<S>,
    mut ask: impl FnMut() -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    match ask() {
        Err(refusal) if refusal.code == ErrorCode::Busy && neighbors.take_over(name) => ask(),
        result => result,
    }
}

/// A name in four bytes. Two names with the same can do no harm: all that comes of it is that a writer who has been silent
/// for 5 s is closed, and its staged bytes stay.
fn hash_of(name: Name<'_>) -> u32 {
    crc32c(name.as_str().as_bytes())
}
