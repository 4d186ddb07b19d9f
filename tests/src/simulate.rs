//! The deterministic simulation: one device, up to four clients, a bad link between them, and every kind of fault.
//!
//! | part | description |
//! |---|---|
//! | [`plan`] | the decisions of a seed: the store, the clients, the faults |
//! | [`client`] | random commands, pipelined, interrupted, resumed; classic and extended |
//! | [`chaos`] | partitions, stalls and jumps of the clock, failures of the store |
//! | [`watched`] | the store: each of its answers is compared with the truth |
//! | [`middle`] | a man in the middle of protected connections (PROTOCOL §8): one seed of three has such connections |
//! | [`judge`] | each reply is compared with the truth between command and reply |
//! | [`truth`] | the files that must exist |
//!
//! It uses the world of [`sim`](crate::sim): virtual time, one thread, and all randomness from one seed. Power fails in
//! the middle of any operation of the medium; each time the device starts, all files are compared. At the end there are
//! no more faults: every client must be served, nothing may be left open, and when all files are removed all space is
//! free.

pub mod chaos;
pub mod client;
pub mod control;
pub mod judge;
pub mod kind;
pub mod middle;
pub mod op;
pub mod pipe;
pub mod plan;
pub mod staging;
pub mod transfer;
pub mod truth;
pub mod watched;
pub mod wishes;

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::rc::Rc;

use skiff_device::flash::MountError;
use skiff_device::server::Nonces;
use skiff_proto::Instant;
use skiff_proto::identity::NOBODY;
use skiff_proto::secure::Secret;
use skiff_proto::store::{self, EntryKind, Store};

use crate::flash::rig::{SmallCard, SmallNor, TinyNor, WordNor};
use crate::flash::{Rng, Tear};
use crate::sim::{Board, Machine, MachineMemory, Pause, Port, SESSIONS, Setup, Shared, Status, Task, World, run_until};
use client::Client;
use control::{Control, Counts};
use kind::{InRam, Kind, Medium, OnFlash};
use plan::{Plan, StoreKind};
use truth::{Truth, n};
use watched::Watched;

/// Longer than any run.
const FOREVER: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long everything may take after the faults have ended.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A run that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The counts.
    pub counts: Counts,
    /// Its duration in virtual time.
    pub time: Duration,
    /// The last lines of the trace, if requested.
    pub trace: Vec<String>,
}

/// A run that found a bug.
#[derive(Debug, Clone)]
pub struct Failure {
    /// What is wrong.
    pub message: String,
    /// The trace before.
    pub trace: Vec<String>,
}

/// Runs a seed with this many commands.
///
/// # Errors
/// Something is wrong.
pub fn simulate(seed: u64, steps: u64) -> Result<Report, Failure> {
    attempt(seed, steps, false).map_err(|failure| {
        // The same again, with a trace.
        attempt(seed, steps, true).err().unwrap_or(failure)
    })
}

/// The same with a trace.
///
/// # Errors
/// Something is wrong.
pub fn simulate_traced(seed: u64, steps: u64) -> Result<Report, Failure> {
    attempt(seed, steps, true)
}

fn attempt(seed: u64, steps: u64, is_traced: bool) -> Result<Report, Failure> {
    let plan = Plan::new(seed, steps);
    match plan.store {
        StoreKind::SmallNor => play::<OnFlash<SmallNor>>(plan, is_traced),
        StoreKind::TinyNor => play::<OnFlash<TinyNor>>(plan, is_traced),
        StoreKind::WordNor => play::<OnFlash<WordNor>>(plan, is_traced),
        StoreKind::SmallCard => play::<OnFlash<SmallCard>>(plan, is_traced),
        StoreKind::Ram => play::<InRam>(plan, is_traced),
    }
}

fn play<K: Kind>(plan: Plan, is_traced: bool) -> Result<Report, Failure> {
    let mut setup = Setup::new(plan.seed);
    (setup.faults, setup.stations, setup.name_max) = (plan.faults, plan.clients, K::NAME_MAX);
    let world = World::new(setup);
    let truth = Truth::new(K::capacity(total::<K>()));
    let control = Control::new(plan, &world, truth, is_traced);
    let game = AssertUnwindSafe(|| Game::<K>::new(&control, &world).play());
    match catch_unwind(game) {
        Ok(()) => {
            let time = world.borrow().now().since(Instant::ZERO);
            Ok(Report { counts: control.counts(), time, trace: control.lines() })
        }
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let message = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(Failure { message, trace: control.lines() })
        }
    }
}

/// Free bytes of a new store.
fn total<K: Kind>() -> u64 {
    let mut memory = K::Memory::default();
    let mut store = K::mount(&mut memory, &K::medium(0), 0, 1000).expect("a blank medium");
    store.space().expect("an empty store").total
}

/// Power is off.
struct Off;

/// One run.
struct Game<'a, K: Kind> {
    control: &'a Rc<Control>,
    world: &'a Shared,
    medium: K::Medium,
    rng: Rng,
    starts: u64,
}

impl<'a, K: Kind> Game<'a, K> {
    fn new(control: &'a Rc<Control>, world: &'a Shared) -> Self {
        let seed = control.plan.seed;
        Self { control, world, medium: K::medium(seed), rng: Rng::new(seed ^ 0x9a3e), starts: 0 }
    }

    fn play(&mut self) {
        let clients = (0..self.control.plan.clients)
            .map(|station| -> Task<'_> { Box::pin(Client::new(self.control, station).live()) });
        let mut tasks: Vec<Task<'_>> = clients.collect();
        tasks.push(Box::pin(chaos::wreak(Rc::clone(self.control), self.medium.clone())));
        let mut memory = K::Memory::default();
        let mut end = None;
        loop {
            let pause = self.life(&mut memory, &mut tasks, &mut end);
            match pause {
                Pause::Done => return,
                Pause::Time => {
                    let left = self.control.left.get();
                    panic!("{} tasks have not ended in time, {left} commands are left", tasks.len());
                }
                Pause::Off => self.stay_off(&mut tasks),
            }
        }
    }

    /// One life of the device, from its start until a power cut or the end of all tasks.
    fn life(&mut self, memory: &mut K::Memory, tasks: &mut Vec<Task<'_>>, end: &mut Option<Instant>) -> Pause {
        let control = self.control;
        let is_first = self.starts == 0;
        if !is_first && self.rng.one_in(6) {
            let operations = self.rng.below(8) as u64;
            self.threaten(operations);
        }
        self.starts += 1;
        let Some(mut store) = self.mount(memory) else { return Pause::Off };
        let found = files(&mut store);
        control.truth.borrow_mut().find(&found);
        if is_first {
            self.fill(&mut store);
        }
        if self.medium.is_on() && self.rng.one_in(3) {
            let operations = control.plan.operations.unwrap_or(0);
            let most = self.rng.pick(&[8, operations, 4 * operations]);
            let operations = self.rng.below(usize::try_from(most).unwrap_or(0) + 1) as u64;
            self.threaten(operations);
        } else if let Some(operations) = control.plan.operations {
            self.threaten(operations);
        }
        let Ok(keys) = self.keys(&mut store) else { return Pause::Off };
        let power = self.world.borrow().power();
        let watched = Watched::new(store, self.medium.clone(), power, control);
        let mut machine_memory = MachineMemory::new();
        let mut device = Device::<K>(Machine::start(&mut machine_memory, self.world, watched, keys));
        let mut pause = self.run(&mut device, tasks, end);
        if pause == Pause::Done {
            self.come_to_rest(&mut device);
            self.inspect(device.0.store.inner());
        } else {
            // What the store would do when it is dropped is not done either.
            self.medium.cut_after(0, Tear::Before);
        }
        drop(device);
        drop(machine_memory);
        if pause == Pause::Off {
            control.truth.borrow_mut().lose_power();
            control.count(|counts| counts.power_cuts += 1);
        }
        if pause == Pause::Done && !control.truth.borrow().capacity.is_volatile {
            self.start_again(memory);
        }
        if pause == Pause::Done && !tasks.is_empty() {
            pause = Pause::Time;
        }
        pause
    }

    /// Schedules a power cut after about this many operations.
    fn threaten(&mut self, operations: u64) {
        if self.control.plan.operations.is_some() && !self.control.is_over.get() {
            self.medium.cut_after(operations, self.rng.pick(&Tear::ALL));
        }
    }

    /// Mounts the store; `None` if power fails meanwhile.
    fn mount<'m>(&mut self, memory: &'m mut K::Memory) -> Option<K::Store<'m>> {
        let start = self.starts;
        match K::mount(memory, &self.medium, start, self.control.plan.checkpoint) {
            Ok(store) => Some(store),
            Err(MountError::Medium) if !self.medium.is_on() => {
                self.control.trace(|| "power fails while the store is opened".into());
                self.control.count(|counts| counts.power_cuts += 1);
                None
            }
            Err(error) => panic!("the store can't be opened: {error}"),
        }
    }

    /// The secret of a device whose connections are sealed, and its source of nonces.
    ///
    /// # Errors
    /// Power fails meanwhile.
    fn keys(&self, store: &mut K::Store<'_>) -> Result<Option<(Secret, Nonces)>, Off> {
        let Some(secret) = self.control.plan.secret() else { return Ok(None) };
        match K::nonces(store) {
            Ok(nonces) => Ok(Some((secret, nonces))),
            Err(_) if !self.medium.is_on() => {
                self.control.trace(|| "power fails while the start is counted".into());
                self.control.count(|counts| counts.power_cuts += 1);
                Err(Off)
            }
            Err(refusal) => panic!("the start can't be counted: {refusal}"),
        }
    }

    /// Fills part of the store at the start.
    fn fill(&self, store: &mut K::Store<'_>) {
        let control = self.control;
        let mut truth = control.truth.borrow_mut();
        let len = truth.capacity.blocks * truth.capacity.payload * control.plan.filled / 100;
        if len == 0 {
            return;
        }
        let bytes = vec![0xf1; usize::try_from(len).unwrap_or(0)];
        if crate::flash::world::put(store, "filler", &bytes, None).is_ok() {
            truth.was_there("filler", bytes);
        }
    }

    /// Runs until a power cut or until all tasks have ended.
    fn run(&self, device: &mut Device<'_, '_, K>, tasks: &mut Vec<Task<'_>>, end: &mut Option<Instant>) -> Pause {
        loop {
            let now = self.world.borrow().now();
            if end.is_none() && self.control.is_over.get() {
                *end = Some(now.after(PATIENCE));
            }
            // Until nothing goes wrong any more, looks in now and then whether that is so.
            let until = end.unwrap_or_else(|| now.after(Duration::from_secs(60)));
            let paused = run_until(self.world, Some(&mut *device), until, tasks);
            match paused.unwrap_or_else(|deadlock| panic!("all wait forever: {deadlock:?}")) {
                Pause::Time if end.is_none() => {
                    assert!(now.since(Instant::ZERO) < FOREVER, "it takes forever");
                }
                other => return other,
            }
        }
    }

    /// Stays without power for a while.
    fn stay_off(&mut self, tasks: &mut Vec<Task<'_>>) {
        let time = Duration::from_millis(self.rng.pick(&[1, 200, 5000, 100_000]));
        self.control.trace(|| format!("power is off for {time:?}"));
        let until = self.world.borrow().now().after(time);
        let paused = run_until(self.world, None, until, tasks);
        assert!(paused != Ok(Pause::Done), "clients were served by nobody");
        self.medium.power_on();
        self.control.trace(|| "power is back".into());
    }

    /// Checks that nothing is left of the clients after all are gone.
    fn come_to_rest(&self, device: &mut Device<'_, '_, K>) {
        let until = self.world.borrow().now().after(Duration::from_secs(300));
        let control = self.control;
        let resting = async {
            loop {
                let usage = control.world.borrow().status().usage;
                if (usage.sessions, usage.listening, usage.data) == (0, SESSIONS + 1, 0) {
                    return;
                }
                control.sleep(Duration::from_millis(200)).await;
            }
        };
        let mut tasks: Vec<Task<'_>> = vec![Box::pin(resting)];
        let paused = run_until(self.world, Some(&mut *device), until, &mut tasks);
        let usage = self.world.borrow().status().usage;
        assert!(paused == Ok(Pause::Done), "all clients are gone, and there is {usage:?}");
        let truth = control.truth.borrow();
        assert!(truth.open.is_empty() && truth.reading.is_empty(), "left open: {:?} {:?}", truth.open, truth.reading);
    }

    /// Compares everything with the truth.
    fn inspect(&self, store: &mut K::Store<'_>) {
        store.settle();
        let found = files(store);
        if let Err(problem) = self.control.truth.borrow().compare(&found) {
            panic!("in the end {problem}");
        }
        if self.control.truth.borrow().capacity.is_volatile {
            self.clear(store);
        }
    }

    /// After another start, the same files must exist, and the rest of the space must be free.
    fn start_again(&mut self, memory: &mut K::Memory) {
        self.medium.power_on();
        let Some(mut store) = self.mount(memory) else { return };
        let found = files(&mut store);
        if let Err(problem) = self.control.truth.borrow().compare(&found) {
            panic!("after the last start {problem}");
        }
        self.clear(&mut store);
    }

    /// Removes all files and staged bytes: then all space must be free.
    fn clear(&self, store: &mut K::Store<'_>) {
        let truth = self.control.truth.borrow();
        for name in truth.files().keys() {
            store.remove(n(name)).unwrap_or_else(|refusal| panic!("removing {name}: {refusal}"));
        }
        for name in truth.names().chain(truth.left.keys()) {
            match store.stage(n(name), NOBODY, 0, 1, None) {
                Ok((stage, _)) => store.discard(stage),
                Err(refusal) => panic!("staging {name}: {refusal}"),
            }
        }
        let space = store.space().expect("it answers");
        assert!(space.free == space.total, "of {} bytes {} are free when all is gone", space.total, space.free);
    }
}

/// All files with their times.
fn files(store: &mut impl Store) -> BTreeMap<String, (Vec<u8>, Option<u64>)> {
    let mut names = Vec::new();
    let mut cursor = store.list(None).expect("it answers");
    let mut note = |entry: store::Entry<'_>| {
        let EntryKind::File(stat) = entry.kind else { panic!("a directory") };
        names.push((entry.name.as_str().to_owned(), stat));
    };
    while store.next_entry(&mut cursor, &mut note).expect("it answers") {}
    let mut found = BTreeMap::new();
    for (name, stat) in names {
        let bytes = read(store, &name).unwrap_or_else(|refusal| panic!("reading {name}: {refusal}"));
        let twice = found.insert(name.clone(), (bytes, stat.mtime));
        assert!(twice.is_none(), "{name} is listed twice");
    }
    found
}

fn read(store: &mut impl Store, name: &str) -> store::Result<Vec<u8>> {
    let (mut file, stat) = store.open(n(name))?;
    let mut bytes = vec![0; usize::try_from(stat.size).expect("short")];
    let read = store.read_at(&mut file, 0, &mut bytes)?;
    assert!(read == bytes.len(), "{read} bytes of {name}, of {stat:?}");
    Ok(bytes)
}

/// A device with a watched store.
struct Device<'m, 's, K: Kind>(Machine<'m, Watched<K::Store<'s>, K::Medium>>);

impl<K: Kind> Board for Device<'_, '_, K> {
    fn poll(&mut self, now: Instant, port: &mut Port<'_>) -> Option<Duration> {
        self.0.poll(now, port)
    }

    fn status(&self) -> Status {
        self.0.status()
    }
}
