//! The server's loop.

use core::ops::ControlFlow;

use super::DriveError;
#[cfg(feature = "embedded-io-async")]
use super::line::{Async, Timer};
use super::line::{Blocking, Line, Patience, ready};
use crate::cipher::Cipher;
use crate::responder::{NoServices, Responder, Step, list_room};
use crate::server::{Close, ServerSession};
use crate::store::Store;
use crate::time::Instant;

/// Serves one connection, from its beginning to its end, over a blocking stream.
///
/// `session` is new. `scratch` is all the memory that is needed for bytes under way: at least
/// [`list_room`]`(name_max)`; a larger one means fewer calls of the stream and the store. `clock` tells the time; see
/// [`drive`](super) for what that can do with a blocking stream.
///
/// Returns when the session has ended by `quit`, by the end of the stream, by an error of the peer or by a time-out, and
/// says how the caller closes the stream. Classic `get` and `put` are answered `-1`: there are no data connections.
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

/// [`serve`] over an async stream: the session's time-outs are kept by `timer`.
///
/// Other tasks run while it waits for the stream and between the steps of what takes the store some time (`sum`, a commit).
/// Dropping the future is losing the connection: what is staged stays.
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

async fn run<L: Line, S: Store, const BUF: usize, C: Cipher>(
    mut line: L,
    session: &mut ServerSession<BUF, C>,
    store: &mut S,
    scratch: &mut [u8],
) -> Result<Close, DriveError<L::Error>> {
    if scratch.len() < list_room(session.limits().name_max) {
        return Err(DriveError::InvalidState);
    }
    let settled = Settled(store);
    let store = &mut *settled.0;
    let mut responder = Responder::new();
    let mut unflushed = false;
    // Bytes at the front of `scratch`: of a record that has not come whole, or for a store that is not ready.
    let mut kept = 0;
    loop {
        session.handle_timeout(line.now());
        if responder.step(session, store, &mut NoServices) != Step::Idle {
            line.pause().await;
            continue;
        }
        // Whoever is sending us a body that we have refused is not reading yet.
        let n = if session.is_draining() { 0 } else { responder.transmit(session, store, &mut scratch[kept..]) };
        if n > 0 {
            if !send(&mut line, session, &scratch[kept..kept + n]).await? {
                return Ok(Close::Reset);
            }
            unflushed = true;
            continue;
        }
        if unflushed {
            unflushed = false;
            if !flush(&mut line, session).await? {
                return Ok(Close::Reset);
            }
        }
        if let Some(close) = session.poll_close() {
            return Ok(close);
        }
        // What the store did not take before, it may take now.
        let taken = receive(&mut responder, session, store, scratch, &mut kept);
        store.settle();
        // Whether more input is waiting is not known here.
        store.flush();
        if taken || responder.is_waiting(session) {
            line.pause().await;
            continue;
        }
        // No more than the session and the store take now, so that nothing has to be kept.
        let wanted = match session.payload_in() {
            Some(payload) => payload.clamp(scratch.len()),
            None => session.want_read().min(scratch.len()),
        };
        if wanted <= kept {
            // Nothing is left to wait for: never so, as long as the session and this loop agree.
            return Ok(Close::Reset);
        }
        let received = line.read(&mut scratch[kept..wanted], |now| {
            session.handle_timeout(now);
            // Neither closed nor with an `error timeout` to be sent.
            if session.want_read() > 0 { ControlFlow::Continue(session.poll_timeout()) } else { ControlFlow::Break(()) }
        });
        match received.await.map_err(DriveError::Stream)? {
            None => {}
            Some(0) => session.handle_eof(),
            Some(n) => {
                session.handle_timeout(line.now());
                kept = (kept + n).min(wanted);
                receive(&mut responder, session, store, scratch, &mut kept);
            }
        }
    }
}

/// Passes on the first `kept` bytes of `scratch`, as far as session and store take them; true if they took some.
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

/// Settles the store when the conversation ends, also by dropping the future: after the [`Responder`], which is declared later.
struct Settled<'a, S: Store>(&'a mut S);

impl<S: Store> Drop for Settled<'_, S> {
    fn drop(&mut self) {
        self.0.settle();
    }
}

/// Writes all of `bytes`; false if the peer has read too little of them for too long.
async fn send<L: Line, const BUF: usize, C: Cipher>(
    line: &mut L,
    session: &mut ServerSession<BUF, C>,
    bytes: &[u8],
) -> Result<bool, DriveError<L::Error>> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let watch = watch_output(session, line.now());
        match line.write(rest, watch).await.map_err(DriveError::Stream)? {
            None => return Ok(false),
            Some(0) => return Err(DriveError::Closed),
            Some(n) => rest = &rest[n.min(rest.len())..],
        }
    }
    Ok(true)
}

async fn flush<L: Line, const BUF: usize, C: Cipher>(
    line: &mut L,
    session: &mut ServerSession<BUF, C>,
) -> Result<bool, DriveError<L::Error>> {
    let watch = watch_output(session, line.now());
    Ok(line.flush(watch).await.map_err(DriveError::Stream)?.is_some())
}

/// Gives up when the session ends by its own time-outs; and when nothing at all goes out for the idle time, since the session
/// takes what is in `scratch` for sent: if that is its last reply, it has ended already and looks at no clock.
fn watch_output<const BUF: usize, C: Cipher>(
    session: &mut ServerSession<BUF, C>,
    start: Instant,
) -> impl FnMut(Instant) -> Patience {
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
