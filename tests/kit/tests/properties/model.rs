//! A server with a store in memory behaves like a map of names.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use skiff_kit::memory::{Layout, MemoryStore};
use skiff_kit::sans_io::{BUF, Connection, Pace, message, payloads};
use skiff_kit::vector::Pattern;
use skiff_proto::ErrorCode;
use skiff_proto::cipher::{Cipher, Plain};
use skiff_proto::crc::crc32c;
use skiff_proto::server::{Close, Limits};

use super::{PLAIN, any_pace, cases, send_cut};

const NAMES: [&str; 11] = ["a", "b", "a b", "olá", "d", "d/x", "d/y", "d/e", "d/e/f", "a/z", "../a"];

/// An operation of a client.
#[derive(Debug, Clone)]
enum Operation {
    Write {
        name: &'static str,
        mtime: Option<u64>,
        content: Vec<u8>,
        begin: Begin,
        pieces: Vec<usize>,
        trailer: Trailer,
        cut: Option<Index>,
    },
    Resume {
        name: &'static str,
        size: u64,
    },
    Read {
        name: &'static str,
        offset: u64,
        length: Option<u64>,
    },
    Sum {
        name: &'static str,
        offset: u64,
        length: Option<u64>,
    },
    Stat(&'static str),
    List(Option<&'static str>),
    Tree(Option<&'static str>),
    Remove(&'static str),
    Rename(&'static str, &'static str),
    Copy(&'static str, &'static str),
    Mkdir(&'static str),
    Rmdir(&'static str),
    Ping,
    KeepAlive,
    Nonsense,
    Reconnect,
}

/// Where a write begins.
#[derive(Debug, Clone, Copy)]
enum Begin {
    /// At 0.
    Start,
    /// Where the interrupted one ended.
    Staged,
    /// Somewhere.
    At(u64),
}

/// How a body ends.
#[derive(Debug, Clone, Copy)]
enum Trailer {
    Right,
    WrongCrc,
    /// One byte less than was announced.
    Short,
    /// One byte more.
    Long,
    Abort(ErrorCode),
    Malformed,
    NoCrc,
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let name = || select(NAMES.to_vec());
    let content = vec(prop_oneof![Just(b'x'), any::<u8>()], 0..20);
    let begin = prop_oneof![3 => Just(Begin::Start), 3 => Just(Begin::Staged), 1 => (0..12u64).prop_map(Begin::At)];
    let trailer = prop_oneof![
        8 => Just(Trailer::Right),
        1 => Just(Trailer::WrongCrc),
        1 => Just(Trailer::Short),
        1 => Just(Trailer::Long),
        1 => select(ErrorCode::ALL.to_vec()).prop_map(Trailer::Abort),
        1 => Just(Trailer::Malformed),
        1 => Just(Trailer::NoCrc),
    ];
    let cut = prop_oneof![2 => Just(None), 1 => any::<Index>().prop_map(Some)];
    let mtime = proptest::option::of(0..2_000_000_000u64);
    let length = || proptest::option::of(0..20u64);
    prop_oneof![
        8 => (name(), mtime, content, begin, vec(1..9usize, 1..4), trailer, cut).prop_map(
            |(name, mtime, content, begin, pieces, trailer, cut)| {
                Operation::Write { name, mtime, content, begin, pieces, trailer, cut }
            }
        ),
        2 => (name(), 0..20u64).prop_map(|(name, size)| Operation::Resume { name, size }),
        4 => (name(), 0..20u64, length()).prop_map(|(name, offset, length)| Operation::Read { name, offset, length }),
        2 => (name(), 0..20u64, length()).prop_map(|(name, offset, length)| Operation::Sum { name, offset, length }),
        2 => name().prop_map(Operation::Stat),
        2 => proptest::option::of(name()).prop_map(Operation::List),
        2 => proptest::option::of(name()).prop_map(Operation::Tree),
        2 => name().prop_map(Operation::Remove),
        3 => (name(), name()).prop_map(|(from, to)| Operation::Rename(from, to)),
        2 => (name(), name()).prop_map(|(from, to)| Operation::Copy(from, to)),
        1 => name().prop_map(Operation::Mkdir),
        1 => name().prop_map(Operation::Rmdir),
        1 => Just(Operation::Ping),
        1 => Just(Operation::KeepAlive),
        1 => Just(Operation::Nonsense),
        1 => Just(Operation::Reconnect),
    ]
}

/// A file of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    content: Vec<u8>,
    mtime: Option<u64>,
}

/// Section 7 of the protocol, as short as possible.
#[derive(Debug, Default)]
struct Model {
    files: BTreeMap<String, File>,
    directories: BTreeSet<String>,
    staged: BTreeMap<&'static str, Vec<u8>>,
}

/// What a client expects to read.
#[derive(Debug)]
enum Expected {
    Reply(String),
    Error(ErrorCode),
    /// A reply and a body.
    Read {
        reply: String,
        content: Vec<u8>,
        whole: Vec<u8>,
    },
    List(BTreeSet<String>),
}

type Judged<T> = Result<T, ErrorCode>;

fn ancestors(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(move |(at, _)| &name[..at])
}

impl Model {
    fn check_name(name: &str) -> Judged<()> {
        if name.starts_with("..") { Err(ErrorCode::BadName) } else { Ok(()) }
    }

    fn find(&self, name: &'static str) -> Judged<&File> {
        Self::check_name(name)?;
        if self.directories.contains(name) {
            return Err(ErrorCode::IsDirectory);
        }
        self.files.get(name).ok_or(ErrorCode::NotFound)
    }

    fn check_target(&self, name: &'static str) -> Judged<()> {
        Self::check_name(name)?;
        if self.directories.contains(name) {
            return Err(ErrorCode::IsDirectory);
        }
        if ancestors(name).any(|parent| self.files.contains_key(parent)) { Err(ErrorCode::Exists) } else { Ok(()) }
    }

    fn insert(&mut self, name: &'static str, file: File) {
        self.directories.extend(ancestors(name).map(str::to_owned));
        self.files.insert(name.to_owned(), file);
    }

    fn staged(&self, name: &str) -> &[u8] {
        self.staged.get(name).map_or(&[], Vec::as_slice)
    }

    /// The bytes of a file's range.
    fn range(&self, name: &'static str, offset: u64, length: Option<u64>) -> Judged<(Vec<u8>, Vec<u8>)> {
        let content = &self.find(name)?.content;
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).ok_or(ErrorCode::Range)?;
        let length = length
            .map_or(rest.len(), |length| usize::try_from(length).map_or(rest.len(), |length| rest.len().min(length)));
        Ok((rest[..length].to_vec(), content.clone()))
    }

    fn rename(&mut self, from: &'static str, to: &'static str) -> Judged<()> {
        Self::check_name(from)?;
        Self::check_name(to)?;
        if self.directories.contains(from) {
            return self.rename_directory(from, to);
        }
        self.find(from)?;
        self.check_target(to)?;
        if let Some(file) = self.files.remove(from) {
            self.insert(to, file);
        }
        Ok(())
    }

    /// All of it, and never over anything.
    fn rename_directory(&mut self, from: &'static str, to: &'static str) -> Judged<()> {
        let inside = format!("{from}/");
        if to.starts_with(&inside) {
            return Err(ErrorCode::IsDirectory);
        }
        self.check_target(to)?;
        if self.files.contains_key(to) {
            return Err(ErrorCode::Exists);
        }
        let moved = |name: &str| name.strip_prefix(&inside).map(|rest| format!("{to}/{rest}"));
        let files = core::mem::take(&mut self.files);
        self.files = files.into_iter().map(|(name, file)| (moved(&name).unwrap_or(name), file)).collect();
        self.directories.remove(from);
        let directories = core::mem::take(&mut self.directories);
        self.directories = directories.into_iter().map(|name| moved(&name).unwrap_or(name)).collect();
        self.directories.extend(ancestors(to).map(str::to_owned).chain([to.to_owned()]));
        Ok(())
    }

    fn remove(&mut self, name: &'static str) -> Judged<()> {
        self.find(name)?;
        self.files.remove(name);
        Ok(())
    }

    fn mkdir(&mut self, name: &'static str) -> Judged<()> {
        Self::check_name(name)?;
        if self.files.contains_key(name) || self.directories.contains(name) {
            return Err(ErrorCode::Exists);
        }
        if ancestors(name).any(|parent| self.files.contains_key(parent)) {
            return Err(ErrorCode::Exists);
        }
        if ancestors(name).any(|parent| !self.directories.contains(parent)) {
            return Err(ErrorCode::NotFound);
        }
        self.directories.insert(name.into());
        Ok(())
    }

    fn rmdir(&mut self, name: &'static str) -> Judged<()> {
        Self::check_name(name)?;
        if !self.directories.contains(name) {
            return Err(ErrorCode::NotFound);
        }
        let inside = format!("{name}/");
        let mut names = self.files.keys().chain(&self.directories);
        if names.any(|name| name.starts_with(&inside)) {
            return Err(ErrorCode::NotEmpty);
        }
        self.directories.remove(name);
        Ok(())
    }

    fn copy(&mut self, from: &'static str, to: &'static str) -> Judged<String> {
        Self::check_name(from)?;
        Self::check_name(to)?;
        let file = self.find(from)?.clone();
        let reply = format!("ok {} {:08x}", file.content.len(), crc32c(&file.content));
        if from != to {
            self.check_target(to)?;
            self.staged.remove(to);
            self.insert(to, file);
        }
        Ok(reply)
    }

    fn list(&self, directory: Option<&'static str>, whole: bool) -> Judged<BTreeSet<String>> {
        if let Some(directory) = directory {
            Self::check_name(directory)?;
            if !self.directories.contains(directory) {
                return Err(ErrorCode::NotFound);
            }
        }
        let is_inside = |name: &str| match directory {
            Some(directory) if whole => name.starts_with(&format!("{directory}/")),
            None if whole => true,
            directory => name.rsplit_once('/').map(|(parent, _)| parent) == directory,
        };
        let files = self.files.iter().filter(|(name, _)| is_inside(name)).map(|(name, file)| {
            format!("{} {} {:08x} {name}\n", file.content.len(), number(file.mtime), crc32c(&file.content))
        });
        let directories = self.directories.iter().filter(|name| is_inside(name)).map(|name| format!("0 - - {name}/\n"));
        Ok(files.chain(directories).collect())
    }
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}

/// The bytes sent over one connection, and the expected replies.
#[derive(Debug, Default)]
struct Exchange {
    sent: Vec<u8>,
    expected: Vec<Expected>,
}

/// A conversation over several connections, each of them ended by the client.
#[derive(Debug, Default)]
struct Script {
    /// Connections end behind a whole message: no part of an incomplete record is taken.
    is_sealed: bool,
    model: Model,
    exchanges: Vec<Exchange>,
    open: Exchange,
}

impl Script {
    fn new(operations: Vec<Operation>, is_sealed: bool) -> Self {
        let mut script = Self { is_sealed, ..Self::default() };
        for operation in operations {
            script.add(operation);
        }
        script.reconnect();
        script
    }

    fn reconnect(&mut self) {
        self.exchanges.push(core::mem::take(&mut self.open));
    }

    fn ask(&mut self, command: String, expected: Judged<Expected>) {
        self.open.sent.extend(message(command));
        self.open.expected.push(expected.unwrap_or_else(Expected::Error));
    }

    fn add(&mut self, operation: Operation) {
        let ok = |()| Expected::Reply("ok".into());
        match operation {
            Operation::Write { name, mtime, content, begin, pieces, trailer, cut } => {
                self.write(name, mtime, &content, begin, &pieces, trailer, cut);
            }
            Operation::Resume { name, size } => {
                let staged =
                    Some(self.model.staged(name)).filter(|staged| staged.len() as u64 <= size).unwrap_or_default();
                let reply = Expected::Reply(format!("ok {} {:08x}", staged.len(), crc32c(staged)));
                let outcome = self.model.check_target(name).map(|()| reply);
                self.ask(format!("resume {size} {name}"), outcome);
            }
            Operation::Read { name, offset, length } => {
                let outcome = self.model.range(name, offset, length).map(|(content, whole)| {
                    let reply = format!("ok {} {} <tag>", content.len(), whole.len());
                    Expected::Read { reply, content, whole }
                });
                self.ask(format!("read {offset} {} {name}", number(length).replace('-', "*")), outcome);
            }
            Operation::Sum { name, offset, length } => {
                let outcome = self.model.range(name, offset, length);
                let outcome = outcome
                    .map(|(content, _)| Expected::Reply(format!("ok {} {:08x}", content.len(), crc32c(&content))));
                self.ask(format!("sum {offset} {} {name}", number(length).replace('-', "*")), outcome);
            }
            Operation::Stat(name) => {
                let outcome = self.model.find(name).map(|file| {
                    let size = file.content.len();
                    Expected::Reply(format!("ok {size} {} {:08x}", number(file.mtime), crc32c(&file.content)))
                });
                self.ask(format!("stat {name}"), outcome);
            }
            Operation::List(directory) => {
                let outcome = self.model.list(directory, false).map(Expected::List);
                self.ask(directory.map_or_else(|| "list".into(), |directory| format!("list {directory}")), outcome);
            }
            Operation::Tree(directory) => {
                let outcome = self.model.list(directory, true).map(Expected::List);
                self.ask(directory.map_or_else(|| "tree".into(), |directory| format!("tree {directory}")), outcome);
            }
            Operation::Remove(name) => {
                let outcome = self.model.remove(name).map(ok);
                self.ask(format!("remove {name}"), outcome);
            }
            Operation::Rename(from, to) => {
                let outcome = self.model.rename(from, to).map(ok);
                self.ask(format!("rename {from}\n{to}"), outcome);
            }
            Operation::Copy(from, to) => {
                let outcome = self.model.copy(from, to).map(Expected::Reply);
                self.ask(format!("copy {from}\n{to}"), outcome);
            }
            Operation::Mkdir(name) => {
                let outcome = self.model.mkdir(name).map(ok);
                self.ask(format!("mkdir {name}"), outcome);
            }
            Operation::Rmdir(name) => {
                let outcome = self.model.rmdir(name).map(ok);
                self.ask(format!("rmdir {name}"), outcome);
            }
            Operation::Ping => self.ask("ping".into(), Ok(ok(()))),
            Operation::KeepAlive => self.open.sent.extend(message("")),
            Operation::Nonsense => self.ask("nonsense".into(), Err(ErrorCode::BadCommand)),
            Operation::Reconnect => self.reconnect(),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one operation")]
    fn write(
        &mut self,
        name: &'static str,
        mtime: Option<u64>,
        content: &[u8],
        begin: Begin,
        pieces: &[usize],
        trailer: Trailer,
        cut: Option<Index>,
    ) {
        let size = content.len() as u64;
        let before = self.model.staged(name).to_vec();
        let offset = match begin {
            Begin::Start => 0,
            Begin::Staged => before.len() as u64,
            Begin::At(offset) => offset,
        };
        // What a client that resumes sends, if it can.
        let rest = content.get(usize::try_from(offset).unwrap_or(usize::MAX)..).unwrap_or_default();
        let mut sent = rest.to_vec();
        match trailer {
            Trailer::Short => _ = sent.pop(),
            Trailer::Long => sent.push(b'+'),
            _ => {}
        }
        let base = if offset == 0 { &[][..] } else { &before };
        let crc = crc32c(&[base, &sent].concat());

        let mut boundaries = vec![0];
        let command = message(format!("write {offset} {size} {} {name}", number(mtime)));
        let mut wire = command.clone();
        // For each byte of the wire, how many bytes of the body precede it.
        let mut payload: Vec<usize> = vec![0; wire.len()];
        boundaries.push(wire.len());
        let mut done = 0;
        for &piece in pieces.iter().cycle() {
            if done == sent.len() {
                break;
            }
            let piece = piece.min(sent.len() - done);
            wire.extend(message(&sent[done..done + piece]));
            payload.extend([done; 10]);
            boundaries.push(wire.len());
            payload.extend(done..done + piece);
            done += piece;
        }
        let trailer_text = match trailer {
            Trailer::Right | Trailer::Short | Trailer::Long => format!("crc32c {crc:08x}"),
            Trailer::WrongCrc => format!("crc32c {:08x}", !crc),
            Trailer::Abort(code) => format!("abort {code} because"),
            Trailer::Malformed => "crc32c".into(),
            Trailer::NoCrc => "crc32c -".into(),
        };
        wire.extend(message(""));
        boundaries.push(wire.len());
        wire.extend(message(trailer_text));
        payload.resize(wire.len(), done);
        let mut end = cut.map_or(wire.len(), |cut| cut.index(wire.len()));
        if self.is_sealed && end < wire.len() {
            end = boundaries.into_iter().rfind(|&boundary| boundary <= end).unwrap_or(0);
        }
        self.open.sent.extend(&wire[..end]);
        if end < command.len() {
            return self.reconnect();
        }

        let staged_len = before.len() as u64;
        let refused = self.model.check_target(name).err().or_else(|| {
            let mismatch = offset > 0 && offset != staged_len;
            (offset > size).then_some(ErrorCode::Range).or_else(|| mismatch.then_some(ErrorCode::Mismatch))
        });
        if let Some(code) = refused {
            self.open.expected.push(Expected::Error(code));
            if end < wire.len() {
                self.reconnect();
            }
            return;
        }
        if end < wire.len() {
            let arrived = payload[end].min(rest.len());
            let staged = [base, &sent[..arrived]].concat();
            self.model.staged.remove(name);
            if !staged.is_empty() {
                self.model.staged.insert(name, staged);
            }
            return self.reconnect();
        }
        self.model.staged.remove(name);
        let code = match trailer {
            Trailer::Right => None,
            Trailer::Abort(code) => Some(code),
            Trailer::NoCrc => Some(ErrorCode::Unsupported),
            // An empty rest has no byte to omit.
            Trailer::Short if rest.is_empty() => None,
            _ => Some(ErrorCode::Mismatch),
        };
        self.open.expected.push(match code {
            Some(code) => Expected::Error(code),
            None => {
                let content = [base, &sent].concat();
                self.model.insert(name, File { content, mtime });
                Expected::Reply(format!("ok {size} {crc:08x}"))
            }
        });
    }

    /// Holds the conversation; returns the replies of each connection.
    fn run(&self, store: &MemoryStore, pace: Pace, cuts: &[usize]) -> Vec<Vec<u8>> {
        self.run_over::<Plain>(|| Connection::new(Limits::new(255), store.clone(), pace), cuts)
    }

    fn run_over<C: Cipher>(&self, connect: impl Fn() -> Connection<BUF, C>, cuts: &[usize]) -> Vec<Vec<u8>> {
        let outputs = self.exchanges.iter().map(|exchange| {
            let mut connection = connect();
            send_cut(&mut connection, &exchange.sent, cuts);
            connection.close();
            assert_eq!(connection.end(), Some(Close::Gracefully));
            connection.take_output()
        });
        outputs.collect()
    }
}

/// Compares the replies with the expected ones.
fn check(expected: &[Expected], output: &[u8], tags: &mut HashMap<String, Vec<u8>>) -> Result<(), TestCaseError> {
    let payloads = payloads(output).map_err(|problem| TestCaseError::fail(problem.to_string()))?;
    let mut payloads = payloads.into_iter();
    for expected in expected {
        let mut next = || payloads.next().ok_or(TestCaseError::fail(format!("nothing came for {expected:?}")));
        let reply = next()?;
        let pattern = match expected {
            Expected::Reply(reply) | Expected::Read { reply, .. } => reply.clone(),
            Expected::Error(code) => format!("error {code} <text>"),
            Expected::List(_) => "ok".into(),
        };
        if let Err(problem) = Pattern::payload(&pattern).check(&message(reply)) {
            return Err(TestCaseError::fail(problem.to_string()));
        }
        let mut next_body = || -> Result<Vec<u8>, TestCaseError> {
            let mut body = Vec::new();
            loop {
                match next()? {
                    b"" => break,
                    data => body.extend(data),
                }
            }
            prop_assert_eq!(String::from_utf8_lossy(next()?), format!("crc32c {:08x}", crc32c(&body)));
            Ok(body)
        };
        match expected {
            Expected::Read { content, whole, .. } => {
                prop_assert_eq!(&next_body()?, content);
                // A tag stands for one content.
                let tag = String::from_utf8_lossy(reply).rsplit(' ').next().unwrap_or_default().to_owned();
                prop_assert_eq!(tags.entry(tag).or_insert_with(|| whole.clone()), whole);
            }
            Expected::List(lines) => {
                let body = String::from_utf8(next_body()?).map_err(|error| TestCaseError::fail(error.to_string()))?;
                let got: BTreeSet<String> = body.split_inclusive('\n').map(str::to_owned).collect();
                prop_assert_eq!(&got, lines);
            }
            Expected::Reply(_) | Expected::Error(_) => {}
        }
    }
    prop_assert_eq!(payloads.next(), None, "more came than was asked for");
    Ok(())
}

/// Compares the replies, and the content of the store afterwards.
fn check_all(script: &Script, outputs: &[Vec<u8>], store: &MemoryStore) -> Result<(), TestCaseError> {
    let mut tags = HashMap::new();
    for (exchange, output) in script.exchanges.iter().zip(outputs) {
        check(&exchange.expected, output, &mut tags)?;
    }
    let model = &script.model;
    let files: BTreeMap<String, Vec<u8>> =
        model.files.iter().map(|(name, file)| (name.clone(), file.content.clone())).collect();
    prop_assert_eq!(store.files(), files);
    prop_assert_eq!(&store.directories(), &model.directories);
    for name in NAMES {
        prop_assert_eq!(store.staged_bytes(name), model.staged.get(name).cloned(), "{}", name);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(1500))]

    #[test]
    fn a_server_answers_like_the_model_however_its_input_is_cut(
        operations in vec(any_operation(), 0..40),
        (pace, cuts) in any_pace(),
    ) {
        let script = Script::new(operations, false);
        let store = MemoryStore::new(Layout::Tree);
        let outputs = script.run(&store, PLAIN, &[100_000]);
        check_all(&script, &outputs, &store)?;
        let other = MemoryStore::new(Layout::Tree);
        prop_assert_eq!(script.run(&other, pace, &cuts), outputs);
        prop_assert_eq!(other.files(), store.files());
    }
}

// A handshake costs as much as a hundred conversations.
proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn a_server_answers_like_the_model_over_sealed_connections(
        operations in vec(any_operation(), 0..20),
        (pace, cuts) in any_pace(),
        segment in prop_oneof![1..60usize, Just(usize::MAX)],
    ) {
        let script = Script::new(operations, true);
        let store = MemoryStore::new(Layout::Tree);
        let connect = || Connection::sealed(Limits::new(255), store.clone(), pace, segment);
        let outputs = script.run_over(connect, &cuts);
        check_all(&script, &outputs, &store)?;
    }
}
