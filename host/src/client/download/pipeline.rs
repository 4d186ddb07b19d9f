//! Many `read`s on one connection.
//!
//! Commands are sent while there is room; bodies arrive one after the other.

use std::collections::VecDeque;

use skiff_proto::command::Request;

use super::resume;
use super::state::{Downloads, Flight};
use crate::client::Client;
use crate::client::commands::{Again, no, request};
use crate::client::connection::Incoming;
use crate::client::error::Error;
use crate::client::event::Event;
use crate::client::name::parse;
use crate::client::passes::End;

impl Client {
    /// Processes the queue on one connection.
    pub(super) async fn pass(&mut self, run: &mut Downloads<'_>) -> Result<End, Error> {
        resume::find(self, run).await?;
        let mut flight = VecDeque::new();
        let mut checks = Vec::new();
        let end = self.pump_reads(run, &mut flight, &mut checks).await;
        for flight in flight.into_iter().rev() {
            let Flight::Read(task) = flight else { continue };
            if run.is_wanted(task) {
                run.files.queue.push_front(task);
            } else {
                // Its file may hold more than its sink knows of.
                run.settle(task);
            }
        }
        if !checks.is_empty() && matches!(end, Ok(End::Done)) {
            return self.check(run, checks).await.map(|()| End::Done);
        }
        run.files.queue.extend(checks);
        end
    }

    async fn pump_reads(
        &mut self,
        run: &mut Downloads<'_>,
        flight: &mut VecDeque<Flight>,
        checks: &mut Vec<usize>,
    ) -> Result<End, Error> {
        self.ready().await?;
        let Some((connection, patience)) = self.parts() else { return Ok(End::Reconnect) };
        loop {
            if connection.hello() == Some(None) {
                return Ok(End::Classic);
            }
            while connection.can_request(2)
                && let Some(index) = run.files.next()
            {
                let name = parse(run.files.name(index))?;
                if run.wants_mtime(index) {
                    connection.request(&request(Request::Stat { name }))?;
                    flight.push_back(Flight::Stat(index));
                }
                flight.push_back(Flight::Read(index));
                connection.request(&request(Request::Read {
                    offset: run.files.tasks[index].sink.offset(),
                    length: None,
                    name,
                }))?;
            }
            loop {
                let event = match connection.poll()? {
                    Incoming::Nothing => break,
                    Incoming::Payload(range) => {
                        let Some(&Flight::Read(index)) = flight.front() else { continue };
                        run.take(index, connection.input(range), connection.body_crc());
                        if run.is_unwanted(index) {
                            flight.pop_front();
                            run.settle(index);
                            return Ok(End::Reconnect);
                        }
                        continue;
                    }
                    Incoming::Event(event) => event,
                };
                match (event, flight.front()) {
                    (Event::Ignored, _) => {}
                    (Event::Read { length, size, tag }, Some(&Flight::Read(index))) => {
                        run.begin(index, length, size, tag);
                        if run.is_unwanted(index) {
                            flight.pop_front();
                            run.settle(index);
                            return Ok(End::Reconnect);
                        }
                    }
                    // In place of a reply, and the connection is closed (PROTOCOL §5).
                    (Event::Refused(error), Some(_)) if error.is_connection() => return Err(error),
                    (event, Some(&front)) => {
                        flight.pop_front();
                        run.answer(front, event, checks);
                    }
                    (_, None) => {}
                }
            }
            if flight.is_empty() && run.files.queue.is_empty() {
                return Ok(End::Done);
            }
            if connection.owed() > 0 {
                connection.pace(patience.cancel).await;
                connection.exchange(patience).await?;
            }
        }
    }

    /// Compares whole files whose first part no TAG confirms.
    pub(super) async fn check(&mut self, run: &mut Downloads<'_>, checks: Vec<usize>) -> Result<(), Error> {
        let names = checks.iter().map(|&index| parse(run.files.name(index))).collect::<Result<Vec<_>, _>>()?;
        let sums = names.into_iter().map(|name| request(Request::Sum { offset: 0, length: None, name }));
        let sums = self.batch(&sums.collect::<Vec<_>>(), "continuing", Again::Yes).await;
        let mut lost = Ok(());
        for (index, sum) in checks.into_iter().zip(sums) {
            let sink = &run.files.tasks[index].sink;
            match sum {
                Ok(Event::Sum { length, crc }) if length == sink.offset() && crc == Some(sink.crc().value()) => {
                    run.commit(index, true);
                }
                Ok(_) => run.restart(index),
                Err(error) => match no(error) {
                    Ok(_) => run.restart(index),
                    Err(error) => {
                        run.files.queue.push_back(index);
                        lost = Err(error);
                    }
                },
            }
        }
        lost
    }
}
