//! The server's loop.

use core::ops::ControlFlow;

use super::DriveError;
#[cfg(feature = "embedded-io-async")]
use super::stream::{Async, Timer};
use super::stream::{Blocking, TimedStream, Wait, ready};
use crate::cipher::Cipher;
use crate::message::{Records as _, TAG};
use crate::responder::{NoServices, Responder, Step, list_room};
use crate::server::{Close, ServerSession};
use crate::store::Store;
use crate::time::Instant;

/// Serves one connection, from start to end, over a blocking stream.
///
/// `session` must be new. `scratch` is the only memory for input and output: at least [`list_room`]`(name_max)` bytes;
/// if the session is [protected](ServerSession::protect), at least `record-max` and at least [`TAG`] more than that. A
/// larger one means fewer calls to the stream and the store. `clock` returns the time; [`drive`](super) explains its
/// limits with a blocking stream.
///
/// Returns when the session has ended because of `quit`, the end of the stream, an error of the peer or a timeout. The
/// result tells the caller how to close the stream. Classic `get` and `put` are answered `-1`: there are no data
/// connections.
///
/// # Errors
/// The stream failed, or `scratch` is too small ([`DriveError::InvalidState`], before anything was read).
pub fn serve<T: embedded_io::Read + embedded_io::Write, S: Store, const BUF: usize, C: Cipher>(
    stream: &mut T,
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    scratch: &mut [u8],
    clock: impl FnMut() -> Instant,
) -> Result<Close, DriveError<T::Error>> {
    ready(run(Blocking { stream, clock }, session, store, scratch))
}

/// [`serve`] over an async stream; `timer` implements the session's timeouts.
///
/// Other tasks run while it waits for the stream, and between the steps of a long operation of the store (`sum`, a
/// commit). Dropping the future counts as a lost connection: staged bytes stay.
///
/// # Errors
/// As [`serve`].
#[cfg(feature = "embedded-io-async")]
pub async fn serve_async<T, S: Store, const BUF: usize, C: Cipher>(
    stream: &mut T,
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    scratch: &mut [u8],
    timer: impl Timer,
) -> Result<Close, DriveError<T::Error>>
where
    T: embedded_io_async::Read + embedded_io_async::Write,
{
    run(Async { stream, timer }, session, store, scratch).await
}

async fn run<T: TimedStream, S: Store, const BUF: usize, C: Cipher>(
    mut stream: T,
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    scratch: &mut [u8],
) -> Result<Close, DriveError<T::Error>> {
    let room = list_room(session.limits().name_max);
    if scratch.len() < session.guard().map_or(room, |guard| guard.record_max().max(room + TAG)) {
        return Err(DriveError::InvalidState);
    }
    let settled = Settled(store);
    let store = &mut *settled.0;
    let mut responder = Responder::new();
    let mut unflushed = false;
    // Bytes at the front of `scratch`: an incomplete record, or input for a store that is not ready.
    let mut kept = 0;
    loop {
        session.handle_timeout(stream.now());
        if responder.step(session, store, &mut NoServices) != Step::Idle {
            stream.pause().await;
            continue;
        }
        // A client that still sends a body that was refused does not read yet.
        let n = if session.is_draining() { 0 } else { responder.transmit(session, store, &mut scratch[kept..]) };
        if n > 0 {
            if !send(&mut stream, session, &scratch[kept..kept + n]).await? {
                return Ok(Close::Reset);
            }
            unflushed = true;
            continue;
        }
        if unflushed {
            unflushed = false;
            if !flush(&mut stream, session).await? {
                return Ok(Close::Reset);
            }
        }
        if let Some(close) = session.poll_close() {
            return Ok(close);
        }
        // The store may take now what it did not take before.
        let taken = receive(&mut responder, session, store, scratch, &mut kept);
        store.settle();
        // More input may be waiting; that is not known here.
        store.flush();
        if taken || responder.is_waiting(session) {
            stream.pause().await;
            continue;
        }
        // No more than the session and the store take now, so that nothing else has to be kept.
        let wanted = match session.payload_in() {
            Some(payload) => payload.clamp(scratch.len()),
            None => session.want_read().min(scratch.len()),
        };
        if wanted <= kept {
            // There is nothing to wait for. The session and this loop would have to disagree.
            return Ok(Close::Reset);
        }
        let received = stream.read(&mut scratch[kept..wanted], |now| {
            session.handle_timeout(now);
            // Neither closed nor with an `error timeout` to be sent.
            if session.want_read() > 0 { ControlFlow::Continue(session.poll_timeout()) } else { ControlFlow::Break(()) }
        });
        match received.await.map_err(DriveError::Stream)? {
            None => {}
            Some(0) => session.handle_eof(),
            Some(n) => {
                session.handle_timeout(stream.now());
                kept = (kept + n).min(wanted);
                receive(&mut responder, session, store, scratch, &mut kept);
            }
        }
    }
}

/// Offers the first `kept` bytes of `scratch` to session and store; true if they took some.
fn receive<S: Store, const BUF: usize, C: Cipher>(
    responder: &mut Responder<S>,
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    scratch: &mut [u8],
    kept: &mut usize,
) -> bool {
    let taken = responder.receive(session, store, &mut scratch[..*kept]);
    scratch.copy_within(taken..*kept, 0);
    *kept -= taken;
    taken > 0
}

/// Settles the store when the connection ends, even if the future is dropped; this happens after the [`Responder`],
/// which is declared later, is dropped.
struct Settled<'a, S: Store>(&'a mut S);

impl<S: Store> Drop for Settled<'_, S> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// Writes all of `bytes`; false if the peer has read too little of them for too long.
async fn send<T: TimedStream, const BUF: usize, C: Cipher>(
    stream: &mut T,
    session: &mut ServerSession<BUF, C>,
    bytes: &[u8],
) -> Result<bool, DriveError<T::Error>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let watch = watch_output(session, stream.now());
        match stream.write(rest, watch).await.map_err(DriveError::Stream)? {
            None => return Ok(false),
            Some(0) => return Err(DriveError::Closed),
            Some(n) => rest = &rest[n.min(rest.len())..],
        }
    }
    Ok(true)
}

async fn flush<T: TimedStream, const BUF: usize, C: Cipher>(
    stream: &mut T,
    session: &mut ServerSession<BUF, C>,
) -> Result<bool, DriveError<T::Error>> {
    let watch = watch_output(session, stream.now());
    Ok(stream.flush(watch).await.map_err(DriveError::Stream)?.is_some())
}

/// Stops when one of the session's timeouts ends it, and when nothing can be sent for the idle time. For the session,
/// the bytes in `scratch` have been sent: if they are its last reply, it has ended already and no longer checks the
/// time.
fn watch_output<const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    start: Instant,
) -> impl FnMut(Instant) -> Wait {
    let before = session.poll_close();
    let last = start.after(session.limits().idle);
    move |now| {
        session.handle_timeout(now);
        if session.poll_close() != before || now >= last {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(Some(session.poll_timeout().map_or(last, |at| at.min(last))))
    }
}
