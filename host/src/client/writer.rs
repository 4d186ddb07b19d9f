//! A file on the server as a stream to write.

use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use skiff_proto::ErrorCode;
use skiff_proto::command::{Request, Verb};
use tokio::io::AsyncWrite;

use super::Client;
use super::commands::{refusal, request};
use super::connection::Incoming;
use super::error::Error;
use super::event::Event;
use super::job::Sent;
use super::name::parse;
use super::wait::Alarm;

/// A file being written to the server: [`Client::write`].
///
/// The server stores it when [`Writer::finish`] returns, not before. Until then, and if the writer is dropped or fails,
/// a file of that name is unchanged. Dropping it closes the connection; what was sent stays staged for
/// [`Client::resume`]. [`Writer::abort`] discards that too and keeps the connection.
///
/// Up to 256 KiB are collected before they are sent; [`flush`](tokio::io::AsyncWriteExt::flush) sends them at once.
#[derive(Debug)]
pub struct Writer<'a> {
    client: &'a mut Client,
    alarm: Alarm,
    size: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// Refused or lost.
    Failed(Error),
    /// The connection is fit for the next command.
    Over,
}

impl Client {
    /// Opens the file `name` for writing. Exactly `size` bytes must follow.
    ///
    /// ```no_run
    /// # async fn run(client: &mut skiff_host::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::AsyncWriteExt as _;
    ///
    /// let mut writer = client.write("hello.txt", 13).await?;
    /// writer.write_all(b"Hello, board!").await?;
    /// let stored = writer.finish().await?;
    /// assert_eq!(stored.size, 13);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A lost connection is not made again, since only the caller could repeat the bytes. [`Client::put`] reconnects.
    ///
    /// # Errors
    /// [`Error::BadName`]; [`Error::NeedsExtended`] from a classic server (use [`Client::put_bytes`]); connection
    /// errors. If the server refuses the file, the writer reports it.
    pub async fn write(&mut self, name: &str, size: u64) -> Result<Writer<'_>, Error> {
        let name = parse(name)?;
        let begun = self.begin_write(Request::Write { offset: 0, size, mtime: None, name }).await;
        self.closing_on_error(begun)??;
        let alarm = Alarm::new(self.cancel_token());
        Ok(Writer { client: self, alarm, size, state: State::Open })
    }

    /// The outer error ends the connection, the inner one does not.
    async fn begin_write(&mut self, command: Request<'_>) -> Result<Result<(), Error>, Error> {
        // The server has to say first that it knows bodies.
        self.ready().await?;
        self.settle().await?;
        let connection = self.ready().await?;
        if !connection.hello().flatten().is_some_and(|hello| hello.commands.contains(Verb::Write)) {
            return Ok(Err(Error::NeedsExtended { what: "write" }));
        }
        connection.request(&request(command)).map(Ok)
    }
}

impl Writer<'_> {
    /// Bytes that are still to be written.
    #[must_use]
    pub fn remaining(&mut self) -> u64 {
        self.client.parts().and_then(|(connection, _)| connection.session().left()).unwrap_or(0)
    }

    /// Ends the file and waits until the server has stored it durably. Returns its size and CRC-32C.
    ///
    /// # Errors
    /// [`Error::Refused`], for example if the store is full; [`Error::Mismatch`] if fewer bytes were written than
    /// announced, or the server stored something else; connection errors: then it is unknown whether the file was
    /// stored.
    pub async fn finish(mut self) -> Result<Sent, Error> {
        let left = self.remaining();
        if left > 0 && matches!(self.state, State::Open) {
            let what = format!("{} of {} bytes were written", self.size - left, self.size);
            return Err(Error::Mismatch { what });
        }
        let mut crc = None;
        self.run(|writer| {
            let Some((connection, _)) = writer.client.parts() else { return Err(Error::Cancelled) };
            connection.drain();
            if connection.session().is_sending() && !connection.session().has_output() {
                crc = connection.session().crc();
                let finished = connection.session().finish();
                finished.map_err(|error| connection.misused(error))?;
                connection.drain();
            }
            Ok(())
        })
        .await
        .and_then(|event| match event {
            Event::Stored { size, crc: theirs }
                if size == self.size && theirs.is_none_or(|theirs| Some(theirs) == crc) =>
            {
                Ok(Sent { size, resumed: 0, crc, confirmed: true })
            }
            Event::Stored { .. } => {
                let what = "the server stored a different size or checksum".to_owned();
                Err(Error::Mismatch { what })
            }
            event => Err(refusal(event)),
        })
    }

    /// Aborts the file: the server discards what it has received. The connection stays open.
    ///
    /// # Errors
    /// Connection errors.
    pub async fn abort(mut self) -> Result<(), Error> {
        let mut aborted = false;
        let ended = self.run(|writer| {
            let Some((connection, _)) = writer.client.parts() else { return Err(Error::Cancelled) };
            if !core::mem::replace(&mut aborted, true) {
                connection.abort(ErrorCode::Cancelled);
            }
            connection.drain();
            Ok(())
        });
        ended.await.map(drop)
    }

    /// Calls `step`, sends and receives, until the server's answer is here.
    async fn run(&mut self, mut step: impl FnMut(&mut Self) -> Result<(), Error>) -> Result<Event, Error> {
        loop {
            if let State::Failed(error) = &self.state {
                return Err(error.clone());
            }
            let turn = self.turn(&mut step).await;
            match turn {
                Ok(None) => {}
                Ok(Some(event)) => return Ok(event),
                Err(error) => return Err(self.fail(error)),
            }
        }
    }

    async fn turn(&mut self, step: &mut impl FnMut(&mut Self) -> Result<(), Error>) -> Result<Option<Event>, Error> {
        step(self)?;
        let work = self.client.options.work;
        let Some((connection, mut patience)) = self.client.parts() else { return Err(Error::Cancelled) };
        match connection.poll()? {
            Incoming::Event(Event::Refused(error)) if error.is_connection() => return Err(error),
            Incoming::Event(event) => {
                if connection.pending() == 0 && !connection.session().is_sending() && !connection.session().has_output()
                {
                    self.state = State::Over;
                }
                return Ok(Some(event));
            }
            Incoming::Payload(_) => {}
            Incoming::Nothing => {
                if connection.pending() == 0 {
                    patience.idle = work;
                }
                connection.exchange(patience).await?;
            }
        }
        Ok(None)
    }

    fn fail(&mut self, error: Error) -> Error {
        self.client.disconnect();
        self.state = State::Failed(error.clone());
        error
    }

    /// Sends what is queued until there is room; fails if the server has refused the file.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let idle = self.client.options.idle;
        ready!(self.client.poll_exchange(cx, &mut self.alarm, idle))?;
        self.check().into()
    }

    /// Fails if the server has refused the file, before all of it was sent.
    fn check(&mut self) -> Result<(), Error> {
        let Some((connection, _)) = self.client.parts() else { return Err(Error::Cancelled) };
        connection.drain();
        match connection.poll()? {
            Incoming::Event(event) => Err(refusal(event)),
            Incoming::Payload(_) | Incoming::Nothing => Ok(()),
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, Error>> {
        self.check()?;
        loop {
            let Some((connection, _)) = self.client.parts() else { return Poll::Ready(Err(Error::Cancelled)) };
            let mut taken = 0;
            let sent = connection.send_payload(|room| {
                taken = bytes.len().min(room.len());
                room[..taken].copy_from_slice(&bytes[..taken]);
                Ok(taken)
            });
            if sent? {
                return Poll::Ready(Ok(taken));
            }
            ready!(self.poll_room(cx))?;
        }
    }

    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.check()?;
        while self.client.parts().is_some_and(|(connection, _)| connection.pending() > 0) {
            ready!(self.poll_room(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Runs a step of sending; the first error is final.
    fn step<T>(&mut self, step: impl FnOnce(&mut Self) -> Poll<Result<T, Error>>) -> Poll<io::Result<T>> {
        if let State::Failed(error) = &self.state {
            return Poll::Ready(Err(error.clone().into()));
        }
        step(self).map(|result| result.map_err(|error| self.fail(error).into()))
    }
}

impl AsyncWrite for Writer<'_> {
    /// Writing more bytes than announced fails with `InvalidInput`; what was written before stays valid.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if matches!(this.state, State::Open) && this.remaining() == 0 {
            let text = format!("more than the announced {} bytes", this.size);
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidInput, text)));
        }
        this.step(|writer| writer.poll_send(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().step(|writer| writer.poll_sent(cx))
    }

    /// Flushes. Only [`Writer::finish`] stores the file.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        if !matches!(self.state, State::Over) {
            self.client.disconnect();
        }
    }
}
