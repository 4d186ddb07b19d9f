//! The responder between a session and a store, without I/O.

#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod drive_support;

use core::cell::{Cell, RefCell};
use core::task::Poll;

use drive_support::{BUF, NAME_MAX, body, content, message, messages, name, store};
use skiff_device::ram::{RamMemory, RamStore};
use skiff_kit::memory::{MemoryStore, Operation};
use skiff_proto::command::Verb;
use skiff_proto::crc::crc32c;
use skiff_proto::responder::{NoServices, Responder, Services, Step, list_room};
use skiff_proto::server::{Answer, Close, Limits, ServerSession};
use skiff_proto::store::{Stat, Store};
use skiff_proto::{ErrorCode, Instant, Name, Refusal};

struct Server<S: Store = MemoryStore> {
    session: ServerSession<BUF>,
    responder: Responder<S>,
    store: S,
    now: u64,
}

impl<S: Store + Clone> Server<S> {
    fn new(store: &S) -> Self {
        Self::with(store, 65_536)
    }

    /// A server that splits files into data messages of `data_max` bytes.
    fn with(store: &S, data_max: u32) -> Self {
        let session = ServerSession::new(Limits { data_max, ..Limits::new(NAME_MAX) });
        Self { session, responder: Responder::new(), store: store.clone(), now: 1 }
    }

    fn step(&mut self) -> Step {
        self.session.handle_timeout(Instant::from_millis(self.now));
        self.responder.step(&mut self.session, &mut self.store, &mut NoServices)
    }

    /// Steps until there is nothing to do; returns the number of steps.
    fn settle(&mut self) -> usize {
        (0..).find(|_| self.step() == Step::Idle).unwrap()
    }

    fn fill(&mut self, room: usize) -> Vec<u8> {
        let mut out = vec![0; room];
        let n = self.responder.transmit(&mut self.session, &mut self.store, &mut out);
        out.truncate(n);
        out
    }

    /// Takes `input` in pieces of `piece` bytes and returns the output, through rooms of `room` bytes.
    fn talk(&mut self, input: &[u8], piece: usize, room: usize) -> Vec<u8> {
        let mut answer = Vec::new();
        let mut at = 0;
        loop {
            self.settle();
            let out = self.fill(room);
            let mut lent = input[at..input.len().min(at + piece)].to_vec();
            let n = self.responder.receive(&mut self.session, &mut self.store, &mut lent);
            at += n;
            if out.is_empty() && n == 0 && self.step() == Step::Idle {
                assert_eq!(at, input.len(), "stuck after {:?}", messages(&answer));
                return answer;
            }
            answer.extend(out);
        }
    }

    fn ask(&mut self, command: &str) -> Vec<String> {
        messages(&self.talk(&message(command.as_bytes()), usize::MAX >> 1, 4096))
    }
}

#[test]
fn a_write_and_a_read_pass_through_every_size_of_room() {
    let bytes = content(300);
    let crc = crc32c(&bytes);
    let input = [message(b"write 0 300 - f"), body(&bytes, 120), message(b"read 0 * f"), message(b"read 7 20 f")];
    let input = input.concat();
    let whole = {
        let server = &mut Server::with(&store(), 128);
        server.talk(&input, input.len(), 4096)
    };
    let replies = messages(&whole);
    assert_eq!(replies[0], format!("ok 300 {crc:08x}"));
    assert!(replies[1].starts_with("ok 300 300 "));
    assert_eq!(whole[whole.len() - 55..whole.len() - 35], bytes[7..27]);
    // Data messages of 128, 128 and 44 bytes.
    assert_eq!(out_lengths(&whole)[2..7], [128, 128, 44, 0, 15]);
    for room in (1..40).chain([64, 127, 200]) {
        let store = store();
        store.set_append_max(room);
        let mut server = Server::with(&store, 128);
        assert_eq!(server.talk(&input, room, room), whole, "{room}");
        assert_eq!(store.content("f").unwrap(), bytes);
        assert_eq!(store.staged_len("f"), None);
    }
}

#[test]
fn a_server_over_a_flat_store_offers_no_directories_whatever_its_limits_say() {
    let memory = Box::leak(Box::new(RamMemory::<4, 64, 8, 256>::new()));
    let store: &RefCell<RamStore<'_, 64, 256>> = &RefCell::new(RamStore::new(memory, 7));
    // All verbs by default.
    let mut server = Server::new(&store);
    let hello = server.ask("get /skiff/1").remove(0);
    assert!(hello.contains("rename") && !hello.contains("dir"), "{hello}");
    let refused = server.ask("mkdir d").remove(0);
    assert!(refused.starts_with("error unsupported"), "{refused}");
    // A verb that the limits leave out stays out.
    let mut server = Server::new(&store);
    let limits = Limits { verbs: Limits::new(NAME_MAX).verbs.without(Verb::Rename), ..Limits::new(NAME_MAX) };
    server.session = ServerSession::new(limits);
    let hello = server.ask("get /skiff/1").remove(0);
    assert!(hello.contains("remove") && !hello.contains("rename"), "{hello}");
}

#[test]
fn a_length_and_the_first_bytes_behind_it_leave_together() {
    let store = store();
    store.put_file("f", b"hello");
    let mut server = Server::new(&store);
    let wire = message(b"read 0 * f");
    server.responder.receive(&mut server.session, &mut server.store, &mut wire.clone());
    server.settle();
    let out = server.fill(200);
    assert_eq!(messages(&out).len(), 4, "the reply, the data, the end and the trailer");
    assert_eq!(messages(&out)[1], "hello");
}

#[test]
fn a_listing_is_the_same_through_every_room_that_is_enough() {
    let store = store();
    for (number, len) in [1, 64, 30, 5, 63].into_iter().enumerate() {
        store.put_file(&format!("{number}{}", "n".repeat(len - 1)), &content(number * 100));
    }
    // With a checksum.
    Server::new(&store).talk(&[message(b"write 0 0 - 0"), body(b"", 1)].concat(), 100, 100);
    // No client could ask for it.
    store.put_file(&"x".repeat(65), b"");
    let lines = |wire: &[u8]| {
        let all = messages(wire);
        assert_eq!(all[0], "ok");
        let text = all[1..all.len() - 2].concat();
        assert_eq!(all[all.len() - 1], format!("crc32c {:08x}", crc32c(text.as_bytes())));
        text
    };
    let whole = lines(&Server::new(&store).talk(&message(b"list"), 100, 4096));
    assert_eq!(whole.lines().count(), 5);
    assert!(whole.starts_with("0 - 00000000 0\n100 - "));
    for room in list_room(NAME_MAX)..list_room(NAME_MAX) + 130 {
        assert_eq!(lines(&Server::new(&store).talk(&message(b"list"), 100, room)), whole, "{room}");
    }
    // The responder waits if there is less room, and loses nothing.
    let mut server = Server::new(&store);
    server.responder.receive(&mut server.session, &mut server.store, &mut message(b"list"));
    server.settle();
    let mut wire = Vec::new();
    loop {
        while let out = server.fill(list_room(NAME_MAX) - 1)
            && !out.is_empty()
        {
            wire.extend(out);
        }
        let out = server.fill(list_room(NAME_MAX));
        if out.is_empty() {
            break;
        }
        wire.extend(out);
    }
    assert_eq!(lines(&wire), whole);
}

#[test]
fn an_empty_store_has_empty_listings() {
    let mut server = Server::new(&store());
    assert_eq!(server.ask("list"), ["ok", "", "crc32c 00000000"]);
    assert_eq!(server.ask("ls"), [""]);
    assert_eq!(server.ask("ls x").len(), 1);
}

#[test]
fn ls_shows_plain_names_through_every_room() {
    let store = store();
    for file in ["a.txt", "b c", ".hidden", "olá", "b.txt"] {
        store.put_file(file, b"x");
    }
    let wire = Server::new(&store).talk(&message(b"ls"), 100, 4096);
    assert_eq!(wire, message(b"a.txt\nb.txt"));
    for room in usize::from(NAME_MAX) + 1..200 {
        assert_eq!(Server::new(&store).talk(&message(b"ls"), 100, room), wire);
    }
}

#[test]
fn ls_keeps_its_length_when_the_store_changes_in_between() {
    for (change, expected) in [
        ((|store| store.clone().remove(name("bb")).unwrap()) as fn(&MemoryStore), "a\ncc\n\n\n"),
        (|store| store.put_file("a", b"other"), "a\nbb\ncc"),
        // New names come after `a` in this store; a name that no longer fits is left out with everything behind it.
        (|store| (store.clone().remove(name("bb")).unwrap(), store.put_file("b-very-long", b"")).0, "a\n\n\n\n\n\n"),
        (|store| store.put_file("dd", b""), "a\nbb\ncc"),
    ] {
        let store = store();
        for file in ["a", "bb", "cc"] {
            store.put_file(file, b"");
        }
        let mut server = Server::new(&store);
        server.responder.receive(&mut server.session, &mut server.store, &mut message(b"ls"));
        assert_ne!(server.settle(), 0);
        change(&store);
        let out = server.fill(400);
        assert_eq!(messages(&out).len(), 1);
        assert_eq!(messages(&out)[0].trim_end_matches('\n'), expected.trim_end_matches('\n'));
        assert_eq!(messages(&out)[0].len(), 7);
        assert_eq!(server.ask("ping"), ["ok"]);
    }
}

#[test]
fn a_sum_continues_in_steps() {
    let store = store();
    store.put_file("f", &content(8192));
    let mut server = Server::new(&store);
    server.responder.receive(&mut server.session, &mut server.store, &mut message(b"sum 0 * f"));
    assert_eq!(server.settle(), 4, "the request, two times 4 KiB, the end");
    assert_eq!(messages(&server.fill(100)), [format!("ok 8192 {:08x}", crc32c(&content(8192)))]);
    assert_eq!(server.ask("sum 8192 * f"), ["ok 0 00000000"]);
    assert!(server.ask("sum 8193 * f")[0].starts_with("error range "));
    store.set_read_max(5000);
    assert!(server.ask("sum 0 * f")[0].starts_with("error io "));
    store.set_read_max(u64::MAX);
    store.set_claimed_size(Some(9000));
    assert!(server.ask("sum 0 * f")[0].starts_with("error changed "));
    assert_eq!(server.ask("ping"), ["ok"]);
}

#[test]
fn a_read_that_fails_is_filled_up_and_aborted() {
    let store = store();
    store.put_file("f", &content(400));
    store.set_read_max(200);
    let mut server = Server::with(&store, 150);
    // Through a small room, so that the second message has begun when it fails.
    let out = server.talk(&message(b"read 0 * f"), 100, 60);
    let lengths: Vec<_> = out_lengths(&out);
    assert_eq!(lengths[1..4], [150, 150, 0]);
    assert!(messages(&out)[4].starts_with("abort io "));
    assert_eq!(server.ask("ping"), ["ok"]);
}

fn out_lengths(mut wire: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while !wire.is_empty() {
        let length = core::str::from_utf8(&wire[..10]).unwrap().parse().unwrap();
        lengths.push(length);
        wire = &wire[10 + length..];
    }
    lengths
}

#[test]
fn a_file_that_is_replaced_or_shorter_than_it_seemed_is_changed() {
    let store = store();
    store.put_file("f", &content(400));
    let mut server = Server::with(&store, 150);
    server.responder.receive(&mut server.session, &mut server.store, &mut message(b"read 0 * f"));
    server.settle();
    let mut out = server.fill(60);
    store.fail(Operation::ReadAt, 0, ErrorCode::Changed);
    store.put_file("f", b"new");
    out.extend(server.talk(b"", 1, 60));
    assert!(messages(&out).last().unwrap().starts_with("abort changed "));
    store.set_claimed_size(Some(10));
    let out = server.ask("read 0 * f");
    assert_eq!(out[1], "new\0\0\0\0\0\0\0");
    assert!(out[3].starts_with("abort changed "));
}

#[test]
fn a_checksum_that_is_kept_with_the_file_is_sent_for_the_whole_and_computed_for_a_part() {
    let store = store();
    let mut server = Server::new(&store);
    for is_kept in [true, false] {
        if is_kept {
            let write = [message(b"write 0 9 - f"), body(b"123456789", 9)].concat();
            assert_eq!(messages(&server.talk(&write, 100, 100)), ["ok 9 e3069283"]);
        } else {
            store.put_file("f", b"123456789");
        }
        assert_eq!(store.clone().stat(name("f")).unwrap().crc.is_some(), is_kept);
        assert_eq!(server.ask("read 0 * f")[3], "crc32c e3069283");
        assert_eq!(server.ask("read 0 4 f")[3], "crc32c f63af4ee");
    }
}

#[test]
fn a_full_store_refuses_in_the_middle_and_drops_the_stage() {
    let store = store();
    store.set_stage_max(250);
    for piece in [1, 7, 100, 4096] {
        let mut server = Server::new(&store);
        let input = [message(b"write 0 400 - f"), body(&content(400), 100), message(b"ping")].concat();
        let replies = messages(&server.talk(&input, piece, 100));
        assert!(replies[0].starts_with("error no-space "));
        assert_eq!(replies[1], "ok");
        assert_eq!((store.content("f"), store.staged_len("f")), (None, None));
    }
}

#[test]
fn a_commit_may_take_its_time_or_fail() {
    let store = store();
    store.set_pending_commits(3);
    let mut server = Server::new(&store);
    let input = [message(b"write 0 2 - f"), body(b"ab", 9)].concat();
    let mut rest = input.clone();
    let n = server.responder.receive(&mut server.session, &mut server.store, &mut rest);
    assert_eq!(server.settle(), 1);
    assert_eq!(server.responder.receive(&mut server.session, &mut server.store, &mut rest[n..]), input.len() - n);
    assert_eq!(
        [server.step(), server.step(), server.step(), server.step()],
        [Step::Progress, Step::Pending, Step::Pending, Step::Pending]
    );
    // The time that the store takes is not the peer's.
    server.now += 1_000_000;
    assert_eq!(server.step(), Step::Progress);
    assert_eq!(messages(&server.fill(100)), [format!("ok 2 {:08x}", crc32c(b"ab"))]);
    assert_eq!(store.content("f").unwrap(), b"ab");

    store.set_pending_commits(0);
    store.fail(Operation::Commit, 0, ErrorCode::Io);
    assert!(messages(&server.talk(&input, 100, 100))[0].starts_with("error io "));
    assert_eq!(store.content("f").unwrap(), b"ab");
    assert_eq!(store.staged_len("f"), None);
}

#[test]
fn a_body_that_is_not_the_file_is_dropped_and_a_lost_one_is_kept() {
    let store = store();
    let mut server = Server::new(&store);
    let wrong = [&message(b"write 0 2 - f")[..], &message(b"ab"), &message(b""), &message(b"crc32c 00000000")].concat();
    assert!(messages(&server.talk(&wrong, 3, 100))[0].starts_with("error mismatch "));
    assert_eq!(store.staged_len("f"), None);

    server.talk(&[message(b"write 0 9 - f"), message(b"1234")].concat(), 5, 100);
    assert!(server.responder.is_writing(name("f")) && !server.responder.is_writing(name("g")));
    assert_eq!(store.staged_len("f"), Some((4, true)));
    server.session.handle_eof();
    assert_eq!(server.session.poll_close(), Some(Close::Gracefully));
    server.responder.close();
    assert_eq!(store.staged_len("f"), Some((4, false)));

    let mut server = Server::new(&store);
    assert_eq!(server.ask("resume 9 f"), ["ok 4 f63af4ee"]);
    let rest = [&message(b"write 4 9 - f")[..], &message(b"56789"), &message(b""), &message(b"crc32c e3069283")];
    assert_eq!(messages(&server.talk(&rest.concat(), 7, 100)), ["ok 9 e3069283"]);
    assert_eq!(store.content("f").unwrap(), b"123456789");
}

#[test]
fn what_breaks_the_protocol_inside_a_body_loses_the_connection_and_nothing_else() {
    let store = store();
    let mut server = Server::new(&store);
    let mut wire = [&message(b"write 0 9 - f")[..], &message(b"1234"), b"garbage..."].concat();
    let n = server.responder.receive(&mut server.session, &mut server.store, &mut wire);
    server.settle();
    server.responder.receive(&mut server.session, &mut server.store, &mut wire[n..]);
    assert_eq!(server.responder.receive(&mut server.session, &mut server.store, &mut wire[n..]), 0);
    assert!(messages(&server.fill(100))[0].starts_with("error bad-length "));
    assert_eq!(server.session.poll_close(), Some(Close::Gracefully));
    server.responder.close();
    assert_eq!(store.staged_len("f"), Some((4, false)));
}

struct Peers<'a> {
    store: &'a MemoryStore,
    port: Poll<Result<u16, Refusal>>,
    silent: Option<&'a Cell<Option<Responder<MemoryStore>>>>,
    asked: Vec<String>,
}

impl Services<MemoryStore> for Peers<'_> {
    fn get(
        &mut self,
        _name: Name<'_>,
        mut file: <MemoryStore as Store>::File,
        stat: Stat,
    ) -> Poll<Result<u16, Refusal>> {
        let mut content = [0; 4];
        let n = self.store.clone().read_at(&mut file, 0, &mut content).unwrap();
        self.asked.push(format!("get {} {:?}", stat.size, &content[..n]));
        self.port
    }

    fn put(
        &mut self,
        store: &mut MemoryStore,
        name: Name<'_>,
        stage: <MemoryStore as Store>::Stage,
    ) -> Poll<Result<u16, Refusal>> {
        store.discard(stage);
        self.asked.push(format!("put {name}"));
        self.port
    }

    fn take_over(&mut self, name: Name<'_>) -> bool {
        self.asked.push(format!("busy {name}"));
        let Some(silent) = self.silent else { return false };
        let responder = silent.take();
        assert!(responder.as_ref().is_some_and(|responder| responder.is_writing(name)));
        drop(responder);
        true
    }
}

impl Server {
    fn ask_with(&mut self, command: &str, peers: &mut Peers<'_>) -> Vec<String> {
        self.responder.receive(&mut self.session, &mut self.store, &mut message(command.as_bytes()));
        while self.responder.step(&mut self.session, &mut self.store, peers) == Step::Progress {}
        messages(&self.fill(200))
    }
}

#[test]
fn data_connections_are_for_the_services() {
    let store = store();
    store.put_file("f", b"abc");
    let mut peers = Peers { store: &store, port: Poll::Ready(Ok(4711)), silent: None, asked: Vec::new() };
    let mut server = Server::new(&store);
    assert_eq!(server.ask_with("get f", &mut peers), ["4711"]);
    assert_eq!(server.ask_with("put ../dir/g", &mut peers), ["4711"]);
    assert_eq!(server.ask_with("get no", &mut peers), ["-1"]);
    peers.port = Poll::Pending;
    assert_eq!(server.ask_with("get f", &mut peers), [] as [String; 0]);
    server.session.answer(Answer::Port(4712)).unwrap();
    assert_eq!(messages(&server.fill(200)), ["4712"]);
    peers.port = Poll::Ready(Ok(0));
    assert_eq!(server.ask_with("get f", &mut peers), ["-1"], "0 is no port");
    peers.port = Poll::Ready(Err(ErrorCode::Denied.into()));
    assert_eq!(server.ask_with("put f", &mut peers), ["-1"]);
    assert_eq!(peers.asked, ["get 3 [97, 98, 99]", "put g", "get 3 [97, 98, 99]", "get 3 [97, 98, 99]", "put f"]);
    store.set_claimed_size(Some(10_000_000_000));
    assert_eq!(server.ask_with("get f", &mut peers), ["-1"], "ten digits can't say that");
    assert_eq!(peers.asked.len(), 5);
    // Without services.
    assert_eq!(server.ask("get f"), ["-1"]);
    assert_eq!(server.ask("put f"), ["-1"]);
}

#[test]
fn a_second_writer_is_busy_unless_the_services_close_the_first() {
    let store = store();
    let mut first = Server::new(&store);
    first.talk(&[message(b"write 0 9 - f"), message(b"1234")].concat(), 100, 100);
    let mut peers = Peers { store: &store, port: Poll::Pending, silent: None, asked: Vec::new() };
    let mut second = Server::new(&store);
    for command in ["resume 9 f", "write 4 9 - f"] {
        assert!(second.ask_with(command, &mut peers)[0].starts_with("error busy "));
    }
    second.talk(&body(b"", 1), 100, 100);
    let silent = Cell::new(Some(first.responder));
    peers.silent = Some(&silent);
    assert_eq!(second.ask_with("resume 9 f", &mut peers), ["ok 4 f63af4ee"]);
    assert_eq!(peers.asked, ["busy f"; 3]);
}

#[test]
fn an_inconsistent_store_is_an_io_error_not_silence() {
    let store = store();
    store.put_file("f", b"abc");
    store.set_nonsense();
    let mut server = Server::new(&store);
    // More is staged than the file will have; more is read than there is room for; nothing is taken.
    assert!(server.ask("resume 5 f")[0].starts_with("error io "));
    assert_eq!(server.ask("read 0 * f")[1].len(), 3);
    let write = [message(b"write 0 4 - g"), body(b"abcd", 9)].concat();
    assert!(messages(&server.talk(&write, 5, 100))[0].starts_with("error io "));
    assert_eq!(store.staged_len("g"), None);
    assert_eq!(server.ask("ping"), ["ok"]);
}

#[test]
fn no_change_of_a_byte_on_the_wire_makes_it_panic_or_stand_still() {
    let script = [
        message(b"write 0 20 - f"),
        body(&content(20), 7),
        message(b"read 3 9 f"),
        message(b"list"),
        message(b"ls"),
        message(b"sum 0 * f"),
        message(b"rename f\ng"),
        message(b"get g"),
        message(b"quit"),
    ]
    .concat();
    for at in 0..script.len() {
        for with in [0, b' ', b'0', b'9', b'\n', b'f', 0xff] {
            let mut wire = script.clone();
            wire[at] = with;
            let store = store();
            let mut server = Server::new(&store);
            let mut taken = 0;
            // Each turn moves a byte at least, or it is over.
            let mut turns = 0;
            loop {
                turns += server.settle() + 1;
                assert!(turns < 3000);
                let out = server.fill(list_room(NAME_MAX));
                let n = server.responder.receive(&mut server.session, &mut server.store, &mut wire[taken..]);
                taken += n;
                if out.is_empty() && n == 0 && server.step() == Step::Idle {
                    break;
                }
            }
            server.session.handle_eof();
            server.settle();
            while !server.fill(200).is_empty() {}
            assert!(server.session.poll_close().is_some(), "{at} {with}");
        }
    }
}

#[test]
fn a_responder_is_small() {
    let (responder, session) = (size_of::<Responder<RamStore<'_, 64, 256>>>(), size_of::<ServerSession<BUF>>());
    println!("Responder: {responder} bytes; ServerSession for names of 64 bytes: {session} bytes");
    // A `copy` holds a file, a stage and a checksum.
    assert!(responder <= 96, "{responder}");
    assert!(session <= 560, "{session}");
}
