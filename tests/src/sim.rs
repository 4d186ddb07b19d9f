//! A device server and its clients in one thread and virtual time, joined by a simulated link.
//!
//! | part | what it is |
//! |---|---|
//! | the device | the real [`DeviceServer`] with its smoltcp stack and a store |
//! | the link | [`Faulty`]: frames are dropped, corrupted, doubled, delayed, reordered, or it is cut |
//! | the station | a second smoltcp stack, the other computer |
//! | tasks | clients: `async` code over [`Stream`]s of the station |
//!
//! Nothing here asks the time or the machine for anything: the same seed and the same tasks make the same run. Time
//! stands still while anybody can go on, and then jumps to the next thing that is due.

mod stream;

use core::cell::RefCell;
use core::net::Ipv4Addr;
use core::pin::Pin;
use core::task::{Context, Waker};
use core::time::Duration;
use std::rc::Rc;

use skiff_device::config::{Config, Ipv4};
use skiff_device::memory::{Memory, slots};
use skiff_device::serv::faults::{Faults, Faulty};
use skiff_device::serv::link::{End, cable};
use skiff_device::server::DeviceServer;
use skiff_proto::Instant;
use skiff_proto::command::command_len;
use skiff_proto::store::Store;
use smoltcp::iface::{Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};

pub use stream::{Lost, Stream, Timer};

/// Sessions of the device.
pub const SESSIONS: usize = 2;
/// Its classic data connections.
pub const DATA: usize = 1;
/// Its longest name in bytes.
pub const NAME: usize = 64;
/// Its port.
pub const PORT: u16 = 50_000;

const DEVICE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const STATION: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RING: usize = 2048;
const SPARE: usize = 1024;

type Server<S> = DeviceServer<'static, S, SESSIONS, DATA, NAME, { command_len(NAME) }>;

/// How a world begins.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// Where chance begins.
    pub seed: u64,
    /// What happens to frames.
    pub faults: Faults,
    /// A connection without progress ends after this time.
    pub idle: Duration,
}

/// Everything that is not a task.
pub struct World<S: Store + 'static> {
    now: Instant,
    device: Option<Device<S>>,
    link: Faulty<End>,
    station: Station,
    /// When a task wants to be woken.
    alarm: Option<Instant>,
}

struct Device<S: Store + 'static> {
    server: Server<S>,
    store: S,
}

/// The other computer.
struct Station {
    interface: Interface,
    sockets: SocketSet<'static>,
    /// Reset by their owners; removed once that has gone out.
    ending: Vec<SocketHandle>,
    end: End,
    port: u16,
}

/// A world that tasks share.
pub type Shared<S> = Rc<RefCell<World<S>>>;

impl<S: Store + 'static> World<S> {
    /// A world with a device that serves `store`.
    #[must_use]
    pub fn new(setup: Setup, store: S) -> Shared<S> {
        let (ours, theirs) = cable();
        let now = Instant::from_millis(1);
        let link = Faulty::new(ours, setup.faults, setup.seed);
        let mut world = Self { now, device: None, link, station: Station::new(theirs, now), alarm: None };
        world.boot(setup, store);
        Rc::new(RefCell::new(world))
    }

    /// Starts the device on `store`. Whatever it was doing before is forgotten, as after a power cut.
    ///
    /// # Panics
    /// If the configuration can't work.
    pub fn boot(&mut self, setup: Setup, store: S) {
        let ipv4 = Ipv4::Static { address: DEVICE, prefix: 24, gateway: None };
        let mut config = Config::new([2, 0, 0, 0, 0, 2], ipv4, PORT, [PORT + 1]);
        config.seed = setup.seed;
        config.limits.idle = setup.idle;
        // As on a device, this memory is there for good.
        let memory =
            Box::leak(Box::new(Memory::<'static, SESSIONS, DATA, { slots(SESSIONS, DATA) }, RING, SPARE>::new()));
        let server = DeviceServer::new(memory, config, &mut self.link, self.now).expect("a configuration that works");
        self.device = Some(Device { server, store });
    }

    /// Takes the device off; its store.
    pub fn halt(&mut self) -> Option<S> {
        self.device.take().map(|device| device.store)
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The link.
    pub const fn link(&mut self) -> &mut Faulty<End> {
        &mut self.link
    }

    /// The device's server and store, while it is on.
    pub fn device(&mut self) -> Option<(&mut Server<S>, &mut S)> {
        self.device.as_mut().map(|device| (&mut device.server, &mut device.store))
    }

    /// Lets both stacks work until they have nothing more to say at this moment. Whether anything has happened, and when
    /// something will.
    fn settle(&mut self) -> (bool, Option<Instant>) {
        let mut happened = false;
        // What never comes to an end is a mistake, and shows as time that does not pass.
        for _ in 0..100_000 {
            let time = moment(self.now);
            let device = self.device.as_mut();
            let delay = device.and_then(|device| device.server.poll(self.now, &mut self.link, &mut device.store));
            let due = self.link.advance(time);
            let moved = self.station.poll(time);
            happened |= moved;
            let overdue = due.is_some_and(|due| due <= time);
            if moved || overdue || delay == Some(Duration::ZERO) || self.link.lower().has_frames() {
                continue;
            }
            let device = delay.map(|delay| self.now.after(delay.max(Duration::from_millis(1))));
            let station = self.station.interface.poll_at(time, &self.station.sockets).map(later);
            return (happened, device.into_iter().chain(due.map(later)).chain(station).min());
        }
        panic!("at {} ms the stacks never come to rest", self.now.as_millis());
    }
}

impl Station {
    fn new(mut end: End, now: Instant) -> Self {
        let mac = HardwareAddress::Ethernet(EthernetAddress([2, 0, 0, 0, 0, 1]));
        let mut interface = Interface::new(smoltcp::iface::Config::new(mac), &mut end, moment(now));
        interface.update_ip_addrs(|addresses| _ = addresses.push(IpCidr::new(IpAddress::Ipv4(STATION), 24)));
        Self { interface, sockets: SocketSet::new(Vec::new()), ending: Vec::new(), end, port: 49_152 }
    }

    /// True if anything happened.
    fn poll(&mut self, now: smoltcp::time::Instant) -> bool {
        let had = self.end.has_frames();
        let polled = self.interface.poll(now, &mut self.end, &mut self.sockets);
        self.ending.retain(|handle| {
            let gone = self.sockets.get::<Socket<'_>>(*handle).remote_endpoint().is_none();
            if gone {
                self.sockets.remove(*handle);
            }
            !gone
        });
        (polled != PollResult::None) | had
    }

    fn reset(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<Socket<'_>>(handle).abort();
        self.ending.push(handle);
    }

    fn connect(&mut self, port: u16) -> SocketHandle {
        let ring = || SocketBuffer::new(vec![0; 16 * 1024]);
        let mut socket = Socket::new(ring(), ring());
        socket.set_nagle_enabled(false);
        let local = self.port;
        self.port = if local == u16::MAX { 49_152 } else { local + 1 };
        socket.connect(self.interface.context(), (DEVICE, port), local).expect("two different ports");
        self.sockets.add(socket)
    }
}

fn moment(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_millis(i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

/// The next whole millisecond.
fn later(at: smoltcp::time::Instant) -> Instant {
    Instant::from_millis(u64::try_from(at.total_micros()).unwrap_or(0).div_ceil(1000))
}

/// A client.
pub type Task<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Why a run came to no end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stuck {
    /// Everybody waits, and nothing is due.
    Deadlock(Instant),
    /// The time is up.
    Late,
}

/// Runs all tasks to their ends.
///
/// # Errors
/// Not all have ended by `limit`, or none can ever go on.
pub fn run<S: Store + 'static>(world: &Shared<S>, limit: Instant, mut tasks: Vec<Task<'_>>) -> Result<(), Stuck> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        world.borrow_mut().alarm = None;
        tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        if tasks.is_empty() {
            return Ok(());
        }
        let mut world = world.borrow_mut();
        let (happened, due) = world.settle();
        if happened {
            continue;
        }
        let Some(next) = due.into_iter().chain(world.alarm).min() else {
            return Err(Stuck::Deadlock(world.now));
        };
        world.now = world.now.max(next);
        if world.now > limit {
            return Err(Stuck::Late);
        }
    }
}
