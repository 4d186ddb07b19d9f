//! The cipher of a connection: none, or the Noise handshake and its records (PROTOCOL §8).
//!
//! A session is generic over a [`Cipher`] and holds its side of it: the server a [`Guard`], the client a [`Handshake`].
//! Both are also [`Records`]: they seal and open the messages of the connection.

use crate::command::{BadCommand, Command};
use crate::error::{ErrorCode, Refusal};
use crate::identity::{KeyId, StageOwner};
use crate::message::{Forged, Records};
use crate::time::Instant;

/// How connections may be protected: not at all ([`Plain`]), or by [`Noise`](crate::secure) (feature `secure`).
pub trait Cipher {
    /// The server's state for the cipher.
    type Server: Guard;
    /// The client's state for the cipher.
    type Client: Handshake;
}

/// The server's part of a handshake: what a connection may do before and after it (PROTOCOL §8).
pub trait Guard: Records + Sized {
    /// What a parked session keeps.
    type Parked;

    /// The bytes of the longest command that a server reads, whatever its `name-max`.
    const COMMAND_LEN: usize;

    /// Writes the offer, the words about protection at the end of the hello, at most [`MAX_OFFER`] bytes. Returns the
    /// number of bytes.
    fn offer(&self, out: &mut [u8]) -> usize;

    /// Decides whether a command may be executed. `parsed` is the parsed command; `hello` writes the hello reply
    /// without the offer.
    fn admit(
        &mut self,
        command: &[u8],
        parsed: &Result<Command<'_>, BadCommand>,
        hello: impl FnOnce(&mut [u8]) -> usize,
    ) -> Admission;

    /// The deadline of the handshake.
    fn deadline(&self) -> Option<Instant>;

    /// Whose key protects the connection.
    fn client(&self) -> Option<&KeyId>;

    /// Who owns the stages that the connection writes.
    fn stage_owner(&self) -> StageOwner;

    /// The part of a protected connection that a parked session keeps; `None` before the handshake.
    fn park(&self) -> Option<Self::Parked>;

    /// Restores a parked connection.
    fn resume(parked: Self::Parked) -> Self;
}

/// The decision of a [`Guard`] on a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Admission {
    /// The command is executed.
    Granted,
    /// It is refused.
    Refused(Refusal),
    /// It is refused, and the connection is closed.
    Closed(ErrorCode),
    /// The handshake succeeded: this is its second message.
    #[cfg(feature = "secure")]
    Secured([u8; 48]),
    /// The reply with the second message has been sent: all further messages are sealed.
    Activated,
}

/// The client's part of a handshake.
pub trait Handshake: Records {
    /// Composes the command `secure` for the server whose hello reply is `hello`. Returns the number of bytes; `None`
    /// if the server does not offer what the client needs.
    fn begin(&mut self, hello: &[u8], out: &mut [u8]) -> Option<usize>;

    /// Handles the reply to `secure`. From then on all messages are sealed.
    ///
    /// # Errors
    /// [`Forged`]: the reply is not from a server that knows the key.
    fn finish(&mut self, reply: &[u8]) -> Result<(), Forged>;
}

/// The longest offer in a hello, in bytes.
pub const MAX_OFFER: usize = " noise=".len() + 37 + 1 + 33 + " record-max=".len() + 5 + " nonce=".len() + 32;

/// No cipher: a type without values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Plain {}

impl Cipher for Plain {
    type Server = Self;
    type Client = Self;
}

impl Records for Plain {
    fn is_active(&self) -> bool {
        match *self {}
    }

    fn record_max(&self) -> usize {
        match *self {}
    }

    fn open(&mut self, _record: &mut [u8]) -> Result<(), Forged> {
        match *self {}
    }

    fn seal(&self, _record: &mut [u8]) {
        match *self {}
    }

    fn sent(&mut self) {
        match *self {}
    }

    fn is_spent(&self) -> bool {
        match *self {}
    }
}

impl Guard for Plain {
    type Parked = Self;

    const COMMAND_LEN: usize = 0;

    fn offer(&self, _out: &mut [u8]) -> usize {
        match *self {}
    }

    fn admit(
        &mut self,
        _command: &[u8],
        _parsed: &Result<Command<'_>, BadCommand>,
        _hello: impl FnOnce(&mut [u8]) -> usize,
    ) -> Admission {
        match *self {}
    }

    fn deadline(&self) -> Option<Instant> {
        match *self {}
    }

    fn client(&self) -> Option<&KeyId> {
        match *self {}
    }

    fn stage_owner(&self) -> StageOwner {
        match *self {}
    }

    fn park(&self) -> Option<Self> {
        match *self {}
    }

    fn resume(parked: Self) -> Self {
        parked
    }
}

impl Handshake for Plain {
    fn begin(&mut self, _hello: &[u8], _out: &mut [u8]) -> Option<usize> {
        match *self {}
    }

    fn finish(&mut self, _reply: &[u8]) -> Result<(), Forged> {
        match *self {}
    }
}
