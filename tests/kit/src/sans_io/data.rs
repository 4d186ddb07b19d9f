//! Classic data connections.

use core::time::Duration;
use std::collections::VecDeque;

use skiff_proto::name::MAX_NAME;
use skiff_proto::store::{Store, StoreError};
use skiff_proto::transfer::{Incoming, Outgoing, commit_numbered};
use skiff_proto::{ErrorCode, MinRate, Name, Refusal};

use crate::memory::{MemoryFile, MemoryStage, MemoryStore};
use crate::vector::DataEnd;

/// The purpose of a PORT.
#[derive(Debug)]
pub(super) enum Promise {
    Get { file: MemoryFile, size: u64 },
    Put { name: String },
}

fn name(text: &str) -> Name<'_> {
    Name::parse(text.as_bytes(), MAX_NAME).expect("the session has checked it")
}

/// The answer for the client.
fn refused<T>(result: Result<T, StoreError>) -> Result<T, Refusal> {
    result.map_err(StoreError::refusal)
}

/// One classic data connection to a server in memory.
#[derive(Debug)]
pub struct DataConnection {
    store: MemoryStore,
    transfer: Transfer,
    pub(super) output: VecDeque<u8>,
    end: Option<DataEnd>,
}

#[derive(Debug)]
enum Transfer {
    Get,
    Put { name: String, incoming: Incoming, stage: Option<MemoryStage> },
}

impl DataConnection {
    pub(super) fn new(promise: Promise, store: MemoryStore) -> Self {
        let (idle, rate) = (Duration::from_secs(60), MinRate::DEFAULT);
        match promise {
            Promise::Get { file, size } => {
                let mut this = Self { store, transfer: Transfer::Get, output: VecDeque::new(), end: None };
                this.end = Some(this.send_file(file, Outgoing::new(size, size, idle, rate)));
                this
            }
            Promise::Put { name } => {
                let transfer = Transfer::Put { name, incoming: Incoming::new(idle, rate), stage: None };
                Self { store, transfer, output: VecDeque::new(), end: None }
            }
        }
    }

    /// How the server has ended the connection.
    #[must_use]
    pub const fn end(&self) -> Option<DataEnd> {
        self.end
    }

    /// Takes everything that the client has received.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.output.drain(..).collect()
    }

    /// The client sends `bytes`.
    pub fn send(&mut self, bytes: &[u8]) {
        if self.end.is_none() && self.receive(bytes).is_err() {
            self.reset();
        }
    }

    /// The client ends its sending side.
    pub fn shut_down(&mut self) {
        if self.end.is_none() {
            match self.store_file() {
                Ok(()) => self.end = Some(DataEnd::Closed),
                Err(_) => self.reset(),
            }
        }
    }

    fn send_file(&mut self, mut file: MemoryFile, mut outgoing: Outgoing) -> DataEnd {
        let mut offset = 0;
        let mut buffer = [0; 256];
        while !outgoing.is_done() {
            let n = outgoing.poll_transmit(&mut buffer);
            self.output.extend(&buffer[..n]);
            let Some(payload) = outgoing.payload() else { continue };
            let n = payload.clamp(buffer.len());
            match self.store.read_at(&mut file, offset, &mut buffer[..n]) {
                Ok(n) if n > 0 => {
                    self.output.extend(&buffer[..n]);
                    offset += n as u64;
                    outgoing.advance(n as u64).expect("no more than was asked for");
                }
                _ => return DataEnd::Reset,
            }
        }
        DataEnd::Closed
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let Transfer::Put { name: asked, incoming, stage } = &mut self.transfer else {
            return Ok(());
        };
        let taken = incoming.handle_input(bytes).map_err(|_| ErrorCode::BadLength)?;
        let mut rest = &bytes[taken..];
        if rest.is_empty() {
            return Ok(());
        }
        incoming.advance(rest).map_err(|_| ErrorCode::Mismatch)?;
        if stage.is_none() {
            let announced = incoming.announced().unwrap_or(0);
            *stage = Some(refused(self.store.stage_new(name(asked), announced))?);
        }
        while let (Some(stage), false) = (stage.as_mut(), rest.is_empty()) {
            let n = refused(self.store.append(stage, rest))?;
            rest = &rest[n..];
        }
        Ok(())
    }

    /// At the end of the stream, stores the file under a free name.
    fn store_file(&mut self) -> Result<(), Refusal> {
        let Transfer::Put { name: asked, incoming, stage } = &mut self.transfer else {
            return Ok(());
        };
        incoming.handle_eof().map_err(|_| ErrorCode::Mismatch)?;
        let mut stage = match stage.take() {
            Some(stage) => stage,
            None => refused(self.store.stage_new(name(asked), 0))?,
        };
        let asked = name(asked);
        let mut number = 0;
        loop {
            match commit_numbered(&mut self.store, &mut stage, asked, &mut number, 1) {
                Err(StoreError::NotYet) => {}
                outcome => return refused(outcome),
            }
        }
    }

    fn reset(&mut self) {
        self.end = Some(DataEnd::Reset);
        // Staged bytes without a name are dropped with the stage.
        self.transfer = Transfer::Get;
    }
}
