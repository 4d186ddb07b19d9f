//! A client's session against a server's, protected as well as plain: at every split of the stream, and with an
//! attacker in between. No byte is used before its record is verified.
#![cfg(feature = "secure")]
#![expect(clippy::unwrap_used, reason = "also the helpers of tests are tests")]

mod drive_support;

use core::time::Duration;

use drive_support::{BUF, Ends, NAME_MAX, content, ends, name, store};
use skiff_kit::memory::MemoryStore;
use skiff_proto::cipher::{Cipher, Plain};
use skiff_proto::client::ClientSession;
use skiff_proto::command::{Command, Request, VERSION};
use skiff_proto::crc::crc32c;
use skiff_proto::message::TAG;
use skiff_proto::responder::{NoServices, Responder, Step, list_room};
use skiff_proto::secure::Noise;
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::{ErrorCode, Instant, Name, ProtocolError};

const RECORD_MAX: u16 = 700;

/// How the stream between the two is cut.
#[derive(Debug, Clone, Copy)]
struct Cuts {
    /// Bytes that arrive at a time.
    piece: usize,
    /// Bytes of room to send from.
    room: usize,
}

/// Both ends, and the stream between them.
struct World<C: Cipher> {
    client: ClientSession<600, 4, C>,
    server: ServerSession<BUF, C>,
    responder: Responder<MemoryStore>,
    store: MemoryStore,
    cuts: Cuts,
    /// Under way to the server and to the client, and what has arrived there.
    up: Vec<u8>,
    down: Vec<u8>,
    server_input: Vec<u8>,
    client_input: Vec<u8>,
    /// Everything that went each way since the beginning.
    sent_up: Vec<u8>,
    sent_down: Vec<u8>,
    /// What the client has been told.
    log: Vec<String>,
    body: Vec<u8>,
    failed: Option<ProtocolError>,
}

impl<C: Cipher> World<C> {
    /// The two after the hello, protected if there are ends for it.
    fn new(store: &MemoryStore, cuts: Cuts, ends: Option<Ends<C>>) -> Self {
        Self::with(store, cuts, 150, ends)
    }

    fn with(store: &MemoryStore, cuts: Cuts, data_max: u32, ends: Option<Ends<C>>) -> Self {
        let limits = Limits { data_max, ..Limits::new(NAME_MAX) };
        let mut world = Self {
            client: ClientSession::new(Duration::MAX),
            server: ServerSession::new(limits),
            responder: Responder::new(),
            store: store.clone(),
            cuts,
            up: Vec::new(),
            down: Vec::new(),
            server_input: Vec::new(),
            client_input: Vec::new(),
            sent_up: Vec::new(),
            sent_down: Vec::new(),
            log: Vec::new(),
            body: Vec::new(),
            failed: None,
        };
        if let Some((client, server)) = ends {
            world.client.protect(client).unwrap();
            world.server.protect(server).unwrap();
        }
        world.ask(Command::Hello { version: VERSION });
        world.settle();
        (world.sent_up, world.sent_down) = (Vec::new(), Vec::new());
        // The hello.
        assert_eq!(world.log.drain(..).len(), 1);
        world
    }

    fn ask(&mut self, command: Command<'_>) {
        while !self.client.can_request() {
            assert!(self.turn());
        }
        self.client.request(&command).unwrap();
    }

    fn request(&mut self, request: Request<'_>) {
        self.ask(Command::Request(request));
    }

    /// A `write` whose first `offset` bytes are staged; it is given up after `give_up` more.
    fn write(&mut self, name: Name<'_>, bytes: &[u8], offset: usize, give_up: Option<usize>) {
        self.request(Request::Write { offset: offset as u64, size: bytes.len() as u64, mtime: None, name });
        self.client.continue_crc(crc32c(&bytes[..offset])).unwrap();
        self.client.set_data_max(90);
        let end = give_up.map_or(bytes.len(), |most| offset + most);
        let mut at = offset;
        while at < end {
            if self.client.has_output() {
                assert!(self.turn());
                continue;
            }
            let mut room = vec![0; self.cuts.room];
            let sent = self.client.send(&mut room, |room| {
                let n = room.len().min(end - at);
                room[..n].copy_from_slice(&bytes[at..at + n]);
                at += n;
                Ok::<_, ()>(n)
            });
            self.send_up(&room[..sent.unwrap()]);
        }
        match give_up {
            Some(_) => self.client.abort(ErrorCode::Cancelled).unwrap(),
            None => {
                while self.client.has_output() {
                    assert!(self.turn());
                }
                self.client.finish().unwrap();
            }
        }
    }

    fn send_up(&mut self, bytes: &[u8]) {
        self.up.extend_from_slice(bytes);
        self.sent_up.extend_from_slice(bytes);
    }

    /// Goes on until nothing moves.
    fn settle(&mut self) {
        while self.turn() {}
    }

    fn turn(&mut self) -> bool {
        let mut room = vec![0; self.cuts.room];
        let n = self.client.poll_transmit(&mut room);
        self.send_up(&room[..n]);
        let mut moved = n > 0;
        let n = self.cuts.piece.min(self.up.len());
        self.server_input.extend(self.up.drain(..n));
        moved |= n > 0 || self.serve();
        let n = self.cuts.piece.min(self.down.len());
        self.client_input.extend(self.down.drain(..n));
        moved |= n > 0 || self.listen();
        moved
    }

    /// The server's turn.
    fn serve(&mut self) -> bool {
        self.server.handle_timeout(Instant::from_millis(1));
        let mut moved = self.responder.step(&mut self.server, &mut self.store, &mut NoServices) != Step::Idle;
        let mut room = vec![0; self.cuts.room.max(list_room(NAME_MAX) + TAG)];
        let n = self.responder.transmit(&mut self.server, &mut self.store, &mut room);
        self.down.extend_from_slice(&room[..n]);
        self.sent_down.extend_from_slice(&room[..n]);
        moved |= n > 0;
        let n = self.responder.receive(&mut self.server, &mut self.store, &mut self.server_input);
        self.server_input.drain(..n);
        moved || n > 0
    }

    /// The client's turn.
    fn listen(&mut self) -> bool {
        match self.client.poll_event() {
            Err(error) => self.failed = Some(error),
            Ok(None) => {}
            Ok(Some(event)) => {
                self.log.push(format!("{event:?} {:08x}", crc32c(&self.body)));
                self.body.clear();
                return true;
            }
        }
        match self.client.receive(&mut self.client_input) {
            Ok(received) => {
                self.body.extend_from_slice(received.payload);
                let taken = received.taken;
                self.client_input.drain(..taken);
                taken > 0
            }
            Err(error) => {
                self.failed = Some(error);
                false
            }
        }
    }

    /// Everything that two sessions can say to each other.
    fn talk(&mut self) {
        let bytes = content(400);
        self.write(name("a"), &bytes, 0, None);
        self.write(name("b"), &bytes, 0, Some(100));
        self.write(name("none"), b"", 0, None);
        self.write(name("late"), &bytes, 7, None);
        self.request(Request::List { dir: None });
        self.request(Request::Read { offset: 0, length: None, name: name("a") });
        self.request(Request::Read { offset: 399, length: Some(1), name: name("a") });
        self.request(Request::Read { offset: 400, length: None, name: name("a") });
        self.request(Request::Read { offset: 0, length: None, name: name("missing") });
        self.request(Request::Sum { offset: 5, length: None, name: name("a") });
        self.request(Request::Resume { size: 400, name: name("b") });
        self.request(Request::Rename { from: name("a"), to: name("z") });
        self.request(Request::Stat { name: name("z") });
        self.ask(Command::Ping);
        self.settle();
        self.ask(Command::Quit);
        self.settle();
        assert_eq!((self.client.owed(), self.failed), (0, None), "{:?}", self.log);
        assert_eq!(self.server.poll_close(), Some(Close::Gracefully));
    }
}

/// What a client is told over a plain connection in one piece.
fn plain() -> Vec<String> {
    let mut world = World::<Plain>::new(&store(), Cuts { piece: 100_000, room: 4096 }, None);
    world.talk();
    assert_eq!(world.log.len(), 18, "{:#?}", world.log);
    world.log
}

#[test]
fn a_sealed_conversation_is_the_plain_one_however_the_stream_is_cut() {
    let plain = plain();
    for cuts in (1..60).chain([99, 700, 100_000]).flat_map(|piece| [40, 64, 333, 4096].map(|room| Cuts { piece, room }))
    {
        let mut open = World::<Plain>::new(&store(), cuts, None);
        open.talk();
        assert_eq!(open.log, plain, "{cuts:?}");
        let mut sealed = World::<Noise>::new(&store(), cuts, Some(ends(RECORD_MAX)));
        sealed.talk();
        assert_eq!(sealed.log, plain, "{cuts:?}");
        assert!(!sealed.sent_up.windows(4).any(|bytes| bytes == b"ping"), "nothing goes out in clear");
    }
}

#[test]
fn records_are_as_long_as_they_may_be_and_no_longer() {
    let store = store();
    for record_max in [600, 613, 700] {
        let cuts = Cuts { piece: 100_000, room: 8192 };
        let mut world = World::<Noise>::new(&store, cuts, Some(ends(record_max)));
        world.talk();
        store.put_file("large", &content(3000));
        let mut world = World::<Noise>::with(&store, cuts, 65_536, Some(ends(record_max)));
        world.request(Request::Read { offset: 0, length: None, name: name("large") });
        world.settle();
        let longest = records(&world.sent_down).iter().map(|record| record.len() - 10).max();
        assert_eq!(longest, Some(record_max.into()));
        // One byte more is not read, and none is waited for; nor is a record without room for its tag.
        for length in [u32::from(record_max) + 1, 15, 0] {
            let mut world = World::<Noise>::new(&store, cuts, Some(ends(record_max)));
            let mut length = format!("{length:010}").into_bytes();
            assert_eq!(world.server.receive(&mut length), Err(ProtocolError::Forged));
            assert_eq!((world.server.poll_close(), world.server.has_output()), (Some(Close::Reset), false));
        }
    }
}

/// The records of one direction, with their lengths.
fn records(mut wire: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while !wire.is_empty() {
        let length: usize = core::str::from_utf8(&wire[..10]).unwrap().parse().unwrap();
        let (record, rest) = wire.split_at(10 + length);
        records.push(record);
        wire = rest;
    }
    records
}

/// A server that gets `wire`: what it has stored of `f`, and staged. It resets the connection, or waits for more.
fn attacked(wire: &[u8]) -> (Option<Vec<u8>>, usize) {
    let store = store();
    let mut world = World::<Noise>::new(&store, Cuts { piece: 100_000, room: 4096 }, Some(ends(RECORD_MAX)));
    world.up.extend_from_slice(wire);
    world.settle();
    let waits = world.server.want_read() > world.server_input.len() || world.server.is_idle();
    assert!(world.server.poll_close() == Some(Close::Reset) || waits, "{:?}", world.server);
    world.responder.close();
    (store.content("f"), store.staged_len("f").map_or(0, |(len, _)| len))
}

/// What goes up and down with a `write` of `f`.
fn upload(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut world = World::<Noise>::new(&store(), Cuts { piece: 100_000, room: 110 }, Some(ends(RECORD_MAX)));
    world.write(name("f"), bytes, 0, None);
    world.settle();
    (world.sent_up, world.sent_down)
}

#[test]
fn no_change_of_a_bit_gets_an_unverified_byte_into_the_store() {
    let bytes = content(300);
    let (wire, _) = upload(&bytes);
    assert_eq!(attacked(&wire), (Some(bytes.clone()), 0));
    // Bytes that each number of whole records in front carries.
    let mut before = vec![0; 10];
    for (at, record) in records(&wire).iter().enumerate() {
        let data = if at == 0 || record.len() == 26 { 0 } else { record.len() - 26 };
        let data = (before[before.len() - 1] + data).min(300);
        before.resize(before.len() + record.len(), data);
    }
    for at in 0..wire.len() {
        for bit in 0..8 {
            let mut wire = wire.clone();
            wire[at] ^= 1 << bit;
            let (stored, staged) = attacked(&wire);
            assert_eq!(stored, None, "byte {at}, bit {bit}");
            assert!(staged <= before[at], "byte {at}, bit {bit}: {staged} bytes staged, {} verified", before[at]);
        }
    }
}

#[test]
fn records_that_are_dropped_repeated_swapped_or_cut_off_end_the_upload() {
    let bytes = content(300);
    let (wire, reflected) = upload(&bytes);
    let records = records(&wire);
    for at in 0..records.len() {
        let (before, after) = records.split_at(at);
        let mut swapped = records.clone();
        swapped.swap(at, (at + 1) % records.len());
        for changed in [
            [before, &after[1..]].concat(),
            [before, &after[..1], after].concat(),
            swapped,
            before.to_vec(),
            // What the server itself has sent.
            [before, &[&reflected], after].concat(),
        ] {
            let whole = changed.len() > records.len() && changed.starts_with(&records);
            let (stored, _) = attacked(&changed.concat());
            assert!(stored.is_none() || whole, "record {at}");
        }
    }
}

#[test]
fn no_change_of_a_bit_gets_an_unverified_byte_to_the_client() {
    let store = store();
    let bytes = content(300);
    store.put_file("f", &bytes);
    let cuts = Cuts { piece: 100_000, room: 4096 };
    let read = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut world = World::<Noise>::new(&store, cuts, Some(ends(RECORD_MAX)));
        world.request(Request::Read { offset: 0, length: None, name: name("f") });
        let mut room = [0; 200];
        let n = world.client.poll_transmit(&mut room);
        world.server_input.extend_from_slice(&room[..n]);
        while world.serve() {}
        let mut wire = core::mem::take(&mut world.down);
        let len = wire.len();
        change(&mut wire);
        world.client_input = wire;
        let mut seen = Vec::new();
        while world.listen() {
            seen.extend_from_slice(&world.body);
            world.body.clear();
        }
        assert!(bytes.starts_with(&seen), "only verified payload");
        let whole = world.log.iter().any(|event| event.contains("BodyEnd(Ok("));
        (len, whole)
    };
    let (len, whole) = read(&|_| {});
    assert!(whole);
    for at in 0..len {
        for bit in 0..8 {
            assert!(!read(&|wire| wire[at] ^= 1 << bit).1, "byte {at}, bit {bit}");
        }
    }
}

#[test]
fn a_protected_connection_has_no_way_past_the_cipher() {
    let store = store();
    store.put_file("f", &content(300));
    let mut world = World::<Noise>::new(&store, Cuts { piece: 100_000, room: 4096 }, Some(ends(RECORD_MAX)));
    world.request(Request::Write { offset: 0, size: 9, mtime: None, name: name("g") });
    world.settle();
    let mut room = [0; 200];
    world.client.set_data_max(5);
    assert_eq!(world.client.send(&mut room, |room| Ok::<_, ()>(room.len())), Ok(10 + 5 + TAG));
    assert!(world.client.opaque().is_none() && world.server.opaque().is_none() && world.client.opaque_in().is_none());
    assert!(world.server.payload_in().is_none() && world.client.payload_in().is_none());
}

#[test]
fn classic_commands_are_refused_and_their_replies_verified_like_all_others() {
    for piece in [1, 9, 100_000] {
        let cuts = Cuts { piece, room: 4096 };
        let mut world = World::<Noise>::new(&store(), cuts, Some(ends(RECORD_MAX)));
        for (request, answer) in [
            (Request::Ls, "Refused(RemoteError { code: Some(Unsupported)"),
            (Request::Get { name: name("f") }, "ClassicRefused"),
            (Request::Put { name: name("f") }, "ClassicRefused"),
        ] {
            world.request(request);
            world.settle();
            let event = world.log.pop().unwrap();
            assert!(event.starts_with(answer), "{event}");
        }
        world.ask(Command::Ping);
        world.settle();
        assert_eq!((world.log.len(), world.failed), (1, None));
    }
}

#[test]
fn a_parked_session_keeps_its_cipher() {
    let mut world = World::<Noise>::new(&store(), Cuts { piece: 100_000, room: 4096 }, Some(ends(RECORD_MAX)));
    for _ in 0..3 {
        world.ask(Command::Ping);
        world.settle();
        let parked = world.server.park().unwrap();
        world.server = ServerSession::resume(*world.server.limits(), parked);
    }
    assert_eq!((world.log.len(), world.failed), (3, None));
    let (client, server) = ends(RECORD_MAX);
    assert_eq!(world.server.protect(server), Err(skiff_proto::InvalidState), "only once");
    assert_eq!(world.client.protect(client), Err(skiff_proto::InvalidState));
}
