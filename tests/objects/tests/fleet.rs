//! Three instances of host-serv behind HAProxy, as docs/FLEET.md describes: boards use them while instances are
//! killed one after another.

#![expect(clippy::unwrap_used, reason = "these are tests")]

use core::net::{Ipv4Addr, SocketAddr};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use core::time::Duration;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use object_store::ObjectStoreExt as _;
use skiff_objects_tests::program::{Program, free_port, host_serv, skip};
use skiff_objects_tests::wire::{ask, body, end, message, reply, write};
use skiff_objects_tests::{S3, block_on, pattern};
use skiff_proto::crc::crc32c;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// The time between two kills of an instance, which is then restarted at once.
const KILL: Duration = Duration::from_secs(3);

/// Time limit for one job of a board: longer than a lease lasts, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A large file is sent in this many pieces of [`PIECE`] bytes, with a [`PAUSE`] after each.
const PIECES: usize = 10;
const PIECE: usize = 50_000;
const PAUSE: Duration = Duration::from_millis(500);

const FIRMWARE: &str = "firmware/image";

/// Three instances behind HAProxy.
struct Fleet<'s> {
    server: &'s S3,
    dir: tempfile::TempDir,
    ports: [(u16, u16); 3],
    instances: [Program; 3],
    _balancer: Program,
    addr: SocketAddr,
}

impl<'s> Fleet<'s> {
    fn start(server: &'s S3) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ports = [(); 3].map(|()| (free_port(), free_port()));
        let instances = core::array::from_fn(|at| instance(server, dir.path(), at, ports[at]));
        let port = free_port();
        let config = dir.path().join("haproxy.cfg");
        std::fs::write(&config, configuration(port, ports)).unwrap();
        let mut haproxy = Command::new("haproxy");
        let mut balancer = Program::start(haproxy.arg("-db").arg("-f").arg(&config), &dir.path().join("haproxy.log"));
        balancer.listens(port);
        let addr = (Ipv4Addr::LOCALHOST, port).into();
        Self { server, dir, ports, instances, _balancer: balancer, addr }
    }

    /// The last lines of what the instances printed.
    fn logs(&self) -> String {
        let lines = self.instances.iter().flat_map(|instance| {
            let log = instance.log();
            log.lines().rev().take(20).map(str::to_owned).collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Kills an instance and restarts it. The others serve in the meantime.
    fn restart(&mut self, at: usize) {
        self.instances[at].kill();
        self.instances[at] = instance(self.server, self.dir.path(), at, self.ports[at]);
    }
}

fn instance(server: &S3, dir: &Path, at: usize, ports: (u16, u16)) -> Program {
    let log = dir.join(format!("host-serv-{at}.log"));
    let mut program = Program::start(&mut host_serv(env!("CARGO_BIN_EXE_host-serv"), server, ports), &log);
    program.listens(ports.1);
    program
}

/// The configuration in contrib/fleet, with the ports of this test.
fn configuration(port: u16, ports: [(u16, u16); 3]) -> String {
    let mut text = include_str!("../../../contrib/fleet/haproxy.cfg").to_owned();
    let mut replace = |from: &str, to: String| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, &to);
    };
    // Each connection takes two file descriptors, and the limit may be low for a test.
    replace("maxconn 20000", "maxconn 2000".to_owned());
    replace("bind :50000", format!("bind 127.0.0.1:{port}"));
    for (at, (port, metrics)) in ports.into_iter().enumerate() {
        replace(&format!(" 10.0.0.1{}:50000", at + 1), format!(" 127.0.0.1:{port} port {metrics}"));
    }
    text
}

/// What all boards did.
#[derive(Debug, Default)]
struct Counts {
    stored: AtomicU64,
    fetched: AtomicU64,
    listed: AtomicU64,
    broken: AtomicU64,
    refused: AtomicU64,
    resumed: AtomicU64,
    saved: AtomicU64,
    longest: AtomicU64,
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

/// A board: uploads logs and, if it is one of those with a slow line, large files; lists them and fetches them again.
struct Board {
    addr: SocketAddr,
    number: usize,
    /// About how long it waits between two rounds, in milliseconds.
    pause: u64,
    slow: bool,
    counts: Arc<Counts>,
    over: Arc<AtomicBool>,
    connection: Option<TcpStream>,
    /// The seed and length of each file that was answered `ok`.
    stored: BTreeMap<String, (u64, usize)>,
}

/// What a board does until it succeeds.
enum Job<'j> {
    Upload(&'j str, &'j [u8]),
    /// With pauses. Resumes after an interruption.
    UploadSlowly(&'j str, &'j [u8]),
    Fetch(&'j str, &'j [u8]),
    List,
}

impl Board {
    /// Works until `over`. Returns what must be stored.
    async fn run(mut self) -> BTreeMap<String, (u64, usize)> {
        let mut rng = fastrand::Rng::with_seed(self.number as u64);
        tokio::time::sleep(Duration::from_millis(rng.u64(..self.pause))).await;
        for round in 0.. {
            let name = format!("board-{}/log-{}", self.number, round % 5);
            let (seed, len) = (rng.u64(..), rng.usize(..20_000));
            self.until_ok(Job::Upload(&name, &pattern(seed, len))).await;
            self.stored.insert(name, (seed, len));
            self.until_ok(Job::List).await;
            let known = self.stored.iter().nth(rng.usize(..self.stored.len()));
            let (name, content) = known.map(|(name, &(seed, len))| (name.clone(), pattern(seed, len))).unwrap();
            self.until_ok(Job::Fetch(&name, &content)).await;
            if self.slow {
                let name = format!("board-{}/core-{}", self.number, round % 3);
                let (seed, len) = (rng.u64(..), PIECES * PIECE);
                self.until_ok(Job::UploadSlowly(&name, &pattern(seed, len))).await;
                self.stored.insert(name, (seed, len));
            } else if round % 4 == 0 {
                self.until_ok(Job::Fetch(FIRMWARE, &firmware())).await;
            }
            if self.over.load(Ordering::Relaxed) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(rng.u64(self.pause / 2..self.pause * 3 / 2))).await;
        }
        self.stored
    }

    /// Repeats `job`, on a new connection if the last one broke, until it succeeds.
    async fn until_ok(&mut self, job: Job<'_>) {
        let begun = Instant::now();
        for attempt in 0.. {
            let attempted = tokio::time::timeout(Duration::from_secs(60), self.attempt(&job, attempt)).await;
            let Err(error) = attempted.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) else { break };
            let number = self.number;
            assert!(begun.elapsed() < PATIENCE, "board {number}: {error}");
            match error.kind() {
                // The reply was an `error`.
                ErrorKind::ResourceBusy => add(&self.counts.refused, 1),
                _ => {
                    self.connection = None;
                    add(&self.counts.broken, 1);
                }
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let counter = match job {
            Job::Upload(..) | Job::UploadSlowly(..) => &self.counts.stored,
            Job::Fetch(..) => &self.counts.fetched,
            Job::List => &self.counts.listed,
        };
        add(counter, 1);
        let time = u64::try_from(begun.elapsed().as_millis()).unwrap();
        self.counts.longest.fetch_max(time, Ordering::Relaxed);
    }

    async fn attempt(&mut self, job: &Job<'_>, attempt: usize) -> Result<()> {
        match job {
            Job::Upload(name, content) => self.upload(name, content).await,
            Job::UploadSlowly(name, content) => self.upload_slowly(name, content, attempt > 0).await,
            Job::Fetch(name, content) => self.fetch(name, content).await,
            Job::List => self.list().await,
        }
    }

    async fn stream(&mut self) -> Result<&mut TcpStream> {
        if self.connection.is_none() {
            self.connection = Some(TcpStream::connect(self.addr).await?);
        }
        Ok(self.connection.as_mut().unwrap())
    }

    async fn upload(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let stream = self.stream().await?;
        stream.write_all(&write(name, 0, content)).await?;
        stored(&reply(stream).await?, content)
    }

    /// Like a board with a slow line. With `resume`, an earlier attempt was interrupted.
    async fn upload_slowly(&mut self, name: &str, content: &[u8], resume: bool) -> Result<()> {
        let counts = Arc::clone(&self.counts);
        let stream = self.stream().await?;
        let mut offset = 0;
        if resume {
            let reply = ok(ask(stream, &format!("resume {} {name}", content.len())).await?)?;
            let (staged, crc) = reply.split_once(' ').unwrap();
            offset = staged.parse().unwrap();
            assert_eq!(crc, format!("{:08x}", crc32c(&content[..offset])), "{name}: staged bytes");
        }
        stream.write_all(&message(format!("write {offset} {} - {name}", content.len()).as_bytes())).await?;
        let resumed = offset;
        for piece in content[offset..].chunks(PIECE) {
            stream.write_all(&message(piece)).await?;
            tokio::time::sleep(PAUSE).await;
        }
        stream.write_all(&end(content)).await?;
        stored(&reply(stream).await?, content)?;
        if resumed > 0 {
            add(&counts.resumed, 1);
            add(&counts.saved, resumed);
        }
        Ok(())
    }

    async fn fetch(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let stream = self.stream().await?;
        let reply = ask(stream, &format!("read 0 * {name}")).await?;
        let reply = found(reply, name)?;
        let (sent, size) = (content.len(), content.len());
        assert!(reply.starts_with(&format!("{sent} {size} ")), "{name}: {reply}, not {size}");
        assert!(body(stream).await? == content, "{name}: other content");
        Ok(())
    }

    /// Everything that was stored is listed.
    async fn list(&mut self) -> Result<()> {
        let dir = format!("board-{}", self.number);
        let stream = self.stream().await?;
        found(ask(stream, &format!("list {dir}")).await?, &dir)?;
        let lines = String::from_utf8(body(stream).await?).unwrap();
        for (name, &(seed, len)) in &self.stored {
            let line = lines.lines().find(|line| line.ends_with(&format!(" {name}")));
            let words: Vec<_> = line.unwrap_or_else(|| panic!("{name} is not listed: {lines}")).split(' ').collect();
            let crc = format!("{:08x}", crc32c(&pattern(seed, len)));
            assert_eq!(words[..3], [&len.to_string(), "-", &crc], "{name}");
        }
        Ok(())
    }
}

fn firmware() -> Vec<u8> {
    pattern(1, 200_000)
}

/// The words after `ok`. Any `error` is temporary: the instance waits for a lease or for its storage.
fn ok(reply: String) -> Result<String> {
    match reply.strip_prefix("ok ").or_else(|| reply.strip_prefix("ok")) {
        Some(words) => Ok(words.to_owned()),
        None => Err(Error::new(ErrorKind::ResourceBusy, reply)),
    }
}

/// The same for a name that must exist.
fn found(reply: String, name: &str) -> Result<String> {
    assert!(!reply.starts_with("error not-found"), "{name} is lost");
    ok(reply)
}

fn stored(reply: &str, content: &[u8]) -> Result<()> {
    let words = ok(reply.to_owned())?;
    assert_eq!(words, format!("{} {:08x}", content.len(), crc32c(content)));
    Ok(())
}

/// Runs `boards` boards for `time`, one in `slow` of them with a slow line.
fn fleet(test: &str, boards: usize, slow: usize, time: Duration) {
    if Command::new("haproxy").arg("-v").output().is_err() {
        return skip(test, "haproxy is not installed (apt install haproxy)");
    }
    block_on(async {
        let server = S3::start();
        let mut fleet = Fleet::start(&server);
        let storage = server.storage();
        storage.objects.put(&server.path(FIRMWARE), firmware().into()).await.unwrap();
        let (counts, over, begun) = (Arc::new(Counts::default()), Arc::<AtomicBool>::default(), Instant::now());
        // About 25 rounds a second: the server of S3 and the instances share this machine.
        let pause = boards as u64 * 40;
        let boards: Vec<_> = (0..boards)
            .map(|number| {
                let (addr, counts, over) = (fleet.addr, Arc::clone(&counts), Arc::clone(&over));
                let (slow, stored) = (number % slow == 0, BTreeMap::new());
                tokio::spawn(Board { addr, number, pause, slow, counts, over, connection: None, stored }.run())
            })
            .collect();
        let mut kills = 0;
        // On a busy machine it takes longer until the first upload is resumed.
        while begun.elapsed() < time || counts.resumed.load(Ordering::Relaxed) == 0 && begun.elapsed() < PATIENCE {
            tokio::time::sleep(KILL).await;
            fleet.restart(kills % 3);
            kills += 1;
        }
        over.store(true, Ordering::Relaxed);
        let mut files = 0;
        let number = boards.len();
        for board in boards {
            let stored = board.await.unwrap_or_else(|error| panic!("{error}\n{}", fleet.logs()));
            for (name, (seed, len)) in stored {
                let object = storage.objects.get(&server.path(&name)).await.unwrap();
                assert!(object.bytes().await.unwrap() == pattern(seed, len), "{name}");
                files += 1;
            }
        }
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "{number} boards, {kills} instances killed: {} uploads, {} fetches, {} listings answered; {} connections \
             broken, {} errors answered, all repeated; {} uploads resumed, which saved {} bytes; at most {} ms until \
             success; {files} files checked",
            of(&counts.stored),
            of(&counts.fetched),
            of(&counts.listed),
            of(&counts.broken),
            of(&counts.refused),
            of(&counts.resumed),
            of(&counts.saved),
            of(&counts.longest),
        );
        assert!(of(&counts.broken) > 0 && of(&counts.resumed) > 0, "{counts:?}");
    });
}

#[test]
fn three_instances_lose_nothing_when_killed_one_after_another() {
    let test = "three_instances_lose_nothing_when_killed_one_after_another";
    fleet(test, 40, 4, Duration::from_secs(20));
}

/// The test of docs/FLEET.md.
#[test]
#[ignore = "takes minutes"]
fn five_hundred_boards_lose_nothing() {
    fleet("five_hundred_boards_lose_nothing", 500, 10, Duration::from_secs(90));
}
