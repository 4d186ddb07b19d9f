//! Files made by code, over the device's store in memory.

use core::cell::{Cell, RefCell};
use core::fmt::Write as _;

use skiff_device::overlay::{Log, Overlay, Page, Setting, Virtual};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_proto::ErrorCode::{self, Changed, Denied, Exists, Io, Mismatch, NoSpace, NotFound, Range};
use skiff_proto::Name;
use skiff_proto::crc::crc32c;
use skiff_proto::identity::NOBODY;
use skiff_proto::store::{self, Staging, Store, StoreError, Sum};

fn n(name: &str) -> Name<'_> {
    Name::parse(name.as_bytes(), 64).expect("a name")
}

fn code<T>(result: store::Result<T>) -> Result<T, ErrorCode> {
    result.map_err(StoreError::code)
}

fn get(store: &mut impl Store, name: &str) -> Result<String, ErrorCode> {
    let (mut file, stat) = code(store.open(n(name)))?;
    let (mut content, mut piece) = (Vec::new(), [0; 7]);
    while (content.len() as u64) < stat.size {
        let read = code(store.read_at(&mut file, content.len() as u64, &mut piece))?;
        assert!(read > 0);
        content.extend_from_slice(&piece[..read]);
    }
    assert_eq!(store.read_at(&mut file, stat.size, &mut piece), Ok(0));
    Ok(String::from_utf8(content).expect("text"))
}

fn put(store: &mut impl Store, name: &str, content: &[u8]) -> Result<(), ErrorCode> {
    let (mut stage, _) = code(store.stage(Staging::new(n(name), content.len() as u64)))?;
    for piece in content.chunks(3) {
        assert_eq!(code(store.append(&mut stage, piece))?, piece.len());
    }
    code(store.commit(&mut stage, None))
}

fn list(store: &mut impl Store) -> Vec<String> {
    let mut cursor = store.list(None).expect("a listing");
    let mut names = Vec::new();
    while store.next_entry(&mut cursor, &mut |entry| names.push(entry.name.as_str().to_owned())).expect("an entry") {}
    names
}

type Ram = RamStore<'static, 64, 256>;

fn ram() -> Ram {
    RamStore::new(Box::leak(Box::new(RamMemory::<8, 64, 16, 256>::new())), 7)
}

#[test]
fn a_page_is_made_again_for_each_client_that_opens_it() {
    let count = Cell::new(0);
    let mut page = Page::<32, _>::new(|page| {
        count.set(count.get() + 1);
        writeln!(page, "opened {}", count.get())
    });
    let mut table = [Virtual::new("status", &mut page)];
    let mut store = Overlay::new(ram(), &mut table, 1);
    assert_eq!(get(&mut store, "status").as_deref(), Ok("opened 1\n"));
    assert_eq!(get(&mut store, "status").as_deref(), Ok("opened 2\n"));
    // A reader of the content before gets `changed`, and the tags differ.
    let (mut file, _) = store.open(n("status")).expect("a page");
    let first = store.tag(&file);
    let (second, _) = store.open(n("status")).expect("a page");
    assert_ne!(first, store.tag(&second));
    assert_eq!(code(store.read_at(&mut file, 0, &mut [0; 8])), Err(Changed));
    assert_eq!(put(&mut store, "status", b"x"), Err(Denied));
}

#[test]
fn what_does_not_fit_in_a_page_is_left_out_and_a_page_that_fails_is_an_error() {
    let mut long = Page::<8, _>::new(|page| page.write_str("0123456789"));
    let mut failing = Page::<8, _>::new(|_| Err(core::fmt::Error));
    let mut table = [Virtual::new("long", &mut long), Virtual::new("failing", &mut failing)];
    let mut store = Overlay::new(ram(), &mut table, 1);
    assert_eq!(get(&mut store, "long").as_deref(), Ok("01234567"));
    assert_eq!(get(&mut store, "failing"), Err(Io));
    assert_eq!(store.stat(n("failing")).map(|stat| stat.size), Ok(0));
}

#[test]
fn a_log_keeps_whole_lines_and_reports_dropped_ones_to_a_reader() {
    let log = RefCell::new(Log::<64>::new());
    let mut shared = &log;
    let mut table = [Virtual::new("log", &mut shared)];
    let mut store = Overlay::new(ram(), &mut table, 1);
    let line = |at: u32| _ = writeln!(log.borrow_mut(), "line {at}");
    (0..8).for_each(line);
    let eight: String = (0..8).map(|at| format!("line {at}\n")).collect();
    assert_eq!(get(&mut store, "log").as_deref(), Ok(&*eight));
    let (mut file, stat) = store.open(n("log")).expect("the log");
    // 56 bytes are full enough for the next but one: the older half is dropped, up to the end of a line.
    (8..10).for_each(line);
    let left = get(&mut store, "log").expect("the log");
    assert_eq!(left, "line 5\nline 6\nline 7\nline 8\nline 9\n");
    // A reader that was opened before still gets the part that is left; it does not get later lines.
    let mut piece = [0; 64];
    assert_eq!(code(store.read_at(&mut file, 0, &mut piece)), Err(Changed));
    assert_eq!(store.read_at(&mut file, 49, &mut piece), Ok(7));
    assert_eq!((&piece[..7], stat.size), (&b"line 7\n"[..], 56));
    // Of a line longer than half of the log, the end.
    log.borrow_mut().push(&[b'x'; 200]);
    assert!(get(&mut store, "log").is_ok_and(|log| log.ends_with(&"x".repeat(32)) && log.len() <= 64));
}

#[test]
fn a_log_of_any_size_takes_lines_of_any_length() {
    let mut log = Log::<37>::new();
    for len in (0..100).chain((0..100).rev()) {
        log.push(&vec![b'a'; len]);
        log.push(b"\n");
        let mut table = [Virtual::new("log", &mut log)];
        let content = get(&mut Overlay::new(ram(), &mut table, 1), "log").expect("the log");
        assert!(content.ends_with('\n') && content.len() <= 37);
    }
}

#[test]
fn a_setting_is_what_was_written_last_unless_that_was_refused() {
    let seconds = Cell::new(10_u32);
    let mut setting = Setting::<8, _>::new("10", |value| {
        let value = str::from_utf8(value).ok().and_then(|value| value.trim().parse().ok());
        seconds.set(value.ok_or(Denied)?);
        Ok(())
    });
    let mut table = [Virtual::new("interval", &mut setting)];
    let mut store = Overlay::new(ram(), &mut table, 1);
    assert_eq!(get(&mut store, "interval").as_deref(), Ok("10"));
    let (mut before, _) = store.open(n("interval")).expect("the setting");
    assert_eq!(put(&mut store, "interval", b"250\n"), Ok(()));
    assert_eq!((get(&mut store, "interval").as_deref(), seconds.get()), (Ok("250\n"), 250));
    assert_eq!(code(store.read_at(&mut before, 0, &mut [0; 8])), Err(Changed));
    for (wrong, answer) in [(&b"soon"[..], Denied), (b"", Denied), (b"123456789", NoSpace)] {
        assert_eq!(put(&mut store, "interval", wrong), Err(answer));
    }
    assert_eq!((get(&mut store, "interval").as_deref(), seconds.get()), (Ok("250\n"), 250));
}

#[test]
fn a_command_is_carried_out_once_it_is_whole_and_can_not_be_read() {
    let restarts = Cell::new(0);
    let mut reboot = Setting::<8, _>::write_only(|_| {
        restarts.set(restarts.get() + 1);
        Ok(())
    });
    let mut table = [Virtual::new("reboot", &mut reboot)];
    let mut store = Overlay::new(ram(), &mut table, 1);
    let (mut stage, crc) = store.stage(Staging::new(n("reboot"), 3)).expect("a stage");
    assert_eq!((store.append(&mut stage, b"now"), crc, restarts.get()), (Ok(3), 0, 0));
    // A connection that is lost, and the next one.
    drop(stage);
    assert_eq!(store.staged(n("reboot"), NOBODY, 3), Ok((0, 0)));
    assert_eq!((put(&mut store, "reboot", b"now"), restarts.get()), (Ok(()), 1));
    assert_eq!((put(&mut store, "reboot", b""), restarts.get()), (Ok(()), 2));
    assert_eq!(get(&mut store, "reboot"), Err(Denied));
    assert_eq!(store.stat(n("reboot")).map(|stat| stat.size), Ok(0));
}

#[test]
fn of_two_writers_of_a_name_the_later_one_continues() {
    let last = RefCell::new(Vec::new());
    let mut command = Setting::<8, _>::write_only(|bytes| {
        *last.borrow_mut() = bytes.to_vec();
        Ok(())
    });
    let mut table = [Virtual::new("command", &mut command)];
    let mut store = Overlay::new(ram(), &mut table, 1);
    let (mut first, _) = store.stage(Staging::new(n("command"), 2)).expect("a stage");
    assert_eq!(store.append(&mut first, b"a"), Ok(1));
    let (mut second, _) = store.stage(Staging::new(n("command"), 2)).expect("a stage");
    assert_eq!(store.append(&mut second, b"b"), Ok(1));
    assert_eq!(code(store.append(&mut first, b"a")), Err(Io));
    assert_eq!(code(store.commit(&mut first, None)), Err(Io));
    assert_eq!(store.append(&mut second, b"b"), Ok(1));
    assert_eq!(store.commit(&mut second, None), Ok(()));
    assert_eq!(*last.borrow(), b"bb");
}

#[test]
fn names_of_the_table_hide_files_and_are_neither_renamed_nor_removed() {
    let mut inner = ram();
    for name in ["a", "status", "z"] {
        assert_eq!(put(&mut inner, name, b"of the store"), Ok(()));
    }
    let mut page = Page::<8, _>::new(|page| page.write_str("page"));
    let mut table = [Virtual::new("status", &mut page)];
    let mut store = Overlay::new(inner, &mut table, 1);
    assert_eq!(list(&mut store), ["status", "a", "z"]);
    assert_eq!(get(&mut store, "status").as_deref(), Ok("page"));
    assert_eq!(get(&mut store, "a").as_deref(), Ok("of the store"));
    assert_eq!(code(store.remove(n("status"))), Err(Denied));
    for (from, to) in [("status", "b"), ("a", "status")] {
        assert_eq!(code(store.rename(n(from), n(to))), Err(Denied));
    }
    assert_eq!(get(&mut store, "nothing"), Err(NotFound));
    // The name exists for a classic put, too.
    let mut stage = store.stage_new(n("status"), 0).expect("a stage");
    assert_eq!(code(store.commit_new(&mut stage, n("status"))), Err(Exists));
    assert_eq!(store.commit_new(&mut stage, n("status1")), Ok(()));
    assert_eq!(list(&mut store), ["status", "a", "z", "status1"]);
    // A table refuses a write at an offset.
    assert_eq!(code(store.stage(Staging::new(n("status"), 8).at(9)).map(drop)), Err(Range));
    assert_eq!(code(store.stage(Staging::new(n("status"), 8).at(1)).map(drop)), Err(Mismatch));
}

#[test]
fn the_checksum_of_a_part_of_a_page_is_that_of_its_bytes() {
    let text = "0123456789".repeat(20);
    let mut page = Page::<200, _>::new(|page| page.write_str(&text));
    let mut table = [Virtual::new("page", &mut page)];
    let mut store = Overlay::new(ram(), &mut table, 1);
    let (mut file, stat) = store.open(n("page")).expect("a page");
    assert_eq!(stat.size, 200);
    let mut sum = Sum::new(10, 150);
    assert_eq!(store.sum(&mut file, &mut sum), Ok(true));
    assert_eq!(sum.crc(), crc32c(&text.as_bytes()[10..160]));
}

#[test]
#[should_panic(expected = "the names of the table")]
fn a_name_stands_in_the_table_once() {
    let (mut first, mut second) = (Log::<8>::new(), Log::<8>::new());
    let mut table = [Virtual::new("log", &mut first), Virtual::new("log", &mut second)];
    _ = Overlay::new(ram(), &mut table, 1);
}
