//! A server without I/O: a [`ServerSession`] and a [`MemoryStore`], driven in memory by a loop as plain as it gets.
//!
//! The test is the network and the clock: it hands bytes over in the pieces it likes, takes what comes back, says how much
//! the client reads, and sets the time. [`Server`] is a [`Link`], for the vectors.

use core::task::Poll;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use skiff_proto::command::{Request, command_len};
use skiff_proto::crc::Crc32c;
use skiff_proto::name::MAX_NAME;
use skiff_proto::server::{Answer, Close, Limits, ServerEvent, ServerSession};
use skiff_proto::store::{Entry, EntryKind, Store, clamp_range};
use skiff_proto::transfer::{Incoming, Outgoing};
use skiff_proto::{ErrorCode, Instant, MinRate, Name, Payload, ProtocolError, Refusal};

use crate::memory::{MemoryCursor, MemoryFile, MemoryStage, MemoryStore};
use crate::vector::{DataEnd, Link, Problem, Shutdown};

/// The buffer of a session that takes the longest names.
pub const BUF: usize = command_len(MAX_NAME);

/// A message: the length, then the payload.
#[must_use]
pub fn message(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut message = format!("{:010}", payload.len()).into_bytes();
    message.extend(payload);
    message
}

/// A body in one data message (none if `content` is empty), with the trailer `crc32c CRC`.
#[must_use]
pub fn body(content: &[u8], crc: u32) -> Vec<u8> {
    let mut body = if content.is_empty() { Vec::new() } else { message(content) };
    body.extend(message(""));
    body.extend(message(format!("crc32c {crc:08x}")));
    body
}

/// The payloads of the messages that `bytes` consists of.
///
/// # Errors
/// The bytes are not whole messages.
pub fn payloads(bytes: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let mut payloads = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let problem = || Problem::new(format!("no whole message: \"{}\"", rest.escape_ascii()));
        let (length, after) = rest.split_at_checked(10).ok_or_else(problem)?;
        if !length.iter().all(u8::is_ascii_digit) {
            return Err(problem());
        }
        let length = core::str::from_utf8(length).ok().and_then(|length| length.parse().ok()).ok_or_else(problem)?;
        let (payload, after) = after.split_at_checked(length).ok_or_else(problem)?;
        payloads.push(payload);
        rest = after;
    }
    Ok(payloads)
}

/// How a driver moves bytes and carries out changes.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// The most bytes offered to the session at a time.
    pub input: usize,
    /// The most bytes taken from the session, or of payload moved, at a time.
    pub output: usize,
    /// The longest data message of a body that is sent.
    pub data: u64,
    /// When changes are made durable and answered.
    pub changes: Changes,
}

/// When changes are made durable and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changes {
    /// One by one.
    AtOnce,
    /// In batches (PROTOCOL §7): when no input waits, or before something that could observe them.
    Batched,
}

impl Default for Pace {
    fn default() -> Self {
        Self { input: 4096, output: 4096, data: 65_536, changes: Changes::AtOnce }
    }
}

/// One control connection to a server in memory.
#[derive(Debug)]
pub struct Connection<const N: usize = BUF> {
    session: ServerSession<N>,
    desk: Desk,
    pace: Pace,
    now: Instant,
    /// On the way from the client.
    input: VecDeque<u8>,
    input_end: InputEnd,
    /// What the client has received.
    output: Vec<u8>,
    /// How much more the client reads.
    room: usize,
    end: Option<Close>,
    error: Option<ProtocolError>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InputEnd {
    Open,
    /// The client has closed; the session has not been told.
    Closed,
    Told,
}

impl<const N: usize> Connection<N> {
    /// A connection to a server with `store`; the clock stands at one millisecond.
    #[must_use]
    pub fn new(limits: Limits, store: MemoryStore, pace: Pace) -> Self {
        Self {
            session: ServerSession::new(limits),
            desk: Desk::new(store),
            pace,
            now: Instant::from_millis(1),
            input: VecDeque::new(),
            input_end: InputEnd::Open,
            output: Vec::new(),
            room: usize::MAX,
            end: None,
            error: None,
        }
    }

    /// The client sends `bytes`; the server does what it can with them.
    pub fn send(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        self.run();
    }

    /// The client ends its sending side.
    pub fn close(&mut self) {
        self.input_end = InputEnd::Closed;
        self.run();
    }

    /// Lets time pass.
    pub fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
        self.run();
    }

    /// The client reads no more than `bytes` from now on.
    pub fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
        self.run();
    }

    /// Everything that the client has received and the test has not taken.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Takes everything that the client has received.
    #[must_use]
    pub fn take_output(&mut self) -> Vec<u8> {
        core::mem::take(&mut self.output)
    }

    /// How the server has ended the connection.
    #[must_use]
    pub const fn end(&self) -> Option<Close> {
        self.end
    }

    /// How the client has broken the protocol.
    #[must_use]
    pub const fn error(&self) -> Option<ProtocolError> {
        self.error
    }

    /// The session itself.
    #[must_use]
    pub const fn session(&self) -> &ServerSession<N> {
        &self.session
    }

    /// The client connects to a PORT; `None` if it was not announced, or is used already.
    pub fn connect_data(&mut self, port: u16) -> Option<DataConnection> {
        let promise = self.desk.ports.remove(&port)?;
        Some(DataConnection::new(promise, self.desk.store.clone()))
    }

    /// Goes on until nothing moves any more.
    pub fn run(&mut self) {
        while self.end.is_none() && self.turn() {}
    }

    fn turn(&mut self) -> bool {
        self.session.handle_timeout(self.now);
        let mut moved = self.take_input();
        moved |= self.receive_payload();
        moved |= self.serve();
        moved |= self.send_payload();
        moved |= self.give_deferred();
        moved |= self.transmit();
        self.end = self.session.poll_close();
        if self.end.is_some() {
            self.desk.hang_up();
            return false;
        }
        // No input waits: the batch is due.
        moved || self.desk.carry_out_batch()
    }

    fn take_input(&mut self) -> bool {
        if self.input.is_empty() {
            if self.input_end == InputEnd::Closed {
                self.input_end = InputEnd::Told;
                self.session.handle_eof();
                return true;
            }
            return false;
        }
        let offered: Vec<u8> = self.input.iter().take(self.pace.input.max(1)).copied().collect();
        match self.session.handle_input(&offered) {
            Ok(taken) => {
                self.input.drain(..taken);
                taken > 0
            }
            Err(error) => {
                self.error = Some(error);
                self.input.clear();
                true
            }
        }
    }

    fn receive_payload(&mut self) -> bool {
        let Some(payload @ Payload::Receive { .. }) = self.session.payload() else {
            return false;
        };
        let n = payload.clamp(self.input.len().min(self.pace.input.max(1)));
        if n == 0 {
            return false;
        }
        let mut bytes: Vec<u8> = self.input.drain(..n).collect();
        self.session.filter(&mut bytes);
        match self.desk.append(&bytes) {
            Ok(()) => self.session.advance(n as u64).expect("payload was expected"),
            Err(refusal) => {
                self.session.advance(n as u64).expect("payload was expected");
                // The last byte may have ended the body's payload, but never the body.
                self.session.refuse(refusal).expect("the body is not through");
            }
        }
        true
    }

    fn serve(&mut self) -> bool {
        let step = match self.session.poll_event() {
            None => self.desk.poll_commit(),
            Some(ServerEvent::Request(request)) => self.desk.request(&request, self.pace.changes),
            Some(ServerEvent::Commit { size, crc }) => self.desk.commit(size, crc, self.pace.changes),
            Some(ServerEvent::Discard) => {
                self.desk.discard();
                return true;
            }
            Some(ServerEvent::Flush) => return self.desk.carry_out_batch(),
        };
        let fits = match step {
            Step::Answer(answer) => self.session.answer(answer),
            Step::Refuse(refusal) => self.session.refuse(refusal),
            Step::Defer => self.session.defer(),
            Step::Wait => return true,
            Step::Nothing => return false,
        };
        fits.expect("the answer fits the request");
        true
    }

    fn send_payload(&mut self) -> bool {
        if !self.session.is_sending() || self.session.has_output() {
            return false;
        }
        let outcome = match self.session.payload() {
            Some(payload) => {
                let n = payload.clamp(self.pace.output.max(1).min(self.room));
                if n == 0 {
                    return false;
                }
                match self.desk.payload(n) {
                    Ok(bytes) if bytes.is_empty() => self.session.finish(),
                    Ok(mut bytes) => {
                        self.session.filter(&mut bytes);
                        self.room -= bytes.len();
                        self.output.extend(&bytes);
                        self.session.advance(bytes.len() as u64)
                    }
                    Err(refusal) => self.session.abort(refusal.code),
                }
            }
            None => match self.desk.next_data(self.session.unannounced()) {
                Ok(0) => self.session.finish(),
                Ok(length) => self.session.start_data(length.min(self.pace.data.max(1))),
                Err(refusal) => self.session.abort(refusal.code),
            },
        };
        outcome.expect("a body is being sent");
        true
    }

    fn give_deferred(&mut self) -> bool {
        let mut moved = false;
        while let Some(&answer) = self.desk.owed.front() {
            if !self.session.answer_deferred(answer).expect("an answer is owed") {
                break;
            }
            self.desk.owed.pop_front();
            moved = true;
        }
        moved
    }

    fn transmit(&mut self) -> bool {
        let mut out = vec![0; self.pace.output.max(1).min(self.room)];
        let n = self.session.poll_transmit(&mut out);
        self.output.extend(&out[..n]);
        self.room -= n;
        n > 0
    }
}

/// What the session is told after a request.
enum Step {
    Answer(Answer),
    Refuse(Refusal),
    Defer,
    /// The store needs another call.
    Wait,
    Nothing,
}

impl From<Result<Answer, Refusal>> for Step {
    fn from(outcome: Result<Answer, Refusal>) -> Self {
        outcome.map_or_else(Self::Refuse, Self::Answer)
    }
}

/// Between session and store: what a driver keeps for one connection.
#[derive(Debug)]
struct Desk {
    store: MemoryStore,
    /// The body of a `write` that comes in.
    stage: Option<(MemoryStage, String)>,
    commit: Option<Change>,
    sending: Option<Sending>,
    batch: Vec<Change>,
    /// What became of a batch that has been carried out.
    owed: VecDeque<Result<Answer, Refusal>>,
    ports: BTreeMap<u16, Promise>,
    last_port: u16,
}

/// A change that becomes durable, now or in a batch.
#[derive(Debug)]
enum Change {
    Commit { stage: MemoryStage, name: String, size: u64, crc: Option<u32> },
    Remove(String),
    Rename(String, String),
    Mkdir(String),
    Rmdir(String),
}

/// What a body that goes out is made of.
#[derive(Debug)]
enum Sending {
    File { file: MemoryFile, offset: u64 },
    List { cursor: MemoryCursor, line: Vec<u8> },
    /// The names of `ls`; they are listed again when they are sent.
    Ls { length: usize, text: Option<VecDeque<u8>> },
}

/// What a PORT is good for.
#[derive(Debug)]
enum Promise {
    Get { file: MemoryFile, size: u64 },
    Put { name: String },
}

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), MAX_NAME).expect("the session has checked it")
}

impl Desk {
    fn new(store: MemoryStore) -> Self {
        Self {
            store,
            stage: None,
            commit: None,
            sending: None,
            batch: Vec::new(),
            owed: VecDeque::new(),
            ports: BTreeMap::new(),
            last_port: 49_999,
        }
    }

    fn request(&mut self, request: &Request<'_>, changes: Changes) -> Step {
        match *request {
            Request::Get { name } => self.get(name).into(),
            Request::Put { name } => self.put(name).into(),
            Request::Ls => self.ls_text(usize::MAX).map(|text| self.start_ls(text.len())).into(),
            Request::List { dir } => self.list(dir).into(),
            Request::Stat { name } => self.store.stat(name).map(Answer::Stat).into(),
            Request::Read { offset, length, name } => self.read(offset, length, name).into(),
            Request::Sum { offset, length, name } => self.sum(offset, length, name).into(),
            Request::Resume { size, name } => {
                self.store.staged(name, size).map(|(offset, crc)| Answer::Resume { offset, crc }).into()
            }
            Request::Write { offset, size, mtime, name } => self.write(offset, size, mtime, name).into(),
            Request::Remove { name } => self.change(Change::Remove(name.as_str().into()), changes),
            Request::Rename { from, to } => {
                self.change(Change::Rename(from.as_str().into(), to.as_str().into()), changes)
            }
            Request::Mkdir { name } => self.change(Change::Mkdir(name.as_str().into()), changes),
            Request::Rmdir { name } => self.change(Change::Rmdir(name.as_str().into()), changes),
            Request::Space => self.store.space().map(Answer::Space).into(),
        }
    }

    fn get(&mut self, name: Name<'_>) -> Result<Answer, Refusal> {
        let (file, stat) = self.store.open(name)?;
        Ok(self.announce(Promise::Get { file, size: stat.size }))
    }

    fn put(&mut self, name: Name<'_>) -> Result<Answer, Refusal> {
        drop(self.store.stage_unnamed(0)?);
        Ok(self.announce(Promise::Put { name: name.as_str().into() }))
    }

    fn announce(&mut self, promise: Promise) -> Answer {
        self.last_port += 1;
        self.ports.insert(self.last_port, promise);
        Answer::Port(self.last_port)
    }

    /// The names that a classic listing shows, as many as fit in `max` bytes.
    fn ls_text(&mut self, max: usize) -> Result<Vec<u8>, Refusal> {
        let mut cursor = self.store.list(None)?;
        let mut text = Vec::new();
        let mut show = |entry: Entry<'_>| {
            let bytes = entry.name.as_str().as_bytes();
            let between = usize::from(!text.is_empty());
            if matches!(entry.kind, EntryKind::File(_))
                && entry.name.is_classic()
                && text.len() + between + bytes.len() <= max
            {
                text.extend(&b"\n"[..between]);
                text.extend(bytes);
            }
        };
        while self.store.next_entry(&mut cursor, &mut show)? {}
        Ok(text)
    }

    fn start_ls(&mut self, length: usize) -> Answer {
        self.sending = Some(Sending::Ls { length, text: None });
        Answer::Ls { length: length as u64 }
    }

    fn list(&mut self, dir: Option<Name<'_>>) -> Result<Answer, Refusal> {
        let cursor = self.store.list(dir)?;
        self.sending = Some(Sending::List { cursor, line: Vec::new() });
        Ok(Answer::List)
    }

    fn read(&mut self, offset: u64, length: Option<u64>, name: Name<'_>) -> Result<Answer, Refusal> {
        let (file, stat) = self.store.open(name)?;
        let length = clamp_range(offset, length, stat.size)?;
        let tag = self.store.tag(&file);
        self.sending = Some(Sending::File { file, offset });
        Ok(Answer::Read { length, size: stat.size, tag })
    }

    fn sum(&mut self, offset: u64, length: Option<u64>, name: Name<'_>) -> Result<Answer, Refusal> {
        let (mut file, stat) = self.store.open(name)?;
        let length = clamp_range(offset, length, stat.size)?;
        let mut crc = Crc32c::new();
        let mut buffer = [0; 512];
        let mut at = offset;
        while at < offset + length {
            let n = Payload::Send { remaining: offset + length - at }.clamp(buffer.len());
            let n = self.store.read_at(&mut file, at, &mut buffer[..n])?;
            if n == 0 {
                return Err(ErrorCode::Changed.into());
            }
            crc.update(&buffer[..n]);
            at += n as u64;
        }
        Ok(Answer::Sum { length, crc: crc.value() })
    }

    fn write(&mut self, offset: u64, size: u64, mtime: Option<u64>, name: Name<'_>) -> Result<Answer, Refusal> {
        let observes = |change: &Change| match change {
            Change::Commit { name: batched, .. } => batched == name.as_str(),
            _ => true,
        };
        if self.batch.iter().any(observes) {
            self.carry_out_batch();
        }
        let (stage, crc) = self.store.stage(name, offset, size, mtime)?;
        self.stage = Some((stage, name.as_str().into()));
        Ok(Answer::Write { crc })
    }

    /// Stores bytes of the body; a failure drops what is staged.
    fn append(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let (stage, _) = self.stage.as_mut().expect("a write was accepted");
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.store.append(stage, rest) {
                Ok(n) => rest = &rest[n..],
                Err(refusal) => {
                    self.discard();
                    return Err(refusal);
                }
            }
        }
        Ok(())
    }

    fn discard(&mut self) {
        if let Some((stage, _)) = self.stage.take() {
            self.store.discard(stage);
        }
    }

    fn commit(&mut self, size: u64, crc: Option<u32>, changes: Changes) -> Step {
        let (stage, name) = self.stage.take().expect("a write was accepted");
        self.change(Change::Commit { stage, name, size, crc }, changes)
    }

    fn change(&mut self, change: Change, changes: Changes) -> Step {
        match changes {
            Changes::AtOnce => {
                self.commit = Some(change);
                self.poll_commit()
            }
            Changes::Batched => {
                self.batch.push(change);
                Step::Defer
            }
        }
    }

    fn poll_commit(&mut self) -> Step {
        let Some(mut change) = self.commit.take() else {
            return Step::Nothing;
        };
        match self.poll_change(&mut change) {
            Poll::Ready(outcome) => outcome.into(),
            Poll::Pending => {
                self.commit = Some(change);
                Step::Wait
            }
        }
    }

    fn poll_change(&mut self, change: &mut Change) -> Poll<Result<Answer, Refusal>> {
        Poll::Ready(match change {
            Change::Commit { stage, size, crc, .. } => match self.store.poll_commit(stage, *crc) {
                Poll::Ready(outcome) => outcome.map(|()| Answer::Stored { size: *size, crc: *crc }),
                Poll::Pending => return Poll::Pending,
            },
            Change::Remove(gone) => self.store.remove(name(gone)).map(|()| Answer::Done),
            Change::Rename(from, to) => self.store.rename(name(from), name(to)).map(|()| Answer::Done),
            Change::Mkdir(new) => self.store.mkdir(name(new)).map(|()| Answer::Done),
            Change::Rmdir(gone) => self.store.rmdir(name(gone)).map(|()| Answer::Done),
        })
    }

    /// Makes what has been put off durable, in order. True if there was anything.
    fn carry_out_batch(&mut self) -> bool {
        let batch = core::mem::take(&mut self.batch);
        let any = !batch.is_empty();
        for mut change in batch {
            let outcome = loop {
                if let Poll::Ready(outcome) = self.poll_change(&mut change) {
                    break outcome;
                }
            };
            self.owed.push_back(outcome);
        }
        any
    }

    /// The next bytes of the body that goes out, at most `max`. None: it has become shorter.
    fn payload(&mut self, max: usize) -> Result<Vec<u8>, Refusal> {
        if let Some(Sending::Ls { length, text: text @ None }) = &mut self.sending {
            let length = *length;
            *text = Some(VecDeque::new());
            let listed = self.ls_text(length)?;
            if let Some(Sending::Ls { text, .. }) = &mut self.sending {
                *text = Some(listed.into());
            }
        }
        match self.sending.as_mut().expect("a body was begun") {
            Sending::File { file, offset } => {
                let mut bytes = vec![0; max];
                let n = self.store.read_at(file, *offset, &mut bytes)?;
                if n == 0 {
                    return Err(ErrorCode::Changed.into());
                }
                bytes.truncate(n);
                *offset += n as u64;
                Ok(bytes)
            }
            Sending::List { line, .. } => {
                let n = max.min(line.len());
                Ok(line.drain(..n).collect())
            }
            Sending::Ls { text, .. } => {
                let text = text.as_mut().expect("listed above");
                let n = max.min(text.len());
                Ok(text.drain(..n).collect())
            }
        }
    }

    /// How long the next data message can be; 0 at the end of the body.
    fn next_data(&mut self, unannounced: Option<u64>) -> Result<u64, Refusal> {
        if let Some(unannounced) = unannounced {
            return Ok(unannounced);
        }
        let Some(Sending::List { cursor, line }) = &mut self.sending else {
            return Ok(0);
        };
        if line.is_empty() {
            self.store.next_entry(cursor, &mut |entry| *line = list_line(entry).into_bytes())?;
        }
        Ok(line.len() as u64)
    }

    /// The connection has ended: what is staged stays, and what was asked for is carried out.
    fn hang_up(&mut self) {
        self.carry_out_batch();
        self.stage = None;
        self.sending = None;
    }
}

/// A line of `list`: `SIZE SP MTIME SP CRC SP NAME LF`.
fn list_line(entry: Entry<'_>) -> String {
    let number = |value: Option<u64>| value.map_or_else(|| "-".into(), |value| value.to_string());
    match entry.kind {
        EntryKind::File(stat) => {
            let crc = stat.crc.map_or_else(|| "-".into(), |crc| format!("{crc:08x}"));
            format!("{} {} {crc} {}\n", stat.size, number(stat.mtime), entry.name)
        }
        EntryKind::Directory { mtime } => format!("0 {} - {}/\n", number(mtime), entry.name),
    }
}

/// One classic data connection to a server in memory.
#[derive(Debug)]
pub struct DataConnection {
    store: MemoryStore,
    transfer: Transfer,
    output: VecDeque<u8>,
    end: Option<DataEnd>,
}

#[derive(Debug)]
enum Transfer {
    Get,
    Put { name: String, incoming: Incoming, stage: Option<MemoryStage> },
}

impl DataConnection {
    fn new(promise: Promise, store: MemoryStore) -> Self {
        let (idle, rate) = (Duration::from_secs(60), MinRate::DEFAULT);
        match promise {
            Promise::Get { file, size } => {
                let mut this = Self { store, transfer: Transfer::Get, output: VecDeque::new(), end: None };
                this.end = Some(this.send_file(file, Outgoing::new(size, size, idle, rate)));
                this
            }
            Promise::Put { name } => {
                let transfer = Transfer::Put { name, incoming: Incoming::new(idle, rate), stage: None };
                Self { store, transfer, output: VecDeque::new(), end: None }
            }
        }
    }

    /// How the server has ended the connection.
    #[must_use]
    pub const fn end(&self) -> Option<DataEnd> {
        self.end
    }

    /// Takes what the client has received.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.output.drain(..).collect()
    }

    /// The client sends `bytes`.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.end.is_none() && self.receive(bytes).is_err() {
            self.reset();
        }
    }

    /// The client ends its sending side.
    pub fn shut_down(&mut self) {
        if self.end.is_none() {
            match self.store_file() {
                Ok(()) => self.end = Some(DataEnd::Closed),
                Err(_) => self.reset(),
            }
        }
    }

    fn send_file(&mut self, mut file: MemoryFile, mut outgoing: Outgoing) -> DataEnd {
        let mut offset = 0;
        let mut buffer = [0; 256];
        while !outgoing.is_done() {
            let n = outgoing.poll_transmit(&mut buffer);
            self.output.extend(&buffer[..n]);
            let Some(payload) = outgoing.payload() else { continue };
            let n = payload.clamp(buffer.len());
            match self.store.read_at(&mut file, offset, &mut buffer[..n]) {
                Ok(n) if n > 0 => {
                    self.output.extend(&buffer[..n]);
                    offset += n as u64;
                    outgoing.advance(n as u64).expect("no more than was asked for");
                }
                _ => return DataEnd::Reset,
            }
        }
        DataEnd::Closed
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let Transfer::Put { incoming, stage, .. } = &mut self.transfer else {
            return Ok(());
        };
        let taken = incoming.handle_input(bytes).map_err(|_| ErrorCode::BadLength)?;
        let mut rest = &bytes[taken..];
        if rest.is_empty() {
            return Ok(());
        }
        incoming.advance(rest).map_err(|_| ErrorCode::Mismatch)?;
        if stage.is_none() {
            *stage = Some(self.store.stage_unnamed(incoming.announced().unwrap_or(0))?);
        }
        while let (Some(stage), false) = (stage.as_mut(), rest.is_empty()) {
            let n = self.store.append(stage, rest)?;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// The end of the stream has come: the file goes where no other is.
    fn store_file(&mut self) -> Result<(), Refusal> {
        let Transfer::Put { name: asked, incoming, stage } = &mut self.transfer else {
            return Ok(());
        };
        incoming.handle_eof().map_err(|_| ErrorCode::Mismatch)?;
        let mut stage = match stage.take() {
            Some(stage) => stage,
            None => self.store.stage_unnamed(0)?,
        };
        let asked = name(asked);
        let mut buffer = [0; MAX_NAME];
        for number in 0.. {
            let target = match number {
                0 => asked,
                _ => asked.numbered(number, MAX_NAME, &mut buffer).map_err(|_| ErrorCode::BadName)?,
            };
            let outcome = loop {
                if let Poll::Ready(outcome) = self.store.poll_commit_new(&mut stage, target) {
                    break outcome;
                }
            };
            match outcome {
                Err(refusal) if refusal.code == ErrorCode::Exists => {}
                outcome => return outcome,
            }
        }
        Err(ErrorCode::Exists.into())
    }

    fn reset(&mut self) {
        self.end = Some(DataEnd::Reset);
        // Staged bytes without a name are dropped with the stage.
        self.transfer = Transfer::Get;
    }
}

/// A server in memory as a client's [`Link`]: one control and one data connection at a time.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    store: MemoryStore,
    pace: Pace,
    connection: Connection,
    data: Option<DataConnection>,
}

impl Server {
    /// A server with `store`, and a client that has connected.
    #[must_use]
    pub fn new(limits: Limits, store: MemoryStore, pace: Pace) -> Self {
        let connection = Connection::new(limits, store.clone(), pace);
        Self { limits, store, pace, connection, data: None }
    }

    /// What the client has received and not yet read.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.connection.output()
    }

    fn data(&mut self) -> Result<&mut DataConnection, Problem> {
        self.data.as_mut().ok_or(Problem::new("there is no data connection"))
    }
}

fn take(from: &mut Vec<u8>, len: usize) -> Result<Vec<u8>, Problem> {
    if from.len() < len {
        return Err(Problem::new(format!("{len} bytes were expected, but only \"{}\" came", from.escape_ascii())));
    }
    Ok(from.drain(..len).collect())
}

impl Link for Server {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.connection.send(bytes);
        Ok(())
    }

    fn receive(&mut self, len: usize) -> Result<Vec<u8>, Problem> {
        take(&mut self.connection.output, len)
    }

    fn receive_end(&mut self) -> Result<(), Problem> {
        match (self.unread(), self.connection.end()) {
            ([], Some(Close::Gracefully)) => Ok(()),
            (unread, end) => Err(Problem::new(format!("no end but \"{}\", then {end:?}", unread.escape_ascii()))),
        }
    }

    fn reconnect(&mut self) -> Result<(), Problem> {
        self.connection.close();
        self.receive_end()?;
        self.connection = Connection::new(self.limits, self.store.clone(), self.pace);
        Ok(())
    }

    fn connect_data(&mut self, port: u16) -> Result<(), Problem> {
        self.data = self.connection.connect_data(port);
        self.data().map(|_| ())
    }

    fn send_data(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.data()?.send(bytes);
        Ok(())
    }

    fn receive_data(&mut self, len: usize) -> Result<Vec<u8>, Problem> {
        let data = self.data()?;
        let mut received: Vec<u8> = data.take_output();
        let taken = take(&mut received, len)?;
        data.output.extend(received);
        Ok(taken)
    }

    fn end_data(&mut self, shutdown: Shutdown) -> Result<DataEnd, Problem> {
        let data = self.data()?;
        if shutdown == Shutdown::First {
            data.shut_down();
        }
        if !data.output.is_empty() {
            return Err(Problem::new("more came than was expected"));
        }
        data.end().ok_or(Problem::new("the server has not closed"))
    }
}
