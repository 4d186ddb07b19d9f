//! A device on a serial line: a server behind a pseudoterminal that loses bytes and can be unplugged.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use core::time::Duration;

use embedded_io::{Error as _, ErrorKind, ErrorType};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use skiff_proto::command::command_len;
use skiff_proto::message::HEADER_LEN;
use skiff_proto::secure::{Entropy, Noise, Secret, Security};
use skiff_proto::server::{Limits, ServerSession};
use skiff_proto::{drive, serial};
use tempfile::TempDir;

use crate::memory::{Layout, MemoryStore};

/// Faults of the line, and properties of the device.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// One in this many bytes is lost, altered, doubled or followed by another; 0: none.
    pub fault_every: u64,
    /// Text that the device writes before each of its frames.
    pub log: &'static str,
    /// Unplugged after this many bytes, and plugged in again after 300 ms.
    pub unplug_at: Option<u64>,
    /// The device then restarts, and has only its files and staged bytes.
    pub restart: bool,
    /// The device knows only the classic commands, and refuses them.
    pub classic: bool,
    /// The device serves only clients with a key.
    pub secret: Option<Secret>,
}

/// A device, which ends when this is dropped.
#[derive(Debug)]
pub struct Device {
    wire: Arc<Mutex<Wire>>,
    dir: TempDir,
    thread: Option<JoinHandle<()>>,
    /// Its store, of at most 1 MiB.
    pub store: MemoryStore,
}

impl Device {
    /// Starts a device that is plugged in.
    ///
    /// # Panics
    /// If no pseudoterminal is available.
    #[must_use]
    pub fn start(setup: Setup) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ttyACM0");
        let master = plug_in(&path).expect("a pseudo terminal");
        let (secret, classic) = (setup.secret.clone(), setup.classic);
        let wire = Wire { master, path, setup, seed: 1, moved: 0, faults: 0, stopped: false, restarted: false };
        let wire = Arc::new(Mutex::new(wire));
        let store = MemoryStore::new(Layout::Tree);
        store.set_capacity(1 << 20);
        let (port, served) = (Port(Arc::clone(&wire)), store.clone());
        let thread =
            Some(thread::spawn(move || if classic { refuse(port) } else { serve(&port, served, secret.as_ref()) }));
        Self { wire, dir, thread, store }
    }

    /// The address for host-cli.
    #[must_use]
    pub fn address(&self) -> String {
        format!("serial:{}", self.path().display())
    }

    /// The device file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("ttyACM0")
    }

    /// How many bytes have passed so far, in both directions, and how many of them were hit by a fault.
    #[must_use]
    pub fn moved(&self) -> (u64, u64) {
        let wire = lock(&self.wire);
        (wire.moved, wire.faults)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        lock(&self.wire).stopped = true;
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

/// The device's program: one session after the other.
fn serve(port: &Port, mut store: MemoryStore, secret: Option<&Secret>) {
    let start = Instant::now();
    let clock = || skiff_proto::Instant::ZERO.after(start.elapsed());
    let mut scratch = [0; 2048];
    let mut connections = 0;
    while !lock(&port.0).stopped {
        // A restart ends the session.
        lock(&port.0).restarted = false;
        let mut line: serial::Server<_, 512, 512> = serial::Server::new(port.clone());
        while line.accept().is_ok() {
            let mut session: ServerSession<{ command_len(200) }, Noise> = ServerSession::new(Limits::new(200));
            if let Some(secret) = secret {
                connections += 1;
                let security = Security {
                    secret: secret.clone(),
                    min_generation: 1,
                    nonce: secret.nonce(1, connections),
                    entropy: Entropy::Random([9; 32]),
                    record_max: 1014,
                    accepted: clock(),
                };
                session.protect(security.guard().expect("valid")).expect("a new session");
            }
            if let Ok(how) = drive::serve(&mut line, &mut session, &mut store, &mut scratch, clock) {
                line.close(how);
            }
        }
    }
}

/// The program of a classic device without files.
fn refuse(port: Port) {
    let mut line: serial::Server<_, 512, 512> = serial::Server::new(port);
    while line.accept().is_ok() {
        while let Some(length) = take(&mut line, HEADER_LEN) {
            let length = String::from_utf8(length).expect("digits").parse().expect("a length");
            let Some(command) = take(&mut line, length) else { break };
            // It ignores unknown commands.
            if command.starts_with(b"get ") || command.starts_with(b"put ") {
                _ = embedded_io::Write::write(&mut line, b"0000000002-1");
            }
            _ = embedded_io::Write::flush(&mut line);
        }
    }
}

/// The next `len` bytes; `None` if the session ends earlier.
fn take(line: &mut impl embedded_io::Read, len: usize) -> Option<Vec<u8>> {
    let (mut bytes, mut at) = (vec![0; len], 0);
    while at < len {
        match line.read(&mut bytes[at..]) {
            Ok(0) => return None,
            Ok(n) => at += n,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::TimedOut) => {}
            Err(_) => return None,
        }
    }
    Some(bytes)
}

/// Creates a pseudoterminal and links it at `path`.
fn plug_in(path: &Path) -> io::Result<fs::File> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let name = ptsname(&master, Vec::new())?;
    symlink(name.to_str().map_err(io::Error::other)?, path)?;
    Ok(master.into())
}

#[derive(Debug)]
struct Wire {
    master: fs::File,
    path: PathBuf,
    setup: Setup,
    seed: u64,
    moved: u64,
    faults: u64,
    stopped: bool,
    restarted: bool,
}

impl Wire {
    fn random(&mut self, below: u64) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) % below
    }

    /// Applies faults to bytes on the line.
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut passed = Vec::new();
        for byte in bytes {
            self.moved += 1;
            passed.push(*byte);
            if self.setup.fault_every == 0 || self.random(self.setup.fault_every) > 0 {
                continue;
            }
            self.faults += 1;
            let other = self.random(256).to_le_bytes()[0];
            match self.random(4) {
                0 => _ = passed.pop(),
                1 => *passed.last_mut().expect("pushed") ^= other.max(1),
                2 => passed.push(*byte),
                _ => passed.push(other),
            }
        }
        passed
    }

    /// Unplugs the device if it is time. The host sees a hang-up, and no device file for a while.
    fn unplug(&mut self) -> bool {
        if self.setup.unplug_at.is_none_or(|at| self.moved < at) {
            return false;
        }
        self.setup.unplug_at = None;
        fs::remove_file(&self.path).expect("the device file");
        self.master = fs::File::open("/dev/null").expect("/dev/null");
        thread::sleep(Duration::from_millis(300));
        self.master = plug_in(&self.path).expect("a pseudo terminal");
        self.restarted = self.setup.restart;
        true
    }

    /// True if it is ready within `millis` milliseconds. The other end may not be open.
    fn is_ready(&self, flags: PollFlags, millis: i64) -> bool {
        let limit = Timespec { tv_sec: 0, tv_nsec: millis * 1_000_000 };
        let mut fds = [PollFd::new(&self.master, flags)];
        let ready = poll(&mut fds, Some(&limit)).is_ok_and(|ready| ready > 0);
        if ready && fds[0].revents().contains(PollFlags::HUP) {
            thread::sleep(Duration::from_millis(2));
        }
        ready && fds[0].revents().intersects(flags)
    }
}

/// The device's UART.
#[derive(Debug, Clone)]
struct Port(Arc<Mutex<Wire>>);

/// No byte has arrived for a while.
#[derive(Debug)]
struct Nothing;

impl core::fmt::Display for Nothing {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("nothing")
    }
}

impl core::error::Error for Nothing {}

impl embedded_io::Error for Nothing {
    fn kind(&self) -> ErrorKind {
        ErrorKind::TimedOut
    }
}

impl ErrorType for Port {
    type Error = Nothing;
}

impl embedded_io::Read for Port {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Nothing> {
        let mut wire = lock(&self.0);
        wire.unplug();
        if wire.stopped || wire.restarted {
            return Ok(0);
        }
        let mut bytes = vec![0; (buffer.len() / 2).max(1)];
        if !wire.is_ready(PollFlags::IN, 10) {
            return Err(Nothing);
        }
        let n = wire.master.read(&mut bytes).map_err(|_| Nothing)?;
        let passed = wire.pass(&bytes[..n]);
        let n = passed.len().min(buffer.len());
        buffer[..n].copy_from_slice(&passed[..n]);
        if n == 0 { Err(Nothing) } else { Ok(n) }
    }
}

impl embedded_io::Write for Port {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Nothing> {
        let mut wire = lock(&self.0);
        wire.unplug();
        let frame = [wire.setup.log.as_bytes(), bytes].concat();
        let passed = wire.pass(&frame);
        // Bytes that are not read are lost, as on a real line.
        if wire.is_ready(PollFlags::OUT, 50) {
            _ = wire.master.write(&passed);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Nothing> {
        Ok(())
    }
}

fn lock(wire: &Mutex<Wire>) -> MutexGuard<'_, Wire> {
    wire.lock().unwrap_or_else(PoisonError::into_inner)
}
