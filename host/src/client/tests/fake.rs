//! A server that keeps the rules of the extended commands, on files in memory, until a test makes it fail. It breaks rules
//! that the real servers can't break: wrong checksums, missing tags, a file that changes between two commands.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use skiff_proto::crc::crc32c;

use super::{HELLO, content, listen, receive, send, text};

/// What goes wrong, each as often as it says.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Closes the connection when that many bytes of a `read` body have gone out.
    pub(super) cut_read: Vec<usize>,
    /// Closes the connection soon after the beginning of a `read` from this OFFSET on.
    pub(super) cut_from: Option<usize>,
    /// Every so many `read`s the file is another one, so often; 0: never.
    pub(super) change_every: usize,
    pub(super) changes: usize,
    /// Closes the connection when that many bytes of a `write` body have come.
    pub(super) cut_write: Vec<usize>,
    /// The first `write` or `resume` commands of a name are answered `busy`.
    pub(super) busy: u32,
    /// The checksum in the trailers of so many `read`s is wrong.
    pub(super) bad_crc: u32,
    /// Bodies have no checksum.
    pub(super) no_crc: bool,
    /// TAGs are `-`.
    pub(super) no_tag: bool,
    /// The TAGs of so many `read`s are `-`, as of a file that was written a moment ago.
    pub(super) young: u32,
    /// `stat` says the CRC.
    pub(super) stat_crc: bool,
    /// A `write` to this name is refused at once.
    pub(super) refuse: Option<&'static str>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) staged: HashMap<String, Vec<u8>>,
    pub(super) versions: HashMap<String, u32>,
    pub(super) mtimes: HashMap<String, String>,
    pub(super) log: Vec<String>,
    pub(super) faults: Faults,
    pub(super) connections: u32,
    pub(super) reads: usize,
}

#[derive(Clone, Default)]
pub(super) struct Fake(pub(super) Arc<Mutex<State>>);

impl Fake {
    /// Starts it; says the port.
    pub(super) fn start() -> (Self, u16) {
        let fake = Self::default();
        let served = fake.clone();
        (fake, listen(move |stream| served.serve(&stream)))
    }

    pub(super) fn put(&self, name: &str, len: usize, seed: usize) -> Vec<u8> {
        let bytes = content(len, seed);
        let mut state = self.0.lock().unwrap();
        state.files.insert(name.to_owned(), bytes.clone());
        *state.versions.entry(name.to_owned()).or_default() += 1;
        bytes
    }

    pub(super) fn file(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().files.get(name).cloned()
    }

    pub(super) fn faults(&self, set: impl FnOnce(&mut Faults)) {
        set(&mut self.0.lock().unwrap().faults);
    }

    /// The commands so far, without the question.
    pub(super) fn log(&self) -> Vec<String> {
        core::mem::take(&mut self.0.lock().unwrap().log)
    }

    pub(super) fn serve(&self, stream: &TcpStream) {
        self.0.lock().unwrap().connections += 1;
        stream.set_nodelay(true).unwrap();
        while let Some(command) = text(stream) {
            if command == "quit" || self.answer(stream, &command).is_none() {
                break;
            }
        }
        // A reset would destroy what is still under way.
        _ = stream.shutdown(Shutdown::Write);
        while receive(stream).is_some() {}
    }

    /// `None`: closes the connection.
    fn answer(&self, stream: &TcpStream, command: &str) -> Option<()> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        if command == "get /skiff/1" {
            send(stream, HELLO);
            return Some(());
        }
        self.0.lock().unwrap().log.push(command.to_owned());
        if verb == "write" {
            return self.write(stream, rest);
        }
        if verb == "read" {
            return self.read(stream, rest);
        }
        let mut state = self.0.lock().unwrap();
        let reply = match verb {
            "ping" | "mkdir" | "rmdir" => "ok".to_owned(),
            "space" => "ok 1000 400".to_owned(),
            "stat" => match state.files.get(rest) {
                Some(file) => {
                    let crc = if state.faults.stat_crc { format!("{:08x}", crc32c(file)) } else { "-".to_owned() };
                    format!("ok {} 1700000000 {crc}", file.len())
                }
                None => "error not-found no such file".to_owned(),
            },
            "sum" => {
                let [offset, length, name] = words(rest);
                match state.files.get(name) {
                    Some(file) => {
                        let from = offset.parse::<usize>().unwrap();
                        let to = length.parse().map_or(file.len(), |length: usize| from + length);
                        match file.get(from..to) {
                            Some(bytes) => format!("ok {} {:08x}", bytes.len(), crc32c(bytes)),
                            None => "error range beyond the end".to_owned(),
                        }
                    }
                    None => "error not-found no such file".to_owned(),
                }
            }
            "resume" => {
                let (_, name) = rest.split_once(' ').unwrap();
                if state.faults.busy > 0 {
                    state.faults.busy -= 1;
                    "error busy another client is writing this file".to_owned()
                } else {
                    let staged = state.staged.get(name).map_or(&[][..], Vec::as_slice);
                    format!("ok {} {:08x}", staged.len(), crc32c(staged))
                }
            }
            "remove" => match state.files.remove(rest) {
                Some(_) => "ok".to_owned(),
                None => "error not-found no such file".to_owned(),
            },
            "rename" => {
                let (from, to) = rest.split_once('\n').unwrap();
                match state.files.remove(from) {
                    Some(file) => {
                        state.files.insert(to.to_owned(), file);
                        "ok".to_owned()
                    }
                    None => "error not-found no such file".to_owned(),
                }
            }
            "list" => {
                let lines = state.files.iter().map(|(name, file)| format!("{} 1700000000 - {name}\n", file.len()));
                let body: String = lines.collect();
                send(stream, "ok");
                if !body.is_empty() {
                    send(stream, &body);
                }
                send(stream, "");
                format!("crc32c {:08x}", crc32c(body.as_bytes()))
            }
            "ls" => state.files.keys().cloned().collect::<Vec<_>>().join("\n"),
            _ => "error bad-command what?".to_owned(),
        };
        drop(state);
        send(stream, reply);
        Some(())
    }

    fn read(&self, mut stream: &TcpStream, rest: &str) -> Option<()> {
        let [offset, length, name] = words(rest);
        let mut state = self.0.lock().unwrap();
        if length != "0" && state.faults.changes > 0 {
            state.reads += 1;
            if state.reads.is_multiple_of(state.faults.change_every) {
                state.faults.changes -= 1;
                let seed = 100 + state.faults.changes;
                let file = state.files.get_mut(name).unwrap();
                *file = content(file.len(), seed);
                *state.versions.get_mut(name).unwrap() += 1;
            }
        }
        let Some(file) = state.files.get(name).cloned() else {
            send(stream, "error not-found no such file");
            return Some(());
        };
        let is_young = state.faults.young > 0;
        state.faults.young = state.faults.young.saturating_sub(1);
        let tag = if state.faults.no_tag || is_young { "-".to_owned() } else { format!("v{}", state.versions[name]) };
        let from = offset.parse::<usize>().unwrap();
        let to = length.parse().map_or(file.len(), |length: usize| from + length);
        let Some(bytes) = file.get(from..to) else {
            send(stream, "error range beyond the end");
            return Some(());
        };
        let cut = if bytes.is_empty() { None } else { state.faults.cut_read.pop() };
        let cut = cut.or(state.faults.cut_from.filter(|&at| from >= at && !bytes.is_empty()).map(|_| 10));
        let mut crc = format!("{:08x}", crc32c(bytes));
        if state.faults.bad_crc > 0 && !bytes.is_empty() {
            state.faults.bad_crc -= 1;
            crc = "deadbeef".to_owned();
        }
        if state.faults.no_crc {
            crc = "-".to_owned();
        }
        drop(state);
        send(stream, format!("ok {} {} {tag}", bytes.len(), file.len()));
        let mut gone = 0;
        for piece in bytes.chunks(100_000) {
            if let Some(cut) = cut.filter(|&cut| cut < gone + piece.len()) {
                _ = stream.write_all(format!("{:010}", piece.len()).as_bytes());
                _ = stream.write_all(&piece[..cut - gone]);
                return None;
            }
            gone += piece.len();
            send(stream, piece);
        }
        send(stream, "");
        send(stream, format!("crc32c {crc}"));
        Some(())
    }

    fn write(&self, stream: &TcpStream, rest: &str) -> Option<()> {
        let mut words = rest.splitn(4, ' ');
        let mut word = || words.next().unwrap();
        let (offset, size, mtime, name) =
            (word().parse::<usize>().unwrap(), word().parse::<usize>().unwrap(), word(), word());
        let mut state = self.0.lock().unwrap();
        let refused = if state.faults.refuse == Some(name) {
            Some("error no-space the store is full")
        } else if state.faults.busy > 0 {
            state.faults.busy -= 1;
            Some("error busy another client is writing this file")
        } else if offset > 0 && state.staged.get(name).map_or(0, Vec::len) != offset {
            Some("error mismatch nothing staged")
        } else {
            None
        };
        let cut = state.faults.cut_write.pop();
        let mut staged = if offset > 0 { state.staged.get(name).cloned().unwrap_or_default() } else { Vec::new() };
        drop(state);
        if let Some(refused) = refused {
            send(stream, refused);
        }
        loop {
            let data = receive(stream)?;
            if data.is_empty() {
                break;
            }
            staged.extend_from_slice(&data);
            if refused.is_none() && cut.is_some_and(|cut| staged.len() - offset >= cut) {
                self.0.lock().unwrap().staged.insert(name.to_owned(), staged);
                return None;
            }
        }
        let trailer = text(stream)?;
        let mut state = self.0.lock().unwrap();
        state.log.push(trailer.clone());
        if refused.is_some() {
            return Some(());
        }
        state.staged.remove(name);
        let right = trailer == "crc32c -" || trailer == format!("crc32c {:08x}", crc32c(&staged));
        let reply = if let Some(code) = trailer.strip_prefix("abort ").and_then(|rest| rest.split(' ').next()) {
            format!("error {code} as you say")
        } else if right && staged.len() == size {
            let reply = format!("ok {size} {:08x}", crc32c(&staged));
            state.files.insert(name.to_owned(), staged);
            *state.versions.entry(name.to_owned()).or_default() += 1;
            state.mtimes.insert(name.to_owned(), mtime.to_owned());
            reply
        } else {
            "error mismatch not what was announced".to_owned()
        };
        drop(state);
        send(stream, reply);
        Some(())
    }
}

fn words(rest: &str) -> [&str; 3] {
    let mut words = rest.splitn(3, ' ');
    core::array::from_fn(|_| words.next().unwrap())
}
