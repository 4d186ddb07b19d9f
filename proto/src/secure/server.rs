//! The server's part of PROTOCOL §8: what a connection may do before and after its handshake.

use core::fmt;

use zeroize::Zeroizing;

use super::aead::{Aead, Pattern};
use super::handshake::{MESSAGE, Responder};
use super::hash::Bytes;
use super::keys::Secret;
use super::records::{Key, RECORD_MAX, Transport};
use super::unhex;
use crate::cipher::{Admission, Guard, MAX_OFFER};
use crate::command::{BadCommand, Command, Request, VERSION, Verb};
use crate::error::{ErrorCode, InvalidState, Refusal};
use crate::identity::{self, KeyId, NOBODY, StageOwner};
use crate::message::{Forged, Records};
use crate::reply::MAX_REPLY;
use crate::text::Text;
use crate::time::Instant;

/// The time limit of the handshake, from when the connection was accepted.
const HANDSHAKE: core::time::Duration = core::time::Duration::from_secs(10);

/// The source of the ephemeral secret of a handshake. Use each value for one connection only.
#[derive(Clone)]
pub enum Entropy {
    /// 32 unpredictable bytes from a generator that is suitable for keys: they are the ephemeral secret.
    Random([u8; 32]),
    /// Output of a [`Pool`](super::Pool), for a device without such a generator. The ephemeral secret is derived from
    /// it, the device secret, the connection's nonce and the client's message. Forward secrecy is only as strong as the
    /// pool is unpredictable.
    Pool([u8; 32]),
}

/// The secret, nonce and randomness with which a server protects one connection. See
/// [`ServerSession::protect`](crate::server::ServerSession::protect).
#[derive(Clone)]
pub struct Security {
    /// The device secret.
    pub secret: Secret,
    /// The lowest GENERATION that is accepted.
    pub min_generation: u32,
    /// Never used before with this secret, even across restarts and power cuts: [`Secret::nonce`], or random bytes.
    pub nonce: [u8; 16],
    /// The source of the ephemeral secret.
    pub entropy: Entropy,
    /// The longest record in bytes, 600 to 65,535. The driver must have room for a whole record.
    pub record_max: u16,
    /// When the connection was accepted.
    pub accepted: Instant,
}

/// The server session's state of the connection's protection.
pub struct Server<A>(State<A>);

enum State<A> {
    /// Before the handshake.
    Waiting {
        security: Security,
        greeted: bool,
    },
    /// The reply to `secure` is being sent.
    Replying(Protected<A>, Instant),
    Protected(Protected<A>),
    /// The handshake failed: the connection closes.
    Failed,
}

/// A protected connection.
struct Protected<A> {
    transport: Transport<A>,
    client: KeyId,
    owner: StageOwner,
    nonce: [u8; 16],
}

/// What a parked session keeps of the protection of its connection.
pub struct Parked(Protected<Key>);

impl Security {
    /// Consumes the value to protect one connection.
    ///
    /// # Errors
    /// [`InvalidState`] if `record_max` is less than 600.
    pub fn guard<A: Aead>(self) -> Result<Server<A>, InvalidState> {
        if !RECORD_MAX.contains(&self.record_max) {
            return Err(InvalidState);
        }
        Ok(Server(State::Waiting { security: self, greeted: false }))
    }

    pub(super) fn ephemeral(&self, message: &[u8; MESSAGE]) -> Zeroizing<Bytes> {
        match &self.entropy {
            Entropy::Random(bytes) => Zeroizing::new(*bytes),
            Entropy::Pool(pool) => self.secret.derive(&[b"skiff/1 ephemeral ", pool, &self.nonce, message]),
        }
    }
}

impl Drop for Entropy {
    fn drop(&mut self) {
        let (Self::Random(bytes) | Self::Pool(bytes)) = self;
        zeroize::Zeroize::zeroize(bytes);
    }
}

impl<A: Aead> Server<A> {
    const fn protected(&self) -> Option<&Protected<A>> {
        match &self.0 {
            State::Protected(protected) => Some(protected),
            _ => None,
        }
    }

    fn transport(&mut self) -> Option<&mut Transport<A>> {
        match &mut self.0 {
            State::Protected(protected) => Some(&mut protected.transport),
            _ => None,
        }
    }

    /// The pattern of the connection, once it is protected.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        self.protected().map(|protected| protected.transport.pattern())
    }

    #[cfg(test)]
    pub(super) fn set_counters(&mut self, next: u64) {
        self.transport().unwrap().set_counters(next);
    }

    /// Answers `secure`, and erases the secret in any case.
    fn shake_hands(&mut self, command: &[u8], hello: impl FnOnce(&mut [u8]) -> usize) -> Admission {
        let State::Waiting { security, greeted } = &self.0 else { return Admission::Closed(ErrorCode::Denied) };
        let mut text = [0; MAX_REPLY + MAX_OFFER];
        let mut len = hello(&mut text);
        len += self.offer(&mut text[len..]);
        let (admission, next) = match security.answer(command, &text[..len], *greeted) {
            Ok((message, protected)) => {
                (Admission::Secured(message), State::Replying(protected, security.accepted.after(HANDSHAKE)))
            }
            Err(code) => (Admission::Closed(code), State::Failed),
        };
        self.0 = next;
        admission
    }
}

impl Security {
    /// The answer to `secure PATTERN KEYID HEX1`.
    fn answer<A: Aead>(
        &self,
        command: &[u8],
        hello: &[u8],
        greeted: bool,
    ) -> Result<([u8; MESSAGE], Protected<A>), ErrorCode> {
        let mut words = command.split(|&byte| byte == b' ').skip(1);
        let pattern = words.next().ok_or(ErrorCode::BadCommand)?;
        let pattern = Pattern::parse(pattern).filter(|pattern| A::patterns().contains(pattern));
        let pattern = pattern.ok_or(ErrorCode::Unsupported)?;
        let (Some(id), Some(message), None) = (words.next(), words.next(), words.next()) else {
            return Err(ErrorCode::BadCommand);
        };
        // The ROLE may still be unknown: that is looked at behind the tag.
        let (_, _, generation) = identity::split(id).ok_or(ErrorCode::BadCommand)?;
        let asked = &command[..command.len() - message.len() - 1];
        let message = unhex(message).ok_or(ErrorCode::BadCommand)?;
        if !greeted {
            return Err(ErrorCode::Denied);
        }
        let denied = |Forged| ErrorCode::Denied;
        let psk = self.secret.psk(id);
        // Looked at behind the tag, but made before: so every denial takes the same time.
        let client = KeyId::parse(id).filter(|_| generation >= self.min_generation);
        let responder = Responder::new::<A>(pattern, &psk, &[hello, b"\n", asked], &message).map_err(denied)?;
        let client = client.ok_or(ErrorCode::Denied)?;
        let (reply, keys) = responder.reply::<A>(&self.ephemeral(&message)).map_err(denied)?;
        let transport = Transport::server(pattern, self.record_max, &keys);
        let owner = self.secret.stage_owner(&client);
        Ok((reply, Protected { transport, client, owner, nonce: self.nonce }))
    }
}

impl<A: Aead> Guard for Server<A> {
    type Parked = Parked;

    /// The longest `secure`.
    const COMMAND_LEN: usize = super::MAX_SECURE;

    fn offer(&self, out: &mut [u8]) -> usize {
        let nonce = match &self.0 {
            State::Waiting { security, .. } => &security.nonce,
            State::Replying(protected, _) | State::Protected(protected) => &protected.nonce,
            State::Failed => return 0,
        };
        let mut text = Text::new(out);
        text.str(" noise=");
        for (at, pattern) in A::patterns().iter().enumerate() {
            text.str(if at == 0 { "" } else { "," }).str(pattern.as_str());
        }
        text.str(" record-max=").num(self.record_max() as u64).str(" nonce=").hex(nonce);
        text.len()
    }

    fn admit(
        &mut self,
        command: &[u8],
        parsed: &Result<Command<'_>, BadCommand>,
        hello: impl FnOnce(&mut [u8]) -> usize,
    ) -> Admission {
        let verb = Verb::of(command);
        match &mut self.0 {
            State::Waiting { greeted, .. } => match parsed {
                Ok(Command::Hello { version }) => {
                    *greeted |= *version == VERSION;
                    Admission::Granted
                }
                Ok(Command::Quit) => Admission::Granted,
                _ if verb == Some(Verb::Secure) => self.shake_hands(command, hello),
                _ => Admission::Refused(ErrorCode::Denied.into()),
            },
            State::Replying(..) => {
                if let State::Replying(protected, _) = core::mem::replace(&mut self.0, State::Failed) {
                    self.0 = State::Protected(protected);
                }
                Admission::Activated
            }
            State::Protected(protected) => match parsed {
                Ok(Command::Request(Request::Get { .. } | Request::Put { .. })) => {
                    Admission::Refused(ErrorCode::Unsupported.into())
                }
                Ok(Command::Request(Request::Ls)) => Admission::Refused(ErrorCode::Unsupported.into()),
                _ if verb == Some(Verb::Secure) => Admission::Refused(ErrorCode::BadCommand.into()),
                _ if verb.is_some_and(Verb::needs_write) && !protected.client.role().may_write() => {
                    Admission::Refused(Refusal::new(ErrorCode::Denied, "this key may only read"))
                }
                _ => Admission::Granted,
            },
            State::Failed => Admission::Closed(ErrorCode::Denied),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.0 {
            State::Waiting { security, .. } => Some(security.accepted.after(HANDSHAKE)),
            State::Replying(_, deadline) => Some(*deadline),
            State::Protected(_) | State::Failed => None,
        }
    }

    fn client(&self) -> Option<&KeyId> {
        self.protected().map(|protected| &protected.client)
    }

    fn stage_owner(&self) -> StageOwner {
        self.protected().map_or(NOBODY, |protected| protected.owner)
    }

    fn park(&self) -> Option<Parked> {
        let protected = self.protected()?;
        let Protected { client, owner, nonce, .. } = *protected;
        Some(Parked(Protected { transport: protected.transport.park(), client, owner, nonce }))
    }

    fn resume(parked: Parked) -> Self {
        let Protected { client, owner, nonce, .. } = parked.0;
        Self(State::Protected(Protected { transport: parked.0.transport.resume(), client, owner, nonce }))
    }
}

impl<A: Aead> Records for Server<A> {
    fn is_active(&self) -> bool {
        matches!(self.0, State::Protected(_))
    }

    fn record_max(&self) -> usize {
        match &self.0 {
            State::Waiting { security, .. } => security.record_max.into(),
            State::Replying(protected, _) | State::Protected(protected) => Records::record_max(&protected.transport),
            State::Failed => 0,
        }
    }

    fn open(&mut self, record: &mut [u8]) -> Result<(), Forged> {
        self.transport().ok_or(Forged)?.open(record)
    }

    fn seal(&self, record: &mut [u8]) {
        if let Some(protected) = self.protected() {
            protected.transport.seal(record);
        }
    }

    fn sent(&mut self) {
        if let Some(transport) = self.transport() {
            transport.sent();
        }
    }

    fn is_spent(&self) -> bool {
        self.protected().is_some_and(|protected| protected.transport.is_spent())
    }
}

impl<A> fmt::Debug for Server<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Waiting { .. } => "Waiting",
            State::Replying(..) => "Replying",
            State::Protected(_) => "Protected",
            State::Failed => "Failed",
        })
    }
}

impl fmt::Debug for Parked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parked({})", self.0.client)
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("min_generation", &self.min_generation).finish_non_exhaustive()
    }
}
