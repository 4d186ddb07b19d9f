//! The sockets' memory, lent by the caller.
//!
//! What a server takes in all, in bytes, on a Cortex-M3 (IPv4 and DHCP, names of 64 bytes, rings of 2 KiB, of 1 KiB in the
//! spare connection; without the interface's frames and the store):
//!
//! | sessions | data connections | `Memory` | `DeviceServer` | together |
//! |---|---|---|---|---|
//! | 1 | 1 | 11,584 | 1,504 | 13,088 |
//! | 2 | 1 | 16,016 | 2,232 | 18,248 |
//! | 4 | 2 | 29,312 | 3,920 | 33,232 |

use smoltcp::iface::{SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Duration;

/// Sockets and their rings, for `SESSIONS` sessions and `DATA` classic data connections. Fits a `static`.
///
/// Each has a ring of `RING` bytes for what comes in and another for what goes out. The spare connection, which is there so
/// that a client is heard while the ones before it are still ending, makes do with `SPARE` bytes each; it serves just as
/// the others do, in smaller pieces. `SLOTS` is [`slots`]`(SESSIONS, DATA)`.
pub struct Memory<
    'm,
    const SESSIONS: usize,
    const DATA: usize,
    const SLOTS: usize,
    const RING: usize,
    const SPARE: usize,
> {
    rings: Rings<SESSIONS, DATA, RING, SPARE>,
    slots: Slots<'m, SLOTS>,
}

/// The rings of a [`Memory`], by themselves: all zeros, so that a `static` takes no room in flash.
pub struct Rings<const SESSIONS: usize, const DATA: usize, const RING: usize, const SPARE: usize> {
    control: [[[u8; RING]; 2]; SESSIONS],
    spare: [[u8; SPARE]; 2],
    data: [[[u8; RING]; 2]; DATA],
}

/// The sockets of a [`Memory`], by themselves.
pub struct Slots<'m, const SLOTS: usize>([SocketStorage<'m>; SLOTS]);

/// The sockets that a server of so many sessions and data connections has: `SLOTS` of its [`Memory`].
#[must_use]
pub const fn slots(sessions: usize, data: usize) -> usize {
    sessions + 1 + data + cfg!(feature = "dhcp") as usize
}

impl<'m, const SESSIONS: usize, const DATA: usize, const SLOTS: usize, const RING: usize, const SPARE: usize>
    Memory<'m, SESSIONS, DATA, SLOTS, RING, SPARE>
{
    /// Empty memory. Does not compile if `SLOTS` is not that of [`slots`].
    #[must_use]
    pub const fn new() -> Self {
        const { assert!(SLOTS == slots(SESSIONS, DATA), "SLOTS is slots(SESSIONS, DATA)") };
        Self { rings: Rings::new(), slots: Slots::new() }
    }

    pub(crate) const fn parts(&mut self) -> (&mut Rings<SESSIONS, DATA, RING, SPARE>, &mut Slots<'m, SLOTS>) {
        (&mut self.rings, &mut self.slots)
    }
}

impl<const SESSIONS: usize, const DATA: usize, const RING: usize, const SPARE: usize>
    Rings<SESSIONS, DATA, RING, SPARE>
{
    /// Empty rings.
    #[must_use]
    pub const fn new() -> Self {
        Self { control: [[[0; RING]; 2]; SESSIONS], spare: [[0; SPARE]; 2], data: [[[0; RING]; 2]; DATA] }
    }
}

impl<const SESSIONS: usize, const DATA: usize, const RING: usize, const SPARE: usize> Default
    for Rings<SESSIONS, DATA, RING, SPARE>
{
    fn default() -> Self {
        Self::new()
    }
}

impl<const SLOTS: usize> Slots<'_, SLOTS> {
    /// No sockets yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { SocketStorage::EMPTY }; SLOTS])
    }
}

impl<const SLOTS: usize> Default for Slots<'_, SLOTS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const SESSIONS: usize, const DATA: usize, const SLOTS: usize, const RING: usize, const SPARE: usize> Default
    for Memory<'_, SESSIONS, DATA, SLOTS, RING, SPARE>
{
    fn default() -> Self {
        Self::new()
    }
}

/// The sockets in their places.
pub(crate) struct Sockets<'m, const SESSIONS: usize, const DATA: usize> {
    pub(crate) set: SocketSet<'m>,
    pub(crate) control: [SocketHandle; SESSIONS],
    pub(crate) spare: SocketHandle,
    pub(crate) data: [SocketHandle; DATA],
    /// Bytes of the smallest ring.
    pub(crate) smallest: usize,
}

/// The rings of one socket: for what comes in, for what goes out.
pub(crate) type Pair<'m> = [&'m mut [u8]; 2];

impl<'m, const SESSIONS: usize, const DATA: usize> Sockets<'m, SESSIONS, DATA> {
    pub(crate) fn in_memory<const SLOTS: usize, const RING: usize, const SPARE: usize>(
        rings: &'m mut Rings<SESSIONS, DATA, RING, SPARE>,
        slots: &'m mut Slots<'m, SLOTS>,
    ) -> Self {
        const { assert!(SLOTS >= self::slots(SESSIONS, DATA), "SLOTS is slots(SESSIONS, DATA)") };
        let [rx, tx] = &mut rings.spare;
        let control = rings.control.each_mut().map(|[rx, tx]| [&mut rx[..], &mut tx[..]]);
        let data = rings.data.each_mut().map(|[rx, tx]| [&mut rx[..], &mut tx[..]]);
        Self::new(&mut slots.0, control, [rx, tx], data)
    }

    /// `slots`: at least [`slots`] of them.
    pub(crate) fn new(
        slots: &'m mut [SocketStorage<'m>],
        control: [Pair<'m>; SESSIONS],
        spare: Pair<'m>,
        data: [Pair<'m>; DATA],
    ) -> Self {
        let mut smallest = usize::MAX;
        let mut set = SocketSet::new(slots);
        let mut add = |[rx, tx]: Pair<'m>| {
            smallest = smallest.min(rx.len()).min(tx.len());
            let mut socket = Socket::new(SocketBuffer::new(rx), SocketBuffer::new(tx));
            // What is to go out together is in the ring together; waiting for more costs a round trip in a small one.
            socket.set_nagle_enabled(false);
            // A sender that fills a small ring goes on only when it hears from us.
            socket.set_ack_delay(None);
            set.add(socket)
        };
        // The stack gives a connection to the first socket that listens: the spare comes last.
        let control = control.map(&mut add);
        let spare = add(spare);
        let data = data.map(add);
        Self { set, control, spare, data, smallest }
    }

    /// How often a silent peer is asked whether it is there, and for how long it may not answer.
    pub(crate) fn set_times(&mut self, keep_alive: Duration, timeout: Duration) {
        for handle in self.control.iter().chain([&self.spare]).chain(&self.data) {
            let socket = self.set.get_mut::<Socket<'_>>(*handle);
            socket.set_keep_alive(Some(keep_alive));
            socket.set_timeout(Some(timeout));
        }
    }
}

/// The figures above, checked wherever they apply: two sessions fit in 18 KiB.
#[cfg(all(target_pointer_width = "32", feature = "dhcp", not(feature = "ipv6")))]
const _: () = {
    use crate::ram::RamStore;
    use crate::server::DeviceServer;
    type Store = RamStore<'static, 64, 256>;
    type Server = DeviceServer<'static, Store, 2, 1, 64, { skiff_proto::command::command_len(64) }>;
    assert!(size_of::<Server>() + size_of::<Memory<'static, 2, 1, { slots(2, 1) }, 2048, 1024>>() <= 18 * 1024);
};
