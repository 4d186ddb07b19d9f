//! However input is cut, a server session takes it for the same: the same events and the same bytes out, and the same end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skiff_fuzz::script::Script;
use skiff_proto::command::{Request, command_len};
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Close, Limits, ServerEvent, ServerSession};
use skiff_proto::store::{Space, Stat, clamp_range};
use skiff_proto::{ErrorCode};

/// What came of a conversation.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Events, as text.
    events: Vec<String>,
    /// Payload of bodies that came in.
    payload: Vec<u8>,
    out: Vec<u8>,
    close: Option<Close>,
}

struct Conversation {
    session: ServerSession<{ command_len(64) }>,
    told: Told,
}

impl Conversation {
    /// Takes as much of `input` as it can before more comes.
    fn feed(&mut self, mut input: &[u8]) -> usize {
        let whole = input.len();
        loop {
            self.answer();
            let mut bytes = input.to_vec();
            let n = match self.session.receive(&mut bytes) {
                Ok(received) => {
                    self.told.payload.extend_from_slice(received.payload);
                    received.taken
                }
                Err(_) => 0,
            };
            input = &input[n..];
            if n == 0 {
                return whole - input.len();
            }
        }
    }

    /// Does all that can be done without more input.
    fn answer(&mut self) {
        loop {
            let mut out = [0; 700];
            let n = self.session.poll_transmit(&mut out);
            self.told.out.extend_from_slice(&out[..n]);
            if self.session.is_sending() && !self.session.has_output() {
                if self.session.left().is_none_or(|left| left == 0) {
                    self.session.finish().expect("it is through");
                    continue;
                }
                let mut room = [0; 19];
                let sent = self.session.send(&mut room, |room| {
                    room.fill(b'x');
                    Ok::<_, ()>(room.len())
                });
                self.told.out.extend_from_slice(&room[..sent.expect("a body is sent")]);
            } else if !self.event() && n == 0 {
                return;
            }
        }
    }

    fn event(&mut self) -> bool {
        let Some(event) = self.session.poll_event() else { return false };
        self.told.events.push(format!("{event:?}"));
        let answer = match event {
            ServerEvent::Flush | ServerEvent::Discard => return true,
            ServerEvent::Commit { size, crc } => Ok(Answer::Stored { size, crc }),
            ServerEvent::Request(request) => match request {
                Request::Get { .. } => Ok(Answer::Port(1)),
                Request::Ls => Ok(Answer::Ls { length: 12 }),
                Request::List { .. } => Ok(Answer::List { omitted: 3 }),
                Request::Stat { .. } => Ok(Answer::Stat(Stat { size: 1, mtime: None, crc: None })),
                Request::Read { offset, length, .. } => {
                    clamp_range(offset, length, 30).map(|length| Answer::Read { length, size: 30, tag: Tag::UNKNOWN })
                }
                Request::Resume { .. } => Ok(Answer::Resume { offset: 0, crc: 0 }),
                Request::Write { offset, size, .. } if offset > size => Err(ErrorCode::Range.into()),
                Request::Write { offset: 7, .. } | Request::Put { .. } => Err(ErrorCode::NoSpace.into()),
                Request::Write { .. } => Ok(Answer::Write { crc: 0 }),
                Request::Sum { .. } => Ok(Answer::Sum { length: 0, crc: 0 }),
                Request::Space => Ok(Answer::Space(Space { total: 2, free: 1 })),
                _ => Ok(Answer::Done),
            },
        };
        match answer {
            Ok(answer) => self.session.answer(answer).expect("the answer fits"),
            Err(refusal) => self.session.refuse(refusal).expect("it can be refused"),
        }
        true
    }
}

fn converse<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Told {
    let mut conversation = Conversation { session: ServerSession::new(Limits::new(64)), told: Told::default() };
    let mut waiting = Vec::new();
    for piece in pieces {
        waiting.extend_from_slice(piece);
        let taken = conversation.feed(&waiting);
        waiting.drain(..taken);
    }
    conversation.session.handle_eof();
    conversation.answer();
    conversation.told.close = conversation.session.poll_close();
    conversation.told
}

// The number of cuts, the cuts, the input.
fuzz_target!(|data: &[u8]| {
    let mut script = Script::new(data);
    let cuts: Vec<usize> = (0..script.byte()).map(|_| usize::from(script.byte())).collect();
    let input = script.rest();
    let whole = converse([input].into_iter());
    let mut rest = input;
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle().take(input.len()) {
        let (piece, left) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces.push(rest);
    assert_eq!(converse(pieces.into_iter()), whole);
    assert_eq!(converse(input.chunks(1)), whole);
});
