//! The server in memory, as seen by a vector's client.

use skiff_proto::cipher::{Cipher, Plain};
use skiff_proto::secure::Noise;
use skiff_proto::server::{Close, Limits};

use super::{BUF, Connection, DataConnection, Pace};
use crate::memory::MemoryStore;
use crate::vector::{DataEnd, Link, Problem, Shutdown};

/// A server in memory as a client's [`Link`]: one control and one data connection at a time.
pub struct Server<C: Cipher = Plain> {
    connect: Box<dyn Fn() -> Connection<BUF, C>>,
    connection: Connection<BUF, C>,
    data: Option<DataConnection>,
}

impl Server {
    /// A server with `store`, and a client that has connected.
    #[must_use]
    pub fn new(limits: Limits, store: MemoryStore, pace: Pace) -> Self {
        Self::with(move || Connection::new(limits, store.clone(), pace))
    }
}

impl Server<Noise> {
    /// The same with sealed connections: see [`Connection::sealed`].
    #[must_use]
    pub fn sealed(limits: Limits, store: MemoryStore, pace: Pace, segment: usize) -> Self {
        Self::with(move || Connection::sealed(limits, store.clone(), pace, segment))
    }
}

impl<C: Cipher> Server<C> {
    fn with(connect: impl Fn() -> Connection<BUF, C> + 'static) -> Self {
        let connection = connect();
        Self { connect: Box::new(connect), connection, data: None }
    }

    /// Bytes that the client has received and not yet read.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        self.connection.output()
    }

    fn data(&mut self) -> Result<&mut DataConnection, Problem> {
        self.data.as_mut().ok_or(Problem::new("there is no data connection"))
    }
}

fn take(from: &mut Vec<u8>, len: usize) -> Result<Vec<u8>, Problem> {
    if from.len() < len {
        return Err(Problem::new(format!("{len} bytes were expected, but only \"{}\" came", from.escape_ascii())));
    }
    Ok(from.drain(..len).collect())
}

impl<C: Cipher> Link for Server<C> {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.connection.send(bytes);
        Ok(())
    }

    fn receive(&mut self, len: usize) -> Result<Vec<u8>, Problem> {
        take(&mut self.connection.output, len)
    }

    fn receive_end(&mut self) -> Result<(), Problem> {
        let end = self.connection.end();
        match (self.unread(), end) {
            ([], Some(Close::Gracefully)) => Ok(()),
            (unread, end) => Err(Problem::new(format!("no end but \"{}\", then {end:?}", unread.escape_ascii()))),
        }
    }

    fn reconnect(&mut self) -> Result<(), Problem> {
        self.connection.close();
        self.receive_end()?;
        self.connection = (self.connect)();
        Ok(())
    }

    fn connect_data(&mut self, port: u16) -> Result<(), Problem> {
        self.data = self.connection.connect_data(port);
        self.data().map(|_| ())
    }

    fn send_data(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        self.data()?.send(bytes);
        Ok(())
    }

    fn receive_data(&mut self, len: usize) -> Result<Vec<u8>, Problem> {
        let data = self.data()?;
        let mut received: Vec<u8> = data.take_output();
        let taken = take(&mut received, len)?;
        data.output.extend(received);
        Ok(taken)
    }

    fn end_data(&mut self, shutdown: Shutdown) -> Result<DataEnd, Problem> {
        let data = self.data()?;
        if shutdown == Shutdown::First {
            data.shut_down();
        }
        if !data.output.is_empty() {
            return Err(Problem::new("more came than was expected"));
        }
        data.end().ok_or(Problem::new("the server has not closed"))
    }
}
