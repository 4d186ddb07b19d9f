//! A client's end of a sealed connection, for plain conversations (PROTOCOL §8): it seals each message to the server
//! and opens each one from it, so that a conversation written for a plain connection runs over a sealed one.
//!
//! It works with any transport: a session in memory ([`Connection::sealed`](crate::sans_io::Connection::sealed)), or
//! a socket.

use skiff_proto::cipher::Handshake as _;
use skiff_proto::message::{HEADER_LEN, Records as _, TAG};
use skiff_proto::secure::{ChaChaPoly, Client, Key, Login};

use crate::vector::Problem;

/// The hello request with which a client begins.
pub const HELLO: &[u8] = b"0000000012get /skiff/1";

/// See the module documentation.
pub struct Tunnel {
    records: Client<ChaChaPoly>,
    /// Incomplete messages, to the server and back.
    up: Vec<u8>,
    down: Vec<u8>,
}

impl Tunnel {
    /// The state before [`HELLO`] is sent. `ephemeral`: random, if that matters.
    #[must_use]
    pub fn new(key: Key, ephemeral: [u8; 32]) -> Self {
        Self { records: Login { key, ephemeral }.start(), up: Vec::new(), down: Vec::new() }
    }

    /// Handles the server's answer to the hello; returns the next message to send.
    ///
    /// # Errors
    /// The server does not offer protection.
    pub fn begin(&mut self, hello: &[u8]) -> Result<Vec<u8>, Problem> {
        let mut command = [0; 400];
        let len = hello.get(HEADER_LEN..).and_then(|hello| self.records.begin(hello, &mut command));
        let len = len.ok_or_else(|| Problem::new(format!("no offer: {}", hello.escape_ascii())))?;
        Ok(crate::sans_io::message(&command[..len]))
    }

    /// Handles the server's answer to that; from now on all messages are sealed.
    ///
    /// # Errors
    /// The server refuses the key, or does not know it.
    pub fn finish(&mut self, reply: &[u8]) -> Result<(), Problem> {
        let finished = reply.get(HEADER_LEN..).map(|reply| self.records.finish(reply));
        finished.and_then(Result::ok).ok_or_else(|| Problem::new(format!("no key: {}", reply.escape_ascii())))
    }

    /// Seals plain bytes; returns the records of the messages that are complete now. Data that is too long for one
    /// record takes several; bytes that do not begin with a length are sent unchanged.
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.up.extend_from_slice(plain);
        let mut wire = Vec::new();
        while let Some(len) = whole(&self.up) {
            let rest = self.up.split_off(len);
            let message = core::mem::replace(&mut self.up, rest);
            let payload = &message[HEADER_LEN..];
            let most = self.records.record_max() - TAG;
            for payload in payload.chunks(most).chain(payload.is_empty().then_some(payload)) {
                let mut record = [payload, &[0; TAG]].concat();
                self.records.seal(&mut record);
                self.records.sent();
                wire.extend(crate::sans_io::message(record));
            }
        }
        if self.up.iter().take(HEADER_LEN).any(|byte| !byte.is_ascii_digit()) {
            wire.append(&mut self.up);
        }
        wire
    }

    /// Opens received bytes; returns the messages of the records that are complete now.
    ///
    /// # Errors
    /// A record is forged.
    pub fn open(&mut self, wire: &[u8]) -> Result<Vec<u8>, Problem> {
        self.down.extend_from_slice(wire);
        let mut plain = Vec::new();
        while let Some(len) = whole(&self.down) {
            let rest = self.down.split_off(len);
            let mut message = core::mem::replace(&mut self.down, rest);
            let record = &mut message[HEADER_LEN..];
            self.records.open(record).map_err(|error| Problem::new(format!("{error:?}, {} bytes", record.len())))?;
            let len = record.len() - TAG;
            plain.extend(crate::sans_io::message(&record[..len]));
        }
        Ok(plain)
    }
}

/// The length of the message at the start of `bytes`, if it is complete.
fn whole(bytes: &[u8]) -> Option<usize> {
    let digits = bytes.get(..HEADER_LEN).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let len = HEADER_LEN + core::str::from_utf8(digits).ok()?.parse::<usize>().ok()?;
    (bytes.len() >= len).then_some(len)
}
