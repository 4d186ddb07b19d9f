//! A man in the middle of a sealed connection, who sees whole messages and attacks one of them (PROTOCOL §8).
//!
//! | attack | what the receiver gets |
//! |---|---|
//! | `Flip` | the message with one bit changed, perhaps in its length |
//! | `Repeat` | the message twice |
//! | `Drop` | the next message instead of it |
//! | `Swap` | the next message, then this one |
//!
//! Everything after that is forwarded as it was sent. None of it is genuine any more, because its message numbers are
//! not those that the receiver expects.

use skiff_proto::message::HEADER_LEN;

use crate::flash::Rng;

/// An attack on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attack {
    /// This bit is flipped; numbers beyond the last bit wrap around.
    Flip(usize),
    /// It is delivered twice.
    Repeat,
    /// It is not delivered.
    Drop,
    /// It is delivered after the next one.
    Swap,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub struct Way {
    /// Messages before the one that is attacked.
    attack: Option<(usize, Attack)>,
    /// The incomplete message.
    message: Vec<u8>,
    /// A message to deliver after the next one.
    held: Option<Vec<u8>>,
    struck: Option<Attack>,
    is_forged: bool,
}

/// The forwarded bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Bytes as they were sent.
    pub genuine: Vec<u8>,
    /// The bytes from the first message on that differs from the one sent in its place.
    pub forged: Vec<u8>,
}

impl Way {
    /// A direction without an attacker.
    #[must_use]
    pub fn clear() -> Self {
        Self::default()
    }

    /// A direction in which one message is attacked, early or late.
    #[must_use]
    pub fn attacked(rng: &mut Rng) -> Self {
        let most = rng.pick(&[3, 8, 40]);
        let at = rng.below(most);
        let attack = match rng.below(6) {
            0 => Attack::Repeat,
            1 => Attack::Drop,
            2 => Attack::Swap,
            _ => Attack::Flip(rng.below(1 << 20)),
        };
        Self { attack: Some((at, attack)), ..Self::default() }
    }

    /// The attack, once it has been executed.
    #[must_use]
    pub const fn struck(&self) -> Option<Attack> {
        self.struck
    }

    /// Passes bytes; returns those to forward, including earlier ones.
    pub fn pass(&mut self, bytes: &[u8]) -> Passed {
        let mut passed = Passed::default();
        if self.attack.is_none() && self.held.is_none() {
            self.forward(bytes, &mut passed);
            return passed;
        }
        self.message.extend_from_slice(bytes);
        while let Some(len) = message_len(&self.message).filter(|&len| len <= self.message.len()) {
            let rest = self.message.split_off(len);
            let message = core::mem::replace(&mut self.message, rest);
            self.pass_message(message, &mut passed);
        }
        if self.attack.is_none() && self.held.is_none() {
            let rest = core::mem::take(&mut self.message);
            self.forward(&rest, &mut passed);
        }
        passed
    }

    fn pass_message(&mut self, mut message: Vec<u8>, passed: &mut Passed) {
        match &mut self.attack {
            Some((0, attack)) => {
                let attack = *attack;
                (self.attack, self.struck) = (None, Some(attack));
                match attack {
                    Attack::Flip(bit) => {
                        let at = bit % (8 * message.len());
                        message[at / 8] ^= 1 << (at % 8);
                    }
                    Attack::Repeat => self.forward(&message, passed),
                    Attack::Drop => message.clear(),
                    Attack::Swap => {
                        self.held = Some(message);
                        return;
                    }
                }
                self.is_forged = true;
            }
            Some((left, _)) => *left -= 1,
            None => {
                if let Some(held) = self.held.take() {
                    self.is_forged = true;
                    message.extend(held);
                }
            }
        }
        self.forward(&message, passed);
    }

    fn forward(&self, bytes: &[u8], passed: &mut Passed) {
        let to = if self.is_forged { &mut passed.forged } else { &mut passed.genuine };
        to.extend_from_slice(bytes);
    }
}

/// Bytes of the message that begins here, if its length is there.
fn message_len(bytes: &[u8]) -> Option<usize> {
    let digits = core::str::from_utf8(bytes.get(..HEADER_LEN)?).ok()?;
    Some(HEADER_LEN + digits.parse::<usize>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sans_io::message;

    #[test]
    fn one_message_is_attacked_however_the_stream_is_cut() {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stream = ["one", "two", "three", "four"].map(message).concat();
        let (one, two, three, four) = (message("one"), message("two"), message("three"), message("four"));
        let mut flipped = two.clone();
        flipped[10] ^= 1;
        for (attack, genuine, forged) in [
            (Attack::Flip(80), one.clone(), [flipped, three.clone(), four.clone()].concat()),
            (Attack::Repeat, [one.clone(), two.clone()].concat(), [two.clone(), three.clone(), four.clone()].concat()),
            (Attack::Drop, one.clone(), [three.clone(), four.clone()].concat()),
            (Attack::Swap, one, [three, two, four].concat()),
        ] {
            for cut in 1..stream.len() {
                let mut way = Way { attack: Some((1, attack)), ..Way::default() };
                let mut got = Passed::default();
                for piece in stream.chunks(cut) {
                    let passed = way.pass(piece);
                    assert!(passed.genuine.is_empty() || got.forged.is_empty());
                    got.genuine.extend(passed.genuine);
                    got.forged.extend(passed.forged);
                }
                assert_eq!(
                    (text(&got.genuine), text(&got.forged)),
                    (text(&genuine), text(&forged)),
                    "{attack:?} {cut}"
                );
                assert_eq!((way.struck(), way.is_forged), (Some(attack), true));
            }
        }
        assert_eq!(Way::clear().pass(b"any").genuine, b"any");
    }
}
