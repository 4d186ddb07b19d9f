//! The server: sessions and classic transfers over the TCP sockets of a smoltcp stack.
//!
//! | module | content |
//! |---|---|
//! | here | [`DeviceServer`]: the order of a poll |
//! | `control` | control sockets: listen, accept, refuse, close |
//! | `session` | one client's session over its control socket |
//! | `data` | data sockets of classic transfers |
//! | `services` | the services for a session: a data connection, the name of a silent writer |
//! | `transfer` | one classic transfer |
//! | `linger` | the end of a connection |
//! | `protect` | keys, nonces, and the order in which clients are served (feature `secure`; otherwise `open`) |

mod control;
mod data;
mod linger;
#[cfg(not(feature = "secure"))]
#[path = "open.rs"]
mod protect;
#[cfg(feature = "secure")]
mod protect;
mod services;
mod session;
mod transfer;

use core::time::Duration;

use skiff_proto::cipher::{self, Guard};
use skiff_proto::command::command_len;
use skiff_proto::server::{Answer, Close, Limits};
use skiff_proto::store::Store;
use skiff_proto::transfer::PORT_WAIT;
use skiff_proto::{ErrorCode, Instant};
use smoltcp::iface::{Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::phy::Device;
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};

use crate::config::{Config, ConfigError};
use crate::time::{duration, moment};
pub use control::ControlSocket;
use control::{Accepted, ControlSockets};
pub use data::DataSocket;
use data::{DataSockets, Served};
pub use protect::RECORD;
use protect::{Cipher, Door};
#[cfg(feature = "secure")]
pub use protect::{Entropy, Nonces, Protection};
use services::Services;
pub use session::Session;
use session::Turn;

/// Maximum number of packets received in one poll before the sessions get their turn. Each turn sends an
/// acknowledgement, which costs the other end as much as several packets; but if the server waited until a buffer of 64
/// KiB was full, the other end would be idle.
const BURST: usize = 32;

/// How often a session may go through all its steps before others get their turn.
const ROUNDS: usize = 4;

/// The longest command of a server for names of up to `name` bytes: `BUF` of a [`DeviceServer`].
#[must_use]
pub const fn command_buffer(name: usize) -> usize {
    let (named, handshake) = (command_len(name), <<Cipher as cipher::Cipher>::Server as Guard>::COMMAND_LEN);
    if named < handshake { handshake } else { named }
}

/// The memory that a server borrows, as slices. [`server_memory!`](crate::server_memory) makes types for it.
///
/// The lengths determine the limits of the server: as many concurrent clients as there are `sessions`, and as many
/// classic transfers as there are `data` sockets.
pub struct Memory<'m, S: Store, const NAME: usize, const BUF: usize> {
    /// One for each concurrent client, 1 to 255.
    pub sessions: &'m mut [Option<Session<S, NAME, BUF>>],
    /// One more than `sessions`.
    pub control: &'m mut [ControlSocket],
    /// One for each port of [`Config::data_ports`].
    pub data: &'m mut [DataSocket<S, NAME>],
    /// Socket buffers, divided evenly: one to receive and one to send for each session and each data socket.
    pub buffers: &'m mut [u8],
    /// The two socket buffers of the spare listener, which accepts a client while an old connection is still closing.
    /// They may be smaller: it works like the others, in smaller pieces.
    pub spare: &'m mut [u8],
    /// At least [`RECORD`] bytes: the longest record of a protected connection and its length. Socket buffers must hold
    /// one as well. Empty without the feature `secure`.
    pub record: &'m mut [u8],
}

/// A server over the TCP sockets of an application's stack.
///
/// `NAME` is the longest name in bytes, and `BUF` is [`command_buffer`]`(NAME)`: both follow from the [`Memory`].
pub struct DeviceServer<'m, S: Store, const NAME: usize, const BUF: usize> {
    control: ControlSockets<'m>,
    sessions: &'m mut [Option<Session<S, NAME, BUF>>],
    data: DataSockets<'m, S, NAME>,
    door: Door<'m>,
    limits: Limits,
    takeover: Duration,
    counts: Counts,
    is_busy: bool,
}

/// Counters since the start of a server. They wrap around.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counts {
    /// Clients that were served.
    pub accepted: u32,
    /// Clients that were refused because all sessions were taken.
    pub refused: u32,
    /// Connections to a data port from an address other than the client's.
    pub strangers: u32,
    /// Classic transfers that succeeded.
    pub transfers: u32,
    /// Classic transfers that failed.
    pub failures: u32,
    /// Failed handshakes: clients without a valid key.
    #[cfg(feature = "secure")]
    pub denied: u32,
}

/// The current usage of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Usage {
    /// Sessions with a client.
    pub sessions: usize,
    /// Listening control sockets.
    pub listening: usize,
    /// Data sockets that are announced or in use.
    pub data: usize,
}

impl<'m, S: Store, const NAME: usize, const BUF: usize> DeviceServer<'m, S, NAME, BUF> {
    /// Adds the server's TCP sockets to `sockets`: one for each control and data socket of `memory`. The server listens
    /// from the first poll on.
    ///
    /// # Errors
    /// The configuration, or the memory for it, is not valid. Nothing is added.
    ///
    /// # Panics
    /// As [`SocketSet::add`] does, if `sockets` borrows storage that is too small.
    pub fn new(
        config: &Config<'_>,
        memory: Memory<'m, S, NAME, BUF>,
        sockets: &mut SocketSet<'m>,
    ) -> Result<Self, ConfigError> {
        const { assert!(BUF == command_buffer(NAME), "BUF is command_buffer(NAME)") };
        let Memory { sessions, control, data, buffers, spare, record } = memory;
        let is_complete = (1..256).contains(&sessions.len())
            && control.len() == sessions.len() + 1
            && data.len() == config.data_ports.len();
        if !is_complete {
            return Err(ConfigError::Memory);
        }
        let len = buffers.len() / (2 * (sessions.len() + data.len()));
        let smallest = len.min(spare.len() / 2);
        config.check(NAME, smallest)?;
        let (keep_alive, timeout) = (duration(config.keep_alive), duration(config.timeout));
        let mut add = |pair: &'m mut [u8]| {
            let (rx, tx) = pair.split_at_mut(pair.len() / 2);
            let mut socket = Socket::new(SocketBuffer::new(rx), SocketBuffer::new(tx));
            // The server writes together what should be sent together; waiting for more would cost a round trip.
            socket.set_nagle_enabled(false);
            // A sender that has filled a small buffer continues only after an acknowledgement.
            socket.set_ack_delay(None);
            socket.set_keep_alive(Some(keep_alive));
            socket.set_timeout(Some(timeout));
            sockets.add(socket)
        };
        let (control_buffers, data_buffers) = buffers.split_at_mut(2 * len * sessions.len());
        // smoltcp gives a connection to the first socket that listens: the spare listener comes last.
        let handles = control_buffers.chunks_exact_mut(2 * len).chain([spare]).map(&mut add);
        let control = ControlSockets::new(control, config.port, handles);
        let data = DataSockets::new(data, config.data_ports, data_buffers.chunks_exact_mut(2 * len).map(add));
        sessions.fill_with(|| None);
        let door = Door::new(record, smallest);
        let Config { limits, takeover, .. } = *config;
        Ok(Self { control, sessions, data, door, limits, takeover, counts: Counts::default(), is_busy: false })
    }

    /// From now on, admits only clients with a key, and protects their connections (PROTOCOL §8). Call it before the
    /// first poll.
    ///
    /// The maximum record length is the length of [`Memory::record`] or of the smallest socket buffer, whichever is
    /// less, minus ten bytes.
    ///
    /// # Errors
    /// [`ConfigError::Buffer`]: that is less than 600 bytes.
    #[cfg(feature = "secure")]
    pub fn protect(&mut self, protection: Protection<'m>) -> Result<(), ConfigError> {
        self.door.protect(protection)
    }

    /// Receives packets, executes requests on `store`, and sends replies; each call does a bounded part. Call it
    /// instead of [`Interface::poll`]: the application's own sockets receive and send as well.
    ///
    /// `now` is the caller's monotonic clock; `interface` gets the same time.
    pub fn poll<D: Device + ?Sized>(
        &mut self,
        now: Instant,
        interface: &mut Interface,
        device: &mut D,
        sockets: &mut SocketSet<'_>,
        store: &mut S,
    ) {
        self.poll_with(now, interface, device, sockets, store, |_, _| ());
    }

    /// [`Self::poll`] with an additional action between receiving and sending.
    pub(crate) fn poll_with<D: Device + ?Sized>(
        &mut self,
        now: Instant,
        interface: &mut Interface,
        device: &mut D,
        sockets: &mut SocketSet<'_>,
        store: &mut S,
        received: impl FnOnce(&mut Interface, &mut SocketSet<'_>),
    ) {
        let moment = moment(now);
        interface.poll_maintenance(moment);
        let mut must_send = self.accept(now, sockets);
        let mut packets = 0;
        self.is_busy = loop {
            // A reset goes out before its socket listens again, and so does the answer to a FIN. The next packet waits.
            if packets == BURST || (must_send && packets > 0) {
                break true;
            }
            match interface.poll_ingress_single(moment, device, sockets) {
                PollIngressSingleResult::None => break false,
                PollIngressSingleResult::PacketProcessed => {}
                PollIngressSingleResult::SocketStateChanged => must_send = self.accept(now, sockets),
            }
            packets += 1;
        };
        received(interface, sockets);
        for at in 0..self.sessions.len() {
            if !self.is_stranger(at) {
                self.is_busy |= self.serve_session(at, now, sockets, store);
            }
        }
        #[cfg(feature = "secure")]
        self.serve_strangers(now, sockets, store);
        self.serve_data(now, sockets, store);
        self.grant_data(now, sockets, store);
        // No further input is waiting.
        store.flush();
        store.settle();
        self.control.end(now, sockets, &self.limits);
        while interface.poll_egress(moment, device, sockets) == PollResult::SocketStateChanged {}
        // Sockets whose reset or last acknowledgement has gone out listen before the next packet.
        self.control.end(now, sockets, &self.limits);
        self.data.listen(sockets);
        // While sending, the stack also gives up peers that have been silent for too long.
        let mut streams = self.sessions.iter().flatten().map(|session| session.stream.handle);
        self.is_busy |= streams.any(|handle| sockets.get::<Socket<'_>>(handle).state() == State::Closed)
            || self.data.has_lost(sockets);
    }

    /// The time after which to poll again, if no packet arrives before. Zero: poll at once, there is more to do.
    /// `None`: there is nothing to do before a packet arrives. It includes the application's own sockets.
    pub fn poll_delay(&self, now: Instant, interface: &mut Interface, sockets: &SocketSet<'_>) -> Option<Duration> {
        if self.is_busy {
            return Some(Duration::ZERO);
        }
        let stack = interface.poll_delay(moment(now), sockets).map(|delay| Duration::from_micros(delay.total_micros()));
        let own = self.deadline(now).map(|at| at.since(now));
        stack.into_iter().chain(own).min()
    }

    /// The counters since the start of the server.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// The current usage. `sockets` is the set that the server was created with.
    #[must_use]
    pub fn usage(&self, sockets: &SocketSet<'_>) -> Usage {
        Usage {
            sessions: self.sessions.iter().flatten().count(),
            listening: self.control.listening(sockets),
            data: self.data.taken(),
        }
    }

    /// Checks who has connected, after each packet: clients get their session, and others are refused, so that a socket
    /// listens again before the next packet. True if something has to be sent before the next packet.
    fn accept(&mut self, now: Instant, sockets: &mut SocketSet<'_>) -> bool {
        let mut is_refused = false;
        for at in 0..self.control.len() {
            let is_free = |session: &Option<Session<_, NAME, BUF>>| session.as_ref().is_none_or(Session::is_stranger);
            let free = &|| self.sessions.iter().filter(|session| is_free(session)).count();
            match self.control.accept(at, now, sockets, free) {
                Accepted::Nothing => {}
                Accepted::Refused => {
                    self.counts.refused = self.counts.refused.wrapping_add(1);
                    is_refused = true;
                }
                Accepted::Client(handle, peer) => {
                    self.counts.accepted = self.counts.accepted.wrapping_add(1);
                    #[cfg(feature = "secure")]
                    self.make_place(now, sockets);
                    if let Some(place) = self.sessions.iter_mut().find(|session| session.is_none()) {
                        let session = place.insert(Session::new(handle, peer, self.limits, now));
                        if !self.door.guard(&mut session.stream.session, now) {
                            *place = None;
                            self.control.close(handle, Some(Close::Reset), now, sockets);
                            is_refused = true;
                        }
                    }
                }
            }
        }
        let strangers = self.data.accept(sockets, &self.limits);
        self.counts.strangers = self.counts.strangers.wrapping_add(strangers);
        is_refused || strangers > 0 || !self.control.is_listening(sockets)
    }

    fn is_stranger(&self, at: usize) -> bool {
        self.sessions[at].as_ref().is_some_and(Session::is_stranger)
    }

    /// If all sessions are in use, evicts the client that has gone without a key the longest.
    #[cfg(feature = "secure")]
    fn make_place(&mut self, now: Instant, sockets: &mut SocketSet<'_>) {
        if self.sessions.iter().any(Option::is_none) {
            return;
        }
        let strangers = self.sessions.iter().enumerate().filter_map(|(at, session)| Some((at, session.as_ref()?)));
        let strangers = strangers.filter(|(_, session)| session.is_stranger());
        if let Some((at, _)) = strangers.min_by_key(|(_, session)| session.handshake_deadline()) {
            self.end_session(at, Some(Close::Reset), now, sockets);
        }
    }

    /// Gives a turn to sessions that are not protected yet, unless too many handshakes have failed: then they wait,
    /// while their timeouts continue.
    #[cfg(feature = "secure")]
    fn serve_strangers(&mut self, now: Instant, sockets: &mut SocketSet<'_>, store: &mut S) {
        for at in 0..self.sessions.len() {
            let Some(session) = self.sessions[at].as_ref().filter(|session| session.is_stranger()) else { continue };
            let is_lost = sockets.get::<Socket<'_>>(session.stream.handle).state() == State::Closed;
            let is_over = session.deadline().is_some_and(|deadline| deadline <= now);
            if is_lost {
                // Earlier input is not processed: no handshake could be answered.
                self.end_session(at, None, now, sockets);
            } else if is_over || self.door.closed_until(now).is_none() {
                self.is_busy |= self.serve_session(at, now, sockets, store);
            }
        }
    }

    /// Gives one session its turn; true if there is more to do at once.
    fn serve_session(&mut self, at: usize, now: Instant, sockets: &mut SocketSet<'_>, store: &mut S) -> bool {
        match self.turn(at, now, sockets, store) {
            Turn::Idle => false,
            Turn::Busy => true,
            Turn::End(close) => {
                self.end_session(at, close, now, sockets);
                true
            }
        }
    }

    fn end_session(&mut self, at: usize, close: Option<Close>, now: Instant, sockets: &mut SocketSet<'_>) {
        if let Some(session) = self.sessions[at].take() {
            #[cfg(feature = "secure")]
            if session.has_failed() {
                self.counts.denied = self.counts.denied.wrapping_add(1);
                self.door.failed(now);
            }
            // Staged bytes remain for `resume`.
            self.control.close(session.stream.handle, close, now, sockets);
        }
        self.data.disown(at);
    }

    fn turn(&mut self, at: usize, now: Instant, set: &mut SocketSet<'_>, store: &mut S) -> Turn {
        let (before, from) = self.sessions.split_at_mut(at);
        let Some((Some(session), after)) = from.split_first_mut() else {
            return Turn::Idle;
        };
        if session.is_evicted {
            return Turn::End(Some(Close::Reset));
        }
        let Session { stream, peer, waiting, .. } = session;
        stream.session.handle_timeout(now);
        for _ in 0..ROUNDS {
            let stepped = stream.step(
                store,
                &mut Services {
                    session: at,
                    client: *peer,
                    waiting,
                    others: [&mut *before, &mut *after],
                    data: &mut self.data,
                    set,
                    takeover: self.takeover,
                    now,
                },
            );
            if let Some(turn) = stream.exchange(set.get_mut(stream.handle), store, now, stepped, self.door.record()) {
                return turn;
            }
        }
        Turn::Busy
    }

    /// True if a `get` or `put` is waiting for a data connection.
    fn is_data_in_demand(&self) -> bool {
        self.sessions.iter().flatten().any(Session::is_waiting)
    }

    /// Gives each classic transfer its turn.
    fn serve_data(&mut self, now: Instant, sockets: &mut SocketSet<'_>, store: &mut S) {
        let in_demand = self.is_data_in_demand();
        let Served { is_busy, done, failed } =
            self.data.serve(sockets, now, store, &self.limits, in_demand, |session| {
                if let Some(Some(session)) = self.sessions.get_mut(session) {
                    session.stream.session.handle_progress(now);
                }
            });
        self.is_busy |= is_busy;
        self.counts.transfers = self.counts.transfers.wrapping_add(done);
        self.counts.failures = self.counts.failures.wrapping_add(failed);
    }

    /// Gives free data connections to the requests that have waited longest; refuses those that have waited too long.
    fn grant_data(&mut self, now: Instant, sockets: &mut SocketSet<'_>, store: &mut S) {
        loop {
            let waiting = self.sessions.iter_mut().enumerate().filter_map(|(at, session)| {
                let session = session.as_mut()?;
                let since = session.waiting.as_ref()?.0;
                Some((since, at, session))
            });
            let Some((since, at, Session { stream, peer, waiting, .. })) = waiting.min_by_key(|(since, ..)| *since)
            else {
                return;
            };
            let free = self.data.free();
            if free.is_none() && now.since(since) < PORT_WAIT {
                return;
            }
            let answered = match (free, waiting.take()) {
                (Some(socket), Some((_, request))) => {
                    stream.session.answer(Answer::Port(socket.offer(sockets, at, *peer, request, now)))
                }
                _ => stream.session.refuse(ErrorCode::Busy.into()),
            };
            debug_assert!(answered.is_ok(), "a session that waits has been asked");
            // The answer goes out in this poll.
            stream.send(sockets.get_mut(stream.handle), store, self.door.record());
        }
    }

    /// When the server has to be polled even if no packet arrives.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let control = self.control.deadline(&self.limits);
        let data = self.data.deadline(self.is_data_in_demand(), &self.limits);
        let sessions = self.sessions.iter().flatten().filter_map(Session::deadline);
        let deadline = sessions.chain(control).chain(data).min();
        #[cfg(feature = "secure")]
        if (0..self.sessions.len()).any(|at| self.is_stranger(at)) {
            return deadline.into_iter().chain(self.door.closed_until(now)).min();
        }
        _ = now;
        deadline
    }
}

/// Closes everything that sessions and transfers have open; staged bytes remain for `resume`. The sockets stay in their
/// set.
impl<S: Store, const NAME: usize, const BUF: usize> Drop for DeviceServer<'_, S, NAME, BUF> {
    fn drop(&mut self) {
        self.sessions.fill_with(|| None);
        self.data.clear();
    }
}
