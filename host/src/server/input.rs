//! From the socket into session and store.

use core::cell::Cell;
use core::mem;
use core::ops::{Deref, DerefMut};
use std::io;

use skiff_proto::{ErrorCode, Refusal};
use tracing::info;

use super::audit;
use super::connection::{Connection, Open};
use super::would_block;
use crate::store::{DirStore, Stage};

/// Bytes that one read from a socket or a file takes at most.
const SCRATCH: usize = 256 * 1024;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Memory for one step, one piece a thread: nothing stays in it while a task waits, so that a thousand connections need no
/// more of it than one.
#[derive(Debug)]
pub(super) struct Scratch(Vec<u8>);

impl Scratch {
    pub(super) fn take() -> Self {
        let mut memory = SPARE.take();
        if memory.is_empty() {
            memory = vec![0; SCRATCH];
        }
        Self(memory)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(mem::take(&mut self.0));
    }
}

impl Deref for Scratch {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl Connection<'_> {
    /// Moves input on: first what was left over, then what the socket has. False if there is none, or the session can't
    /// take it yet.
    pub(super) fn receive(&mut self) -> io::Result<bool> {
        if !self.input.is_empty() {
            let mut input = mem::take(&mut self.input);
            let taken = self.feed(&mut input[self.taken..]);
            self.taken += taken;
            if self.taken < input.len() {
                self.input = input;
            }
            return Ok(taken > 0);
        }
        if !self.wants_input() {
            return Ok(false);
        }
        let mut scratch = Scratch::take();
        match self.stream.try_read(&mut scratch) {
            Ok(0) => {
                self.ended = true;
                self.session.handle_eof();
                Ok(true)
            }
            Ok(n) => {
                let taken = self.feed(&mut scratch[..n]);
                if taken < n {
                    self.input = scratch[taken..n].to_vec();
                    self.taken = 0;
                }
                Ok(true)
            }
            Err(error) if would_block(&error) => {
                // No further input is waiting: what is in the batch becomes durable now (PROTOCOL §7).
                self.close_batch();
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Feeds `input` to session and store until the session waits for something else; returns how much went.
    fn feed(&mut self, input: &mut [u8]) -> usize {
        let mut taken = 0;
        while taken < input.len() {
            match self.session.receive(&mut input[taken..]) {
                Ok(received) => {
                    taken += received.taken;
                    if received.payload.is_empty() {
                        break;
                    }
                    self.store(received.payload);
                }
                Err(error) => {
                    info!(peer = %self.peer(), %error, "protocol error");
                    // The session says what there is to say, and closes; the rest means nothing.
                    return input.len();
                }
            }
        }
        taken
    }

    /// Puts payload into the stage. If that fails, the session discards the rest.
    fn store(&mut self, bytes: &[u8]) {
        let peer = self.peer();
        let Open::Writing { stage, name } = &mut self.open else {
            return self.check(Err(skiff_proto::InvalidState));
        };
        if let Err(refusal) = append(&self.shared.store, stage, bytes) {
            audit::upload(peer, "write", name, Some(stage.size()), refusal.code.as_str());
            if let Open::Writing { stage, .. } = mem::replace(&mut self.open, Open::Nothing) {
                // There may be room for the rest later: the staged bytes stay, and are dropped first if others need
                // room (R14).
                if refusal.code != ErrorCode::NoSpace {
                    self.shared.store.discard(*stage);
                }
            }
            let refused = self.session.refuse(refusal);
            self.check(refused);
        }
    }
}

/// Appends all of `bytes`.
pub(super) fn append(store: &DirStore, stage: &mut Stage, bytes: &[u8]) -> Result<(), Refusal> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let n = store.append(stage, rest)?;
        rest = &rest[n..];
    }
    Ok(())
}
