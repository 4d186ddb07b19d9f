//! What a connection sends: commands and bodies.

use core::convert::Infallible;
use core::task::Poll;
use std::collections::VecDeque;
use std::rc::Rc;

use skiff_proto::ErrorCode;
use skiff_proto::message::{HEADER_LEN, TAG};

use super::{Body, Gone, Pipe, Session};
use crate::flash::Rng;
use crate::simulate::judge::Asked;
use crate::simulate::middle::Attack;
use crate::simulate::op::{Fate, Op};
use crate::tunnel::HELLO;

impl Pipe {
    /// Sends what can be sent.
    pub(super) fn push(&mut self, ops: &mut VecDeque<Op>) -> Result<bool, Gone> {
        let mut moved = false;
        while self.stalled.is_none() {
            if self.sent < self.out.len() {
                let end = self.out.len().min(self.sent.saturating_add(self.room()));
                match self.stream.poll_write(&self.out[self.sent..end]) {
                    Poll::Pending => return Ok(moved),
                    Poll::Ready(n) => {
                        let n = n?;
                        self.sent += n;
                        moved = true;
                        self.spend(n)?;
                    }
                }
                continue;
            }
            self.out.clear();
            self.sent = 0;
            if self.session.has_output() {
                self.out.resize(256, 0);
                let n = self.session.poll_transmit(&mut self.out);
                self.out.truncate(n);
            } else if let Some(body) = &mut self.body {
                Self::send_body(&mut self.session, body, &mut self.out, &mut self.rng);
                if !self.session.is_sending()
                    && let Some(body) = self.body.take()
                {
                    self.control.truth.borrow_mut().end_upload(body.number);
                }
            } else if self.session.can_request()
                && ops.front().is_some_and(|op| self.may_ask(op))
                && let Some(op) = ops.pop_front()
            {
                self.ask(op);
            } else {
                break;
            }
            self.pass_up();
        }
        Ok(moved)
    }

    /// Passes the output to the man in the middle.
    fn pass_up(&mut self) {
        let struck = self.up.struck();
        let passed = self.up.pass(&self.out);
        // The handshake covers the server's reply to the hello, and a verb in capitals is the same one.
        let is_same = passed.forged.eq_ignore_ascii_case(HELLO) && !self.is_protected;
        self.out = [passed.genuine, passed.forged].concat();
        if let Some(attack) = self.up.struck().filter(|_| struck.is_none()) {
            // Swapping the second message of the handshake with the first has no effect on the first.
            let first = self.commands + u64::from(attack == Attack::Repeat);
            self.void = Some(first).filter(|_| !is_same);
            self.strikes(attack, "to");
        }
    }

    pub(super) fn strikes(&self, attack: Attack, way: &str) {
        self.control.count(|counts| counts.forgeries += 1);
        let (station, number) = (self.station, self.number);
        self.control
            .trace(|| format!("client {station}: {attack:?} of a message {way} the server, connection {number}"));
    }

    /// Permits one classic transfer at a time, because a PORT that is claimed late may belong to another client by
    /// then.
    fn may_ask(&self, op: &Op) -> bool {
        let is_transfer = |op: &Op| matches!(op, Op::Get(_) | Op::Put { .. });
        !is_transfer(op) || (self.transfers.is_empty() && !self.asked.iter().any(|asked| is_transfer(&asked.op)))
    }

    /// The next piece of a body.
    fn send_body(session: &mut Session, body: &mut Body, out: &mut Vec<u8>, rng: &mut Rng) {
        if let Fate::Abort(at) = body.fate
            && body.at >= at
        {
            session.abort(ErrorCode::Cancelled).expect("a body is sent");
        } else if let Some(left) = session.left().filter(|&left| left > 0) {
            let all = usize::try_from(left).unwrap_or(usize::MAX);
            let most = if rng.one_in(2) { all } else { 1 + rng.below(all) };
            let mut room = vec![0; HEADER_LEN + TAG + 1 + rng.below(1500)];
            session.set_data_max(u32::try_from(most).unwrap_or(u32::MAX));
            let sent = session.send(&mut room, |room| {
                let end = match body.fate {
                    Fate::Abort(at) => at,
                    _ => body.file.bytes.len(),
                };
                let n = room.len().min(end - body.at);
                room[..n].copy_from_slice(&body.file.bytes[body.at..body.at + n]);
                body.at += n;
                Ok::<_, Infallible>(n)
            });
            out.extend_from_slice(&room[..sent.expect("a body is sent")]);
        } else {
            session.finish().expect("everything has been sent");
        }
    }

    fn ask(&mut self, op: Op) {
        self.control.count(|counts| counts.commands += 1);
        self.control.trace(|| format!("client {}: {op:?}", self.station));
        self.session.request(&op.command()).expect("it can be asked for");
        let mut truth = self.control.truth.borrow_mut();
        if let Op::Write { name, file, offset, fate } = &op {
            let at = usize::try_from(*offset).expect("short");
            if at > 0 {
                let crc = skiff_proto::crc::crc32c(&file.bytes[..at]);
                self.session.continue_crc(crc).expect("a body is sent");
            }
            match fate {
                Fate::WrongCrc => self.session.supply_crc(Some(!file.crc)).expect("a body is sent"),
                Fate::NoCrc => self.session.supply_crc(None).expect("a body is sent"),
                Fate::Whole | Fate::Abort(_) => {}
            }
            let number = truth.begin_upload(name, file);
            self.body = Some(Body { number, file: Rc::clone(file), at, fate: *fate });
        }
        let (since, changes) = (truth.next_moment(), truth.changes);
        let wish = op.wish().map(|wish| truth.ask(wish, self.number, since));
        self.commands += 1;
        let (number, may_write) = (self.commands, self.may_write());
        self.asked.push_back(Asked { op, number, may_write, since, changes, wish, head: None, body: Vec::new() });
    }
}
