//! A server session as a list of operations: any input in any pieces, any answers, any clock. The output is always a
//! sequence of well-formed messages, and the session never gets stuck.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skiff_fuzz::script::Script;
use skiff_proto::command::{Request, command_len};
use skiff_proto::message::{HEADER_LEN, HeaderDecoder};
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Limits, ServerEvent, ServerSession};
use skiff_proto::store::{Space, Stat, clamp_range};
use skiff_proto::{ErrorCode, Instant};

/// Kinds of operations.
const KINDS: u8 = 10;
/// Commands that are often valid.
const COMMANDS: [&str; 8] = ["read 0 * a", "list", "ls", "get a", "sum 0 * a", "remove a", "ping", "quit"];

fn message(payload: &[u8]) -> Vec<u8> {
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

struct World {
    session: ServerSession<{ command_len(64) }>,
    input: Vec<u8>,
    out: Vec<u8>,
    room: usize,
    refuse: bool,
    abort: bool,
    body: u64,
}

impl World {
    /// Drives the session as far as it goes.
    fn run(&mut self) {
        for _ in 0..10_000 {
            let mut room = vec![0; self.room];
            let sent = self.session.poll_transmit(&mut room);
            self.out.extend_from_slice(&room[..sent]);
            if sent > 0 || self.event() || self.send() || self.receive() {
                continue;
            }
            return;
        }
        panic!("the session does not come to rest");
    }

    fn event(&mut self) -> bool {
        let Some(event) = self.session.poll_event() else { return false };
        let answer = match event {
            ServerEvent::Flush => return self.flush(),
            ServerEvent::Discard => return true,
            ServerEvent::Commit { size, crc } => {
                if self.refuse {
                    self.session.refuse(ErrorCode::NoSpace.into()).expect("a commit can be refused");
                } else if self.abort {
                    self.session.answer(Answer::Stored { size, crc }).expect("a commit can be answered");
                } else {
                    self.session.defer().expect("a commit can be put off");
                }
                return true;
            }
            ServerEvent::Request(request) => match request {
                Request::Get { .. } | Request::Put { .. } => Answer::Port(1),
                Request::Ls => Answer::Ls { length: self.body },
                Request::List { .. } | Request::Tree { .. } => Answer::List { omitted: self.body },
                Request::Stat { .. } => Answer::Stat(Stat { size: 1, mtime: None, crc: None }),
                Request::Read { offset, length, .. } => match clamp_range(offset, length, self.body) {
                    Ok(length) => Answer::Read { length, size: self.body, tag: Tag::UNKNOWN },
                    Err(refusal) => return self.session.refuse(refusal).is_ok(),
                },
                Request::Resume { .. } => Answer::Resume { offset: 0, crc: 0 },
                Request::Write { offset, size, .. } if offset > size => {
                    return self.session.refuse(ErrorCode::Range.into()).is_ok();
                }
                Request::Write { .. } => Answer::Write { crc: 0 },
                Request::Sum { .. } => Answer::Sum { length: 0, crc: 0 },
                Request::Copy { .. } => Answer::Stored { size: 1, crc: None },
                Request::Space => Answer::Space(Space { total: 2, free: 1 }),
                Request::Remove { .. } | Request::Rename { .. } | Request::Mkdir { .. } | Request::Rmdir { .. } => {
                    Answer::Done
                }
            },
        };
        if self.refuse {
            self.session.refuse(ErrorCode::NotFound.into()).expect("a request can be refused");
        } else {
            self.session.answer(answer).expect("the answer fits");
        }
        true
    }

    fn flush(&mut self) -> bool {
        let mut any = false;
        while self.session.deferred() > 0 {
            if !self.session.answer_deferred(Err(ErrorCode::Io.into())).expect("one is owed") {
                break;
            }
            any = true;
        }
        any
    }

    fn send(&mut self) -> bool {
        if !self.session.is_sending() || self.session.has_output() {
            return false;
        }
        if self.abort && self.session.left().is_some_and(|left| left < self.body) {
            self.session.abort(ErrorCode::Changed).expect("a body can be given up");
            return true;
        }
        if self.session.left().is_none_or(|left| left == 0) {
            self.session.finish().expect("it is through");
            return true;
        }
        let mut room = [0; 15];
        let sent = self.session.send(&mut room, |room| {
            room.fill(b'x');
            Ok::<_, ()>(room.len())
        });
        self.out.extend_from_slice(&room[..sent.expect("a body is sent")]);
        true
    }

    fn receive(&mut self) -> bool {
        match self.session.receive(&mut self.input) {
            Ok(received) => {
                assert!(received.payload.len() <= received.taken);
                let n = received.taken;
                self.input.drain(..n);
                n > 0
            }
            Err(_) => {
                self.input.clear();
                false
            }
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let limits = Limits { nocrc: data.len() % 2 == 0, data_max: 7, ..Limits::new(64) };
    let mut world = World {
        session: ServerSession::new(limits),
        input: Vec::new(),
        out: Vec::new(),
        room: 64,
        refuse: false,
        abort: false,
        body: 20,
    };
    let mut now = 1;
    let mut script = Script::new(data);
    while let Some(operation) = script.next_of(KINDS) {
        match operation {
            0 => world.input.extend(script.piece()),
            1 => world.input.extend(message(script.piece())),
            2 => {
                let command = match usize::from(script.byte()) {
                    which if which < COMMANDS.len() => COMMANDS[which].into(),
                    size => format!("write 0 {size} - a"),
                };
                world.input.extend(message(command.as_bytes()));
            }
            3 => {
                let bytes = script.piece();
                if !bytes.is_empty() {
                    world.input.extend(message(bytes));
                }
                world.input.extend(message(b""));
                let trailer = format!("crc32c {:08x}", skiff_proto::crc::crc32c(bytes));
                world.input.extend(message(trailer.as_bytes()));
            }
            4 => {
                now += u64::from(script.number());
                world.session.handle_timeout(Instant::from_millis(now));
            }
            5 => world.room = usize::from(script.byte()).max(1),
            6 => world.refuse = !world.refuse,
            7 => world.abort = !world.abort,
            8 => _ = world.flush(),
            _ => {
                world.run();
                if world.input.is_empty() {
                    world.session.handle_eof();
                }
            }
        }
        world.run();
    }
    // Whatever its input, its output consists of messages.
    let mut rest = &world.out[..];
    while !rest.is_empty() {
        let mut decoder = HeaderDecoder::new();
        let (n, length) = decoder.push(rest).expect("a length");
        let Some(length) = length else { panic!("a length that is cut off") };
        assert_eq!(n, HEADER_LEN);
        let length = usize::try_from(length).expect("short");
        rest = rest.get(n + length..).unwrap_or_default();
    }
});
