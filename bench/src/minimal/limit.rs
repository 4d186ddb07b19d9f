//! Lower bounds: a file from the page cache over loopback with sendfile, received with plain reads and discarded, or
//! moved to a file with splice; and the round trip of one byte.

use core::net::Ipv4Addr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use rustix::fs::sendfile;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use super::fetch::{Fetch, dial};
use super::sink::{PIECE, Sink};
use super::threads::all;

/// Bytes per call of sendfile; more is no faster.
const SEND: usize = 2 << 20;

/// Sends a file to this process itself, which discards it or writes it to `to`.
pub(super) fn get(from: &Path, to: Option<&Path>) -> Result<()> {
    let (listener, port) = listen()?;
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    let to = to.map(File::create_new).transpose()?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| serve(&listener, &file, size));
        let stream = dial(port)?;
        let came = match &to {
            Some(to) => receive_file(&stream, to)?,
            None => discard(stream)?,
        };
        sender.join().map_err(|_| anyhow!("a panic"))??;
        ensure!(came == size, "received {came} bytes instead of {size}");
        Ok(())
    })
}

/// Sends a file to this process itself over many connections at a time.
pub(super) fn clients(from: &Path, count: u32) -> Result<()> {
    let (listener, port) = listen()?;
    let file = File::open(from)?;
    let size = file.metadata()?.len();
    std::thread::scope(|scope| {
        let servers: Vec<_> = (0..count).map(|_| scope.spawn(|| serve(&listener, &file, size))).collect();
        all(count, || {
            let came = discard(dial(port)?)?;
            ensure!(came == size, "received {came} bytes instead of {size}");
            Ok(())
        })?;
        servers.into_iter().try_for_each(|server| server.join().map_err(|_| anyhow!("a panic"))?)
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

fn discard(mut stream: TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; PIECE];
    let mut came = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(came),
            n => came += n as u64,
        }
    }
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
