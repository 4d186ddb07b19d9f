//! Short commands, single and pipelined.

use core::time::Duration;
use std::collections::VecDeque;
use std::time::Instant;

use skiff_proto::Name;
use skiff_proto::command::{Command, Request};

use super::connection::{Incoming, Patience};
use super::error::Error;
use super::event::Event;
use super::name::parse;
use super::{Client, Space, Stat};

/// What a server has staged from an interrupted `write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Staged {
    /// Bytes.
    pub offset: u64,
    /// Their CRC-32C.
    pub crc: Option<u32>,
}

/// The checksum of a file or a part of it, or of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    /// Bytes that it covers.
    pub length: u64,
    /// Their CRC-32C.
    pub crc: Option<u32>,
}

/// Whether a command may be repeated if the connection was lost before its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// It changes nothing.
    Yes,
    /// It may have been executed.
    No,
}

impl Client {
    /// `ping`: returns the round-trip time, without connecting.
    ///
    /// # Errors
    /// Connection errors; [`Error::NeedsExtended`].
    pub async fn ping(&mut self) -> Result<Duration, Error> {
        self.connected().await?;
        let start = Instant::now();
        self.one(Command::Ping, "ping", Again::Yes).await?;
        Ok(start.elapsed())
    }

    /// `stat`
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::BadName`], [`Error::NeedsExtended`]; connection errors.
    pub async fn stat(&mut self, name: &str) -> Result<Stat, Error> {
        let name = parse(name)?;
        stat(self.one(request(Request::Stat { name }), "stat", Again::Yes).await?)
    }

    /// `stat` of many files, pipelined; the results are in the order of the names.
    ///
    /// # Errors
    /// Errors of one name are in its result. [`Error::NeedsExtended`] and connection errors are in that result and all
    /// later ones.
    pub async fn stat_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<Stat, Error>> {
        let results = self.many(names, |name| Request::Stat { name }, "stat", Again::Yes).await;
        results.into_iter().map(|result| result.and_then(stat)).collect()
    }

    /// `sum`: the checksum of `length` bytes (`None`: to the end) from `offset` on, computed by the server.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn sum(&mut self, name: &str, offset: u64, length: Option<u64>) -> Result<Sum, Error> {
        let name = parse(name)?;
        sum(self.one(request(Request::Sum { offset, length, name }), "sum", Again::Yes).await?)
    }

    /// `sum` of many whole files, pipelined; the results are in the order of the names.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn sum_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<Sum, Error>> {
        let sum_of = |name| Request::Sum { offset: 0, length: None, name };
        let results = self.many(names, sum_of, "sum", Again::Yes).await;
        results.into_iter().map(|result| result.and_then(sum)).collect()
    }

    /// `resume`: what is staged of `name` for a `write` of `size` bytes. Fails as such a `write` would.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn resume(&mut self, name: &str, size: u64) -> Result<Staged, Error> {
        let name = parse(name)?;
        staged(self.one(request(Request::Resume { size, name }), "resume", Again::Yes).await?)
    }

    /// `resume` of many names, pipelined, each for a `write` of 0 bytes: whether the server would take it. The results are
    /// in the order of the names.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn resume_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<Staged, Error>> {
        let results = self.many(names, |name| Request::Resume { size: 0, name }, "resume", Again::Yes).await;
        results.into_iter().map(|result| result.and_then(staged)).collect()
    }

    /// `remove`. Not repeated after a lost connection, since it may have been executed.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn remove(&mut self, name: &str) -> Result<(), Error> {
        let name = parse(name)?;
        done(self.one(request(Request::Remove { name }), "remove", Again::No).await?)
    }

    /// `remove` of many files, pipelined; the results are in the order of the names.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn remove_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<(), Error>> {
        let results = self.many(names, |name| Request::Remove { name }, "remove", Again::No).await;
        results.into_iter().map(|result| result.and_then(done)).collect()
    }

    /// `rename`: replaces `to` if it exists.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn rename(&mut self, from: &str, to: &str) -> Result<(), Error> {
        let (from, to) = (parse(from)?, parse(to)?);
        done(self.one(request(Request::Rename { from, to }), "rename", Again::No).await?)
    }

    /// `rename` of many files, from and to, pipelined; the results are in the order of the pairs.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn rename_many<S: AsRef<str>>(&mut self, pairs: &[(S, S)]) -> Vec<Result<(), Error>> {
        let names: Vec<_> = pairs.iter().map(|(from, to)| Ok((parse(from.as_ref())?, parse(to.as_ref())?))).collect();
        let good = names.iter().filter_map(|names: &Result<_, Error>| names.as_ref().ok());
        let commands: Vec<_> = good.map(|&(from, to)| request(Request::Rename { from, to })).collect();
        let mut replies = self.batch(&commands, "rename", Again::No).await.into_iter();
        let mut reply = |_| replies.next().unwrap_or(Err(Error::Cancelled)).and_then(done);
        names.into_iter().map(|names| names.and_then(&mut reply)).collect()
    }

    /// `copy`: the server copies a file, and replaces `to` if it exists. Returns its size, and its checksum if the
    /// server knows it.
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn copy(&mut self, from: &str, to: &str) -> Result<Sum, Error> {
        let (from, to) = (parse(from)?, parse(to)?);
        match self.one(request(Request::Copy { from, to }), "copy", Again::No).await? {
            Event::Stored { size, crc } => Ok(Sum { length: size, crc }),
            event => Err(refusal(event)),
        }
    }

    /// `mkdir`
    ///
    /// # Errors
    /// As [`Client::stat`]; `exists`.
    pub async fn mkdir(&mut self, name: &str) -> Result<(), Error> {
        let name = parse(name)?;
        done(self.one(request(Request::Mkdir { name }), "mkdir", Again::No).await?)
    }

    /// `mkdir` of many directories, pipelined and in their order; the results are in the order of the names.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn mkdir_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<(), Error>> {
        let results = self.many(names, |name| Request::Mkdir { name }, "mkdir", Again::No).await;
        results.into_iter().map(|result| result.and_then(done)).collect()
    }

    /// `rmdir`
    ///
    /// # Errors
    /// As [`Client::stat`]; `not-empty`.
    pub async fn rmdir(&mut self, name: &str) -> Result<(), Error> {
        let name = parse(name)?;
        done(self.one(request(Request::Rmdir { name }), "rmdir", Again::No).await?)
    }

    /// `rmdir` of many directories, pipelined and in their order; the results are in the order of the names.
    ///
    /// # Errors
    /// As [`Client::stat_many`].
    pub async fn rmdir_many<S: AsRef<str>>(&mut self, names: &[S]) -> Vec<Result<(), Error>> {
        let results = self.many(names, |name| Request::Rmdir { name }, "rmdir", Again::No).await;
        results.into_iter().map(|result| result.and_then(done)).collect()
    }

    /// `space`
    ///
    /// # Errors
    /// As [`Client::stat`].
    pub async fn space(&mut self) -> Result<Space, Error> {
        match self.one(request(Request::Space), "space", Again::Yes).await? {
            Event::Space(space) => Ok(space),
            event => Err(refusal(event)),
        }
    }

    /// One command without a body, and its reply.
    pub(super) async fn one(&mut self, command: Command<'_>, what: &'static str, again: Again) -> Result<Event, Error> {
        let mut reply = self.batch(&[command], what, again).await;
        reply.pop().unwrap_or(Err(Error::Cancelled))
    }

    /// The same command for many names.
    async fn many<'a, S: AsRef<str>>(
        &mut self,
        names: &'a [S],
        make: impl Fn(Name<'a>) -> Request<'a>,
        what: &'static str,
        again: Again,
    ) -> Vec<Result<Event, Error>> {
        let names: Vec<_> = names.iter().map(|name| parse(name.as_ref())).collect();
        let good = names.iter().filter_map(|name| name.as_ref().ok());
        let commands: Vec<_> = good.map(|&name| request(make(name))).collect();
        let mut replies = self.batch(&commands, what, again).await.into_iter();
        let mut reply = |_| replies.next().unwrap_or(Err(Error::Cancelled));
        names.into_iter().map(|name| name.and_then(&mut reply)).collect()
    }

    /// Commands without bodies, pipelined. If the connection turns out to be dead, reconnects once, unless a reply is
    /// missing whose command must not be repeated.
    pub(super) async fn batch(
        &mut self,
        commands: &[Command<'_>],
        what: &'static str,
        again: Again,
    ) -> Vec<Result<Event, Error>> {
        let mut replies = Vec::with_capacity(commands.len());
        if commands.is_empty() {
            // Without a command there is no reply that could carry an error, so the connection is not used.
            return replies;
        }
        let fresh = self.is_fresh();
        if let Err(mut error) = self.pipeline(commands, &mut replies, what).await {
            self.disconnect();
            if matches!(error, Error::Lost { .. }) && again == Again::Yes && !fresh {
                match self.pipeline(commands, &mut replies, what).await {
                    Ok(()) => return replies,
                    Err(again) => error = again,
                }
                self.disconnect();
            }
            replies.resize_with(commands.len(), || Err(error.clone()));
        }
        replies
    }

    /// Sends those of `commands` that have no answer in `replies` yet.
    async fn pipeline(
        &mut self,
        commands: &[Command<'_>],
        replies: &mut Vec<Result<Event, Error>>,
        what: &'static str,
    ) -> Result<(), Error> {
        self.ready().await?;
        let works = |command| {
            matches!(command, &Command::Request(Request::Sum { .. } | Request::Resume { .. } | Request::Copy { .. }))
        };
        let works = commands.iter().any(works);
        let work = self.options.work;
        let Some((connection, patience)) = self.parts() else { return Ok(()) };
        let mut left: VecDeque<_> = commands[replies.len()..].iter().collect();
        while !left.is_empty() || connection.owed() > 0 {
            while let Some(command) = left.front().filter(|_| connection.can_request(1)) {
                if connection.hello() == Some(None) && !is_classic(command) {
                    return fill(replies, commands.len(), what);
                }
                connection.request(command)?;
                left.pop_front();
            }
            loop {
                match connection.poll()? {
                    Incoming::Event(Event::Refused(error)) => replies.push(Err(error)),
                    Incoming::Event(Event::Ignored) => replies.push(Err(Error::NeedsExtended { what })),
                    // The body of a `read` of no bytes, which asks for SIZE and TAG.
                    Incoming::Event(Event::BodyEnd(Ok(_))) | Incoming::Payload(_) => {}
                    Incoming::Event(Event::BodyEnd(Err(error))) => {
                        replies.pop();
                        replies.push(Err(error));
                    }
                    Incoming::Event(event) => replies.push(Ok(event)),
                    Incoming::Nothing => break,
                }
            }
            if connection.owed() > 0 {
                // A server that has not even sent its hello is not working on a request.
                let idle = if works && connection.hello().is_some() { work } else { patience.idle };
                connection.exchange(Patience { idle, ..patience }).await?;
            }
        }
        Ok(())
    }
}

const fn is_classic(command: &Command<'_>) -> bool {
    matches!(command, Command::Request(Request::Get { .. } | Request::Put { .. } | Request::Ls))
}

/// The remaining commands need the extended commands.
#[expect(clippy::unnecessary_wraps, reason = "ends the pipeline")]
fn fill(replies: &mut Vec<Result<Event, Error>>, len: usize, what: &'static str) -> Result<(), Error> {
    replies.resize_with(len, || Err(Error::NeedsExtended { what }));
    Ok(())
}

pub(super) const fn request(request: Request<'_>) -> Command<'_> {
    Command::Request(request)
}

fn done(event: Event) -> Result<(), Error> {
    match event {
        Event::Done => Ok(()),
        event => Err(refusal(event)),
    }
}

fn sum(event: Event) -> Result<Sum, Error> {
    match event {
        Event::Sum { length, crc } => Ok(Sum { length, crc }),
        event => Err(refusal(event)),
    }
}

fn staged(event: Event) -> Result<Staged, Error> {
    match event {
        Event::Resume { offset, crc } => Ok(Staged { offset, crc }),
        event => Err(refusal(event)),
    }
}

fn stat(event: Event) -> Result<Stat, Error> {
    match event {
        Event::Stat(stat) => Ok(stat),
        event => Err(refusal(event)),
    }
}

/// The error in an event that is not the one expected. The session matches replies to commands, so nothing but a
/// refusal gets here.
pub(super) fn refusal(event: Event) -> Error {
    match event {
        Event::Refused(error) => error,
        _ => Error::ClassicRefused,
    }
}

/// What an error in an answer to a question means for the file: `Ok` if it is a no, to be dealt with; an error if it ends
/// the pass.
pub(super) fn no(error: Error) -> Result<Error, Error> {
    match error {
        Error::Connect { .. }
        | Error::Lost { .. }
        | Error::Timeout { .. }
        | Error::Mute { .. }
        | Error::NotSkiff { .. }
        | Error::Protocol { .. }
        | Error::Cancelled
        | Error::NeedsExtended { .. } => Err(error),
        no => Ok(no),
    }
}
