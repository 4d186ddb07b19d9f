//! A file on the server as a stream to read.

use core::ops::Range;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io;

use skiff_proto::command::Request;
use skiff_proto::reply::Tag;
use tokio::io::{AsyncRead, ReadBuf};

use super::Client;
use super::commands::{refusal, request};
use super::connection::Incoming;
use super::error::Error;
use super::event::Event;
use super::name::parse;
use super::wait::Alarm;

/// The content of a file on the server: [`Client::read`].
///
/// **Reaching the end means that the file is complete and verified.** The last byte is returned only after the server's
/// checksum has arrived and matches. If the connection is lost, the server aborts or the checksum is wrong, reading
/// fails with an [`io::Error`] that contains the [`Error`], and fails again on each further read; it never looks like a
/// shorter file.
/// [`io::Error`] that holds the [`Error`], and fails again each time; it never looks like a shorter file.
///
/// Reads ahead at most 1 MiB. While nothing is read, the server waits, for as long as [`HelloInfo::idle`] says.
///
/// It may be dropped at any byte. Before the end, dropping it closes the connection; the next command reconnects.
///
/// [`HelloInfo::idle`]: super::HelloInfo::idle
#[derive(Debug)]
pub struct Reader<'a> {
    pub(super) client: &'a mut Client,
    alarm: Alarm,
    begun: Begun,
    /// Bytes not received yet.
    left: u64,
    /// Where bytes to be handed out lie in the connection's buffer.
    payload: Range<usize>,
    /// The last byte, which waits for the checksum.
    last: Option<u8>,
    /// How it ended: with the checksum, if the server sent one.
    end: Option<Result<Option<u32>, Error>>,
}

/// What `read` was answered.
#[derive(Debug, Clone, Copy)]
struct Begun {
    length: u64,
    size: u64,
    tag: Tag,
}

impl Client {
    /// Opens the file `name` for reading, from its first byte.
    ///
    /// ```no_run
    /// # async fn run(client: &mut skiff_host::client::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::AsyncReadExt as _;
    ///
    /// let mut reader = client.read("notes.txt").await?;
    /// let mut text = String::new();
    /// reader.read_to_string(&mut text).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// An idle connection that the server has closed is made again. A connection lost later is not, since the file may
    /// change meanwhile; [`Client::get`] resumes.
    ///
    /// # Errors
    /// [`Error::Refused`], for example if there is no such file; [`Error::BadName`]; [`Error::NeedsExtended`] from a
    /// classic server (use [`Client::get_bytes`]); connection errors.
    pub async fn read(&mut self, name: &str) -> Result<Reader<'_>, Error> {
        self.read_range(name, 0, None).await
    }

    /// Opens a part of the file `name` for reading: `length` bytes from byte `offset`, or fewer if the file ends
    /// before; `None`: to its end.
    ///
    /// # Errors
    /// As [`Client::read`]; [`Error::Refused`] with `range` if the file is shorter than `offset`.
    pub async fn read_range(&mut self, name: &str, offset: u64, length: Option<u64>) -> Result<Reader<'_>, Error> {
        let name = parse(name)?;
        let command = Request::Read { offset, length, name };
        let fresh = self.is_fresh();
        let mut begun = self.begin_read(command).await;
        if self.was_closed(begun.as_ref().err(), fresh) {
            begun = self.begin_read(command).await;
        }
        let begun = self.closing_on_error(begun)??;
        let alarm = Alarm::new(self.cancel_token());
        Ok(Reader { client: self, alarm, begun, left: begun.length, payload: 0..0, last: None, end: None })
    }

    /// The outer error ends the connection, the inner one does not.
    async fn begin_read(&mut self, command: Request<'_>) -> Result<Result<Begun, Error>, Error> {
        let connection = self.ready().await?;
        if connection.hello() == Some(None) {
            return Ok(Err(Error::NeedsExtended { what: "read" }));
        }
        connection.request(&request(command))?;
        let Some((connection, patience)) = self.parts() else { return Ok(Err(Error::Cancelled)) };
        loop {
            match connection.poll()? {
                Incoming::Event(Event::Read { length, size, tag }) => return Ok(Ok(Begun { length, size, tag })),
                Incoming::Event(Event::Ignored) => return Ok(Err(Error::NeedsExtended { what: "read" })),
                Incoming::Event(event) => return Ok(Err(refusal(event))),
                Incoming::Payload(_) => {}
                Incoming::Nothing => connection.exchange(patience).await?,
            }
        }
    }
}

impl Reader<'_> {
    /// Number of bytes that it yields: the file, or the requested part.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "is_empty would look like a question about the stream")]
    pub const fn len(&self) -> u64 {
        self.begun.length
    }

    /// Size of the whole file in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.begun.size
    }

    /// The version of the file: a file with the same size and the same tag has the same content, if
    /// [`Tag::is_known`].
    #[must_use]
    pub const fn tag(&self) -> &Tag {
        &self.begun.tag
    }

    /// CRC-32C of the bytes read, verified. `None` before the end, after an error, and from a server that sends no
    /// checksum (`nocrc`).
    #[must_use]
    pub fn crc(&self) -> Option<u32> {
        self.end.as_ref()?.as_ref().ok().copied().flatten()
    }

    /// Takes the next thing that comes.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some((connection, patience)) = self.client.parts() else { return Poll::Ready(Err(Error::Cancelled)) };
        match connection.poll()? {
            Incoming::Payload(mut range) => {
                self.left = self.left.saturating_sub(range.len() as u64);
                if self.left == 0 {
                    range.end -= 1;
                    self.last = connection.input(range.end..range.end + 1).first().copied();
                }
                self.payload = range;
            }
            // The connection is fit for the next command, whatever the verdict is.
            Incoming::Event(Event::BodyEnd(end)) => self.end = Some(end),
            Incoming::Event(event) => return Poll::Ready(Err(refusal(event))),
            Incoming::Nothing => {
                let idle = patience.idle;
                ready!(self.client.poll_exchange(cx, &mut self.alarm, idle))?;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Reader<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if !this.payload.is_empty() {
                let Some((connection, _)) = this.client.parts() else {
                    return Poll::Ready(Err(Error::Cancelled.into()));
                };
                let n = this.payload.len().min(buffer.remaining());
                buffer.put_slice(connection.input(this.payload.start..this.payload.start + n));
                this.payload.start += n;
                return Poll::Ready(Ok(()));
            }
            match &this.end {
                Some(Ok(_)) => {
                    buffer.put_slice(this.last.take().as_slice());
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(error.clone().into())),
                None => {}
            }
            if let Err(error) = ready!(this.poll_next(cx)) {
                this.client.disconnect();
                this.end = Some(Err(error));
            }
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.client.disconnect();
        }
    }
}
