//! `cargo demo`: the server of a microcontroller and a client, in one process, without root. It uploads a file, lists
//! it, downloads it and compares it.
//!
//! The server has its own TCP stack and fixed memory, as on a board; a bridge connects a loopback port to it. It leaves
//! nothing behind.

use std::fs::{self, File};
use std::io::Read as _;
use std::process::ExitCode;
use std::thread::{self, JoinHandle};

use skiff_device::serv::{self, listen::Listen, options::Options, options::StoreChoice, stop::Stop};
use skiff_host::client::{self, Client, sanitize};

/// Bytes of the file.
const FIRMWARE: u64 = 1_000_000;

type Result<T> = core::result::Result<T, Box<dyn core::error::Error>>;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shown = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(show()));
    match shown {
        Ok(()) => {
            println!("\nDone: the downloaded file matches the uploaded one.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn show() -> Result<()> {
    let here = tempfile::tempdir()?;
    // Real bytes to send: as much of this program as firmware is long.
    let (program, back) = (here.path().join("app.bin"), here.path().join("back.bin"));
    std::io::copy(&mut File::open(std::env::current_exe()?)?.take(FIRMWARE), &mut File::create(&program)?)?;

    let room = 2 * FIRMWARE;
    let options = Options {
        sessions: 2,
        store: StoreChoice::Ram { size: room },
        name: Some("demo".to_owned()),
        ..Options::default()
    };
    let ram = serv::ram(&options).ok_or("not a possible number of sessions")?;
    let server = Server::start(options)?;
    println!("1. The embedded server listens on 127.0.0.1:{}: two sessions, its own TCP stack (smoltcp),", server.port);
    println!("   {ram} bytes of RAM, and {room} bytes for files.");

    let mut client = Client::connect("127.0.0.1", server.port, client::Options::default()).await?;
    let hello = client.hello().await?.cloned().ok_or("it answers as a classic server")?;
    let name = hello.host.as_deref().unwrap_or("nameless");
    println!("2. hello: the server is {}, named {}.", sanitize(&hello.server), sanitize(name));

    let sent = client.put(&program, "app.bin").await?;
    let crc = sent.crc.ok_or("no checksum")?;
    println!("3. put: {} bytes, CRC-32C {crc:08x}; the server confirms that the file is stored.", sent.size);

    println!("4. list:");
    for entry in client.list(None).await?.entries {
        println!("   {:>10} {}", entry.size, sanitize(&entry.name));
    }

    let received = client.get("app.bin", &back).await?;
    if !received.verified || fs::read(&program)? != fs::read(&back)? {
        return Err("the file that came back is another one".into());
    }
    println!("5. get: {} bytes, checksum verified, byte for byte the same file.", received.size);

    client.rename("app.bin", "app.old").await?;
    let sum = client.sum("app.old", 0, None).await?;
    if sum.crc != Some(crc) {
        return Err("the server's file has another checksum".into());
    }
    println!("6. rename and sum: the server computes {crc:08x} as well.");
    client.quit().await;
    Ok(())
}

/// The embedded server on a separate thread, on a free port. Stops when it is dropped.
struct Server {
    port: u16,
    stop: Option<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(options: Options) -> Result<Self> {
        let listen = Listen::bind(options, 0)?;
        let port = listen.port();
        let (stop, stopped) = Stop::new()?;
        let serve = move || {
            if let Err(error) = listen.run(&stopped, || ()) {
                eprintln!("demo: the server: {error:#}");
            }
        };
        Ok(Self { port, stop: Some(stop), thread: Some(thread::spawn(serve)) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}
