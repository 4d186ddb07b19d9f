//! Power cuts: checks the order in which host-serv writes, syncs, renames and answers, recorded by strace, against a
//! model of a disk that keeps only what was synced.
//!
//! | rule | why |
//! |---|---|
//! | a file gets a visible name only when all its bytes are synced | no name refers to bytes that a cut may destroy |
//! | a file with a visible name is never written to | the old version stays unchanged |
//! | an answer is sent only when its change, and its parent directories, are synced | `ok` means durable |
//!
//! The model is worse than any real disk: each change of a directory and each byte is lost at a cut unless a sync of
//! exactly that directory or file, or of everything, began after it and completed. So after a cut, a name holds a
//! complete version that has been answered or was in progress, on any file system that implements fsync correctly.

use core::fmt;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::path::Path;
use std::process::Command;

use fastrand::Rng;
use skiff_proto::crc::crc32c;

use super::content::version;
use crate::programs::{Below, Serv, Signal, program, skip};
use crate::sans_io::{body, message};
use crate::wire::{End, Wire, read_to_end};

/// The parameters.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// Rounds of about forty changes each.
    pub rounds: u32,
    /// Use only portable system calls.
    pub portable: bool,
    /// The seed of all random choices.
    pub seed: u64,
}

/// The counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ordered {
    /// System calls that were checked.
    pub calls: u64,
    /// How many of them were syncs.
    pub syncs: u64,
    /// Files that got a visible name.
    pub named: u64,
    /// Answers that promised something durable.
    pub answers: u64,
}

impl fmt::Display for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, syncs, named, answers } = self;
        write!(
            f,
            "{calls} system calls, {syncs} of them syncs: {named} files named, each synced before; {answers} answers, each \
             after its change was durable"
        )
    }
}

/// The guarantee of an answer.
#[derive(Debug, Clone)]
enum Promise {
    /// Nothing.
    None,
    /// The name holds a file of this many bytes.
    File(String, u64),
    /// Nothing has this name.
    Gone(String),
    /// A directory has this name.
    Directory(String),
    /// Both.
    Both(Box<[Self; 2]>),
}

impl Order {
    /// Runs it; `None`, after [`skip`] for `test`, if there is no strace.
    ///
    /// # Panics
    /// If a rule is violated.
    #[must_use]
    pub fn run(&self, test: &str) -> Option<Ordered> {
        let (root, there) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let root = root.path().canonicalize().expect("a path");
        let (pid, trace) = (there.path().join("pid"), there.path().join("trace"));
        let strace = || {
            let mut command = Command::new("strace");
            command.args(["-f", "-y", "-s", "65536", "-e", CALLS, "-o"]).arg(&trace);
            // The shell becomes the program: the process is the same.
            command.args(["sh", "-c", r#"echo $$ > "$0" && exec "$@""#]).arg(&pid);
            command
        };
        if !strace().arg("true").output().is_ok_and(|output| output.status.success()) {
            skip(test, "no strace, or it may not trace; install it (Debian: apt install strace)");
            return None;
        }
        let mut command = strace();
        command.arg(program("host-serv")).args(["0", "--root"]).arg(&root);
        if self.portable {
            command.arg("--portable");
        }
        let serv = Serv::launch(&mut command, "port ").unwrap_or_else(|ran| panic!("{ran:?}"));
        let below: i32 = fs::read_to_string(&pid).expect("a pid").trim().parse().expect("a number");
        let below = Below::new(below);
        let mut client = Client::new(serv.connect(), Rng::with_seed(self.seed));
        for round in 0..self.rounds {
            client.round(round);
        }
        let Client { promises, stored, .. } = client;
        below.signal(Signal::TERM);
        assert_eq!(serv.running.wait().code, Some(0));
        let trace = fs::read(&trace).expect("the trace");
        Some(Disk::new(&root, promises, stored).watch(&String::from_utf8_lossy(&trace)))
    }
}

/// The system calls that are traced. Received data does not matter.
const CALLS: &str = "trace=openat,openat2,pwrite64,write,pwritev,writev,copy_file_range,sendfile,splice,ftruncate,fallocate,\
                     rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,fsync,fdatasync,syncfs,sync,\
                     sync_file_range,sendto,sendmsg,setsockopt,fcntl,dup";

/// A client, which remembers the guarantee of each answer.
struct Client {
    wire: Wire,
    rng: Rng,
    promises: VecDeque<Promise>,
    /// The guarantees of the classic puts, in order.
    stored: VecDeque<Promise>,
}

impl Client {
    fn new(wire: Wire, rng: Rng) -> Self {
        Self { wire, rng, promises: VecDeque::new(), stored: VecDeque::new() }
    }

    fn ask(&mut self, command: &str, promise: Promise) {
        self.promises.push_back(promise);
        assert_eq!(self.wire.ask(command), "ok", "{command}");
    }

    fn content(&mut self, most: usize) -> Vec<u8> {
        version(self.rng.u64(..), self.rng.usize(16..most))
    }

    /// `write`s of `names`, sent together.
    fn write(&mut self, names: &[String], most: usize) {
        let mut bytes = Vec::new();
        for name in names {
            let content = self.content(most);
            bytes.extend(message(format!("write 0 {} - {name}", content.len())));
            bytes.extend(body(&content, crc32c(&content)));
            self.promises.push_back(Promise::File(name.clone(), content.len() as u64));
        }
        self.wire.send_bytes(&bytes);
        for name in names {
            let reply = self.wire.hear_text();
            assert!(reply.starts_with("ok "), "{name}: {reply}");
        }
    }

    /// A bit of everything: single changes, few together, many together, in one directory and in several missing ones.
    fn round(&mut self, round: u32) {
        self.write(&["top".into()], 4000);
        self.write(&[format!("r{round}/a/b/deep")], 4000);
        self.write(&[format!("r{round}/large")], 300_000);
        self.write(&(0..3).map(|at| format!("r{round}/few{at}")).collect::<Vec<_>>(), 2000);
        self.write(&(0..20).map(|at| format!("r{round}/many/{at}")).collect::<Vec<_>>(), 2000);
        self.write(&(0..8).map(|at| format!("r{round}/spread{at}/f")).collect::<Vec<_>>(), 2000);
        let moved = |from: &str, to: &str, len| {
            Promise::Both(Box::new([Promise::Gone(from.to_owned()), Promise::File(to.to_owned(), len)]))
        };
        // How long it is, the model knows.
        self.ask(
            &format!("rename r{round}/few0\nr{round}/few1"),
            moved(&format!("r{round}/few0"), &format!("r{round}/few1"), ANY),
        );
        let (from, to) = (format!("r{round}/few1"), format!("r{round}/new/place/for/it"));
        self.ask(&format!("rename {from}\n{to}"), moved(&from, &to, ANY));
        // Between two directories that are both there.
        let (from, to) = (format!("r{round}/spread0/f"), format!("r{round}/spread1/g"));
        self.ask(&format!("rename {from}\n{to}"), moved(&from, &to, ANY));
        self.ask(&format!("mkdir r{round}/made"), Promise::Directory(format!("r{round}/made")));
        self.ask(&format!("rmdir r{round}/made"), Promise::Gone(format!("r{round}/made")));
        // Pipelined changes.
        let removed: Vec<_> = (0..20).map(|at| format!("r{round}/many/{at}")).collect();
        let bytes: Vec<u8> = removed.iter().flat_map(|name| message(format!("remove {name}"))).collect();
        self.promises.extend(removed.iter().cloned().map(Promise::Gone));
        self.wire.send_bytes(&bytes);
        for name in &removed {
            assert_eq!(self.wire.hear_text(), "ok", "{name}");
        }
        // An interrupted write that is gone on with: staged bytes that were never synced.
        let content = self.content(100_000);
        let name = format!("r{round}/resumed");
        let half = content.len() / 2;
        let mut other = Wire::connect(self.wire.at(self.wire.stream.peer_addr().expect("an address").port()));
        other.say(format!("write 0 {} - {name}", content.len()));
        other.send_bytes(&message(&content[..half]));
        other.finish();
        assert_eq!(other.hear_end().1, End::Closed);
        self.promises.push_back(Promise::None);
        let reply = self.wire.ask(format!("resume {} {name}", content.len()));
        assert_eq!(reply, format!("ok {half} {:08x}", crc32c(&content[..half])));
        self.promises.push_back(Promise::File(name.clone(), content.len() as u64));
        self.wire.say(format!("write {half} {} - {name}", content.len()));
        self.wire.send_bytes(&body(&content[half..], crc32c(&content)));
        assert!(self.wire.hear_text().starts_with("ok "));
        // A classic put, numbered from the second round on.
        let content = self.content(4000);
        self.promises.push_back(Promise::None);
        let port = self.wire.ask("put classic.txt");
        let mut data = self.wire.data(&port);
        data.write_all(&message(&content)).expect("send");
        data.shutdown(Shutdown::Write).expect("shutdown");
        assert_eq!(read_to_end(&mut data), (Vec::new(), End::Closed));
        let name = if round == 0 { "classic.txt".to_owned() } else { format!("classic({round}).txt") };
        self.stored.push_back(Promise::File(name, content.len() as u64));
    }
}

/// A length that is not checked.
const ANY: u64 = u64::MAX;

/// A file, by the order of creation.
type Inode = usize;

/// The state of a file's writes.
#[derive(Debug, Default)]
struct File {
    len: u64,
    /// The time of the last write, unless it is synced.
    dirty: Option<u64>,
    /// It has, or had, a visible name.
    named: bool,
}

/// A disk that keeps only what is synced, and the rules.
struct Disk<'a> {
    root: &'a str,
    files: Vec<File>,
    names: HashMap<String, Inode>,
    directories: HashSet<String>,
    /// Unsynced changes: directory, name and time.
    pending: Vec<(String, String, u64)>,
    /// The descriptors of files that were created without a name.
    nameless: HashMap<String, Inode>,
    /// Guarantees still to be given on the control connection, and by data connections.
    promises: VecDeque<Promise>,
    stored: VecDeque<Promise>,
    /// The control connection, once it is known, and the bytes sent on it.
    control: Option<String>,
    sent: String,
    time: u64,
    done: Ordered,
}

impl<'a> Disk<'a> {
    fn new(root: &'a Path, promises: VecDeque<Promise>, stored: VecDeque<Promise>) -> Self {
        Self {
            root: root.to_str().expect("text"),
            files: Vec::new(),
            names: HashMap::new(),
            directories: HashSet::new(),
            pending: Vec::new(),
            nameless: HashMap::new(),
            promises,
            stored,
            control: None,
            sent: String::new(),
            time: 0,
            done: Ordered::default(),
        }
    }

    /// Processes the trace.
    fn watch(mut self, trace: &str) -> Ordered {
        let mut unfinished: BTreeMap<&str, (String, u64)> = BTreeMap::new();
        for line in trace.lines() {
            let Some((pid, rest)) = line.split_once(' ') else { continue };
            let rest = rest.trim_start();
            self.time += 1;
            if let Some(begin) = rest.strip_suffix("<unfinished ...>") {
                self.begin(begin);
                unfinished.insert(pid, (begin.to_owned(), self.time));
            } else if let Some((_, end)) = rest.strip_prefix("<... ").and_then(|rest| rest.split_once("resumed>")) {
                if let Some((begin, since)) = unfinished.remove(pid) {
                    self.end(&format!("{begin}{end}"), since);
                }
            } else if !rest.starts_with(['+', '-']) {
                self.begin(rest);
                self.end(rest, self.time);
            }
        }
        assert!(self.promises.is_empty() && self.stored.is_empty(), "{:?} {:?}", self.promises, self.stored);
        self.done
    }

    /// A call begins: its effect may be visible from now on.
    fn begin(&mut self, call: &str) {
        let Some((verb, rest)) = call.split_once('(') else { return };
        match verb {
            "pwrite64" | "write" | "pwritev" | "writev" | "copy_file_range" | "splice" | "sendfile" | "ftruncate"
            | "fallocate" => {
                // Of those with two descriptors the one that is written to is in the store or is not: both are looked at.
                for path in paths(rest).into_iter().take(2) {
                    if let Some(inode) = self.inode(&path) {
                        let file = &mut self.files[inode];
                        assert!(
                            !file.named || verb == "sendfile",
                            "{path} is written to, and can be seen: {call:.200}"
                        );
                        if verb != "sendfile" {
                            file.dirty = Some(self.time);
                        }
                    }
                }
            }
            "sendto" | "sendmsg" => self.answer(rest),
            "setsockopt" if rest.contains("SO_LINGER") && rest.contains("l_onoff=0") => {
                let promise = self.stored.pop_front().expect("a classic put");
                self.check(&promise);
                self.done.answers += 1;
            }
            _ => {}
        }
    }

    /// A call that began at `since` has returned.
    fn end(&mut self, call: &str, since: u64) {
        let Some((verb, rest)) = call.split_once('(') else { return };
        self.done.calls += 1;
        let Some((rest, result)) = rest.rsplit_once(" = ") else { return };
        if result.starts_with('-') || result.starts_with('?') {
            return;
        }
        match verb {
            "openat" if rest.contains("O_CREAT") => {
                self.files.push(File::default());
                let path = under(rest, 0);
                self.change(&path);
                self.names.insert(path, self.files.len() - 1);
            }
            "openat" if rest.contains("O_TMPFILE") => {
                self.files.push(File::default());
                self.nameless.insert(descriptor(result), self.files.len() - 1);
            }
            "pwrite64" => {
                // `.., bytes, offset) = bytes written`.
                let arguments = rest.trim_end().trim_end_matches(')').trim_end();
                let offset = arguments.rsplit(", ").next().and_then(|offset| offset.parse::<u64>().ok());
                let (Some(offset), Ok(n)) = (offset, result.trim().parse::<u64>()) else {
                    panic!("not understood: {call:.200}")
                };
                if let Some(inode) = self.inode(&paths(rest).remove(0)) {
                    let file = &mut self.files[inode];
                    file.len = file.len.max(offset + n);
                }
            }
            "fsync" | "fdatasync" | "syncfs" => {
                self.done.syncs += 1;
                let path = paths(rest).remove(0);
                self.sync((verb != "syncfs").then_some(&path), since);
            }
            "mkdirat" => {
                let path = under(rest, 0);
                self.change(&path);
                self.directories.insert(path);
            }
            "unlinkat" => {
                let path = under(rest, 0);
                self.change(&path);
                self.names.remove(&path);
                self.directories.remove(&path);
            }
            "renameat" | "renameat2" => {
                let (from, to) = (under(rest, 0), under(rest, 1));
                let inode = self.names.remove(&from).unwrap_or_else(|| panic!("{from}: what is that?"));
                self.change(&from);
                self.name(inode, to);
            }
            "linkat" => {
                let (from, to) = (strings(rest).remove(0), under(rest, 1));
                let inode = match from.strip_prefix("/proc/self/fd/") {
                    Some(fd) => self.nameless.get(fd).copied(),
                    None => self.names.get(&under(rest, 0)).copied(),
                };
                self.name(inode.unwrap_or_else(|| panic!("{from}: what is that?")), to);
            }
            _ => {}
        }
    }

    /// The file behind a descriptor's path.
    fn inode(&self, path: &str) -> Option<Inode> {
        self.names.get(path).copied().or_else(|| self.nameless.get(path.strip_prefix('\0')?).copied())
    }

    fn change(&mut self, path: &str) {
        let (dir, name) = path.rsplit_once('/').expect("a path");
        self.pending.push((dir.to_owned(), name.to_owned(), self.time));
    }

    /// A file gets a name.
    fn name(&mut self, inode: Inode, path: String) {
        self.change(&path);
        if path.starts_with(self.root) && !path.contains("/.skiff-") {
            assert_eq!(self.files[inode].dirty, None, "{path} gets its name before it is synced");
            self.files[inode].named = true;
            self.done.named += 1;
        }
        self.names.insert(path, inode);
    }

    /// A sync that began at `since` has returned: of one file or directory, or of everything.
    fn sync(&mut self, path: Option<&str>, since: u64) {
        let before = |dirty: &mut u64| *dirty < since;
        match path {
            Some(path) => {
                self.pending.retain(|(dir, _, at)| dir != path || *at >= since);
                if let Some(inode) = self.inode(path) {
                    _ = self.files[inode].dirty.take_if(before);
                }
            }
            None => {
                self.pending.retain(|(.., at)| *at >= since);
                for file in &mut self.files {
                    _ = file.dirty.take_if(before);
                }
            }
        }
    }

    /// Something is sent on a socket.
    fn answer(&mut self, call: &str) {
        let socket = paths(call).into_iter().next().unwrap_or_default();
        let text = strings(call).into_iter().next().unwrap_or_default();
        // The first message of all is an answer on the control connection.
        if *self.control.get_or_insert_with(|| if text.starts_with("00000") { socket.clone() } else { String::new() })
            != socket
        {
            if self.control.as_deref() == Some("") {
                self.control = None;
            }
            return;
        }
        self.sent += &text;
        while let Some(len) = self.sent.get(..10).and_then(|digits| digits.parse::<usize>().ok()) {
            let Some(reply) = self.sent.get(10..10 + len) else { return };
            assert!(!reply.starts_with("error"), "{reply}");
            self.sent.drain(..10 + len);
            let promise = self.promises.pop_front().expect("a question for each answer");
            if !matches!(promise, Promise::None) {
                self.check(&promise);
                self.done.answers += 1;
            }
        }
    }

    /// Checks that a guarantee holds, and still holds after a cut.
    fn check(&self, promise: &Promise) {
        let path = |name: &str| format!("{}/{name}", self.root);
        match promise {
            Promise::None => {}
            Promise::Both(both) => both.iter().for_each(|promise| self.check(promise)),
            Promise::File(name, len) => {
                let inode = self.names.get(&path(name)).unwrap_or_else(|| panic!("{name} is answered, and not there"));
                let file = &self.files[*inode];
                assert!(
                    (*len == ANY || file.len == *len) && file.dirty.is_none(),
                    "{name}: {file:?}, promised: {len} bytes"
                );
                self.check_durable(&path(name));
            }
            Promise::Gone(name) => {
                let path = path(name);
                assert!(!self.names.contains_key(&path) && !self.directories.contains(&path), "{name} is still there");
                self.check_durable(&path);
            }
            Promise::Directory(name) => {
                assert!(self.directories.contains(&path(name)), "{name} is not there");
                self.check_durable(&path(name));
            }
        }
    }

    /// Checks that no change of this name, or of a parent directory, could be lost.
    fn check_durable(&self, path: &str) {
        let mut path = path;
        while let Some((dir, name)) = path.rsplit_once('/').filter(|_| path.len() > self.root.len()) {
            let lost = self.pending.iter().any(|(in_dir, of, _)| in_dir == dir && of == name);
            assert!(!lost, "{name} in {dir} is answered, and not durable");
            path = dir;
        }
    }
}

/// The paths in `<..>` after descriptors. For a file that was created without a name: NUL and the descriptor.
fn paths(call: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = call;
    // What is sent may look like anything: descriptors come before it.
    let end = rest.find('"').unwrap_or(rest.len());
    rest = &rest[..end];
    while let Some((before, after)) = rest.split_once('<') {
        let Some((path, after)) = after.split_once('>') else { break };
        let fd: String = before.chars().rev().take_while(char::is_ascii_digit).collect();
        let fd: String = fd.chars().rev().collect();
        let nameless = path.contains("/#") || after.starts_with("(deleted)");
        paths.push(if nameless { format!("\0{fd}") } else { path.to_owned() });
        rest = after;
    }
    paths
}

/// The quoted strings without escapes.
fn strings(call: &str) -> Vec<String> {
    let mut strings = Vec::new();
    let mut chars = call.chars();
    while chars.by_ref().any(|c| c == '"') {
        let mut string = String::new();
        while let Some(c) = chars.next().filter(|c| *c != '"') {
            string.push(c);
            if c == '\\' {
                string.extend(chars.next());
            }
        }
        strings.push(string);
    }
    strings
}

/// The path of the `which`th pair of directory and name.
fn under(call: &str, which: usize) -> String {
    // `9</root>, "a", 15</root/a>, "b"`: outside of quotes, one `<..>` before each string.
    let mut rest = call;
    let mut dir = "";
    for at in 0..=which {
        let quote = rest.find('"').expect("a name");
        dir = rest[..quote].rsplit_once('<').and_then(|(_, dir)| dir.split_once('>')).expect("a directory").0;
        rest = &rest[quote + 1..];
        let (name, after) = rest.split_once('"').expect("a name");
        if at == which {
            return format!("{dir}/{name}");
        }
        rest = after;
    }
    dir.to_owned()
}

/// The number of a descriptor that a call returns.
fn descriptor(result: &str) -> String {
    result.trim().chars().take_while(char::is_ascii_digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "1 mkdirat(9</r>, \".skiff-stage-0\", 0700) = 0\n\
                        1 openat(5</r/.skiff-stage-0>, \"ab\", O_RDWR|O_CREAT|O_EXCL, 0666) = 6</r/.skiff-stage-0/ab>\n\
                        1 pwrite64(6</r/.skiff-stage-0/ab>, \"hello\", 5, 0) = 5\n";
    const SYNC: &str = "2 fdatasync(6</r/.skiff-stage-0/ab>) = 0\n";
    const NAME: &str = "2 renameat(5</r/.skiff-stage-0>, \"ab\", 9</r>, \"f\") = 0\n";
    const SYNC_DIR: &str = "2 fsync(9</r>) = 0\n";
    const SAY: &str = "1 sendto(12<socket:[7]>, \"0000000013ok 5 9a71bb4c\", 23, MSG_NOSIGNAL, NULL, 0) = 23\n";

    fn watch(parts: &[&str]) -> Ordered {
        let promises = VecDeque::from([Promise::File("f".into(), 5)]);
        Disk::new(Path::new("/r"), promises, VecDeque::new()).watch(&parts.concat())
    }

    #[test]
    fn the_right_order_is_right() {
        let done = watch(&[HEAD, SYNC, NAME, SYNC_DIR, SAY]);
        assert_eq!((done.syncs, done.named, done.answers), (2, 1, 1));
        let everything = "2 syncfs(6</r/f>) = 0\n";
        assert_eq!(watch(&[HEAD, everything, NAME, everything, SAY]).answers, 1);
        // Calls of other threads in between.
        let (begin, end) =
            HEAD.rsplit_once(") = 5").map(|(begin, _)| (begin, "1 <... pwrite64 resumed>) = 5\n")).unwrap();
        let begin = format!("{begin} <unfinished ...>\n");
        assert_eq!(watch(&[&begin, "4 fsync(9</r>) = 0\n", end, SYNC, NAME, SYNC_DIR, SAY]).answers, 1);
    }

    #[test]
    #[should_panic(expected = "gets its name before it is synced")]
    fn a_name_before_the_data_is_wrong() {
        watch(&[HEAD, NAME, SYNC, SYNC_DIR, SAY]);
    }

    #[test]
    #[should_panic(expected = "is answered, and not durable")]
    fn an_answer_before_the_directory_is_wrong() {
        watch(&[HEAD, SYNC, NAME, SAY, SYNC_DIR]);
    }

    #[test]
    #[should_panic(expected = "is answered, and not durable")]
    fn a_sync_that_began_before_the_change_does_not_count() {
        let (begin, end) = ("3 fsync(9</r> <unfinished ...>\n", "3 <... fsync resumed>) = 0\n");
        watch(&[HEAD, SYNC, begin, NAME, end, SAY]);
    }

    #[test]
    #[should_panic(expected = "is written to, and can be seen")]
    fn a_write_to_what_can_be_seen_is_wrong() {
        watch(&[HEAD, SYNC, NAME, "1 pwrite64(6</r/f>, \"x\", 1, 0) = 1\n", SYNC_DIR, SAY]);
    }
}
