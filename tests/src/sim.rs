//! A device server and its clients in one thread and virtual time, connected by a simulated link.
//!
//! | part | description |
//! |---|---|
//! | the [`Machine`] | the real [`DeviceServer`](skiff_device::server::DeviceServer) with its smoltcp stack and a store |
//! | the link | [`Faulty`]: frames are dropped, corrupted, duplicated, delayed or reordered, or the link is cut |
//! | stations | smoltcp stacks behind the link's other end: the other computers |
//! | tasks | clients: `async` code over [`Stream`]s of the stations |
//!
//! Nothing here reads the clock or depends on the machine: the same seed and the same tasks give the same run. Time
//! stands still while any task can continue, and then jumps to the next event.
//!
//! The caller owns the machine, which lives as long as its power is on. After [`World::switch_off`] the run pauses, the
//! caller drops the machine and creates another one, and the tasks continue with that.

mod hub;
mod machine;
mod stream;

use core::cell::{Cell, RefCell};
use core::pin::Pin;
use core::task::{Context, Waker};
use core::time::Duration;
use std::rc::Rc;

use skiff_device::serv::faults::{Faults, Faulty};
use skiff_device::serv::link::{End, cable};
use skiff_proto::Instant;
use smoltcp::phy::{Device as _, RxToken as _};

use hub::Hub;
pub use machine::{Board, Machine, MachineMemory, Port, Status};
pub use stream::{Lost, Options, Stream, Timer};

/// Sessions of the device.
pub const SESSIONS: usize = 2;
/// Its classic data connections.
pub const DATA: usize = 1;
/// Its longest name in bytes.
pub const NAME: usize = 64;
/// Its port.
pub const PORT: u16 = 50_000;

/// The initial parameters of a world.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    /// The seed.
    pub seed: u64,
    /// The faults of the link.
    pub faults: Faults,
    /// A connection without progress ends after this time.
    pub idle: Duration,
    /// The device's longest name in bytes, at most [`NAME`].
    pub name_max: u16,
    /// How many other computers there are.
    pub stations: usize,
}

impl Setup {
    /// One station, a perfect link, 60 s, the longest names.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, faults: Faults::default(), idle: Duration::from_secs(60), name_max: 64, stations: 1 }
    }
}

/// Everything that is neither a task nor the machine.
pub struct World {
    setup: Setup,
    now: Instant,
    /// How far the device's clock is ahead of the world's clock.
    ahead: Duration,
    /// The device does nothing before this moment.
    stalled: Instant,
    /// When the device wants its next turn, unless a frame arrives before; `None`: only when one arrives.
    wanted: Option<Instant>,
    power: Rc<Cell<bool>>,
    /// How often a machine has started.
    starts: u64,
    status: Status,
    link: Faulty<End>,
    hub: Hub,
    /// When a task wants to be woken.
    alarm: Option<Instant>,
    /// A task has made progress possible for others.
    stirred: bool,
}

/// A world that tasks share.
pub type Shared = Rc<RefCell<World>>;

impl World {
    /// A world without a machine.
    #[must_use]
    pub fn new(setup: Setup) -> Shared {
        let (ours, theirs) = cable();
        let now = Instant::from_millis(1);
        Rc::new(RefCell::new(Self {
            setup,
            now,
            ahead: Duration::ZERO,
            stalled: now,
            wanted: Some(now),
            power: Rc::new(Cell::new(false)),
            starts: 0,
            status: Status::default(),
            link: Faulty::new(ours, setup.faults, setup.seed),
            hub: Hub::new(theirs, setup.stations, setup.seed, now),
            alarm: None,
            stirred: false,
        }))
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

    /// The state of the device at its last turn.
    #[must_use]
    pub const fn status(&self) -> Status {
        self.status
    }

    /// The device's power switch, which can switch the device off even during its turn. From then on the device sends
    /// nothing.
    #[must_use]
    pub fn power(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.power)
    }

    /// Switches the device off.
    pub fn switch_off(&mut self) {
        self.power.set(false);
        self.stirred = true;
    }

    /// Puts the device's clock forward.
    pub fn jump(&mut self, by: Duration) {
        self.ahead += by;
        self.wanted = Some(self.now);
        self.stirred = true;
    }

    /// Stalls the device for this time, as if its flash were busy. Its clock continues.
    pub fn stall(&mut self, time: Duration) {
        self.stalled = self.now.after(time);
    }

    /// A station's computer loses power: its connections are gone without notice.
    pub fn vanish(&mut self, station: usize) {
        self.hub.vanish(station);
    }

    /// Wakes tasks at `at`.
    pub fn wake_at(&mut self, at: Instant) {
        self.alarm = self.alarm.into_iter().chain([at]).min();
    }

    /// Polls the stacks until they have nothing more to do at this moment. Returns whether anything has happened, and
    /// when something will.
    fn settle(&mut self, mut board: Option<&mut (dyn Board + '_)>) -> (bool, Option<Instant>) {
        let mut happened = core::mem::take(&mut self.stirred);
        // What never comes to an end is a mistake, and shows as time that does not pass.
        for _ in 0..100_000 {
            let time = moment(self.now);
            let mut stalled = None;
            match &mut board {
                Some(_) if self.now < self.stalled => stalled = Some(self.stalled),
                Some(board) => {
                    // It gets the turns that it has asked for, and no other: whoever forgets to ask waits for ever.
                    let has_come = self.link.advance(time).is_some_and(|due| due <= time);
                    if has_come || self.wanted.is_some_and(|wanted| wanted <= self.now) {
                        let mut port = Port::new(&mut self.link, &self.power, time);
                        let delay = board.poll(self.now.after(self.ahead), &mut port);
                        self.wanted = delay.map(|delay| match delay {
                            Duration::ZERO => self.now,
                            delay => self.now.after(delay.max(Duration::from_millis(1))),
                        });
                        self.status = board.status();
                    }
                    if !self.power.get() {
                        return (true, None);
                    }
                }
                // Nobody is there to hear.
                None => while self.link.receive(time).map(|(frame, _)| frame.consume(|_| ())).is_some() {},
            }
            let due = self.link.advance(time);
            let moved = self.hub.poll(time);
            happened |= moved;
            let overdue = due.is_some_and(|due| due <= time) && stalled.is_none();
            let wanted = self.wanted.filter(|_| board.is_some() && stalled.is_none());
            let is_wanted = wanted.is_some_and(|wanted| wanted <= self.now);
            if moved || overdue || is_wanted || self.link.lower().has_frames() {
                continue;
            }
            let due = due.map(later).filter(|due| *due > self.now);
            return (happened, wanted.into_iter().chain(stalled).chain(due).chain(self.hub.due(time)).min());
        }
        panic!("at {} ms the stacks never come to rest", self.now.as_millis());
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

/// Why a run has paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// All tasks have ended.
    Done,
    /// The device's power is off.
    Off,
    /// The given time has come.
    Time,
}

/// A deadlock: everybody is waiting, and nothing is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlock(pub Instant);

/// Runs tasks until all have ended, power is off, or it is `until`. Those that have ended are removed.
///
/// # Errors
/// No task can ever continue.
pub fn run_until(
    world: &Shared,
    mut board: Option<&mut (dyn Board + '_)>,
    until: Instant,
    tasks: &mut Vec<Task<'_>>,
) -> Result<Pause, Deadlock> {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        world.borrow_mut().alarm = None;
        tasks.retain_mut(|task| task.as_mut().poll(&mut context).is_pending());
        let mut world = world.borrow_mut();
        if board.is_some() && !world.power.get() {
            return Ok(Pause::Off);
        }
        if tasks.is_empty() {
            return Ok(Pause::Done);
        }
        let (happened, due) = world.settle(board.as_deref_mut());
        if happened {
            continue;
        }
        let Some(next) = due.into_iter().chain(world.alarm).min() else {
            return Err(Deadlock(world.now));
        };
        if next > until {
            world.now = world.now.max(until);
            return Ok(Pause::Time);
        }
        world.now = world.now.max(next);
    }
}

/// Runs all tasks to their ends, with one machine that stays on.
///
/// # Panics
/// If not all have ended by `limit`, or none can ever continue.
pub fn run(world: &Shared, board: &mut dyn Board, limit: Instant, mut tasks: Vec<Task<'_>>) {
    let paused = run_until(world, Some(board), limit, &mut tasks);
    assert_eq!(paused, Ok(Pause::Done), "{} tasks have not ended", tasks.len());
}
