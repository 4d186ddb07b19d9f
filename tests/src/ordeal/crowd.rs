//! Many connections at once: most are idle, some work all the time. All are served, and nothing is left over.

use core::fmt;
use core::time::Duration;
use std::net::TcpStream;

use super::content::{version, which};
use super::{descriptors, hear_text, in_memory, resident, say, within};
use crate::programs::Serv;
use crate::wire::Wire;

/// The parameters.
#[derive(Debug, Clone, Copy)]
pub struct Crowd {
    /// Connections that do nothing.
    pub idle: usize,
    /// Connections that write and read.
    pub active: usize,
    /// Files that each of them writes and reads.
    pub files: usize,
}

/// The counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Crowded {
    /// Connections at the same time.
    pub connections: usize,
    /// Files transferred in both directions.
    pub files: usize,
    /// The server's descriptors before, during and after.
    pub descriptors: [usize; 3],
    /// Its memory in KiB likewise.
    pub memory: [u64; 3],
}

impl fmt::Display for Crowded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, files, descriptors: d, memory: m } = self;
        write!(
            f,
            "{connections} connections, {files} files there and back; descriptors {} -> {} -> {}, memory {} -> {} -> {} KiB",
            d[0], d[1], d[2], m[0], m[1], m[2]
        )
    }
}

impl Crowd {
    /// Runs it.
    ///
    /// # Panics
    /// If a guarantee is violated.
    #[must_use]
    pub fn run(&self) -> Crowded {
        let root = in_memory();
        let most = (self.idle + self.active + 1).to_string();
        let serv = Serv::start(root.path(), &["--max-clients", &most]);
        let pid = serv.running.pid();
        // What a first client leaves: the runtime's threads, and the staging directory, which stays open.
        assert!(serv.connect().write("first", b"x").starts_with("ok 1 "));
        let before = settled(pid);
        let idle: Vec<TcpStream> = (0..self.idle).map(|_| serv.connect().stream).collect();
        let workers: Vec<Wire> = (0..self.active).map(|_| serv.connect()).collect();
        let mut counts = ([before.0, 0, 0], [before.1, 0, 0]);
        std::thread::scope(|scope| {
            let handles: Vec<_> = workers
                .into_iter()
                .enumerate()
                .map(|(number, mut wire)| {
                    let files = self.files;
                    scope.spawn(move || {
                        for at in 0..files {
                            let number = number as u64 * 1_000_000 + at as u64;
                            let (name, content) = (format!("{}/f{at}", number / 1_000_000), version(number, 20_000));
                            assert!(wire.write(&name, &content).starts_with("ok 20000 "), "{name}");
                            assert_eq!(wire.read(&name).ok().and_then(|bytes| which(&bytes)), Some(number), "{name}");
                        }
                        wire
                    })
                })
                .collect();
            let workers: Vec<_> = handles.into_iter().map(|handle| handle.join().expect("a worker")).collect();
            (counts.0[1], counts.1[1]) = (descriptors(pid), resident(pid));
            assert!(counts.0[1] >= before.0 + self.idle + workers.len(), "{counts:?}");
        });
        // The idle ones are all still there, and are answered.
        for stream in &idle {
            assert_eq!(say(stream, "ping").and_then(|()| hear_text(stream)).expect("an answer"), "ok");
        }
        drop(idle);
        let back = within(Duration::from_secs(30), || descriptors(pid) <= before.0);
        (counts.0[2], counts.1[2]) = (descriptors(pid), resident(pid));
        assert!(back, "descriptors stay open: {counts:?}");
        assert_eq!(serv.stop().code, Some(0));
        let files = self.active * self.files;
        Crowded { connections: self.idle + self.active, files, descriptors: counts.0, memory: counts.1 }
    }
}

/// Descriptors and memory once the previous connection has been released.
pub(super) fn settled(pid: u32) -> (usize, u64) {
    let mut last = 0;
    // The same number several times running.
    let mut same = 0;
    _ = within(Duration::from_secs(5), || {
        let now = descriptors(pid);
        same = if now == last { same + 1 } else { 0 };
        last = now;
        same > 20
    });
    (last, resident(pid))
}
