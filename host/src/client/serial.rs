//! A session over a serial line (PROTOCOL §9), as a stream.

use core::future::poll_fn;
use core::hash::{BuildHasher as _, Hasher as _};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::hash::RandomState;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::io::Errno;
use rustix::termios::{
    ControlModes, OptionalActions, QueueSelector, SpecialCodeIndex, ioctl_tiocexcl, isatty, tcflush, tcgetattr,
    tcsetattr,
};
use skiff_proto::serial::{FRAME_MAX, Link, State};
use tokio::io::ReadBuf;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::cancel::CancelToken;
use crate::address::SerialPort;

/// Buffer in each direction, in bytes: received and not read, or sent and not acknowledged.
const BUFFER: usize = 4096;

/// How often one call reads from the port at most.
const ROUNDS: usize = 16;

/// Why no session was opened.
#[derive(Debug)]
pub(super) enum OpenError {
    /// The port can't be used.
    Port(io::Error),
    /// No answer.
    Mute,
    Cancelled,
}

/// The client's end of a session.
pub(super) struct SerialStream {
    port: AsyncFd<OwnedFd>,
    link: Link<BUFFER, BUFFER>,
    /// The frame that is being sent, and how many of its bytes have been sent.
    frame: [u8; FRAME_MAX],
    len: usize,
    sent: usize,
    timer: Pin<Box<Sleep>>,
    /// When the clock of `link` started.
    start: Instant,
}

impl SerialStream {
    /// Opens the port and a session, which the server must accept within `limit`.
    pub(super) async fn open(port: &SerialPort, limit: Duration, cancel: &CancelToken) -> Result<Box<Self>, OpenError> {
        let fd = open_port(port).map_err(OpenError::Port)?;
        // SAFETY: an `OwnedFd` keeps its descriptor open as long as it lives, and it stays in here.
        let port_fd = unsafe { AsyncFd::register(fd) }.map_err(|error| OpenError::Port(error.into()))?;
        let mut stream = Box::new(Self {
            port: port_fd,
            link: Link::new(),
            frame: [0; FRAME_MAX],
            len: 0,
            sent: 0,
            timer: Box::pin(sleep(Duration::ZERO)),
            start: Instant::now(),
        });
        let [.., a, b] = RandomState::new().build_hasher().finish().to_be_bytes();
        // 1 s plus the time that 1 KiB takes.
        let patience = Duration::from_secs(1) + Duration::from_secs(10 * 1024) / port.baud;
        stream.link.open(u16::from_be_bytes([a, b]), patience, stream.now());
        let opened = poll_fn(|cx| match stream.poll_line(cx) {
            Err(error) => Poll::Ready(Err(error)),
            Ok(()) if stream.link.state() == State::Opening => Poll::Pending,
            Ok(()) => Poll::Ready(Ok(())),
        });
        tokio::select! {
            biased;
            () = cancel.cancelled() => Err(OpenError::Cancelled),
            opened = timeout(limit, opened) => match opened {
                Ok(Ok(())) => Ok(stream),
                Ok(Err(error)) => Err(OpenError::Port(error)),
                Err(_) => Err(OpenError::Mute),
            },
        }
    }

    fn now(&self) -> skiff_proto::Instant {
        skiff_proto::Instant::ZERO.after(self.start.elapsed())
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let line = self.poll_line(cx);
        let n = self.link.read(buffer.initialize_unfilled());
        buffer.advance(n);
        if n > 0 {
            // Tells the server that there is room again.
            return Poll::Ready(self.poll_line(cx).or(Ok(())));
        }
        match (line, self.link.state()) {
            (Err(error), _) => Poll::Ready(Err(error)),
            (Ok(()), State::Ended | State::Closed) => Poll::Ready(Ok(())),
            _ => Poll::Pending,
        }
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Acknowledgements make room.
        self.poll_line(cx)?;
        if self.link.state() != State::Open {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        match self.link.write(bytes) {
            0 => Poll::Pending,
            n => {
                self.link.flush();
                self.poll_line(cx)?;
                Poll::Ready(Ok(n))
            }
        }
    }

    /// Ready once the server has acknowledged everything, or is gone.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_waiting = self.poll_line(cx).is_ok() && self.link.state() == State::Open;
        if is_waiting && self.link.unacknowledged() > 0 { Poll::Pending } else { Poll::Ready(()) }
    }

    /// True if the session has ended, or the server has sent something unrequested.
    pub(super) fn is_stale(&mut self) -> bool {
        self.poll_line(&mut Context::from_waker(Waker::noop())).is_err()
            || self.link.state() != State::Open
            || self.link.can_read()
    }

    /// Moves everything that can be moved between the port and the link, and waits for more.
    fn poll_line(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        for _ in 0..ROUNDS {
            self.poll_send(cx)?;
            if !self.poll_receive(cx)? && !self.poll_timer(cx) {
                return Ok(());
            }
        }
        // Timeouts must be checked even if a device never stops sending.
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            if self.sent == self.len {
                (self.sent, self.len) = (0, self.link.poll_transmit(&mut self.frame));
                if self.len == 0 {
                    return Ok(());
                }
            }
            let Poll::Ready(guard) = self.port.poll_write_ready(cx) else { return Ok(()) };
            let rest = &self.frame[self.sent..self.len];
            if let Ok(written) = guard?.try_io(|port| Ok(rustix::io::write(port, rest)?)) {
                self.sent += written.map_err(unplugged)?;
            }
        }
    }

    /// True if bytes have arrived.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut bytes = [0; BUFFER];
        loop {
            let Poll::Ready(guard) = self.port.poll_read_ready(cx) else { return Ok(false) };
            let Ok(read) = guard?.try_io(|port| Ok(rustix::io::read(port, &mut bytes)?)) else { continue };
            let n = read.map_err(unplugged)?;
            if n == 0 {
                return Err(unplugged(Errno::IO.into()));
            }
            let now = self.now();
            self.link.handle_input(&bytes[..n], now);
            return Ok(true);
        }
    }

    /// True if the link had to do something.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(at) = self.link.poll_timeout() else { return false };
        let at = self.start + Duration::from_millis(at.as_millis());
        if self.timer.deadline() != at {
            self.timer.as_mut().reset(at);
        }
        if self.timer.as_mut().poll(cx).is_pending() {
            return false;
        }
        let now = self.now();
        self.link.handle_timeout(now);
        true
    }
}

impl Drop for SerialStream {
    /// Ends the session, so that the server need not wait for its idle timeout.
    fn drop(&mut self) {
        self.link.abort();
        let mut rest = self.frame[self.sent..self.len].to_vec();
        let n = self.link.poll_transmit(&mut self.frame);
        rest.extend_from_slice(&self.frame[..n]);
        _ = rustix::io::write(&self.port, &rest);
    }
}

/// Opens the device file for this process alone, raw, with 8 data bits, no parity, one stop bit, no flow control.
fn open_port(port: &SerialPort) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = open(&port.path, flags, Mode::empty()).map_err(|error| explained(error.into()))?;
    if !isatty(&fd) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a terminal device"));
    }
    // Programs that use terminals look at one of these.
    flock(&fd, FlockOperation::NonBlockingLockExclusive)
        .and_then(|()| ioctl_tiocexcl(&fd))
        .map_err(|error| explained(error.into()))?;
    let mut settings = tcgetattr(&fd)?;
    settings.make_raw();
    // No HUPCL: on many boards the end of a command would reset the device.
    settings.control_modes -= ControlModes::CSTOPB | ControlModes::CRTSCTS | ControlModes::HUPCL;
    settings.control_modes |= ControlModes::CREAD | ControlModes::CLOCAL;
    settings.special_codes[SpecialCodeIndex::VMIN] = 1;
    settings.special_codes[SpecialCodeIndex::VTIME] = 0;
    let speed = settings.set_speed(port.baud);
    speed.and_then(|()| tcsetattr(&fd, OptionalActions::Now, &settings)).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("the port does not support {} baud", port.baud))
    })?;
    tcflush(&fd, QueueSelector::IOFlush)?;
    Ok(fd)
}

/// The error of a port that was open.
fn unplugged(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::IO | Errno::NXIO | Errno::NODEV) => io::Error::new(error.kind(), "the device was unplugged"),
        _ => error,
    }
}

/// The error of a port that can't be opened.
fn explained(error: io::Error) -> io::Error {
    let text = match Errno::from_io_error(&error) {
        Some(Errno::NOENT) => "no such device file",
        Some(Errno::ACCESS | Errno::PERM) => {
            "permission denied; serial ports usually belong to the group dialout: sudo usermod -aG dialout $USER"
        }
        Some(Errno::BUSY | Errno::WOULDBLOCK) => "in use by another program",
        Some(Errno::IO | Errno::NXIO | Errno::NODEV) => "no device is plugged in",
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_another_group_leads_to_the_command_that_helps() {
        for errno in [Errno::ACCESS, Errno::PERM] {
            let error = explained(errno.into());
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
            let text = error.to_string();
            assert!(
                text.starts_with("permission denied; ") && text.ends_with("sudo usermod -aG dialout $USER"),
                "{text}"
            );
        }
    }
}
