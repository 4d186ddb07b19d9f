//! The client against servers made for the purpose: one that keeps the rules and can be told to fail, one that is
//! classic, and scripts that break every rule.

mod classic;
mod commands;
mod download;
mod fake;
mod file;
mod hostile;
mod ranges;
mod stream;
mod upload;

use core::future::Future;
use core::time::Duration;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

use super::*;

/// Runs a test's future; nothing here may take long.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), future).await.expect("it hangs") })
}

fn quick() -> Options {
    Options {
        idle: Duration::from_secs(20),
        work: Duration::from_secs(20),
        retries: 3,
        retry_delay: Duration::from_millis(1),
        ..Options::default()
    }
}

async fn client(port: u16) -> Client {
    Client::connect("127.0.0.1", port, quick()).await.unwrap()
}

/// A server whose connections are each handled by `serve`, in threads of their own.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream.unwrap()));
        }
    });
    port
}

/// An address that refuses connections: nobody else can get its port while the socket is bound, and nobody listens.
pub(crate) fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

fn message(payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [format!("{:010}", payload.len()).as_bytes(), payload].concat()
}

fn send(mut stream: &TcpStream, payload: impl AsRef<[u8]>) {
    _ = stream.write_all(&message(payload));
}

/// The next message; `None` at the end of the stream.
fn receive(mut stream: &TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 10];
    stream.read_exact(&mut head).ok()?;
    let mut payload = vec![0; str::from_utf8(&head).ok()?.parse().ok()?];
    stream.read_exact(&mut payload).ok()?;
    Some(payload)
}

fn text(stream: &TcpStream) -> Option<String> {
    receive(stream).map(|payload| String::from_utf8(payload).unwrap())
}

const HELLO: &str = "skiff/1 server=fake/1 commands=ping,list,stat,read,resume,write,sum,remove,rename,mkdir,rmdir,space,quit name-max=255 idle=60 nocrc=1";

fn content(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 31 + (at >> 8) * 7 + seed * 13).to_le_bytes()[0]).collect()
}

/// The names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    (dir, path)
}

/// What an observer saw.
#[derive(Debug, Default)]
struct Seen {
    started: Vec<(usize, u64, u64)>,
    bytes: u64,
    finished: usize,
    retries: u32,
}

impl Observer for Seen {
    fn started(&mut self, job: usize, _: &str, size: u64, offset: u64) {
        self.started.push((job, size, offset));
    }
    fn progress(&mut self, _: usize, bytes: u64) {
        self.bytes += bytes;
    }
    fn received(&mut self, _: usize, _: &Result<Received, Error>) {
        self.finished += 1;
    }
    fn sent(&mut self, _: usize, _: &Result<Sent, Error>) {
        self.finished += 1;
    }
    fn retrying(&mut self, _: u32, _: &Error) {
        self.retries += 1;
    }
}
