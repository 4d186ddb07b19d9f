//! One connection of a client: commands are pipelined, and each reply is judged when it arrives.

mod input;
mod output;
mod transfers;

use core::future::poll_fn;
use core::task::{Context, Poll};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use skiff_proto::Instant;
use skiff_proto::client::ClientSession;
use skiff_proto::secure::{Login, Noise, Role};

use super::control::Control;
use super::judge::Asked;
use super::middle::Way;
use super::op::{Download, Fate, Op};
use super::truth::File;
use crate::flash::Rng;
use crate::sim::{Lost, Options, PORT, Stream};
use transfers::Transfer;

/// The client's timeout without progress.
const IDLE: Duration = Duration::from_secs(90);
/// Commands that may wait for their replies.
const QUEUE: usize = 8;
/// After this time without input, a server may close for a reason that the client does not know.
const SILENCE: Duration = Duration::from_secs(20);

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// It was reset, or the peer does not answer.
    Lost,
    /// The server is silent.
    Timeout,
    /// The server has closed it, with replies outstanding.
    Closed,
    /// The client has crashed.
    Crash,
    /// Data was changed in transit, and the client has detected it.
    Forged,
}

impl From<Lost> for Gone {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

/// How a connection is used.
#[derive(Debug, Clone, Copy)]
pub struct Habits {
    /// The connection.
    pub options: Options,
    /// The client crashes after this many bytes in both directions.
    pub crash: Option<u64>,
    /// It stalls for a time after this many bytes in both directions.
    pub stall: Option<(u64, Duration)>,
    /// The role of the key, if the connection is to be sealed.
    pub role: Role,
    /// A man in the middle attacks the connection, if it is protected.
    pub is_attacked: bool,
}

/// A body being sent.
struct Body {
    number: u64,
    file: File,
    at: usize,
    fate: Fate,
}

type Session = ClientSession<600, QUEUE, Noise>;

/// See the module documentation.
pub struct Pipe {
    control: Rc<Control>,
    station: usize,
    number: u64,
    stream: Stream,
    session: Session,
    /// The direction to the server.
    up: Way,
    /// The direction from the server.
    down: Way,
    is_sealed: bool,
    /// The handshake is complete.
    is_protected: bool,
    /// The server's output before that.
    greeting: Vec<u8>,
    /// Input that can't be processed yet.
    input: Vec<u8>,
    /// Part of the input is not what the server has sent.
    is_deceived: bool,
    /// No command from this one on can be executed any more, because it was attacked in transit.
    void: Option<u64>,
    habits: Habits,
    rng: Rng,
    out: Vec<u8>,
    sent: usize,
    body: Option<Body>,
    asked: VecDeque<Asked>,
    /// Commands so far.
    commands: u64,
    transfers: Vec<Transfer>,
    /// Bytes so far, in both directions.
    moved: u64,
    stalled: Option<Instant>,
    progress: Instant,
    was_answered: bool,
    /// The sending side has ended.
    is_finished: bool,
    /// Nothing was received or sent for a long time.
    was_silent: bool,
    /// The server has reported a timeout.
    was_late: bool,
}

impl Pipe {
    /// Connects.
    pub async fn connect(control: &Rc<Control>, station: usize, habits: Habits, mut rng: Rng) -> Result<Self, Gone> {
        control.count(|counts| counts.connections += 1);
        let number = control.next_connection();
        let connecting = Stream::connect_from(&control.world, station, PORT, habits.options);
        let stream = control.within(Duration::from_secs(30), connecting).await.ok_or(Gone::Timeout)??;
        let progress = control.now();
        let mut session = Session::new(IDLE);
        let (mut up, mut down) = (Way::clear(), Way::clear());
        let key = control.plan.key(station, habits.role);
        let is_sealed = key.is_some();
        if let Some(key) = key {
            let ephemeral = core::array::from_fn(|_| rng.byte());
            session.protect(Login { key, ephemeral }.start()).expect("a new session");
            if habits.is_attacked {
                *(if rng.one_in(2) { &mut up } else { &mut down }) = Way::attacked(&mut rng);
            }
        }
        control.trace(|| format!("client {station}: connection {number} is up, {habits:?}"));
        Ok(Self {
            control: Rc::clone(control),
            station,
            number,
            stream,
            session,
            up,
            down,
            is_sealed,
            is_protected: false,
            greeting: Vec::new(),
            input: Vec::new(),
            is_deceived: false,
            void: None,
            habits,
            rng,
            out: Vec::new(),
            sent: 0,
            body: None,
            asked: VecDeque::new(),
            commands: 0,
            transfers: Vec::new(),
            moved: 0,
            stalled: None,
            progress,
            was_answered: false,
            is_finished: false,
            was_silent: false,
            was_late: false,
        })
    }

    /// Sends all of `ops`, pipelined as far as possible, and waits for their replies and transfers. Operations that
    /// have not been sent when the connection ends stay in `ops`.
    ///
    /// # Errors
    /// The connection has ended.
    pub async fn carry_out(&mut self, ops: &mut VecDeque<Op>) -> Result<(), Gone> {
        let done = poll_fn(|context| self.turn(ops, context)).await;
        if let Err(gone) = done {
            self.control.trace(|| format!("client {}: connection {} is gone: {gone:?}", self.station, self.number));
        }
        done
    }

    /// Sends everything and ends the sending side at once: all replies must still arrive, and then the end.
    ///
    /// # Errors
    /// The connection has ended earlier.
    pub async fn carry_out_and_finish(&mut self, ops: &mut VecDeque<Op>) -> Result<(), Gone> {
        poll_fn(|context| {
            let polled = self.turn(ops, context);
            if !self.is_finished && ops.is_empty() && self.has_sent_all() {
                self.is_finished = true;
                self.stream.finish();
            }
            polled
        })
        .await?;
        match self.control.within(IDLE, poll_fn(|_| self.poll_surplus())).await {
            Some(ended) => ended,
            None => Err(Gone::Timeout),
        }
    }

    /// Waits for the end; nothing may arrive before it.
    fn poll_surplus(&self) -> Poll<Result<(), Gone>> {
        let mut buffer = [0; 64];
        self.stream.poll_read(&mut buffer).map(|read| match read? {
            0 => Ok(()),
            n => panic!("{:?}: nobody has asked for that", String::from_utf8_lossy(&buffer[..n])),
        })
    }

    fn has_sent_all(&self) -> bool {
        self.sent == self.out.len() && !self.session.has_output() && self.body.is_none()
    }

    fn turn(&mut self, ops: &mut VecDeque<Op>, context: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let now = self.control.now();
        if let Some(end) = self.stalled {
            if now < end {
                self.control.world.borrow_mut().wake_at(end);
                return Poll::Pending;
            }
            self.stalled = None;
        }
        loop {
            if self.session.handle_timeout(now) {
                return Poll::Ready(Err(Gone::Timeout));
            }
            let mut moved = self.push(ops)?;
            moved |= self.pull()?;
            moved |= self.follow_transfers(context);
            if ops.is_empty() && self.asked.is_empty() && self.has_sent_all() && self.transfers.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if let Some(end) = self.stalled {
                self.control.world.borrow_mut().wake_at(end);
                return Poll::Pending;
            }
            if moved {
                continue;
            }
            if let Some(due) = self.session.poll_timeout() {
                self.control.world.borrow_mut().wake_at(due);
            }
            return Poll::Pending;
        }
    }

    /// The number of bytes until something happens to the client.
    fn room(&self) -> usize {
        let next = [self.habits.crash, self.habits.stall.map(|(at, _)| at)].into_iter().flatten().min();
        next.map_or(usize::MAX, |at| usize::try_from(at.saturating_sub(self.moved)).unwrap_or(usize::MAX).max(1))
    }

    /// Counts bytes received or sent.
    fn spend(&mut self, bytes: usize) -> Result<(), Gone> {
        let now = self.control.now();
        self.was_silent |= now.since(self.progress) >= SILENCE;
        self.progress = now;
        self.moved += bytes as u64;
        if self.habits.crash.is_some_and(|at| self.moved >= at) {
            self.control.count(|counts| counts.client_crashes += 1);
            return Err(Gone::Crash);
        }
        if let Some((at, time)) = self.habits.stall
            && self.moved >= at
        {
            self.control.trace(|| format!("client {} stalls for {time:?}", self.station));
            self.stalled = Some(self.control.now().after(time));
            self.habits.stall = None;
        }
        Ok(())
    }

    /// The connection is over: unanswered commands may be executed or not. Collects what can be resumed.
    pub fn abandon(&mut self, uploads: &mut Vec<(String, File)>, downloads: &mut Vec<Rc<Download>>) {
        let mut truth = self.control.truth.borrow_mut();
        for asked in self.asked.drain(..).chain(self.transfers.drain(..).map(|transfer| transfer.asked)) {
            if let Some(wish) = asked.wish {
                truth.wishes.lost(wish);
            }
            match (asked.op, asked.head) {
                (Op::Write { name, file, fate: Fate::Whole, .. }, _) => uploads.push((name, file)),
                (Op::Read { name, offset: 0, before: None, .. }, Some((_, size, tag))) => {
                    downloads.push(Rc::new(Download { name, bytes: asked.body, size, tag }));
                }
                _ => {}
            }
        }
    }

    /// True if the server has never sent anything.
    #[must_use]
    pub const fn is_unanswered(&self) -> bool {
        !self.was_answered
    }

    /// Ends the connection like a client that has finished.
    pub fn close(self) {
        debug_assert!(self.asked.is_empty() && self.transfers.is_empty());
        assert!(self.input.is_empty(), "{} bytes that nobody has asked for", self.input.len());
        // No reply comes twice.
        _ = self.poll_surplus();
        self.stream.close();
    }
}
