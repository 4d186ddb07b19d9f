//! The embedded server at the end of a bad link, in virtual time: no test waits for a real clock.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::time::Duration;

use skiff_device::ram::{Entries, RamStore};
use skiff_device::serv::faults::{Chance, Faults};
use skiff_proto::client::ClientEvent;
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::crc::crc32c;
use skiff_proto::drive::{AsyncClient, DriveError, Timer as _};
use skiff_proto::{ErrorCode, Instant, Name};
use skiff_tests::memory::{Layout, MemoryStore};
use skiff_tests::sim::{Lost, Machine, MachineMemory, PORT, Setup, Shared, Stream, Task, Timer, World, run};

type Store = RamStore<'static, 64, 1024>;
type Client = AsyncClient<Stream, Timer, 300>;

const IDLE: Duration = Duration::from_secs(60);
/// Longer than any of these tests takes.
const FOREVER: Instant = Instant::from_millis(24 * 3600 * 1000);

fn store() -> Store {
    let entries = Box::leak(Box::new(Entries::<64, 64>::new()));
    RamStore::from_parts(entries, vec![0; 1024].leak(), vec![[0; 1024]; 1024].leak(), 7)
}

fn world(faults: Faults, seed: u64) -> Shared {
    World::new(Setup { faults, idle: IDLE, ..Setup::new(seed) })
}

/// Runs tasks with one machine to their ends.
fn run_all(world: &Shared, tasks: Vec<Task<'_>>) {
    let mut memory = MachineMemory::new();
    let mut machine = Machine::start(&mut memory, world, store(), None);
    run(world, &mut machine, FOREVER, tasks);
}

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), 64).unwrap()
}

fn numbers(len: usize, seed: u32) -> Vec<u8> {
    (seed..).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).take(len).collect()
}

/// A client that reconnects after a lost connection, and resumes.
struct Patient<'a> {
    world: &'a Shared,
    client: Option<Client>,
    connections: u32,
}

type Attempt<T> = Result<T, DriveError<Lost>>;

impl<'a> Patient<'a> {
    const fn new(world: &'a Shared) -> Self {
        Self { world, client: None, connections: 0 }
    }

    async fn client(&mut self) -> Attempt<&mut Client> {
        if self.client.is_none() {
            self.connections += 1;
            let stream = Stream::connect(self.world, PORT).await.map_err(DriveError::Stream)?;
            let mut client = AsyncClient::new(stream, IDLE, Timer::new(self.world));
            let hello = client.request(&Command::Hello { version: VERSION }).await?;
            assert!(matches!(hello, ClientEvent::Hello(Some(_))), "{hello:?}");
            self.client = Some(client);
        }
        Ok(self.client.as_mut().unwrap())
    }

    async fn write(&mut self, file: &str, content: &[u8]) {
        loop {
            match self.try_write(file, content).await {
                Ok(true) => return,
                // The server has not noticed yet that the connection before is lost.
                Ok(false) => wait(self.world, Duration::from_secs(1)).await,
                Err(_) => self.client = None,
            }
        }
    }

    async fn try_write(&mut self, file: &str, content: &[u8]) -> Attempt<bool> {
        let (size, name) = (content.len() as u64, name(file));
        let client = self.client().await?;
        let (offset, crc) = match client.request(&Command::Request(Request::Resume { size, name })).await? {
            ClientEvent::Resume { offset, crc: Some(crc) } => (offset, crc),
            ClientEvent::Refused(error) if error.code == Some(ErrorCode::Busy) => return Ok(false),
            other => panic!("{file}: {other:?}"),
        };
        let (before, after) = content.split_at(usize::try_from(offset).unwrap());
        assert_eq!(crc, crc32c(before), "{file}");
        client.send(&Command::Request(Request::Write { offset, size, mtime: None, name })).await?;
        if offset > 0 {
            client.session().continue_crc(crc).unwrap();
        }
        for piece in after.to_vec().chunks_mut(4096) {
            client.write(piece).await?;
        }
        let stored = client.finish().await?;
        assert_eq!(stored, ClientEvent::Stored { size, crc: Some(crc32c(content)) }, "{file}");
        Ok(true)
    }

    async fn read(&mut self, file: &str) -> Vec<u8> {
        let mut content = Vec::new();
        while self.try_read(file, &mut content).await.is_err() {
            self.client = None;
        }
        content
    }

    async fn try_read(&mut self, file: &str, content: &mut Vec<u8>) -> Attempt<()> {
        let client = self.client().await?;
        let from = content.len();
        let request = Request::Read { offset: from as u64, length: None, name: name(file) };
        let reply = client.request(&Command::Request(request)).await?;
        assert!(matches!(reply, ClientEvent::Read { .. }), "{file}: {reply:?}");
        let mut buffer = [0; 4096];
        loop {
            let n = client.read(&mut buffer).await?;
            if n == 0 {
                break;
            }
            content.extend_from_slice(&buffer[..n]);
        }
        assert_eq!(client.reply().await?, ClientEvent::BodyEnd(Ok(Some(crc32c(&content[from..])))), "{file}");
        Ok(())
    }
}

async fn wait(world: &Shared, time: Duration) {
    let at = world.borrow().now().after(time);
    Timer::new(world).wait_until(at).await;
}

fn bad_link() -> Faults {
    Faults {
        drop: Chance::percent(5),
        corrupt: Chance::percent(5),
        reorder: Chance::percent(5),
        duplicate: Chance::percent(1),
        delay: Duration::from_millis(2),
    }
}

#[test]
fn two_hundred_files_arrive_intact_both_ways_through_loss_corruption_and_reordering() {
    let world = world(bad_link(), 1);
    let mut client = Patient::new(&world);
    let task = async {
        for i in 0..200_u32 {
            let content = numbers((i as usize * 2654) % 102_401, i);
            client.write("f", &content).await;
            assert!(client.read("f").await == content, "{i}");
        }
    };
    run_all(&world, vec![Box::pin(task)]);
    let seconds = world.borrow().now().as_millis() / 1000;
    println!("200 files both ways: {seconds} s of virtual time, {} connections", client.connections);
}

#[test]
fn sessions_of_dead_peers_serve_others_after_the_timeout() {
    let world = world(Faults::default(), 2);
    let task = async {
        let mut clients = [Patient::new(&world), Patient::new(&world)];
        for client in &mut clients {
            client.client().await.unwrap();
        }
        let mut third = Patient::new(&world);
        assert!(third.client().await.is_err(), "both sessions are taken");
        // A cable is pulled: nothing gets through, not even a reset.
        world.borrow_mut().link().set_cut(true);
        drop(clients);
        let begin = world.borrow().now();
        while world.borrow().status().usage.sessions > 0 {
            wait(&world, Duration::from_millis(100)).await;
        }
        let took = world.borrow().now().since(begin);
        assert!((29..=31).contains(&took.as_secs()), "{took:?}");
        world.borrow_mut().link().set_cut(false);
        third.write("f", b"served").await;
    };
    run_all(&world, vec![Box::pin(task)]);
    assert_eq!(world.borrow().status().usage.listening, 2);
}

#[test]
fn an_upload_resumes_after_a_long_cut_of_the_link() {
    let world = world(Faults { delay: Duration::from_millis(2), ..Faults::default() }, 3);
    let content = numbers(300_000, 1);
    let mut client = Patient::new(&world);
    let upload = async {
        client.write("f", &content).await;
        assert!(client.read("f").await == content);
    };
    let cable = async {
        for _ in 0..3 {
            wait(&world, Duration::from_millis(100)).await;
            world.borrow_mut().link().set_cut(true);
            wait(&world, Duration::from_secs(100)).await;
            world.borrow_mut().link().set_cut(false);
        }
    };
    run_all(&world, vec![Box::pin(upload), Box::pin(cable)]);
    assert!(client.connections > 1, "it was never cut");
}

#[test]
fn a_server_that_is_dropped_closes_what_its_clients_have_open() {
    let store = MemoryStore::new(Layout::Flat);
    let world = world(Faults::default(), 6);
    let mut memory = MachineMemory::new();
    let mut machine = Machine::start(&mut memory, &world, store.clone(), None);
    let mut client = Patient::new(&world);
    let task = async {
        let client = client.client().await.unwrap();
        let request = Request::Write { offset: 0, size: 2000, mtime: None, name: name("f") };
        client.send(&Command::Request(request)).await.unwrap();
        client.write(&[1; 1000]).await.unwrap();
        wait(&world, Duration::from_secs(1)).await;
    };
    run(&world, &mut machine, FOREVER, vec![Box::pin(task)]);
    assert_eq!(store.staged_len("f"), Some((1000, true)));
    drop(machine);
    assert_eq!(store.staged_len("f"), Some((1000, false)));
}

#[test]
fn the_same_seed_makes_the_same_run() {
    let ends: Vec<_> = [4, 4, 5]
        .map(|seed| {
            let world = world(bad_link(), seed);
            let mut client = Patient::new(&world);
            let task = async {
                for i in 0..10 {
                    client.write("f", &numbers(30_000, i)).await;
                }
            };
            run_all(&world, vec![Box::pin(task)]);
            world.borrow().now().as_millis()
        })
        .into();
    assert!(ends[0] == ends[1] && ends[0] != ends[2], "{ends:?}");
}
