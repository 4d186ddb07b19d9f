//! The same server with proto's own [`Responder`] between session and store.

use core::task::Poll;
use std::collections::BTreeMap;

use skiff_proto::responder::{Responder, Services, Step, list_room};
use skiff_proto::server::{Close, Limits, ServerSession};
use skiff_proto::store::{Stat, Store};
use skiff_proto::{Instant, Name, Refusal};

use super::desk::Promise;
use super::{BUF, Control, DataConnection, Pace};
use crate::memory::{MemoryFile, MemoryStore};

/// A control connection to a server whose driver is a [`Responder`]. Its store makes changes one by one, or queues them.
pub struct Answered<S: Store = MemoryStore> {
    session: ServerSession<BUF>,
    responder: Responder<S>,
    store: S,
    /// The store itself.
    memory: MemoryStore,
    ports: Ports,
    pace: Pace,
    input: Vec<u8>,
    /// The client has ended its sending side, and the session has been told.
    closed: bool,
    told: bool,
    output: Vec<u8>,
    end: Option<Close>,
}

/// The data connections that the responder asks for.
#[derive(Default)]
struct Ports {
    promises: BTreeMap<u16, Promise>,
}

impl Ports {
    fn announce(&mut self, promise: Promise) -> Poll<Result<u16, Refusal>> {
        let port = self.promises.last_key_value().map_or(50_000, |(port, _)| port + 1);
        self.promises.insert(port, promise);
        Poll::Ready(Ok(port))
    }
}

impl<S: Store<File = MemoryFile>> Services<S> for Ports {
    fn get(&mut self, _name: Name<'_>, file: MemoryFile, stat: Stat) -> Poll<Result<u16, Refusal>> {
        self.announce(Promise::Get { file, size: stat.size })
    }

    fn put(&mut self, store: &mut S, name: Name<'_>, stage: S::Stage) -> Poll<Result<u16, Refusal>> {
        store.discard(stage);
        self.announce(Promise::Put { name: name.as_str().into() })
    }
}

impl<S: Store<File = MemoryFile>> Answered<S> {
    fn run(&mut self) {
        while self.end.is_none() && self.turn() {}
    }

    fn turn(&mut self) -> bool {
        self.session.handle_timeout(Instant::from_millis(1));
        let mut moved = self.responder.step(&mut self.session, &mut self.store, &mut self.ports) != Step::Idle;
        let mut room = vec![0; self.pace.output.max(list_room(255))];
        let n = self.responder.transmit(&mut self.session, &mut self.store, &mut room);
        self.output.extend(&room[..n]);
        moved |= n > 0;
        let offered = self.input.len().min(self.pace.input.max(1));
        let n = self.responder.receive(&mut self.session, &mut self.store, &mut self.input[..offered]);
        self.input.drain(..n);
        moved |= n > 0;
        if self.input.is_empty() && self.closed && !self.told {
            self.told = true;
            self.session.handle_eof();
            moved = true;
        }
        self.end = self.session.poll_close();
        if self.end.is_some() {
            self.responder.close();
        }
        if !moved {
            self.store.flush();
        }
        // Input that breaks the protocol is not taken, and yet there is something to say.
        moved || self.session.has_output() || self.responder.is_waiting(&self.session)
    }
}

impl<S: Store<File = MemoryFile> + From<MemoryStore>> Control for Answered<S> {
    fn open(limits: Limits, store: MemoryStore, pace: Pace) -> Self {
        Self {
            session: ServerSession::new(pace.limits(limits)),
            responder: Responder::new(),
            store: store.clone().into(),
            memory: store,
            ports: Ports::default(),
            pace,
            input: Vec::new(),
            closed: false,
            told: false,
            output: Vec::new(),
            end: None,
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.input.extend(bytes);
        self.run();
    }

    fn close(&mut self) {
        self.closed = true;
        self.run();
    }

    fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    fn end(&self) -> Option<Close> {
        self.end
    }

    fn connect_data(&mut self, port: u16) -> Option<DataConnection> {
        let promise = self.ports.promises.remove(&port)?;
        Some(DataConnection::new(promise, self.memory.clone()))
    }
}
