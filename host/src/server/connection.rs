//! One control connection: the loop around its session and its [`Responder`].
//!
//! Data flows in one direction at a time: from the socket through [`Input`] into session and store, or from the store
//! through [`Output`] to the socket. [`Connection::step`] does everything that is possible without waiting;
//! [`Connection::wait`] sleeps until more is possible. Between commands there is no [`Connection`], only a [`Link`].

use core::mem;
use core::net::SocketAddr;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use skiff_proto::command::command_len;
use skiff_proto::name::MAX_NAME;
use skiff_proto::responder::{Responder, Step};
use skiff_proto::server::{Answer, Close, ServerSession};
use skiff_proto::store::Store as _;
use skiff_proto::takeover::Silence;
use skiff_proto::{ErrorCode, Payload};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::backend::{Backend, Session as _};
use super::classic::Classic;
use super::input::{Input, Moved};
use super::output::{self, Next, Output};
use super::pool;
use super::scratch::Scratch;
use super::security::Guard;
use super::shared::{Phase, Shared};
use super::socket::{self, would_block};
use super::strangers::Stranger;
use super::who::Who;
use crate::protection::Protection;

/// How long a connection may run before it yields to the others. This is a time, not a number of steps: yielding takes
/// a few microseconds, a step for a small file less than one, and a step for a large file a hundred.
const TURN: Duration = Duration::from_millis(1);

/// Number of steps between two checks of the clock, because a check takes as long as a small step. While payload is
/// moved, which may take longer, the clock is checked at every step.
const LOOK: u32 = 8;

/// How long a peer without a key may take to read the last replies.
const STRANGER: Duration = Duration::from_secs(1);

type Parked = skiff_proto::server::Parked<Protection>;

/// Why a [`Connection`] is no longer needed.
#[derive(Debug)]
enum End {
    /// The connection ends.
    Close(Close),
    /// Nothing is in progress.
    Park(Parked),
}

/// One control connection, during its whole lifetime.
///
/// Most connections are idle most of the time. The state for doing work is separate, and is freed when nothing is in
/// progress.
#[derive(Debug)]
pub(super) struct Link<B> {
    shared: Arc<Shared<B>>,
    stream: TcpStream,
    peer: Who,
    phase: watch::Receiver<Phase>,
    /// The protection, until the session has it.
    guard: Option<Box<Guard>>,
    /// Set while it has to show a key and has not.
    stranger: Option<Stranger>,
    /// When one of its data connections last made progress.
    progress: Option<Arc<AtomicU64>>,
    /// Its session, while nothing is in progress.
    parked: Option<Parked>,
}

impl<B: Backend> Link<B> {
    pub(super) fn new(
        shared: &Arc<Shared<B>>,
        stream: TcpStream,
        peer: SocketAddr,
        stranger: Option<Stranger>,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let guard = shared.options.security.guard(shared.now())?;
        let (shared, phase) = (Arc::clone(shared), shared.phase.subscribe());
        Ok(Self { shared, stream, peer: Who::new(peer), phase, guard, stranger, progress: None, parked: None })
    }

    /// Serves to the end.
    pub(super) async fn serve(mut self: Box<Self>) {
        loop {
            match roam(self).await {
                Some(link) => self = link,
                None => return,
            }
            let Some(parked) = &self.parked else { return };
            let deadline = self.shared.deadline(parked.poll_timeout(&self.shared.options.limits()));
            tokio::select! {
                // An error will come again when the stream is read.
                _ = socket::ready(&self.stream, true, false) => {}
                () = tokio::time::sleep_until(deadline) => {}
                _ = self.phase.changed() => {}
            }
        }
    }

    /// Does all pending work, until nothing is in progress or the connection has ended.
    async fn work(mut self: Box<Self>) -> Box<Self> {
        let served = match Connection::new(&mut self) {
            Ok(mut connection) => Ok(connection.serve().await),
            Err(error) => Err(error),
        };
        match served {
            Ok(parked) => self.parked = parked,
            Err(error) => warn!(peer = %self.peer, %error, "connection closed before it began"),
        }
        self
    }
}

/// Runs [`Link::work`], on another thread if necessary; `None` if it can't be finished.
async fn roam<B: Backend>(link: Box<Link<B>>) -> Option<Box<Link<B>>> {
    let (shared, client) = (Arc::clone(&link.shared), link.peer.ip());
    // Boxed: it may move to another thread.
    shared.pool.roam(client, Box::pin(link.work()), false).await
}

/// One control connection while something is in progress.
struct Connection<'a, B: Backend> {
    shared: &'a Shared<B>,
    stream: &'a TcpStream,
    peer: &'a mut Who,
    stranger: &'a mut Option<Stranger>,
    /// Set if the connection closes as soon as the peer has read the last replies: the number of unread bytes, and
    /// since when.
    closing: Option<(Instant, usize)>,
    session: ServerSession<{ command_len(MAX_NAME) }, Protection>,
    responder: Responder<B::Session>,
    store: B::Session,
    classic: Classic<'a, B>,
    input: Input,
    output: Output,
    /// When each change began whose result is not known yet.
    begun: VecDeque<Instant>,
    /// The peer has ended its stream.
    ended: bool,
    /// The peer closed its side while it was waiting for the store.
    doubtful: bool,
    phase: &'a mut watch::Receiver<Phase>,
}

impl<'a, B: Backend> Connection<'a, B> {
    fn new(link: &'a mut Link<B>) -> io::Result<Self> {
        let Link { shared, stream, peer, phase, guard, stranger, progress, parked } = link;
        let (shared, stream) = (&*shared, &*stream);
        let limits = shared.options.limits();
        let mut session = match parked.take() {
            Some(parked) => ServerSession::resume(limits, parked),
            None => ServerSession::new(limits),
        };
        if let Some(guard) = guard.take() {
            session.protect(*guard).map_err(io::Error::other)?;
        }
        Ok(Self {
            session,
            responder: Responder::new(),
            store: shared.store.session(&shared.pool, *peer),
            classic: Classic { shared, stream, peer: peer.addr, progress, waiting: None },
            shared,
            stream,
            peer,
            stranger,
            closing: None,
            input: Input::default(),
            output: Output::default(),
            begun: VecDeque::new(),
            ended: false,
            doubtful: false,
            phase,
        })
    }

    /// Serves until nothing is in progress; `None` if the connection has ended.
    async fn serve(&mut self) -> Option<Parked> {
        let end = match self.run().await {
            Ok(End::Park(parked)) => return Some(parked),
            end => end,
        };
        // A partial write stays staged, and another connection can resume it before this one is seen to end.
        self.responder.close();
        if let Some(error) = self.session.error() {
            info!(peer = %self.peer, %error, "protocol error");
            self.shared.metrics.protocol_errors.add(1);
        }
        match end {
            Ok(End::Close(Close::Reset)) => {
                info!(peer = %self.peer, "reset");
                socket::reset(self.stream);
            }
            Ok(_) => {
                debug!(peer = %self.peer, "closed");
                socket::linger(self.stream).await;
            }
            Err(error) => debug!(peer = %self.peer, %error, "lost"),
        }
        self.store.finish().await;
        None
    }

    async fn run(&mut self) -> io::Result<End> {
        loop {
            let mut begin = self.tick();
            let mut steps = 0_u32;
            while self.step()? {
                steps = steps.wrapping_add(1);
                let moves_payload = self.session.is_sending() || self.session.is_receiving();
                if (moves_payload || steps.is_multiple_of(LOOK)) && begin.elapsed() >= TURN {
                    tokio::task::yield_now().await;
                    begin = self.tick();
                }
            }
            self.count_bytes();
            match self.session.poll_close() {
                Some(Close::Reset) => return Ok(End::Close(Close::Reset)),
                Some(Close::Gracefully) if self.output.is_empty() => return Ok(End::Close(Close::Gracefully)),
                Some(Close::Gracefully) if self.is_unread() => return Ok(End::Close(Close::Reset)),
                _ => {}
            }
            if self.is_idle() {
                if *self.phase.borrow() == Phase::Closing {
                    return Ok(End::Close(Close::Gracefully));
                }
                if let Some(parked) = self.session.park() {
                    return Ok(End::Park(parked));
                }
            }
            if self.store.is_leaving() {
                if !pool::leave().await {
                    self.store.strand();
                }
                continue;
            }
            self.wait().await?;
            if self.responder.writing().is_some_and(B::Session::is_evicted) {
                warn!(peer = %self.peer, "connection closed: silent for too long; another client took over its upload");
                return Ok(End::Close(Close::Reset));
            }
        }
    }

    /// True if the peer has read nothing of the last replies for too long. A peer without a key does not get more time
    /// by reading.
    fn is_unread(&mut self) -> bool {
        let (now, left) = (Instant::now(), self.output.len());
        let since = self.closing.filter(|&(_, before)| before == left || self.stranger.is_some());
        let (since, _) = *self.closing.insert(since.unwrap_or((now, left)));
        now >= since + self.patience()
    }

    /// How long the peer may take to read the last replies.
    fn patience(&self) -> Duration {
        if self.stranger.is_some() { STRANGER } else { self.shared.options.idle }
    }

    /// True if nothing is in progress.
    fn is_idle(&self) -> bool {
        self.session.is_idle() && self.output.is_empty() && self.input.is_empty() && self.store.is_idle()
    }

    /// Passes the time to session and store, and returns it.
    fn tick(&mut self) -> Instant {
        let now = Instant::now();
        if let Some(progress) = self.classic.progress {
            // Progress of a data connection counts here as well (PROTOCOL §3).
            let at = progress.swap(0, Ordering::Relaxed);
            if at > 0 {
                self.session.handle_progress(skiff_proto::Instant::from_millis(at));
            }
        }
        self.session.handle_timeout(self.shared.time(now));
        self.store.flush_if_due();
        now
    }

    /// Does one thing that can be done at once. False if there is none; then the socket has taken as much output as it
    /// could.
    fn step(&mut self) -> io::Result<bool> {
        let moved = (self.output.has_room() || self.output.flush(self.stream)?) && self.advance()?;
        if !moved {
            self.output.flush(self.stream)?;
        }
        Ok(moved)
    }

    /// [`Connection::step`], with room for output.
    fn advance(&mut self) -> io::Result<bool> {
        if self.session.has_output() {
            return Ok(self.transmit());
        }
        if self.peer.key.is_none()
            && let Some(key) = self.session.client()
        {
            info!(peer = %self.peer, %key, "protected");
            self.peer.key = Some(*key);
            *self.stranger = None;
            self.store.set_key(*key);
        }
        let step = self.responder.step(&mut self.session, &mut self.store, &mut self.classic);
        self.store.log_refused();
        self.count_changes();
        match step {
            Step::Progress => return Ok(true),
            Step::Pending => {
                // No further input is taken: the queue becomes durable now.
                self.store.flush();
                return Ok(false);
            }
            Step::Idle => {}
        }
        if self.session.is_sending() { self.send() } else { self.receive() }
    }

    /// Counts changes that were queued, and those whose result is known.
    fn count_changes(&mut self) {
        let (before, now) = (self.begun.len(), usize::from(self.session.deferred()));
        if now > before {
            self.begun.resize(now, Instant::now());
        } else if now < before {
            let metrics = &self.shared.metrics;
            for begun in self.begun.drain(..before - now) {
                metrics.latency.add(begun.elapsed());
                metrics.changes.add(1);
            }
            metrics.failed.add(self.store.take_failures());
        }
    }

    /// Counts bytes that were moved.
    fn count_bytes(&mut self) {
        let metrics = &self.shared.metrics;
        metrics.received.add(mem::take(&mut self.input.uncounted));
        metrics.sent.add(mem::take(&mut self.output.uncounted));
    }

    /// Composes replies and payload.
    fn transmit(&mut self) -> bool {
        let next = match (self.session.is_sending(), self.session.left()) {
            (false, _) => Next::Reply,
            (true, Some(left)) => Next::Body(left),
            (true, None) => Next::Listing,
        };
        let Self { responder, session, store, .. } = self;
        self.output.add(next, |room| responder.transmit(session, store, room))
    }

    /// Sends more of the current body or listing. False if the socket takes no more.
    fn send(&mut self) -> io::Result<bool> {
        // The first bytes of a message go through memory, together with the framing before them: one write for both.
        if !self.session.is_in_data() || self.shared.options.portable {
            return Ok(self.transmit());
        }
        let Self { stream, session, responder, store, output, .. } = self;
        let reading = responder.reading().filter(|(file, _)| B::Session::os_file(file).is_some());
        let (Some((file, offset)), Some(mut opaque)) = (reading, session.opaque()) else {
            return Ok(self.transmit());
        };
        if !output.flush(stream)? {
            return Ok(false);
        }
        let mut failed = None;
        if opaque.wants_sum() && output.summed == 0 {
            // The checksum runs one piece ahead: the bytes are read for it here, and sent from the page cache.
            let mut scratch = Scratch::take();
            let n = Payload { remaining: opaque.remaining() }.clamp(scratch.len());
            match store.read_at(file, *offset, &mut scratch[..n]) {
                Ok(0) => failed = Some(ErrorCode::Changed),
                Ok(n) => {
                    opaque.sum(&scratch[..n]);
                    output.summed = n as u64;
                }
                // The store has logged it.
                Err(error) => {
                    output.summed = 0;
                    responder.abort(session, error.code());
                    return Ok(true);
                }
            }
        }
        let len = if opaque.wants_sum() { output.summed } else { opaque.remaining() };
        if failed.is_none() {
            let Some(file) = B::Session::os_file(file) else { return Ok(false) };
            match output::send_file(stream, file, *offset, len) {
                Ok(0) => failed = Some(ErrorCode::Changed),
                Ok(n) => {
                    *offset += n;
                    output.summed = output.summed.saturating_sub(n);
                    output.uncounted += n;
                    opaque.advance(n).map_err(io::Error::other)?;
                }
                Err(error) if would_block(&error) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if let Some(code) = failed {
            warn!(peer = %self.peer, %code, "read aborted");
            self.shared.metrics.aborted.add(1);
            self.output.summed = 0;
            self.responder.abort(&mut self.session, code);
        }
        Ok(true)
    }

    /// Processes input: first leftover bytes, then new ones from the socket. False if there is none, or it can't be
    /// processed yet.
    fn receive(&mut self) -> io::Result<bool> {
        let reads = self.reads();
        let Self { input, stream, responder, session, store, .. } = self;
        let take = |input: &mut [u8]| responder.receive(session, store, input);
        let moved = if reads {
            input.read(stream, take)?
        } else if !input.is_empty() {
            input.take_leftover(take)
        } else {
            Moved::Nothing
        };
        match moved {
            Moved::Some => {}
            Moved::Nothing => return Ok(false),
            Moved::Waits => {
                // No further input is waiting: the queue becomes durable now (PROTOCOL §7).
                self.store.flush();
                return Ok(false);
            }
            Moved::End => {
                self.ended = true;
                self.session.handle_eof();
            }
        }
        Ok(true)
    }

    /// True if the session can use what the peer sends next.
    fn wants_input(&self) -> bool {
        !self.ended && self.session.want_read() > 0
    }

    /// True if more has to be read from the socket: there are no leftover bytes, or only part of a record.
    fn reads(&self) -> bool {
        let is_part = || self.session.client().is_some() && self.input.len() < self.session.want_read();
        self.wants_input() && (self.input.is_empty() || is_part())
    }

    /// Sleeps until there is something to do.
    async fn wait(&mut self) -> io::Result<()> {
        let reads = self.reads() && self.output.is_empty();
        // While the store fetches what is to be sent next, it does not matter that the socket has room.
        let fetches = self.responder.is_waiting(&self.session);
        let writes = !self.output.is_empty() || (self.session.is_sending() && !fetches);
        let is_writing = self.responder.writing().is_some();
        let look = is_writing.then(|| tokio::time::Instant::now() + Silence::INTERVAL);
        let session = self.session.poll_timeout().map(|at| self.shared.deadline(at));
        let closing = self.closing.map(|(since, _)| (since + self.patience()).into());
        let deadline = session.into_iter().chain(self.store.deadline()).chain(look).chain(closing).min();
        // The peer waits for more than its own bytes.
        let is_owed = self.store.is_working() || self.classic.waiting.is_some();
        let (stream, doubtful) = (self.stream, self.doubtful);
        let evicted = self.store.evicted_by();
        let stranger = self.stranger.as_ref();
        tokio::select! {
            ready = socket::ready(stream, reads, writes) => ready?,
            // In memory of its own: most wait without it.
            gone = async { Box::pin(socket::gone(stream, doubtful)).await }, if is_owed => {
                gone?;
                // The peer may still wait for the answer, or it may be dead. Only keep-alive probes can find out.
                self.doubtful = true;
                socket::keep_asking(stream);
                self.store.doubt();
            }
            () = core::future::poll_fn(|context| self.store.poll_ready(context)) => {
                // The time that it took is ours.
                self.session.handle_timeout(self.shared.now());
            }
            // In memory of its own: most wait without it.
            port = async { Box::pin(self.classic.granted()).await }, if self.classic.waiting.is_some() => {
                self.session.handle_timeout(self.shared.now());
                let answered = match port {
                    Ok(port) => self.session.answer(Answer::Port(port)),
                    Err(refusal) => self.session.refuse(refusal),
                };
                answered.map_err(io::Error::other)?;
            }
            // In memory of its own: most wait without it.
            () = async { Box::pin(evicted.expect("guarded").notified()).await }, if evicted.is_some() && is_writing => {}
            () = tokio::time::sleep_until(deadline.unwrap_or_else(tokio::time::Instant::now)), if deadline.is_some() => {
                self.store.flush_if_due();
            }
            // In memory of its own: most wait without it.
            () = async { Box::pin(stranger.expect("guarded").evicted()).await }, if stranger.is_some() => {
                socket::reset(stream);
                return Err(io::Error::other("its place was needed, and it has shown no key"));
            }
            _ = self.phase.changed() => {}
        }
        if let Some(stage) = self.responder.writing() {
            B::Session::look(stage);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DirStore;

    /// The size of the future that `make` returns, without one.
    fn size_of_future<F>(_make: impl FnOnce(Box<Link<DirStore>>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_connection_without_work_takes_little_memory() {
        let (link, future) = (size_of::<Link<DirStore>>(), size_of_future(Link::serve));
        // With the state of a protected connection: two keys, and the client's identity.
        assert!(link <= 352, "{link}");
        assert!(future <= 352, "{future}");
    }
}
