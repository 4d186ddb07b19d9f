//! Checks whether a reply is right.

use skiff_proto::ErrorCode;
use skiff_proto::client::{BodyError, ClientEvent};
use skiff_proto::crc::crc32c;
use skiff_proto::reply::{RemoteError, Tag, parse_list_line};
use skiff_proto::store::{EntryKind, Stat};

use super::control::Control;
use super::op::{Fate, Op};
use super::truth::{Moment, Truth, Version, n};

/// A command whose reply has not come, or not all of it.
#[derive(Debug)]
pub struct Asked {
    /// The command.
    pub op: Op,
    /// Its number on the connection.
    pub number: u64,
    /// Its client may change files.
    pub may_write: bool,
    /// When it was sent.
    pub since: Moment,
    /// The number of changes that were made before.
    pub changes: u64,
    /// The number of its wish.
    pub wish: Option<u64>,
    /// LENGTH, SIZE and TAG of a `read` whose body is being received.
    pub head: Option<(u64, u64, Tag)>,
    /// The part of the body received so far.
    pub body: Vec<u8>,
}

/// What follows a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing: it is complete.
    Complete,
    /// The same, and it was a refusal.
    Refused,
    /// Its body.
    Body,
    /// A data connection to this port.
    Transfer(u16),
}

/// Compares a reply with the truth.
///
/// # Panics
/// If it is wrong.
pub fn judge(asked: &mut Asked, event: &ClientEvent<'_>, control: &Control) -> Next {
    let mut truth = control.truth.borrow_mut();
    let Asked { op, since, .. } = &*asked;
    let since = *since;
    let may_write = asked.may_write;
    let wrong = |why: &str| -> ! { panic!("{op:?} is answered {event:?}: {why}") };
    match (op, event) {
        (_, ClientEvent::Refused(error)) if error.code == Some(ErrorCode::Denied) => {
            if may_write || !op.needs_write() {
                wrong("it is allowed");
            }
            if let Some(wish) = asked.wish.take() {
                truth.wishes.refused(wish);
            }
            return Next::Refused;
        }
        (_, ClientEvent::Refused(error)) => {
            check_refusal(op, since, error, &truth, control);
            if let Some(wish) = asked.wish.take() {
                truth.wishes.refused(wish);
            }
            return Next::Refused;
        }
        (Op::Get(_) | Op::Put { .. }, ClientEvent::ClassicRefused) => {
            let any = |name: &str| ErrorCode::ALL.iter().any(|&code| truth.was_refused(name, code, since));
            let bad = is_bad_name(op.name(), control);
            // After 30 s without a free data connection.
            let may_be_late = !control.plan.is_calm;
            let is_sealed = control.plan.is_sealed;
            if !bad && !any(op.name()) && !may_be_late && !is_sealed {
                wrong("there is no reason");
            }
            if let Some(wish) = asked.wish.take() {
                truth.wishes.refused(wish);
            }
            return Next::Refused;
        }
        _ if !may_write && op.needs_write() => wrong("it is not allowed"),
        (Op::Hello, ClientEvent::Hello(Some(hello))) if u64::from(hello.name_max) == control.plan.name_max() => {}
        (Op::Ping, ClientEvent::Done) => {}
        (Op::Remove(_) | Op::Rename { .. }, ClientEvent::Done) => {
            truth.wishes.granted(asked.wish.take().expect("it is a change"));
        }
        (Op::Copy { from, .. }, &ClientEvent::Stored { size, crc }) => {
            let is_it = |file: &Version| file.bytes.len() as u64 == size && crc.is_none_or(|crc| crc == file.crc);
            if !truth.was(from, since, |file| file.is_some_and(|file| is_it(file))) {
                wrong("so it never was");
            }
            if let Some(wish) = asked.wish.take() {
                truth.wishes.granted(wish);
            }
        }
        (Op::Space, ClientEvent::Space(space)) => {
            let total = truth.capacity.blocks * truth.capacity.payload;
            if space.total != total || space.free > total {
                wrong("so much there is not");
            }
        }
        (Op::Stat(name), ClientEvent::Stat(stat)) => {
            if !truth.was(name, since, |file| file.is_some_and(|file| is_stat(stat, file))) {
                wrong("so it never was");
            }
        }
        (&Op::Sum { ref name, offset, length }, &ClientEvent::Sum { length: summed, crc: Some(crc) }) => {
            let is_it = |file: &Version| {
                range(file, offset, length).is_some_and(|bytes| bytes.len() as u64 == summed && crc32c(bytes) == crc)
            };
            if !truth.was(name, since, |file| file.is_some_and(|file| is_it(file))) {
                wrong("so it never was");
            }
        }
        (Op::Resume { name, .. }, &ClientEvent::Resume { offset, crc: Some(crc) }) => {
            if !truth.was_staged(name, since, |len, sum| (len, sum) == (offset, crc)) {
                wrong("the store did not say so");
            }
        }
        (Op::Write { file, fate: Fate::Whole, .. }, ClientEvent::Stored { size, crc: Some(crc) }) => {
            if (*size, *crc) != (file.bytes.len() as u64, file.crc) {
                wrong("that is not the file");
            }
            truth.wishes.granted(asked.wish.take().expect("it is a change"));
        }
        (&Op::Read { ref name, offset, length: asked_for, .. }, &ClientEvent::Read { length, size, tag }) => {
            let is_it = |file: &Version| {
                let bytes = range(file, offset, asked_for);
                file.bytes.len() as u64 == size && bytes.is_some_and(|bytes| bytes.len() as u64 == length)
            };
            if !truth.was(name, since, |file| file.is_some_and(|file| is_it(file))) {
                wrong("so it never was");
            }
            asked.head = Some((length, size, tag));
            return Next::Body;
        }
        (Op::Ls, ClientEvent::Ls) if control.plan.is_sealed => wrong("it is not sealed"),
        (Op::List | Op::Tree | Op::Ls, ClientEvent::List { omitted: 0 } | ClientEvent::Ls) => return Next::Body,
        (Op::Read { .. }, ClientEvent::BodyEnd(Ok(Some(crc)))) => check_read(asked, *crc, &truth, control),
        (Op::List | Op::Tree, ClientEvent::BodyEnd(Ok(Some(_)))) => check_list(asked, &truth, control),
        (Op::Ls, ClientEvent::LsEnd) => {
            if let Some(error) = RemoteError::parse_reply(&asked.body) {
                check_refusal(op, since, &error, &truth, control);
                return Next::Refused;
            }
            check_ls(asked, &truth, control);
        }
        (Op::Read { .. } | Op::List | Op::Tree, ClientEvent::BodyEnd(Err(BodyError::Aborted(error)))) => {
            check_refusal(op, since, error, &truth, control);
            return Next::Refused;
        }
        (Op::Get(_) | Op::Put { .. }, ClientEvent::Port(port)) if !control.plan.is_sealed => {
            return Next::Transfer(*port);
        }
        _ => wrong("that is no answer"),
    }
    Next::Complete
}

/// The range of bytes of a `read` or `sum`.
fn range(file: &Version, offset: u64, length: Option<u64>) -> Option<&[u8]> {
    let rest = file.bytes.get(usize::try_from(offset).ok()?..)?;
    let len = length.map_or(rest.len(), |length| rest.len().min(usize::try_from(length).unwrap_or(usize::MAX)));
    Some(&rest[..len])
}

fn is_stat(stat: &Stat, file: &Version) -> bool {
    stat.size == file.bytes.len() as u64 && stat.mtime == file.mtime && stat.crc.is_none_or(|crc| crc == file.crc)
}

fn is_bad_name(name: &str, control: &Control) -> bool {
    name.contains('/') || name.len() as u64 > control.plan.name_max()
}

/// A refusal must come from the store, or from the session because of something that the client has done.
fn check_refusal(op: &Op, since: Moment, error: &RemoteError<'_>, truth: &Truth, control: &Control) {
    let Some(code) = error.code else { panic!("{op:?} is answered {error:?}: there is no such code") };
    let by_store = truth.was_refused(op.name(), code, since) || truth.was_refused("", code, since);
    let by_session = match (op, code) {
        (_, ErrorCode::Timeout) => !control.plan.is_calm,
        (Op::Mkdir(_) | Op::Rmdir(_), ErrorCode::Unsupported) => true,
        (Op::Ls, ErrorCode::Unsupported) => control.plan.is_sealed,
        (_, ErrorCode::BadName) => {
            is_bad_name(op.name(), control) || op.target().is_some_and(|to| is_bad_name(to, control))
        }
        (Op::ListDir(_) | Op::TreeDir(_), ErrorCode::NotFound) => true,
        (Op::Read { name, offset, .. } | Op::Sum { name, offset, .. }, ErrorCode::Range) => {
            truth.was(name, since, |file| file.is_some_and(|file| *offset > file.bytes.len() as u64))
        }
        (Op::Write { fate: Fate::Abort(_), .. }, ErrorCode::Cancelled) => true,
        (Op::Write { fate: Fate::WrongCrc, .. }, ErrorCode::Mismatch) => true,
        // Another client has staged as many other bytes since this one asked.
        (Op::Write { name, file, offset, .. }, ErrorCode::Mismatch) => {
            let before = range(file, 0, Some(*offset)).map(crc32c);
            truth.was_staged(name, since, |len, crc| len == *offset && Some(crc) != before)
        }
        (Op::Write { fate: Fate::NoCrc, .. }, ErrorCode::Unsupported) => true,
        _ => false,
    };
    let by_target = op.target().is_some_and(|to| truth.was_refused(to, code, since));
    assert!(by_store || by_session || by_target, "{op:?} is answered {error:?}: there is no reason");
    // PROTOCOL §7: the received bytes are not the file, and are not kept.
    if let Op::Write { name, fate, .. } = op
        && !by_store
        && matches!(code, ErrorCode::Cancelled | ErrorCode::Mismatch | ErrorCode::Unsupported)
    {
        assert!(truth.was_discarded(name, since), "{op:?} is answered {error:?}, and its bytes are kept ({fate:?})");
    }
}

fn check_read(asked: &Asked, crc: u32, truth: &Truth, control: &Control) {
    let Op::Read { name, offset, before, .. } = &asked.op else { return };
    let Some((length, size, tag)) = asked.head else { panic!("a body without its reply") };
    let body = &asked.body;
    assert!(body.len() as u64 == length && crc32c(body) == crc, "{:?}: {} bytes, {crc:08x}", asked.op, body.len());
    let is_it = |file: &Version| {
        let rest = usize::try_from(*offset).ok().and_then(|offset| file.bytes.get(offset..));
        file.bytes.len() as u64 == size && rest.is_some_and(|rest| rest.starts_with(body))
    };
    let was = truth.was(name, asked.since, |file| file.is_some_and(|file| is_it(file)));
    assert!(was, "{:?}: {} bytes {crc:08x} that were never there", asked.op, body.len());
    if let Some(before) = before.as_ref().filter(|before| (before.size, before.tag) == (size, tag) && tag.is_known()) {
        let whole = [&before.bytes[..], body].concat();
        let version = truth.of_tag(tag);
        let right = version.is_some_and(|version| version.bytes.starts_with(&whole));
        // A sender whose store fails fills the announced length with zeros (PROTOCOL §7). If the connection is lost
        // then, the client does not notice, so it compares the whole.
        let may_be_filled = control.failures.count.get() > 0 && before.bytes.ends_with(&[0]);
        assert!(
            right || may_be_filled,
            "{:?}: with the {} bytes before it is not {version:?}",
            asked.op,
            before.bytes.len()
        );
    }
}

fn check_list(asked: &Asked, truth: &Truth, control: &Control) {
    let mut names = Vec::new();
    for line in asked.body.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").expect("every line has its end");
        let text = String::from_utf8_lossy(line);
        let Ok(entry) = parse_list_line(line) else { panic!("a listing has the line {text}") };
        let EntryKind::File(stat) = entry.kind else { panic!("a listing has the directory {text}") };
        let name = entry.name.as_str();
        let was = truth.was(name, asked.since, |file| file.is_some_and(|file| is_stat(&stat, file)));
        assert!(was, "{text}: so it never was");
        names.push(name);
    }
    check_names(&names, asked, truth, control, |_| true, false);
}

fn check_ls(asked: &Asked, truth: &Truth, control: &Control) {
    let text = core::str::from_utf8(&asked.body).expect("names are text");
    let names: Vec<&str> = text.split('\n').filter(|name| !name.is_empty()).collect();
    for name in &names {
        assert!(truth.was(name, asked.since, |file| file.is_some()), "{name} is listed, and never was");
    }
    let is_classic = |name: &str| n(name).is_classic();
    // Its length is announced before the names are read again; a store that fails then can't report it.
    let has_changed = truth.changes != asked.changes || truth.was_refused("", ErrorCode::Io, asked.since);
    check_names(&names, asked, truth, control, is_classic, has_changed);
}

/// Every name that did not change must be listed once.
fn check_names(
    names: &[&str],
    asked: &Asked,
    truth: &Truth,
    control: &Control,
    is_shown: impl Fn(&str) -> bool,
    may_lack: bool,
) {
    for name in truth.names() {
        let times = names.iter().filter(|other| **other == name).count();
        let steady = truth.is_steady(name, asked.since);
        let expected = usize::from(truth.file(name).is_some() && is_shown(name) && !is_bad_name(name, control));
        let right = !steady || times == expected || (may_lack && times < expected);
        assert!(right, "{:?}: {name} is listed {times} times in {names:?}", asked.op);
    }
}
