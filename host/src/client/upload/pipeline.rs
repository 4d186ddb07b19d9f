//! Many `write`s on one connection.
//!
//! Commands and bodies are packed into one buffer, so that several small files leave in one write; replies are taken as
//! they come, in order.

use core::time::Duration;
use std::collections::VecDeque;

use skiff_proto::command::{Request, Verb};
use skiff_proto::crc::Crc32c;
use tokio::time::{Instant, timeout_at};

use super::resume;
use super::source::Input;
use super::state::{Flight, Uploads};
use crate::client::commands::{refusal, request};
use crate::client::connection::{Connection, Incoming, Patience};
use crate::client::error::Error;
use crate::client::event::{Event, HelloInfo};
use crate::client::name::parse;
use crate::client::passes::End;
use crate::client::{Client, ErrorCode};

/// How long a cancelled upload waits for outstanding replies: after Ctrl-C the user does not want to wait.
const FAREWELL: Duration = Duration::from_millis(100);

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

impl Client {
    /// Processes the queue on one connection.
    pub(super) async fn upload_pass(&mut self, run: &mut Uploads<'_>) -> Result<End, Error> {
        resume::find(self, run).await?;
        let mut flight = VecDeque::new();
        let end = self.pump_writes(run, &mut flight).await;
        for flight in flight.into_iter().rev() {
            let Flight { task, error, .. } = flight;
            match (error, &end) {
                (Some(error), _) => run.fail(task, error),
                (None, Err(Error::Cancelled)) => run.fail(task, Error::Cancelled),
                (None, _) => {
                    run.files.tasks[task].interrupted = true;
                    run.files.queue.push_front(task);
                }
            }
        }
        end
    }

    async fn pump_writes(&mut self, run: &mut Uploads<'_>, flight: &mut VecDeque<Flight>) -> Result<End, Error> {
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
                run.files.fail_all(&Error::Cancelled);
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
                if run.files.queue.is_empty() {
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
            match farewell {
                None => connection.pace(cancel).await,
                // What the rate limit holds back is not sent in time.
                Some(end) => {
                    timeout_at(end, connection.pace(None)).await.map_err(|_| Error::Cancelled)?;
                }
            }
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
    run: &mut Uploads<'_>,
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
        let Some(index) = run.files.next() else { return };
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
fn begin(connection: &mut Connection, run: &mut Uploads<'_>, index: usize) -> Result<(Flight, Body), Error> {
    let task = &mut run.files.tasks[index];
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
    let crc = task.crc.value();
    connection.request(&request(Request::Write { offset, size, mtime, name: parse(run.files.name(index))? }))?;
    let continued = connection.session().continue_crc(crc);
    continued.map_err(|error| connection.misused(error))?;
    run.files.started(index, size, offset);
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
    run: &mut Uploads<'_>,
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
            run.files.moved(flight.task, n);
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
