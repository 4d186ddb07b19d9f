//! Runs instances on one storage with faults, and compares them with a model: what was answered `ok` is stored, a file
//! is completely old or completely new, and staged bytes are correct. A seed determines the operations and the faults.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use skiff_host::objects::{ObjectSession, Objects, Options, Storage, connect};
use skiff_objects_tests::faults::{Clock, Faults, Plan};
use skiff_proto::ErrorCode;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::NOBODY;
use skiff_proto::name::{MAX_NAME, Name};
use skiff_proto::store::{self, Staging, Store, StoreError};

const NAMES: [&str; 4] = ["a", "b", "d/c", "d/e"];

/// How long the lease of a dead instance lasts here. No request takes that long.
const LEASE: Duration = Duration::from_secs(2);

type Answer<T> = Result<T, ErrorCode>;

fn n(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), MAX_NAME).unwrap()
}

async fn ask<T>(
    session: &mut ObjectSession,
    mut call: impl FnMut(&mut ObjectSession) -> store::Result<T>,
) -> Answer<T> {
    loop {
        match call(session) {
            Err(StoreError::NotYet) => session.ready().await,
            answer => return answer.map_err(StoreError::code),
        }
    }
}

async fn change(
    session: &mut ObjectSession,
    mut call: impl FnMut(&mut ObjectSession) -> store::Result<()>,
) -> Answer<()> {
    loop {
        match call(session) {
            Err(StoreError::NotYet) => session.ready().await,
            Err(StoreError::Queued) => return ask(session, Store::next_result).await.map(drop),
            answer => return answer.map_err(StoreError::code),
        }
    }
}

async fn append(session: &mut ObjectSession, stage: &mut <ObjectSession as Store>::Stage, bytes: &[u8]) -> Answer<()> {
    for piece in bytes.chunks(300) {
        ask(session, |session| Store::ready(session, stage)).await?;
        session.append(stage, piece).map_err(StoreError::code)?;
    }
    Ok(())
}

async fn write(objects: &Objects, name: &str, content: &[u8], offset: usize) -> Answer<()> {
    let session = &mut objects.connection((Ipv4Addr::LOCALHOST, 1).into());
    let staging = Staging::new(n(name), content.len() as u64).at(offset as u64);
    let (mut stage, crc) = ask(session, |session| session.stage(staging)).await?;
    assert_eq!(crc, crc32c(&content[..offset]), "{name}: the checksum of staged bytes");
    if let Err(code) = append(session, &mut stage, &content[offset..]).await {
        session.discard(stage);
        return Err(code);
    }
    change(session, |session| session.commit(&mut stage, Some(crc32c(content)))).await
}

async fn interrupt(objects: &Objects, name: &str, content: &[u8], len: usize) -> Answer<()> {
    let session = &mut objects.connection((Ipv4Addr::LOCALHOST, 1).into());
    let staging = Staging::new(n(name), content.len() as u64);
    let (mut stage, _) = ask(session, |session| session.stage(staging)).await?;
    let appended = append(session, &mut stage, &content[..len]).await;
    drop(stage);
    objects.close().await;
    appended
}

async fn staged(objects: &Objects, name: &str, size: usize) -> Answer<(u64, u32)> {
    let session = &mut objects.connection((Ipv4Addr::LOCALHOST, 1).into());
    ask(session, |session| session.staged(n(name), NOBODY, size as u64)).await
}

async fn read(objects: &Objects, name: &str) -> Answer<Option<Vec<u8>>> {
    let session = &mut objects.connection((Ipv4Addr::LOCALHOST, 1).into());
    let (mut file, stat) = match ask(session, |session| session.open(n(name))).await {
        Ok(open) => open,
        Err(ErrorCode::NotFound) => return Ok(None),
        Err(code) => return Err(code),
    };
    let mut bytes = Vec::new();
    let mut buffer = [0; 700];
    loop {
        match ask(session, |session| session.read_at(&mut file, bytes.len() as u64, &mut buffer)).await? {
            0 => break,
            len => bytes.extend_from_slice(&buffer[..len]),
        }
    }
    assert_eq!(bytes.len() as u64, stat.size);
    if let Some(crc) = stat.crc {
        assert_eq!(crc, crc32c(&bytes), "{name}: the checksum that is kept");
    }
    Ok(Some(bytes))
}

/// What is known of a name.
#[derive(Debug, Default)]
struct Known {
    /// What a reader may find.
    possible: Vec<Option<Vec<u8>>>,
    /// Everything that was ever sent.
    sent: Vec<Vec<u8>>,
    /// An upload that was interrupted in order: these bytes must be staged.
    staged: Option<(usize, usize)>,
}

struct Instance {
    faults: Arc<Faults>,
    objects: Objects,
}

struct World {
    storage: Storage,
    clock: Clock,
    rng: fastrand::Rng,
    instances: [Option<Instance>; 2],
    known: BTreeMap<&'static str, Known>,
    kills: usize,
    oks: usize,
    requests: usize,
    failed: usize,
}

fn options() -> Options {
    let (takeover, margin) = (Duration::ZERO, LEASE);
    Options { prefix: "boards".to_owned(), part: 1000, takeover, margin, ..Options::default() }
}

impl World {
    fn new(seed: u64) -> Self {
        let known = NAMES.map(|name| (name, Known { possible: vec![None], ..Known::default() }));
        Self {
            storage: connect("memory:", &[]).unwrap().0,
            clock: Clock::new(),
            rng: fastrand::Rng::with_seed(seed),
            instances: [None, None],
            known: known.into(),
            kills: 0,
            oks: 0,
            requests: 0,
            failed: 0,
        }
    }

    /// An instance that runs.
    async fn instance(&mut self, at: usize) -> Instance {
        loop {
            if let Some(instance) = self.instances[at].take() {
                return instance;
            }
            let kill_at = if self.rng.bool() { self.rng.usize(1..150) } else { 0 };
            let slow = Duration::from_millis(self.rng.u64(..3));
            let plan = Plan { errors: 30, slow, delay: Duration::ZERO, kill_at };
            let faults = Faults::new(&self.storage, &self.clock, plan, self.rng.u64(..));
            let opened = tokio::select! {
                opened = Objects::open(faults.storage(), options()) => opened.ok(),
                () = faults.killed() => None,
            };
            let Some(objects) = opened else { continue };
            // What a dead instance began to rename is finished before anybody looks.
            let finished = tokio::select! {
                () = objects.finish_moves(Duration::ZERO) => true,
                () = faults.killed() => false,
            };
            if finished {
                self.instances[at] = Some(Instance { faults, objects });
            } else {
                self.kills += 1;
            }
        }
    }

    fn content(&mut self) -> Vec<u8> {
        let len = if self.rng.bool() { self.rng.usize(..1000) } else { self.rng.usize(1000..5000) };
        (0..len).map(|_| self.rng.u8(..)).collect()
    }

    async fn step(&mut self) {
        let at = self.rng.usize(..2);
        let instance = self.instance(at).await;
        let (objects, faults) = (instance.objects.clone(), Arc::clone(&instance.faults));
        let name = NAMES[self.rng.usize(..NAMES.len())];
        let killed = match self.rng.u32(..10) {
            0..=2 => {
                let content = self.content();
                let known = self.known.get_mut(name).unwrap();
                known.sent.push(content.clone());
                known.staged = None;
                let wrote = tokio::select! {
                    wrote = write(&objects, name, &content, 0) => Some(wrote),
                    () = faults.killed() => None,
                };
                self.wrote(name, content, wrote);
                wrote.is_none()
            }
            3 | 4 => {
                let content = self.content();
                let len = self.rng.usize(..=content.len());
                let known = self.known.get_mut(name).unwrap();
                known.sent.push(content.clone());
                known.staged = None;
                let ended = tokio::select! {
                    ended = interrupt(&objects, name, &content, len) => Some(ended),
                    () = faults.killed() => None,
                };
                if ended == Some(Ok(())) && len > 0 {
                    known.staged = Some((len, content.len()));
                }
                ended.is_none()
            }
            5 | 6 => self.resume(&objects, &faults, name).await,
            7 => {
                let found = tokio::select! {
                    found = read(&objects, name) => Some(found),
                    () = faults.killed() => None,
                };
                if let Some(Ok(found)) = &found {
                    let known = self.known.get_mut(name).unwrap();
                    assert!(known.possible.contains(found), "{name}: {} possible contents", known.possible.len());
                    known.possible = vec![found.clone()];
                }
                found.is_none()
            }
            8 => {
                let session = &mut objects.connection((Ipv4Addr::LOCALHOST, 1).into());
                let removed = tokio::select! {
                    removed = change(session, |session| session.remove(n(name))) => Some(removed),
                    () = faults.killed() => None,
                };
                let known = self.known.get_mut(name).unwrap();
                match removed {
                    Some(Ok(()) | Err(ErrorCode::NotFound)) => {
                        let absent = removed == Some(Err(ErrorCode::NotFound));
                        assert!(!absent || known.possible.contains(&None), "{name} was lost");
                        known.possible = vec![None];
                    }
                    _ => known.possible.push(None),
                }
                removed.is_none()
            }
            _ => self.rename(&objects, &faults, name).await,
        };
        if killed {
            self.kills += 1;
            let (requests, failed, _) = faults.counts();
            self.requests += requests;
            self.failed += failed;
            // The leases of the dead instance expire.
            tokio::time::sleep(LEASE).await;
            // The other instance finishes its renames.
            self.instances[at] = None;
            let other = self.instance(1 - at).await;
            tokio::select! {
                () = other.objects.finish_moves(Duration::ZERO) => self.instances[1 - at] = Some(other),
                () = other.faults.killed() => self.kills += 1,
            }
        } else {
            self.instances[at] = Some(instance);
        }
    }

    fn wrote(&mut self, name: &str, content: Vec<u8>, wrote: Option<Answer<()>>) {
        let known = self.known.get_mut(name).unwrap();
        if wrote == Some(Ok(())) {
            self.oks += 1;
            known.possible = vec![Some(content)];
        } else {
            known.possible.push(Some(content));
        }
    }

    /// Continues what is staged, if anything is.
    async fn resume(&mut self, objects: &Objects, faults: &Faults, name: &'static str) -> bool {
        let known = self.known.get_mut(name).unwrap();
        let size = known.staged.map_or(5000, |(_, size)| size);
        let answer = tokio::select! {
            answer = staged(objects, name, size) => answer,
            () = faults.killed() => return true,
        };
        let Ok((len, crc)) = answer else { return false };
        let len = usize::try_from(len).unwrap();
        if let Some((expected, _)) = known.staged.take() {
            assert_eq!(len, expected, "{name}: staged bytes were lost");
        }
        let fits = |content: &&Vec<u8>| content.len() >= len && crc32c(&content[..len]) == crc;
        let content = known.sent.iter().rev().find(fits).cloned();
        let Some(content) = content.or_else(|| (len == 0).then(Vec::new)) else {
            panic!("{name}: {len} staged bytes that nobody has sent");
        };
        known.sent.push(content.clone());
        let wrote = tokio::select! {
            wrote = write(objects, name, &content, len) => Some(wrote),
            () = faults.killed() => None,
        };
        self.wrote(name, content, wrote);
        wrote.is_none()
    }

    async fn rename(&mut self, objects: &Objects, faults: &Faults, from: &'static str) -> bool {
        let to = NAMES[self.rng.usize(..NAMES.len())];
        let session = &mut objects.connection((Ipv4Addr::LOCALHOST, 1).into());
        let renamed = tokio::select! {
            renamed = change(session, |session| session.rename(n(from), n(to))) => Some(renamed),
            () = faults.killed() => None,
        };
        let source = self.known[from].possible.clone();
        for name in [from, to] {
            // Staged bytes keep their names; an instance that dies may hold them.
            if renamed != Some(Ok(())) {
                self.known.get_mut(name).unwrap().staged = None;
            }
        }
        match renamed {
            Some(Err(ErrorCode::NotFound)) => {
                assert!(source.contains(&None), "{from} was lost");
                self.known.get_mut(from).unwrap().possible = vec![None];
            }
            _ if from == to => {}
            Some(Ok(())) => {
                self.known.get_mut(from).unwrap().possible = vec![None];
                self.known.get_mut(to).unwrap().possible = source.into_iter().filter(Option::is_some).collect();
            }
            _ => {
                self.known.get_mut(from).unwrap().possible.push(None);
                self.known.get_mut(to).unwrap().possible.extend(source.into_iter().filter(Option::is_some));
            }
        }
        renamed.is_none()
    }
}

/// The seeds that a run tries: `SKIFF_SEEDS`, 40 by default.
fn seeds() -> u64 {
    std::env::var("SKIFF_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(40)
}

fn block_on<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

/// Runs all seeds, many at a time: most of the time they wait.
fn each_seed<T: Send>(run: impl Fn(u64) -> T + Sync) -> Vec<T> {
    const THREADS: u64 = 16;
    std::thread::scope(|scope| {
        let run = &run;
        let threads: Vec<_> = (0..THREADS)
            .map(|first| {
                scope.spawn(move || {
                    let seeds = (first..seeds()).step_by(THREADS as usize);
                    seeds.map(|seed| catch_unwind(AssertUnwindSafe(|| run(seed))).map_err(|_| seed)).collect::<Vec<_>>()
                })
            })
            .collect();
        let results = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        results.map(|result| result.unwrap_or_else(|seed| panic!("seed {seed}"))).collect()
    })
}

#[test]
fn what_was_answered_ok_is_there_whatever_fails_and_whoever_dies() {
    let all = each_seed(|seed| {
        block_on(async {
            let mut world = World::new(seed);
            for _ in 0..60 {
                world.step().await;
            }
            for instance in world.instances.iter().flatten() {
                let (requests, failed, _) = instance.faults.counts();
                world.requests += requests;
                world.failed += failed;
            }
            [world.kills, world.oks, world.requests, world.failed]
        })
    });
    let seeds = all.len();
    let sum = |at: usize| all.iter().map(|counts| counts[at]).sum::<usize>();
    let (kills, oks, requests, failed) = (sum(0), sum(1), sum(2), sum(3));
    println!("{seeds} seeds: {requests} requests, {failed} failed, {kills} instances killed, {oks} writes answered ok");
    assert!(kills > 0 && oks > 0 && failed > 0);
}

#[test]
fn of_two_instances_that_write_one_name_one_wins_whole() {
    let all = each_seed(|seed| {
        block_on(async {
            let mut busy = 0;
            let mut rng = fastrand::Rng::with_seed(seed);
            let (storage, clock) = (connect("memory:", &[]).unwrap().0, Clock::new());
            let mut instances = Vec::new();
            for _ in 0..2 {
                let slow = Duration::from_millis(4);
                let plan = Plan { errors: 20, slow, delay: Duration::ZERO, kill_at: 0 };
                let faults = Faults::new(&storage, &clock, plan, rng.u64(..));
                instances.push(Objects::open(faults.storage(), options()).await.unwrap());
            }
            for _ in 0..5 {
                let contents = [(); 2].map(|()| {
                    let len = rng.usize(..4000);
                    (0..len).map(|_| rng.u8(..)).collect::<Vec<_>>()
                });
                let before = read(&instances[0], "x").await.unwrap();
                let (first, second) = tokio::join!(
                    write(&instances[0], "x", &contents[0], 0),
                    write(&instances[1], "x", &contents[1], 0),
                );
                let found = read(&instances[1], "x").await.unwrap();
                let oks: Vec<_> =
                    [first, second].into_iter().zip(&contents).filter(|(wrote, _)| wrote.is_ok()).collect();
                busy += 2 - oks.len();
                let is_one = contents.iter().any(|content| found.as_ref() == Some(content));
                assert!(if oks.is_empty() { is_one || found == before } else { is_one }, "seed {seed}");
            }
            busy
        })
    });
    println!("{} of {} writes answered with an error", all.iter().sum::<usize>(), all.len() * 10);
}

#[test]
fn lost_answers_do_not_make_storage_look_as_if_it_ignored_conditions() {
    let opened = each_seed(|seed| {
        block_on(async {
            let plan = Plan { errors: 200, slow: Duration::ZERO, delay: Duration::ZERO, kill_at: 0 };
            let faults = Faults::new(&connect("memory:", &[]).unwrap().0, &Clock::new(), plan, seed);
            let opened = Objects::open(faults.storage(), options()).await.is_ok_and(|objects| {
                assert!(objects.is_shared(), "seed {seed}");
                true
            });
            (opened, faults.counts().1)
        })
    });
    assert!(opened.iter().any(|(opened, failed)| *opened && *failed > 0));
}
