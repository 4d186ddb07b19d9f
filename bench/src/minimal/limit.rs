//! Lower bounds: programs that do only what can't be avoided.
//!
//! For any transfer: a file from the page cache over loopback with sendfile, received with plain reads and discarded, or
//! moved to a file with splice; and the round trip of one byte. For transfers with the guarantees of skiff: a checksum
//! of all received data, files that appear only when complete, and durable files where skiff guarantees that.

use core::net::Ipv4Addr;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::sync_channel;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::fs::sendfile;
use rustix::net::{SendFlags, send};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use skiff_proto::crc::{Crc32c, crc32c};

use super::fetch::{Fetch, dial};
use super::sink::{PIECE, Sink};
use super::threads::all;

/// Bytes per call of sendfile; more is no faster.
const SEND: usize = 2 << 20;

/// Files that become durable together, as in host-serv.
const BATCH: usize = 512;

/// What a receiver does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Only moves the bytes.
    None,
    /// Computes the checksum.
    Verify,
    /// The same, with a second thread that writes.
    VerifyAside,
}

/// Sends a file to this process itself, which discards it or writes it to `to`.
pub(super) fn get(from: &Path, to: Option<&Path>, care: Care) -> Result<()> {
    let (listener, port) = listen()?;
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| serve(&listener, &file, size));
        let stream = dial(port)?;
        let came = match (to, care) {
            (None, _) => discard(stream, care)?,
            (Some(to), Care::None) => receive_file(&stream, &File::create_new(to)?)?,
            (Some(to), _) => {
                let partial = to.with_extension("partial");
                let came = store(stream, &File::create_new(&partial)?, care)?;
                fs::rename(&partial, to)?;
                came
            }
        };
        sender.join().map_err(|_| anyhow!("a panic"))??;
        ensure!(came == size, "received {came} bytes instead of {size}");
        Ok(())
    })
}

/// Sends a file to this process itself over many connections at a time.
pub(super) fn clients(from: &Path, count: u32, care: Care) -> Result<()> {
    let (listener, port) = listen()?;
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    std::thread::scope(|scope| {
        let servers: Vec<_> = (0..count).map(|_| scope.spawn(|| serve(&listener, &file, size))).collect();
        all(count, || {
            let came = discard(dial(port)?, care)?;
            ensure!(came == size, "received {came} bytes instead of {size}");
            Ok(())
        })?;
        servers.into_iter().try_for_each(|server| server.join().map_err(|_| anyhow!("a panic"))?)
    })
}

/// Sends the small files of a directory to this process itself, which makes them durable in batches: the files of a
/// batch are written, synced once and renamed. The target is synced at the end.
pub(super) fn put_many(from: &Path, to: &Path) -> Result<()> {
    let (listener, port) = listen()?;
    let mut names = fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    let stage = to.with_extension("stage");
    fs::create_dir(to)?;
    fs::create_dir(&stage)?;
    std::thread::scope(|scope| {
        let names = &names;
        let sender = scope.spawn(move || -> Result<()> {
            let mut stream = BufWriter::with_capacity(PIECE, dial(port)?);
            for name in names {
                let content = fs::read(from.join(name))?;
                stream.write_all(&u32::try_from(content.len())?.to_be_bytes())?;
                stream.write_all(&content)?;
                stream.write_all(&crc32c(&content).to_be_bytes())?;
            }
            Ok(stream.flush()?)
        });
        let mut stream = BufReader::with_capacity(PIECE, listener.accept()?.0);
        for batch in names.chunks(BATCH) {
            for name in batch {
                let mut content = vec![0; number(&mut stream)? as usize];
                stream.read_exact(&mut content)?;
                ensure!(number(&mut stream)? == crc32c(&content), "the checksum differs");
                File::create_new(stage.join(name))?.write_all(&content)?;
            }
            rustix::fs::syncfs(File::open(to)?)?;
            batch.iter().try_for_each(|name| fs::rename(stage.join(name), to.join(name)))?;
        }
        File::open(to)?.sync_all()?;
        fs::remove_dir(&stage)?;
        sender.join().map_err(|_| anyhow!("the sender panicked"))?
    })
}

/// A server that echoes its input, one connection after the other, forever.
pub(super) fn echo(port: u16) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    loop {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..n])?;
        }
    }
}

/// Serves classic `get`, forever: a second connection for each file, on its own port, and one read of the file.
pub(super) fn classic(port: u16, root: &Path) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    // In order: a choice by the system takes longer with each connection in TIME-WAIT.
    let mut ports = (20_000..32_000).cycle();
    loop {
        let (mut control, _) = listener.accept()?;
        control.set_nodelay(true)?;
        let mut command = [0; 1024];
        while let Ok(n @ 1..) = control.read(&mut command) {
            let name = command[..n].get(DIGITS..).and_then(|words| words.strip_prefix(b"get ")).context("not a get")?;
            let bound = ports.find_map(|port| Some((TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?, port)));
            let (data, port) = bound.context("no free port")?;
            control.write_all(format!("{:0DIGITS$}{port}", 5).as_bytes())?;
            let stream = data.accept()?.0;
            let mut file = File::open(root.join(core::str::from_utf8(name)?))?;
            let size = file.metadata()?.len();
            let mut message = format!("{size:0DIGITS$}").into_bytes();
            file.read_to_end(&mut message)?;
            // MORE: in one segment with the end of the stream.
            ensure!(send(&stream, &message, SendFlags::MORE)? == message.len(), "the file is too large");
        }
    }
}

/// The digits of a length in the protocol.
const DIGITS: usize = 10;

/// A client of [`echo`]: it "fetches" as many bytes as the name has.
pub(super) struct Echo(TcpStream);

impl Echo {
    pub(super) fn connect(port: u16) -> Result<Self> {
        Ok(Self(dial(port)?))
    }
}

impl Fetch for Echo {
    fn fetch(&mut self, name: &str, _sink: &mut Sink) -> Result<u64> {
        self.0.write_all(name.as_bytes())?;
        let mut back = vec![0; name.len()];
        self.0.read_exact(&mut back)?;
        Ok(back.len() as u64)
    }
}

fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Sends the file over the next connection.
fn serve(listener: &TcpListener, file: &File, size: u64) -> Result<()> {
    let (stream, _) = listener.accept()?;
    let mut offset = 0;
    while offset < size {
        ensure!(sendfile(&stream, file, Some(&mut offset), SEND)? > 0, "the file shrank");
    }
    Ok(())
}

fn discard(mut stream: TcpStream, care: Care) -> io::Result<u64> {
    let (mut buffer, mut crc) = (vec![0; PIECE], Crc32c::new());
    let mut came = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            n => {
                if care != Care::None {
                    crc.update(&buffer[..n]);
                }
                came += n as u64;
            }
        }
    }
    core::hint::black_box(crc.value());
    Ok(came)
}

/// Receives a file, computes its checksum and writes it.
fn store(mut stream: TcpStream, mut to: &File, care: Care) -> Result<u64> {
    let mut crc = Crc32c::new();
    let mut came = 0;
    if care == Care::Verify {
        let mut buffer = vec![0; PIECE];
        loop {
            let n = stream.read(&mut buffer)?;
            if n == 0 {
                break;
            }
            crc.update(&buffer[..n]);
            to.write_all(&buffer[..n])?;
            came += n as u64;
        }
    } else {
        // The two threads exchange a few buffers.
        let (full, filled) = sync_channel::<(Vec<u8>, usize)>(4);
        let (empty, emptied) = sync_channel::<Vec<u8>>(4);
        (0..4).try_for_each(|_| empty.send(vec![0; PIECE]))?;
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || -> io::Result<()> {
                for (buffer, n) in filled {
                    to.write_all(&buffer[..n])?;
                    _ = empty.send(buffer);
                }
                Ok(())
            });
            for mut buffer in emptied {
                let n = stream.read(&mut buffer)?;
                if n == 0 {
                    break;
                }
                crc.update(&buffer[..n]);
                full.send((buffer, n))?;
                came += n as u64;
            }
            drop(full);
            writer.join().map_err(|_| anyhow!("the writer panicked"))?.map_err(anyhow::Error::from)
        })?;
    }
    core::hint::black_box(crc.value());
    Ok(came)
}

fn number(stream: &mut impl io::Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Moves the input to a file without a copy in this process.
fn receive_file(stream: &TcpStream, to: &File) -> io::Result<u64> {
    let (out, input) = pipe_with(PipeFlags::CLOEXEC)?;
    fcntl_setpipe_size(&input, 1 << 20)?;
    let mut came = 0;
    loop {
        let n = splice(stream, None, &input, None, 1 << 20, SpliceFlags::MOVE)?;
        if n == 0 {
            return Ok(came);
        }
        let mut left = n;
        while left > 0 {
            left -= splice(&out, None, to, None, left, SpliceFlags::MOVE)?;
        }
        came += n as u64;
    }
}
