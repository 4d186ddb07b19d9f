//! host-serv is killed with SIGKILL at any moment of uploads and started again, many times over.
//!
//! After each kill, before the next start: every name holds a complete file, the version last answered `ok` or one that
//! was in progress when the server died; and no name exists that nobody has written. After the start: staged bytes
//! can't be addressed, interrupted writes resume at an offset with the checksum of the bytes sent, and the resulting
//! file is complete.

use core::fmt;
use core::time::Duration;
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use fastrand::Rng;
use skiff_proto::crc::crc32c;

use super::content::{version, which};
use super::{files, hear_text, say};
use crate::programs::Serv;
use crate::sans_io::{body, message};
use crate::wire::{End, read_to_end};

/// The parameters.
#[derive(Debug, Clone)]
pub struct Kill {
    /// How often the server is killed.
    pub kills: u32,
    /// Clients that write at the same time.
    pub writers: u32,
    /// Maximum time until the kill after the first byte, in milliseconds.
    pub life: u64,
    /// The seed of all random choices, except the system's timing.
    pub seed: u64,
}

/// The counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Killed {
    /// Kills.
    pub kills: u32,
    /// Changes that were answered `ok`, or whose classic data connection was closed in order.
    pub answered: u64,
    /// Changes in progress when the server was killed.
    pub open: u64,
    /// How many of them had been executed anyway.
    pub carried_out: u64,
    /// Names that were checked after kills.
    pub names: u64,
    /// Interrupted writes that had bytes staged.
    pub resumable: u64,
    /// How many of them were resumed.
    pub resumed: u64,
    /// Bytes that did not have to be sent again.
    pub spared: u64,
    /// Attempts to address staged bytes; all were refused.
    pub addressed: u64,
}

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kills, answered, open, carried_out, names, resumable, resumed, spared, addressed } = self;
        write!(
            f,
            "{kills} kills, {answered} changes answered, {open} open when it died (of which {carried_out} were carried \
             out), {names} names looked at: whole and not older than answered; {resumable} writes resumable, {resumed} \
             resumed, {spared} bytes spared; {addressed} attempts to address staged files refused"
        )
    }
}

/// The possible states of a name: the last answered one first, then those in progress. `None`: no file.
type States = Vec<Option<u64>>;

/// An interrupted write.
#[derive(Debug, Clone)]
struct Cut {
    name: String,
    version: u64,
    len: usize,
    sent: usize,
}

/// One client, and the possible states of its names.
#[derive(Debug)]
struct Writer {
    number: u32,
    rng: Rng,
    versions: u64,
    names: HashMap<String, States>,
    /// The write in progress.
    cut: Option<Cut>,
    /// The bytes that may be staged for each name.
    staged: HashMap<String, Vec<Cut>>,
    answered: u64,
}

impl Kill {
    /// Runs it, in its own directory.
    ///
    /// # Panics
    /// If a guarantee is violated.
    #[must_use]
    pub fn run(&self) -> Killed {
        let root = tempfile::tempdir().expect("a directory");
        let mut rng = Rng::with_seed(self.seed);
        let mut writers: Vec<_> = (0..self.writers).map(|number| Writer::new(number, rng.fork())).collect();
        let mut done = Killed::default();
        let mut serv = Serv::start(root.path(), &[]);
        for _ in 0..self.kills {
            let addr = serv.addr();
            let life = Duration::from_micros(rng.u64(0..=self.life * 1000));
            std::thread::scope(|scope| {
                for writer in &mut writers {
                    scope.spawn(move || {
                        // Until the server dies: every error is that.
                        if let Ok(stream) = TcpStream::connect(addr)
                            && stream.set_nodelay(true).is_ok()
                        {
                            while writer.change(&stream).is_ok() {}
                        }
                    });
                }
                // Not in order to be right: when it dies is what chance is to say.
                std::thread::sleep(life);
                serv.kill();
            });
            done.kills += 1;
            for writer in &mut writers {
                writer.look(root.path(), &mut done);
            }
            let known = |name: &String| writers.iter().any(|writer| writer.names.contains_key(name));
            assert!(files(root.path()).iter().all(known), "{:?}", files(root.path()));
            serv = Serv::start(root.path(), &[]);
            assert_hidden(&serv, root.path(), &mut done);
            for writer in &mut writers {
                writer.resume(&serv, root.path(), &mut done);
            }
        }
        done.answered = writers.iter().map(|writer| writer.answered).sum();
        assert_eq!(serv.stop().code, Some(0));
        done
    }
}

impl Writer {
    fn new(number: u32, rng: Rng) -> Self {
        Self { number, rng, versions: 0, names: HashMap::new(), cut: None, staged: HashMap::new(), answered: 0 }
    }

    /// A version that nobody else writes.
    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        u64::from(self.number) << 32 | self.versions
    }

    fn name(&mut self, of: u32) -> String {
        format!("dir{}/large{}", self.number, self.rng.u32(0..of))
    }

    fn states(&mut self, name: &str) -> &mut States {
        self.names.entry(name.to_owned()).or_insert_with(|| vec![None])
    }

    /// Adds a state that `name` may have from now on.
    fn begin(&mut self, name: &str, state: Option<u64>) {
        self.states(name).push(state);
    }

    /// Makes this the only state of `name`.
    fn end(&mut self, name: &str, state: Option<u64>) {
        *self.states(name) = vec![state];
    }

    /// One change or several pipelined ones, at random.
    fn change(&mut self, stream: &TcpStream) -> io::Result<()> {
        match self.rng.u32(0..10) {
            0..=3 => self.write(stream),
            4..=5 => self.write_many(stream),
            6..=7 => self.put(stream),
            8 => self.remove(stream),
            _ => self.rename(stream),
        }
    }

    /// A `write` of up to 3 MB.
    fn write(&mut self, stream: &TcpStream) -> io::Result<()> {
        let (name, len) = (self.name(3), self.rng.usize(16..3_000_000));
        let version_number = self.next_version();
        let bytes = version(version_number, len);
        self.cut = Some(Cut { name: name.clone(), version: version_number, len, sent: 0 });
        say(stream, format!("write 0 {len} - {name}"))?;
        for piece in bytes.chunks(64 * 1024) {
            if let Some(cut) = &mut self.cut {
                cut.sent += piece.len();
            }
            say(stream, piece)?;
        }
        self.finish_write(stream, &name, version_number, &bytes)
    }

    /// The end of a body, and the reply to it.
    fn finish_write(&mut self, mut stream: &TcpStream, name: &str, number: u64, bytes: &[u8]) -> io::Result<()> {
        self.begin(name, Some(number));
        let crc = crc32c(bytes);
        stream.write_all(&[message(""), message(format!("crc32c {crc:08x}"))].concat())?;
        assert_eq!(hear_text(stream)?, format!("ok {} {crc:08x}", bytes.len()), "{name}");
        self.end(name, Some(number));
        self.cut = None;
        self.staged.remove(name);
        self.answered += 1;
        Ok(())
    }

    /// Twenty small `write`s before the first reply is read.
    fn write_many(&mut self, mut stream: &TcpStream) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for at in 0..20 {
            let (name, len) = (format!("dir{}/small{at}", self.number), self.rng.usize(16..4096));
            let number = self.next_version();
            let content = version(number, len);
            let crc = crc32c(&content);
            bytes.extend(message(format!("write 0 {len} - {name}")));
            bytes.extend(body(&content, crc));
            self.begin(&name, Some(number));
            sent.push((name, number, format!("ok {len} {crc:08x}")));
        }
        stream.write_all(&bytes)?;
        for (name, number, reply) in sent {
            assert_eq!(hear_text(stream)?, reply, "{name}");
            self.end(&name, Some(number));
            self.answered += 1;
        }
        Ok(())
    }

    /// A classic `put` of up to 1 MB, under a name that was never there.
    fn put(&mut self, stream: &TcpStream) -> io::Result<()> {
        let number = self.next_version();
        let name = format!("classic-{number}");
        let content = version(number, self.rng.usize(16..1_000_000));
        say(stream, format!("put {name}"))?;
        let port: u16 = hear_text(stream)?.parse().expect("a port");
        let mut addr = stream.peer_addr()?;
        addr.set_port(port);
        let mut data = TcpStream::connect(addr)?;
        self.begin(&name, Some(number));
        data.write_all(&message(&content))?;
        data.shutdown(Shutdown::Write)?;
        match read_to_end(&mut data) {
            // In order: it is stored, whatever becomes of the server then.
            (_, End::Closed) => {
                self.end(&name, Some(number));
                self.answered += 1;
                Ok(())
            }
            (_, End::Reset) => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    fn remove(&mut self, stream: &TcpStream) -> io::Result<()> {
        let name = self.name(3);
        let was_there = self.states(&name)[0].is_some();
        self.begin(&name, None);
        say(stream, format!("remove {name}"))?;
        let reply = hear_text(stream)?;
        assert!(if was_there { reply == "ok" } else { reply.starts_with("error not-found ") }, "{name}: {reply}");
        self.end(&name, None);
        self.answered += 1;
        Ok(())
    }

    fn rename(&mut self, stream: &TcpStream) -> io::Result<()> {
        let (from, to) = (self.name(3), self.name(3));
        let Some(moved) = self.states(&from)[0].filter(|_| from != to) else { return Ok(()) };
        self.begin(&from, None);
        self.begin(&to, Some(moved));
        say(stream, format!("rename {from}\n{to}"))?;
        let reply = hear_text(stream)?;
        assert_eq!(reply, "ok", "{from} to {to}");
        self.end(&from, None);
        self.end(&to, Some(moved));
        self.answered += 1;
        Ok(())
    }

    /// Checks the content of each name, bypassing the server.
    fn look(&mut self, root: &Path, done: &mut Killed) {
        let mut names: Vec<_> = self.names.keys().cloned().collect();
        names.sort();
        for name in names {
            let found = fs::read(root.join(&name)).ok();
            let version = found.as_deref().map(|bytes| which(bytes).unwrap_or_else(|| panic!("{name}: not whole")));
            let states = self.states(&name);
            assert!(states.contains(&version), "{name}: {version:?}, not one of {states:?}");
            done.names += 1;
            done.open += u64::from(states.len() > 1);
            done.carried_out += u64::from(states.len() > 1 && states[0] != version);
            *states = vec![version];
            if name.starts_with("classic-") {
                // Or they would fill the disk.
                _ = fs::remove_file(root.join(&name));
                self.names.remove(&name);
            }
        }
    }

    /// Asks for the staged bytes of the interrupted write, and usually continues it.
    fn resume(&mut self, serv: &Serv, root: &Path, done: &mut Killed) {
        let Some(cut) = self.cut.take() else { return };
        let Cut { name, version: number, len, sent } = cut.clone();
        // The server may have died before it heard of this write: then it is an earlier one's bytes that are staged.
        let cuts = self.staged.entry(name.clone()).or_default();
        cuts.push(cut);
        let mut wire = serv.connect();
        let reply = wire.ask(format!("resume {len} {name}"));
        let words: Vec<_> = reply.split(' ').collect();
        assert!(words.len() == 3 && words[0] == "ok", "{reply}");
        let offset: usize = words[1].parse().expect("an offset");
        let begins = |cut: &Cut| {
            offset <= cut.sent && format!("{:08x}", crc32c(&version(cut.version, cut.len)[..offset])) == words[2]
        };
        assert!(cuts.iter().any(begins), "{name}: {reply}: nothing that was sent");
        done.resumable += u64::from(offset > 0);
        let is_this = cuts.last().is_some_and(begins);
        if offset == 0 || !is_this || self.rng.u32(0..4) == 0 {
            return;
        }
        assert!(offset <= sent, "{offset} of {sent}");
        let content = version(number, len);
        wire.say(format!("write {offset} {len} - {name}"));
        if offset < len {
            wire.say(&content[offset..]);
        }
        self.finish_write(&wire.stream, &name, number, &content).expect("the server lives");
        assert_eq!(fs::read(root.join(&name)).ok().and_then(|bytes| which(&bytes)), Some(number));
        done.resumed += 1;
        done.spared += offset as u64;
    }
}

/// Nothing in the staging directories can be seen or reached.
fn assert_hidden(serv: &Serv, root: &Path, done: &mut Killed) {
    let mut wire = serv.connect();
    assert_eq!(wire.ask("list"), "ok");
    let listing = String::from_utf8(wire.hear_body().0).expect("text");
    assert!(!listing.contains(".skiff"), "{listing}");
    let classic = wire.ask("ls");
    assert!(!classic.contains(".skiff"), "{classic}");
    let stages = fs::read_dir(root).expect("the root").flatten();
    for stage in stages.filter(|entry| entry.file_name().to_string_lossy().starts_with(".skiff-")) {
        let dir = stage.file_name().to_string_lossy().into_owned();
        let staged = fs::read_dir(stage.path()).expect("a staging directory").flatten();
        let inside = staged.map(|entry| format!("{dir}/{}", entry.file_name().to_string_lossy()));
        for name in core::iter::once(dir.clone()).chain(inside) {
            for verb in ["stat", "read 0 *", "sum 0 *", "remove", "resume 1", "list", "mkdir", "rmdir"] {
                let reply = wire.ask(format!("{verb} {name}"));
                assert!(reply.starts_with("error bad-name "), "{verb} {name}: {reply}");
                done.addressed += 1;
            }
            for command in [format!("rename {name}\nx"), format!("rename x\n{name}")] {
                let reply = wire.ask(&command);
                assert!(reply.starts_with("error bad-name "), "{command}: {reply}");
                done.addressed += 1;
            }
            for command in [format!("get {name}"), format!("put {dir}")] {
                assert_eq!(wire.ask(&command), "-1", "{command}");
                done.addressed += 1;
            }
        }
    }
}
