//! A server session that receives input in pieces, from a driver that answers everything.

use skiff_proto::ErrorCode;
use skiff_proto::command::{Request, command_len};
use skiff_proto::cipher::Cipher;
use skiff_proto::reply::Tag;
use skiff_proto::server::{Answer, Close, ServerEvent, ServerSession};
use skiff_proto::store::{Space, Stat, clamp_range};

/// What came of a conversation.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Events, as text.
    pub events: Vec<String>,
    /// Payload of bodies that came in.
    pub payload: Vec<u8>,
    /// What the server has sent.
    pub out: Vec<u8>,
    /// How it closes.
    pub close: Option<Close>,
}

/// The session, what came of it, and input that it has not taken.
pub struct Conversation<C: Cipher> {
    session: ServerSession<{ command_len(64) }, C>,
    waiting: Vec<u8>,
    /// What came of it so far.
    pub told: Told,
}

impl<C: Cipher> Conversation<C> {
    /// At the beginning of a connection.
    pub fn new(session: ServerSession<{ command_len(64) }, C>) -> Self {
        Self { session, waiting: Vec::new(), told: Told::default() }
    }

    /// Takes as much as it can before more comes.
    pub fn feed(&mut self, piece: &[u8]) {
        self.waiting.extend_from_slice(piece);
        let mut taken = 0;
        loop {
            self.answer();
            let mut bytes = self.waiting[taken..].to_vec();
            let n = match self.session.receive(&mut bytes) {
                Ok(received) => {
                    self.told.payload.extend_from_slice(received.payload);
                    received.taken
                }
                Err(_) => 0,
            };
            taken += n;
            if n == 0 {
                self.waiting.drain(..taken);
                return;
            }
        }
    }

    /// The stream ends.
    pub fn end(mut self) -> Told {
        self.session.handle_eof();
        self.answer();
        self.told.close = self.session.poll_close();
        self.told
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
                let mut room = [0; 39];
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
                Request::List { .. } | Request::Tree { .. } => Ok(Answer::List { omitted: 3 }),
                Request::Stat { .. } => Ok(Answer::Stat(Stat { size: 1, mtime: None, crc: None })),
                Request::Read { offset, length, .. } => {
                    clamp_range(offset, length, 30).map(|length| Answer::Read { length, size: 30, tag: Tag::UNKNOWN })
                }
                Request::Resume { .. } => Ok(Answer::Resume { offset: 0, crc: 0 }),
                Request::Write { offset, size, .. } if offset > size => Err(ErrorCode::Range.into()),
                Request::Write { offset: 7, .. } | Request::Put { .. } => Err(ErrorCode::NoSpace.into()),
                Request::Write { .. } => Ok(Answer::Write { crc: 0 }),
                Request::Sum { .. } => Ok(Answer::Sum { length: 0, crc: 0 }),
                Request::Copy { .. } => Ok(Answer::Stored { size: 1, crc: None }),
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

/// Tells `session` the pieces.
pub fn converse<'a, C: Cipher>(
    session: ServerSession<{ command_len(64) }, C>,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Told {
    let mut conversation = Conversation::new(session);
    pieces.for_each(|piece| conversation.feed(piece));
    conversation.end()
}

/// `input` in pieces of the lengths `cuts`, over and over.
pub fn pieces<'a>(input: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = input;
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle().take(input.len()) {
        let (piece, left) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = left;
    }
    pieces.push(rest);
    pieces
}
