//! A server for embassy, with sessions over embassy-net's TCP sockets. An application needs an `embassy_net::Stack` and
//! one task for each session.
//!
//! ```
//! use embassy_net::Stack;
//! use skiff_device::config::Config;
//! use skiff_device::embassy::{Buffers, Server};
//! use skiff_device::ram::RamStore;
//!
//! const SESSIONS: usize = 3; // clients at a time
//! type Files = RamStore<'static, 64, 256>;
//!
//! // #[embassy_executor::task(pool_size = SESSIONS)]
//! async fn session(server: &'static Server<Files, SESSIONS>, stack: Stack<'static>, buffers: &'static mut Buffers) {
//!     server.serve(stack, buffers).await
//! }
//!
//! fn server(files: Files) -> Server<Files, SESSIONS> {
//!     Server::new(files, &Config::new(50_000, &[])).expect("a valid configuration")
//! }
//! ```
//!
//! `examples/embassy` in the repository is the complete application.
//!
//! The application's `StackResources` needs one socket for each session, plus the sockets that embassy-net itself uses.
//! A client that connects while all sessions are in use gets a reset.
//!
//! The server supports the extended commands and `ls`, but not encryption. It answers the classic `get` and `put` with
//! `-1`, because they need extra connections. [`DeviceServer`](crate::server::DeviceServer) supports encryption and
//! these commands.
//!
//! All tasks must run on one executor, because they share the store in a [`RefCell`].

use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::{Future as _, pending, poll_fn};
use core::pin::pin;
use core::task::Poll;

use embassy_futures::select::{Either, select};
use embassy_futures::yield_now;
use embassy_net::Stack;
use embassy_net::tcp::{State, TcpSocket};
use embassy_sync::blocking_mutex::raw::NoopRawMutex;
use embassy_sync::signal::Signal;
use embassy_time::Timer;
use skiff_proto::Instant;
use skiff_proto::command::command_len;
use skiff_proto::responder::list_room;
use skiff_proto::server::{Close, Limits};
use skiff_proto::store::Store;

use crate::config::{Config, ConfigError};

mod linger;
mod session;

use session::{Session, Turn};

/// The socket buffers of a session, of `N` bytes each.
#[derive(Debug)]
pub struct Buffers<const N: usize = 2048> {
    rx: [u8; N],
    tx: [u8; N],
}

impl<const N: usize> Buffers<N> {
    /// Creates empty buffers.
    #[must_use]
    pub const fn new() -> Self {
        Self { rx: [0; N], tx: [0; N] }
    }
}

impl<const N: usize> Default for Buffers<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// A store and up to `SESSIONS` sessions on it: see the [module documentation](self).
///
/// `BUF` is the size of the command buffer: [`command_len`] of the longest name, by default 64 bytes.
pub struct Server<S: Store, const SESSIONS: usize, const BUF: usize = { command_len(64) }> {
    store: RefCell<S>,
    places: [Place<S, BUF>; SESSIONS],
    config: Config<'static>,
}

/// The slot of a session.
struct Place<S: Store, const BUF: usize> {
    /// True while a task serves this slot.
    is_served: Cell<bool>,
    /// The current session. It is never borrowed across an await, so that other sessions can access it.
    session: RefCell<Option<Session<S, BUF>>>,
    /// Another writer has taken over the name that this session was writing.
    evicted: Signal<NoopRawMutex, ()>,
}

impl<S: Store, const SESSIONS: usize, const BUF: usize> Server<S, SESSIONS, BUF> {
    /// Creates a server for `store`. `config` must not contain data ports.
    ///
    /// # Errors
    /// Returns the first setting that is not valid.
    pub fn new(store: S, config: &Config<'static>) -> Result<Self, ConfigError> {
        if !config.data_ports.is_empty() {
            return Err(ConfigError::NotBuiltIn);
        }
        let name = usize::from(config.limits.name_max);
        if command_len(name) > BUF {
            return Err(ConfigError::Name);
        }
        config.check(name, list_room(config.limits.name_max))?;
        let place = |_| Place { is_served: Cell::new(false), session: RefCell::new(None), evicted: Signal::new() };
        Ok(Self { store: RefCell::new(store), places: core::array::from_fn(place), config: *config })
    }

    /// The store, for the application's own use. Never hold the borrow across an await.
    pub const fn store(&self) -> &RefCell<S> {
        &self.store
    }

    /// The number of connected clients.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.places.iter().filter(|place| place.session.borrow().is_some()).count()
    }

    /// Serves one client after another, forever. Dropping the future disconnects the client; staged bytes stay.
    ///
    /// # Panics
    /// More tasks call it than there are sessions, or the buffers can't hold a line of a listing ([`list_room`]).
    pub async fn serve<const N: usize>(&self, stack: Stack<'_>, buffers: &mut Buffers<N>) -> ! {
        let limits = self.config.limits;
        assert!(N >= list_room(limits.name_max), "socket buffers need room for a line of a listing");
        let mut free = self.places.iter().enumerate();
        let Some((own, place)) = free.find(|(_, place)| !place.is_served.replace(true)) else {
            panic!("more tasks than sessions");
        };
        let _leave = Leave(&place.is_served);
        let mut socket = TcpSocket::new(stack, &mut buffers.rx, &mut buffers.tx);
        socket.set_nagle_enabled(false);
        loop {
            socket.set_keep_alive(self.config.keep_alive.try_into().ok());
            socket.set_timeout(self.config.timeout.try_into().ok());
            if socket.accept(self.config.port).await.is_ok() {
                place.evicted.reset();
                place.session.replace(Some(Session::new(limits, now())));
                let vacate = Vacate(self, own);
                let end = select(self.converse(&mut socket, own), place.evicted.wait()).await;
                drop(vacate);
                if matches!(end, Either::First(Some(Close::Gracefully))) {
                    linger::close(&mut socket, &limits).await;
                }
            }
            if !matches!(socket.state(), State::Closed | State::TimeWait) || socket.remote_endpoint().is_none() {
                socket.abort();
            }
            // The reset goes out, if there is a way.
            _ = select(socket.flush(), Timer::after_secs(1)).await;
        }
    }

    /// Moves bytes between the socket and the session until the session ends. `None`: the connection is lost.
    async fn converse(&self, socket: &mut TcpSocket<'_>, own: usize) -> Option<Close> {
        loop {
            let (turn, deadline) = self.turn(socket, own)?;
            match turn {
                Turn::End(close) => return close,
                Turn::Busy => yield_now().await,
                Turn::Idle => {
                    let alarm = async {
                        match deadline {
                            Some(at) => Timer::at(embassy_time::Instant::from_millis(at.as_millis())).await,
                            None => pending().await,
                        }
                    };
                    select(changed(socket), alarm).await;
                }
            }
        }
    }

    /// Runs one turn of a session. Also returns the deadline for the next turn.
    fn turn(&self, socket: &mut TcpSocket<'_>, own: usize) -> Option<(Turn, Option<Instant>)> {
        let mut session = self.places.get(own)?.session.borrow_mut();
        let session = session.as_mut()?;
        let mut services = Services { server: self, own, now: now() };
        let turn = session.turn(socket, &mut *self.store.borrow_mut(), &mut services);
        Some((turn, session.deadline()))
    }
}

impl<S: Store + fmt::Debug, const SESSIONS: usize, const BUF: usize> fmt::Debug for Server<S, SESSIONS, BUF> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("store", &self.store).field("sessions", &self.sessions()).finish_non_exhaustive()
    }
}

/// Frees a slot if the future that serves it is dropped.
struct Leave<'a>(&'a Cell<bool>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Ends a session, even if its future is dropped.
struct Vacate<'a, S: Store, const SESSIONS: usize, const BUF: usize>(&'a Server<S, SESSIONS, BUF>, usize);

impl<S: Store, const SESSIONS: usize, const BUF: usize> Drop for Vacate<'_, S, SESSIONS, BUF> {
    fn drop(&mut self) {
        if let Some(place) = self.0.places.get(self.1) {
            place.session.replace(None);
            self.0.store.borrow_mut().settle();
        }
    }
}

/// What a session needs from the others.
struct Services<'a, S: Store, const SESSIONS: usize, const BUF: usize> {
    server: &'a Server<S, SESSIONS, BUF>,
    own: usize,
    now: Instant,
}

impl<S: Store, const SESSIONS: usize, const BUF: usize> skiff_proto::responder::Services<S>
    for Services<'_, S, SESSIONS, BUF>
{
    fn take_over(&mut self, name: skiff_proto::Name<'_>) -> bool {
        let others = self.server.places.iter().enumerate().filter(|(at, _)| *at != self.own);
        for (_, place) in others {
            let mut session = place.session.borrow_mut();
            let Some(writer) = session.as_mut().filter(|session| session.is_writing(name)) else { continue };
            let is_silent = self.now.since(writer.received()) >= self.server.config.takeover;
            if is_silent {
                writer.close();
                place.evicted.signal(());
            }
            return is_silent;
        }
        false
    }
}

/// Waits until the socket becomes readable or writable. A direction that is ready now does not count: the session has
/// already tried to use it.
async fn changed(socket: &TcpSocket<'_>) {
    let readable = || socket.can_recv() || !socket.may_recv();
    let writable = || socket.can_send() || !socket.may_send();
    let (was_readable, was_writable) = (readable(), writable());
    poll_fn(|context| {
        if (readable() && !was_readable) || (writable() && !was_writable) {
            return Poll::Ready(());
        }
        // They complete only when there is something: here they just register the task.
        _ = pin!(socket.wait_read_ready()).poll(context);
        _ = pin!(socket.wait_write_ready()).poll(context);
        Poll::Pending
    })
    .await;
}

/// The current time, from embassy-time.
fn now() -> Instant {
    Instant::from_millis(embassy_time::Instant::now().as_millis())
}

/// How long a closing connection may go without progress.
fn patience(limits: &Limits) -> embassy_time::Duration {
    let rate = limits.min_rate;
    let patience = if rate.bytes > 0 { limits.idle.min(rate.window) } else { limits.idle };
    patience.try_into().unwrap_or(embassy_time::Duration::from_secs(60))
}
